//! `waypost plugin build`: from sources to a component, by the right tool for the language.

mod c;
mod javascript;
mod python;
mod rust;
mod tool;
mod world;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::plugin_project::{Language, Project};

/// Options of `waypost plugin build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Directory of the plugin.
    #[arg(default_value = ".")]
    directory: PathBuf,
}

/// Builds, and says what came of it.
#[allow(clippy::print_stdout)] // the component's path is the answer
pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let project = Project::read(&args.directory)?;
    let component = build(&project)?;
    let size_bytes = std::fs::metadata(&component)?.len();
    println!("{} ({size_bytes} bytes)", component.display());
    Ok(())
}

/// Builds a project and gives the path of its component.
///
/// # Errors
/// A tool that is missing, with how to get it; or that failed, with what it said.
pub(crate) fn build(project: &Project) -> anyhow::Result<PathBuf> {
    let directory = project.build_directory();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    match project.language {
        Language::Rust => rust::build(project),
        Language::C => c::build(project),
        Language::JavaScript => javascript::build(project),
        Language::Python => python::build(project),
    }?;
    Ok(project.component())
}

/// Puts a component in place in one step: a relay that watches the file sees the old one or the
/// new one, never a half.
fn install(component: &[u8], to: &Path) -> anyhow::Result<()> {
    let partial = to.with_extension("wasm.partial");
    std::fs::write(&partial, component)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}
