//! Python: componentize-py puts CPython and the sources into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{tool, world};
use crate::plugin_project::Project;

const TOOL: &str = "componentize-py";

/// Directories of a project that are no sources.
const NO_SOURCES: [&str; 5] = ["build", "cases", "node_modules", "vendor", "__pycache__"];

/// Builds with the tool of the project's virtual environment, or the one that is on PATH.
pub(super) fn build(project: &Project) -> anyhow::Result<()> {
    let tool_path = tool_path(project)?;
    let wit = world::write(project)?;
    let module = project
        .source
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("`source` names no Python file")?;
    // The tool leaves compiled files beside the sources, so it gets a copy.
    let sources = project.build_directory().join("python");
    if sources.exists() {
        std::fs::remove_dir_all(&sources)
            .with_context(|| format!("cannot clear {}", sources.display()))?;
    }
    copy(&project.vendor.join("sdk/python"), &sources)?;
    copy(project.source.parent().unwrap_or(&project.root), &sources)?;
    let partial = project.component().with_extension("wasm.partial");
    let mut command = Command::new(tool_path);
    let environment = project.root.join(".venv");
    if environment.is_dir() {
        // Where the tool looks for the plugin's own dependencies.
        command.env("VIRTUAL_ENV", environment.canonicalize()?);
    }
    command
        .args(["--quiet", "--wit-path"])
        .arg(&wit)
        .args(["--world", world::WORLD, "componentize", module])
        .arg("--python-path")
        .arg(&sources)
        // No WASI: what the relay offers is in the contract.
        .args(["--stub-wasi", "--output"])
        .arg(&partial);
    tool::run(&mut command)?;
    std::fs::rename(&partial, project.component())
        .with_context(|| format!("cannot write {}", project.component().display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let fault = || format!("cannot copy {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(fault)?;
    for entry in std::fs::read_dir(from).with_context(fault)? {
        let entry = entry.with_context(fault)?;
        let name = entry.file_name();
        let (path, beside) = (entry.path(), to.join(&name));
        let name = name.to_string_lossy();
        if path.is_file() {
            std::fs::copy(&path, &beside).with_context(fault)?;
        } else if !name.starts_with('.') && !NO_SOURCES.contains(&&*name) {
            copy(&path, &beside)?;
        }
    }
    Ok(())
}

fn tool_path(project: &Project) -> anyhow::Result<PathBuf> {
    let own = project.root.join(".venv/bin").join(TOOL);
    if own.exists() {
        return Ok(own);
    }
    match tool::find(TOOL) {
        Some(found) => Ok(found),
        None => bail!(
            "{TOOL} is not installed. In {}:\n  python3 -m venv .venv\n  .venv/bin/pip install -r requirements.txt",
            project.root.display()
        ),
    }
}
