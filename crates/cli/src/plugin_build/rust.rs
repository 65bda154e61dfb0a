//! Rust: cargo makes the component by itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::{install, tool};
use crate::plugin_project::Project;

const TARGET: &str = "wasm32-wasip2";

/// Builds with the release profile of the package.
pub(super) fn build(project: &Project) -> anyhow::Result<()> {
    if tool::find("cargo").is_none() {
        bail!("cargo is not installed; it comes with Rust, from https://rustup.rs");
    }
    if !has_target(project)? {
        bail!("rustc lacks the target {TARGET}; `rustup target add {TARGET}` gets it");
    }
    tool::run(
        Command::new("cargo")
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .current_dir(&project.root)
            // Flags for other builds (sanitizers, coverage) make no sense in a component.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    let built = target_directory(project)?
        .join(TARGET)
        .join("release")
        .join(format!("{}.wasm", project.name.replace('-', "_")));
    let component = std::fs::read(&built).with_context(|| {
        format!(
            "cannot read {}; the library has to be called like the plugin, with crate-type = [\"cdylib\"]",
            built.display()
        )
    })?;
    install(&component, &project.component())
}

fn has_target(project: &Project) -> anyhow::Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(&project.root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run rustc; it comes with Rust, from https://rustup.rs")?;
    let libraries = String::from_utf8(output.stdout).context("rustc printed no text")?;
    Ok(output.status.success() && PathBuf::from(libraries.trim()).is_dir())
}

/// Where cargo builds, which a user's own configuration may say.
fn target_directory(project: &Project) -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(&project.root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo printed no metadata")?;
    let directory = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .context("cargo names no target directory")?;
    Ok(PathBuf::from(OsString::from(directory)))
}
