//! The `waypost` command: words to commands.

fn main() {}
