//! `waypost plugin`: write, build, test, measure and look at plugins, and handle those of a relay.

use clap::Subcommand;

use crate::{
    plugin_bench, plugin_build, plugin_candidate, plugin_inspect, plugin_live, plugin_new,
    plugin_replay, plugin_test,
};

/// Options of `waypost plugin`.
#[derive(Debug, clap::Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

/// One file per command.
#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Begin a plugin in an empty place; everything it needs of Waypost comes from this program.
    New(plugin_new::NewArgs),
    /// Make a component of a plugin's sources.
    Build(plugin_build::BuildArgs),
    /// Run the cases of a plugin: given this, expect that.
    Test(plugin_test::TestArgs),
    /// Measure what a call costs, beside a native policy and other plugins.
    Bench(plugin_bench::BenchArgs),
    /// Show what a component is: phases, imports, what it would need, size and digest.
    Inspect(plugin_inspect::InspectArgs),
    /// Show the plugins of a running relay: versions, failures, what was refused.
    Ls(plugin_live::LsArgs),
    /// Take what is in the file now, if it passes every check; mail goes on.
    Reload(plugin_live::ReloadArgs),
    /// Go back to the version before; the file is left alone until it is reloaded by name.
    Rollback(plugin_live::RollbackArgs),
    /// Show a version on trial: how often it decides otherwise, with examples; set its share.
    Candidate(plugin_candidate::CandidateArgs),
    /// Put the version on trial in force.
    Promote(plugin_candidate::PromoteArgs),
    /// Make recorded decisions again, by this version or another, and show what would change.
    Replay(plugin_replay::ReplayArgs),
}

/// Does what is asked.
///
/// # Errors
/// As the command says; its text is for the user.
pub(crate) async fn run(args: PluginArgs) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::New(args) => plugin_new::run(&args),
        PluginCommand::Build(args) => plugin_build::run(&args),
        PluginCommand::Test(args) => plugin_test::run(&args).await,
        PluginCommand::Bench(args) => plugin_bench::run(&args).await,
        PluginCommand::Inspect(args) => plugin_inspect::run(&args).await,
        PluginCommand::Ls(args) => plugin_live::ls(args).await,
        PluginCommand::Reload(args) => plugin_live::reload(args).await,
        PluginCommand::Rollback(args) => plugin_live::rollback(args).await,
        PluginCommand::Candidate(args) => plugin_candidate::candidate(args).await,
        PluginCommand::Promote(args) => plugin_candidate::promote(args).await,
        PluginCommand::Replay(args) => plugin_replay::run(args).await,
    }
}
