//! `waypost plugin test`: runs the cases of a plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use plugin::cases::{self, CaseFile, Snapshots};
use plugin::{HostOptions, PluginHost, PluginSpec};

use crate::plugin_project::Project;

/// Options of `waypost plugin test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// A component, or the directory of a plugin that has been built.
    #[arg(value_name = "COMPONENT|DIR", default_value = ".")]
    plugin: PathBuf,
    /// Directory of the cases; without it those of the plugin.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Write what the plugin answers as the snapshot of cases that expect nothing.
    #[arg(long)]
    update: bool,
}

/// A component and its cases.
pub(crate) struct Subject {
    /// Its name in messages.
    pub(crate) name: String,
    /// The component.
    pub(crate) component: PathBuf,
    /// Where its cases are.
    pub(crate) cases: PathBuf,
}

impl Subject {
    /// What an argument that names a component or a directory stands for.
    ///
    /// # Errors
    /// When nothing has been built there yet.
    pub(crate) fn find(path: &Path, cases: Option<&Path>) -> anyhow::Result<Self> {
        let subject = if path.is_dir() {
            let project = Project::read(path)?;
            Self {
                name: project.name.clone(),
                component: project.component(),
                cases: project.cases,
            }
        } else {
            let directory = path.parent().unwrap_or(Path::new("."));
            // Beside the component, or beside the `build` that it is in.
            let beside = [directory.join("cases"), directory.join("../cases")];
            let usual = beside.iter().find(|cases| cases.is_dir());
            Self {
                name: path
                    .file_stem()
                    .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
                component: path.to_owned(),
                cases: usual.unwrap_or(&beside[0]).clone(),
            }
        };
        if !subject.component.is_file() {
            bail!(
                "there is no {}; `waypost plugin build` makes it",
                subject.component.display()
            );
        }
        Ok(Self {
            cases: cases.map_or(subject.cases, Path::to_owned),
            ..subject
        })
    }
}

/// A host for the development commands: compiled code is kept for as long as `directory` is.
///
/// # Errors
/// When the engine does not start.
pub(crate) fn host(directory: &Path) -> anyhow::Result<PluginHost> {
    Ok(PluginHost::new(HostOptions {
        cache_directory: Some(directory.to_owned()),
        ..HostOptions::new(Arc::new(|| 0), 0)
    })?)
}

/// Runs every case; fails when one does.
#[allow(clippy::print_stdout)] // outcomes are the answer
pub(crate) async fn run(args: &TestArgs) -> anyhow::Result<()> {
    let subject = Subject::find(&args.plugin, args.cases.as_deref())?;
    let files = CaseFile::read_directory(&subject.cases)?;
    let cache = tempfile::tempdir().context("no place for compiled code")?;
    let host = host(cache.path())?;
    let spec = PluginSpec::new(&subject.name, &subject.component);
    let mode = if args.update {
        Snapshots::Update
    } else {
        Snapshots::Check
    };
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        for outcome in cases::run_file_with(&host, &spec, &file, mode).await?? {
            println!("{outcome}");
            if outcome.passed() {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    println!("\n{}: {passed} passed, {failed} failed", subject.name);
    if failed > 0 {
        bail!("{failed} of {} cases failed", passed + failed);
    }
    Ok(())
}
