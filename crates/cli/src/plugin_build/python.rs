//! Python: componentize-py puts CPython and the sources into one component.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{tool, world};
use crate::plugin_project::Project;

const TOOL: &str = "componentize-py";

/// Builds with the tool of the project's virtual environment, or the one that is on PATH.
pub(super) fn build(project: &Project) -> anyhow::Result<()> {
    let tool_path = tool_path(project)?;
    let wit = world::write(project)?;
    let module = project
        .source
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("`source` names no Python file")?;
    let partial = project.component().with_extension("wasm.partial");
    tool::run(
        Command::new(tool_path)
            .args(["--quiet", "--wit-path"])
            .arg(&wit)
            .args(["--world", world::WORLD, "componentize", module])
            .arg("--python-path")
            .arg(project.source.parent().unwrap_or(&project.root))
            .arg("--python-path")
            .arg(project.vendor.join("sdk/python"))
            // No WASI: what the relay offers is in the contract.
            .args(["--stub-wasi", "--output"])
            .arg(&partial),
    )?;
    std::fs::rename(&partial, project.component())
        .with_context(|| format!("cannot write {}", project.component().display()))
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
