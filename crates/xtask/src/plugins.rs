//! Builds the sample plugins and the guests that the tests load.
//!
//! Each is a workspace of its own, so that an author can take one away; they share one target
//! directory, apart from the relay's, so that neither build waits for the other.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

const TARGET: &str = "wasm32-wasip2";

/// Builds every plugin below `plugins/` and `tests/guests/` of `root` and puts the components into
/// `target/plugins`, each under its directory's name. Gives their paths, sorted.
pub(crate) fn build_plugins(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    ensure_target(root)?;
    let built = target_dir(root);
    let components = root.join("target/plugins");
    fs::create_dir_all(&components)
        .with_context(|| format!("cannot make {}", components.display()))?;
    let mut paths = Vec::new();
    for directory in crates(root)? {
        let name = directory
            .file_name()
            .and_then(|name| name.to_str())
            .context("plugin directories have plain names")?;
        build(&directory, &built)?;
        let file = format!("{}.wasm", name.replace('-', "_"));
        let from = built.join(TARGET).join("release").join(file);
        let to = components.join(format!("{name}.wasm"));
        install(&from, &to)?;
        paths.push(to);
    }
    paths.sort();
    Ok(paths)
}

/// Where plugins, guests and the SDK are built, so that dependencies are compiled once for all.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join("target/guests")
}

/// Manifests of the Rust SDK and of those plugins that have tests of their own, for the machine
/// that we are on.
pub(crate) fn tested_on_host(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut manifests = vec![root.join("plugins/sdk/rust/Cargo.toml")];
    for directory in crates(root)? {
        let source = directory.join("src");
        let entries =
            fs::read_dir(&source).with_context(|| format!("cannot list {}", source.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            if is_rust && fs::read_to_string(&path)?.contains("#[cfg(test)]") {
                manifests.push(directory.join("Cargo.toml"));
                break;
            }
        }
    }
    Ok(manifests)
}

/// Directories with a plugin in them, sorted.
fn crates(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for parent in ["plugins", "tests/guests"] {
        let parent = root.join(parent);
        let entries =
            fs::read_dir(&parent).with_context(|| format!("cannot list {}", parent.display()))?;
        for entry in entries {
            let directory = entry?.path();
            if directory.join("Cargo.toml").is_file() {
                found.push(directory);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn build(directory: &Path, built: &Path) -> anyhow::Result<()> {
    let status = Command::new(cargo())
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            TARGET,
        ])
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", built)
        // Flags for the relay (sanitizers, coverage) make no sense in a component.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .with_context(|| format!("cannot run cargo in {}", directory.display()))?;
    ensure!(status.success(), "building {} failed", directory.display());
    Ok(())
}

/// Puts a component in place in one step: a relay that reloads sees the old one or the new one.
fn install(from: &Path, to: &Path) -> anyhow::Result<()> {
    let partial = to.with_extension("wasm.partial");
    fs::copy(from, &partial).with_context(|| {
        format!(
            "cannot copy {}: the crate's name must be its directory's",
            from.display()
        )
    })?;
    fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Sees to it that rustc can compile for WebAssembly, by rustup where it cannot yet.
fn ensure_target(root: &Path) -> anyhow::Result<()> {
    if has_target(root)? {
        return Ok(());
    }
    let status = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(root)
        .status()
        .with_context(|| format!("rustc lacks the target {TARGET}, and rustup cannot be run"))?;
    if !status.success() || !has_target(root)? {
        bail!("rustc lacks the target {TARGET}, and `rustup target add {TARGET}` did not help");
    }
    Ok(())
}

fn has_target(root: &Path) -> anyhow::Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run rustc")?;
    let libraries = String::from_utf8(output.stdout).context("rustc printed no text")?;
    Ok(output.status.success() && Path::new(libraries.trim()).is_dir())
}

/// The cargo that runs us.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
