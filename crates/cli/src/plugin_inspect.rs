//! `waypost plugin inspect`: what a component is.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use plugin::{HostOptions, PluginHost, PluginSpec};

/// Options of `waypost plugin inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The component.
    component: PathBuf,
}

/// Prints what the component is.
#[allow(clippy::print_stdout)]
pub(crate) async fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let host = PluginHost::new(HostOptions::new(Arc::new(|| 0), 0))?;
    let plugin = host
        .load(PluginSpec::new("inspected", &args.component))
        .await
        .with_context(|| format!("cannot load {}", args.component.display()))?;
    let facts = plugin.inspect();
    println!("{facts:#?}");
    Ok(())
}
