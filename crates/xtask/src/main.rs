//! Development commands: what `cargo xtask …` does.
//!
//! | command | what |
//! |---|---|
//! | `run` | from a fresh clone to a running relay with a plugin and a sink behind it |
//! | `test` | every test there is, and a closing line that counts them |
//! | `bench` | messages a second and CPU per message beside the direct way |
//! | `plugins` | builds the sample plugins and the guests that the tests load |
//! | `reference` | writes docs/plugins/reference.md from the contract |

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the terminal, which measures with the machine's own clock"
)]

mod bench;
mod counts;
mod plugins;
mod process;
mod programs;
mod reference;
mod run;
mod steps;
mod test;

use std::path::{Path, PathBuf};

use clap::Parser;

/// Waypost's development commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    /// Build everything and start the relay with config/quickstart.toml and a sink behind it.
    Run(run::RunArgs),
    /// Run every test; peers that are not installed are skipped and named.
    Test(test::TestArgs),
    /// Measure messages a second and CPU per message: direct, through the relay, with a plugin.
    Bench(bench::BenchArgs),
    /// Build the sample plugins and the test guests to WebAssembly.
    Plugins,
    /// Write docs/plugins/reference.md from the plugin contract.
    Reference {
        /// Only say whether the page is current.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let root = workspace_root();
    match Xtask::parse() {
        Xtask::Run(args) => run::run(&root, &args),
        Xtask::Test(args) => test::test(&root, &args),
        Xtask::Bench(args) => bench::bench(&root, &args),
        Xtask::Plugins => {
            for component in plugins::build_plugins(&root)? {
                println!("{}", component.display());
            }
            Ok(())
        }
        Xtask::Reference { check } => reference::reference(&root, check),
    }
}

/// The directory of the workspace's Cargo.toml.
///
/// Cargo names this crate's directory in the environment of `cargo run`, which stays right when
/// the clone was moved; the place of the build is the second choice.
fn workspace_root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = here.join("../..");
    root.canonicalize().unwrap_or(root)
}

/// Where cargo puts what it builds: `CARGO_TARGET_DIR`, or `target` in the workspace.
fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}
