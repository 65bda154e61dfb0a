//! Progress: a numbered line before each step, and commands whose output is passed through.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};

/// Numbers the steps of one command and says how long each took.
pub(crate) struct Steps {
    count: usize,
    done: usize,
    started_at: Instant,
}

impl Steps {
    /// `count` steps follow.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            done: 0,
            started_at: Instant::now(),
        }
    }

    /// Says that the next step begins, and what it does.
    pub(crate) fn begin(&mut self, what: &str) {
        self.done += 1;
        let since_start = self.started_at.elapsed().as_secs();
        println!(
            "[{}/{}] {what} ({since_start} s so far)",
            self.done, self.count
        );
    }
}

/// The cargo that runs us, so that a `cargo +toolchain xtask` stays on its toolchain.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root);
    // Set by `cargo run` for this process; a nested cargo must not take them for its own.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_"))
            || name == "CARGO_MANIFEST_DIR"
            || name == "CARGO_MANIFEST_PATH"
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with our terminal and demands that it succeeds.
///
/// # Errors
/// When the program cannot be started or ends with anything but success.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command
        .status()
        .with_context(|| format!("could not start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}
