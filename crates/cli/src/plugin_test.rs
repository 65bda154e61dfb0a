//! `waypost plugin test`: runs the cases of a plugin.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use plugin::cases::{self, CaseFile};
use plugin::{HostOptions, PluginHost, PluginSpec};

/// Options of `waypost plugin test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The component.
    component: PathBuf,
    /// Directory of the cases.
    #[arg(long, value_name = "DIR", default_value = "cases")]
    cases: PathBuf,
}

/// Runs every case; fails when one does.
#[allow(clippy::print_stdout)]
pub(crate) async fn run(args: &TestArgs) -> anyhow::Result<()> {
    let host = PluginHost::new(HostOptions::new(Arc::new(|| 0), 0))?;
    let spec = PluginSpec::new("tested", &args.component);
    let mut failed = 0;
    for file in CaseFile::read_directory(&args.cases)? {
        for outcome in cases::run_file(&host, &spec, &file).await? {
            println!("{outcome}");
            failed += usize::from(!outcome.passed());
        }
    }
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}
