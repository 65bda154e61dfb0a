//! `waypost run`: the relay, with its signals.

use anyhow::Context;
use relay::{Clock, Relay};
use tokio::signal::unix::{SignalKind, signal};

use crate::ConfigArg;

/// Arguments of `waypost run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    relay::logging::install(&config.log).context("log.level")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let relay = Relay::start(config, Clock::system()).await?;
    tracing::info!(admin = %relay.admin_address(), "ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&relay, &args.config).await,
            () = relay.failed() => anyhow::bail!("delivery has ended by itself; the spool keeps all mail"),
            () = relay.reload_wanted() => reload(&relay, &args.config).await,
        }
    }
    tracing::info!("draining");
    let limit = relay.shutdown_limit();
    // A second signal means now: what is acknowledged is on disk already.
    tokio::select! {
        () = relay.shutdown() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!(?limit, "stopped before the drain ended"),
        _ = interrupt.recv() => tracing::warn!(?limit, "stopped before the drain ended"),
    }
    Ok(())
}

async fn reload(relay: &Relay, file: &ConfigArg) {
    let result = match relay::Config::load(&file.config) {
        Ok(config) => {
            if !config.warnings.is_empty() {
                tracing::warn!("{}", config.warnings);
            }
            let reloaded = relay.reload(config).await;
            reloaded.map_err(|error| error.to_string())
        }
        Err(errors) => {
            relay::telemetry::reloaded("failed");
            Err(errors.to_string())
        }
    };
    match result {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(error) => tracing::error!(%error, "reload refused; the old configuration stays"),
    }
}
