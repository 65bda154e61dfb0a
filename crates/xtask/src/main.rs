//! Development commands: what `cargo xtask …` does.

fn main() {}
