//! `waypost check`: a configuration, its files and its plugins.

use relay::Clock;

use crate::{ConfigArg, ConfigRefused};

/// Arguments of `waypost check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Checks; nothing listens and nothing is written.
#[allow(clippy::print_stdout, clippy::print_stderr)] // the command's output
pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    if let Err(errors) = config.check_files() {
        eprintln!(
            "{}",
            errors.render(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        );
        return Err(ConfigRefused.into());
    }
    let facts = relay::explain::check(config, &Clock::system()).await?;
    for line in facts {
        println!("{line}");
    }
    println!("{}: ok", args.config.config.display());
    Ok(())
}
