//! `waypost plugin`: write, build, test, measure and look at plugins, and handle those of a relay.

use clap::Subcommand;

use crate::{plugin_build, plugin_inspect, plugin_test};

/// Options of `waypost plugin`.
#[derive(Debug, clap::Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

/// One file per command.
#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Make a component of a plugin's sources.
    Build(plugin_build::BuildArgs),
    /// Run the cases of a plugin: given this, expect that.
    Test(plugin_test::TestArgs),
    /// Show what a component is: phases, imports, what it would need, size and digest.
    Inspect(plugin_inspect::InspectArgs),
}

/// Does what is asked.
///
/// # Errors
/// As the command says; its text is for the user.
pub(crate) async fn run(args: PluginArgs) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::Build(args) => plugin_build::run(&args),
        PluginCommand::Test(args) => plugin_test::run(&args).await,
        PluginCommand::Inspect(args) => plugin_inspect::run(&args).await,
    }
}
