//! The breaker of one version of a plugin, as its calls share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use queue::UnixMs;

use super::breaker::{Breaker, Change, Standing, Ticket};
use crate::clock::{Clock, Stopwatch};
use crate::config::BreakerConfig;

/// A failure that is kept to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The message, as its queue id.
    pub(crate) id: String,
    /// What the plugin was asked.
    pub(crate) phase: &'static str,
    /// Label of the reason.
    pub(crate) reason: &'static str,
    /// The detail, with the place in the plugin where there is one.
    pub(crate) detail: String,
}

/// A breaker with its clock, and what it has seen first: the beginning of a trouble says more than
/// its end.
#[derive(Debug)]
pub(crate) struct Guard {
    plugin: String,
    clock: Clock,
    started: Stopwatch,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    breaker: Breaker,
    first: Option<(UnixMs, Fault)>,
    failures_count: u64,
}

impl Guard {
    /// For one version of the plugin of this name.
    pub(crate) fn new(plugin: &str, rules: BreakerConfig, clock: Clock) -> Self {
        Self {
            plugin: plugin.to_owned(),
            clock,
            started: Stopwatch::start(),
            seen: Mutex::new(Seen {
                breaker: Breaker::new(rules),
                first: None,
                failures_count: 0,
            }),
        }
    }

    /// Leave to call the plugin; none while the breaker is open.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Permit> {
        let now_ms = self.started.elapsed_ms();
        let ticket = self.seen().breaker.admit(now_ms)?;
        Some(Permit {
            guard: Arc::clone(self),
            ticket: Some(ticket),
        })
    }

    /// The state as it is shown.
    pub(crate) fn standing(&self) -> Standing {
        let now_ms = self.started.elapsed_ms();
        self.seen().breaker.standing(now_ms)
    }

    /// The first failure of this version since the breaker last closed, and how many there were.
    pub(crate) fn failures(&self) -> (Option<(UnixMs, Fault)>, u64) {
        let seen = self.seen();
        (seen.first.clone(), seen.failures_count)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once what has changed.
    fn report(&self, change: Option<Change>, cause: Option<&Fault>) {
        let plugin = &self.plugin;
        match change {
            None => {}
            Some(Change::Opened) => {
                let reason = cause.map_or("", |fault| fault.reason);
                let detail = cause.map_or("", |fault| &fault.detail);
                tracing::error!(
                    plugin,
                    reason,
                    detail,
                    "plugin keeps failing: it is not called until its cool-down is over, and \
                     on_error is carried out in its place"
                );
            }
            Some(Change::StaysOpen) => {
                tracing::warn!(plugin, "plugin was tried again and failed: not called yet");
            }
            Some(Change::Closed) => tracing::info!(plugin, "plugin answers again"),
        }
    }
}

/// Leave for one call. Dropped without a word the call says nothing about the plugin.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    guard: Arc<Guard>,
    ticket: Option<Ticket>,
}

impl Permit {
    /// The plugin gave an answer that can be used.
    pub(crate) fn answered(mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let now_ms = self.guard.started.elapsed_ms();
        let mut seen = self.guard.seen();
        let change = seen.breaker.answered(ticket, now_ms);
        if change == Some(Change::Closed) {
            (seen.first, seen.failures_count) = (None, 0);
        }
        drop(seen);
        self.guard.report(change, None);
    }

    /// The plugin failed, by its own fault.
    pub(crate) fn failed(mut self, fault: Fault) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let now_ms = self.guard.started.elapsed_ms();
        let mut seen = self.guard.seen();
        let change = seen.breaker.failed(ticket, now_ms);
        seen.failures_count += 1;
        let now = self.guard.clock.now();
        let (_, first) = seen.first.get_or_insert((now, fault)).clone();
        drop(seen);
        self.guard.report(change, Some(&first));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now_ms = self.guard.started.elapsed_ms();
            self.guard.seen().breaker.abandoned(ticket, now_ms);
        }
    }
}
