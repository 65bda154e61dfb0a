//! The `waypost` command: words to commands.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or a faulty configuration.

mod check;
mod control;
mod explain;
mod plugin;
mod plugin_bench;
mod plugin_build;
mod plugin_candidate;
mod plugin_inspect;
mod plugin_live;
mod plugin_new;
mod plugin_project;
mod plugin_replay;
mod plugin_test;
mod queue;
mod run;
mod send;
mod sink;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A programmable SMTP relay.
#[derive(Debug, Parser)]
#[command(name = "waypost", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT; SIGHUP reloads the configuration.
    Run(run::RunArgs),
    /// Check a configuration, its files and its plugins; every fault is shown.
    Check(check::CheckArgs),
    /// Show where a message would go and every step of why. Nothing is sent.
    Explain(explain::ExplainArgs),
    /// Look at the queue of a running relay, and act on it.
    Queue(queue::QueueArgs),
    /// Write, build, test, measure and handle plugins.
    Plugin(plugin::PluginArgs),
    /// A test destination that shows or counts what arrives.
    Sink(sink::SinkArgs),
    /// Send one message.
    Send(send::SendArgs),
}

/// Which configuration.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        default_value = "/etc/waypost/waypost.toml",
        env = "WAYPOST_CONFIG"
    )]
    config: PathBuf,
}

/// A configuration that was refused; its report has been shown.
#[derive(Debug)]
struct ConfigRefused;

impl std::fmt::Display for ConfigRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the configuration has faults")
    }
}

impl std::error::Error for ConfigRefused {}

/// The end of a command that has said all there is to say.
#[derive(Debug)]
struct Exit(u8);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

impl ConfigArg {
    /// Loads the configuration, showing warnings, or every fault.
    #[allow(clippy::print_stderr)] // reports go to stderr
    fn load(&self) -> anyhow::Result<relay::Config> {
        use std::io::IsTerminal;
        let color = std::io::stderr().is_terminal();
        match relay::Config::load(&self.config) {
            Ok(config) => {
                if !config.warnings.is_empty() {
                    eprintln!("{}", config.warnings.render(color));
                }
                Ok(config)
            }
            Err(errors) => {
                eprintln!("{}", errors.render(color));
                Err(ConfigRefused.into())
            }
        }
    }
}

#[allow(clippy::print_stderr)] // errors go to stderr
fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Run(args) => run::run(args).await,
                Command::Check(args) => check::run(args).await,
                Command::Explain(args) => explain::run(args).await,
                Command::Queue(args) => queue::run(args).await,
                Command::Plugin(args) => plugin::run(args).await,
                Command::Sink(args) => sink::run(args).await,
                Command::Send(args) => send::run(args).await,
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ConfigRefused>() => ExitCode::from(2),
        Err(error) if error.is::<Exit>() => {
            ExitCode::from(error.downcast_ref::<Exit>().map_or(1, |exit| exit.0))
        }
        // Its text names the cause already.
        Err(error) if error.is::<relay::StartError>() => {
            eprintln!("waypost: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("waypost: {error:#}");
            ExitCode::FAILURE
        }
    }
}
