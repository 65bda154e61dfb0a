//! JavaScript: componentize-qjs puts the QuickJS engine and the sources into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{tool, world};
use crate::plugin_project::Project;

const TOOL: &str = "componentize-qjs";

/// Builds with the tool of the project, or the one that is installed for everybody.
pub(super) fn build(project: &Project) -> anyhow::Result<()> {
    let tool_path = tool_path(project)?;
    let wit = world::write(project)?;
    let partial = project.component().with_extension("wasm.partial");
    tool::run(
        Command::new(tool_path)
            .arg("--wit")
            .arg(&wit)
            .args(["--world", world::WORLD, "--js"])
            .arg(&project.source)
            .arg("--module-root")
            .arg(common_root(&project.root, &project.vendor)?)
            // Plain functions, and no WASI: what the relay offers is in the contract.
            .args(["--sync", "--stub-wasi", "--output"])
            .arg(&partial),
    )?;
    std::fs::rename(&partial, project.component())
        .with_context(|| format!("cannot write {}", project.component().display()))
}

fn tool_path(project: &Project) -> anyhow::Result<PathBuf> {
    if tool::find("node").is_none() {
        bail!("node is not installed; in Debian: apt-get install nodejs npm");
    }
    let own = project.root.join("node_modules/.bin").join(TOOL);
    if own.exists() {
        return Ok(own);
    }
    match tool::find(TOOL) {
        Some(found) => Ok(found),
        None => bail!(
            "{TOOL} is not installed; `npm install` in {} gets it",
            project.root.display()
        ),
    }
}

/// The directory that both are in: modules are looked for below one root.
fn common_root(root: &Path, vendor: &Path) -> anyhow::Result<PathBuf> {
    let canonical = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("{} is not there", path.display()))
    };
    let (root, vendor) = (canonical(root)?, canonical(vendor)?);
    let common = root
        .ancestors()
        .find(|ancestor| vendor.starts_with(ancestor));
    Ok(common.unwrap_or(&root).to_owned())
}
