//! Delivery attempts: candidates and their addresses in turn, one outcome per recipient.

mod attempt;
pub mod connection;
pub mod pool;
mod rules;
mod source;
mod target;
mod tries;

use std::time::Duration;

pub(crate) use attempt::attempt;
pub(crate) use rules::address_rules;
pub(crate) use tries::{Aftermath, Try};

use crate::core::Core;

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// Closes connections that were idle for too long, for ever.
pub async fn sweep_idle(core: &Core) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let limit = core.settings.load().config.delivery.idle_timeout;
        for connection in core.pool.sweep(limit) {
            tokio::spawn(connection.quit());
        }
    }
}

/// Closes every idle connection, politely.
pub async fn close_idle(core: &Core) {
    let farewells: Vec<_> = core
        .pool
        .sweep(Duration::ZERO)
        .into_iter()
        .map(|connection| connection.quit())
        .collect();
    futures_util::future::join_all(farewells).await;
}
