//! `waypost plugin`: write, build, test, measure and look at plugins, and handle those of a relay.

use clap::Subcommand;

use crate::{plugin_build, plugin_inspect, plugin_live, plugin_test};

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
    /// Show the plugins of a running relay: versions, failures, what was refused.
    Ls(plugin_live::LsArgs),
    /// Take what is in the file now, if it passes every check; mail goes on.
    Reload(plugin_live::ReloadArgs),
    /// Go back to the version before; the file is left alone until it is reloaded by name.
    Rollback(plugin_live::RollbackArgs),
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
        PluginCommand::Ls(args) => plugin_live::ls(args).await,
        PluginCommand::Reload(args) => plugin_live::reload(args).await,
        PluginCommand::Rollback(args) => plugin_live::rollback(args).await,
    }
}
