//! Metrics: every name, unit and help text in one table, and what emits them.
//!
//! Names follow Prometheus' conventions (`promtool check metrics` is run over them by the peer
//! tests). Counters of the hot path are registered once and kept as handles in [`Meters`].

mod limits;
mod plugins;
mod stores;
mod table;
#[cfg(test)]
mod tests;
mod trials;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::limits::limits;
pub use self::plugins::{
    PluginMetrics, plugin_action, plugin_breaker, plugin_info, plugin_reloaded, plugin_versions,
};
pub use self::stores::{
    http_sent, state_damaged, state_gauges, state_refused, state_written, table_gauges,
    table_loaded,
};
pub use self::table::*;
pub use self::trials::{
    canary_call, candidate_loaded, candidate_share, candidate_stopped, decision_log_size,
    decision_log_waiting, decision_records, shadow_call,
};

/// Seconds: from a cached answer to a slow host.
const SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// How often what was recorded is put into buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the recorder small, for ever: values of histograms are kept one by one until somebody
/// scrapes them, and nobody may.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// Installs the recorder for this process; later calls give the same one.
///
/// # Panics
/// When another part of the process installed a recorder of its own.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)
                .expect("the list of buckets is not empty")
                .set_buckets_for_metric(
                    Matcher::Full(PLUGIN_VALUES.into()),
                    &[0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0],
                )
                .expect("the list of buckets is not empty")
                .build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).expect("the relay owns the metrics recorder");
            describe();
            handle
        })
        .clone()
}

fn describe() {
    for row in TABLE {
        match row.kind {
            Kind::Counter => metrics::describe_counter!(row.name, row.unit, row.help),
            Kind::Gauge => metrics::describe_gauge!(row.name, row.unit, row.help),
            Kind::Histogram => metrics::describe_histogram!(row.name, row.unit, row.help),
        }
    }
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // A family that has not happened yet shows as zero, so that an alert on it can be written
    // before the first time.
    for cause in ["remote", "local"] {
        metrics::counter!(DEFERRED, "cause" => cause).absolute(0);
    }
    for cause in ["failed", "expired", "operator"] {
        metrics::counter!(BOUNCED, "cause" => cause).absolute(0);
    }
    for name in [DELIVERED, DISCARDED, BOUNCES] {
        metrics::counter!(name).absolute(0);
    }
    for result in ["ok", "failed"] {
        metrics::counter!(RELOADS, "result" => result).absolute(0);
    }
    for kind in ["mx", "addresses"] {
        for result in ["found", "no_such_domain", "no_records", "temporary"] {
            metrics::counter!(DNS_LOOKUPS, "type" => kind, "result" => result).absolute(0);
        }
    }
}

/// Handles of the hot path for the delivery side.
#[derive(Clone)]
pub struct Meters {
    /// See [`DELIVERED`].
    pub delivered: Counter,
    /// See [`DEFERRED`].
    pub deferred_remote: Counter,
    /// See [`DEFERRED`].
    pub deferred_local: Counter,
    /// See [`BOUNCED`].
    pub failed: Counter,
    /// See [`BOUNCED`].
    pub expired: Counter,
    /// See [`BOUNCED`].
    pub bounced_by_operator: Counter,
    /// See [`DISCARDED`].
    pub discarded: Counter,
    /// See [`BOUNCES`].
    pub bounces: Counter,
    /// See [`ATTEMPTS`].
    attempts: [(&'static str, Counter); 4],
    /// See [`ATTEMPT_SECONDS`].
    pub attempt_seconds: Histogram,
    /// See [`ACCEPT_SECONDS`].
    pub accept_seconds: Histogram,
    /// See [`OUT_CONNECTIONS`].
    pub out_opened: Counter,
    /// See [`OUT_CONNECTIONS`].
    pub out_reused: Counter,
    /// See [`OUT_CONNECTIONS`].
    pub out_failed: Counter,
    /// See [`SPOOL_SECONDS`].
    pub spool_seconds: Histogram,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    /// Registers the handles; [`install`] comes first.
    #[must_use]
    pub fn new() -> Self {
        Self {
            delivered: metrics::counter!(DELIVERED),
            deferred_remote: metrics::counter!(DEFERRED, "cause" => "remote"),
            deferred_local: metrics::counter!(DEFERRED, "cause" => "local"),
            failed: metrics::counter!(BOUNCED, "cause" => "failed"),
            expired: metrics::counter!(BOUNCED, "cause" => "expired"),
            bounced_by_operator: metrics::counter!(BOUNCED, "cause" => "operator"),
            discarded: metrics::counter!(DISCARDED),
            bounces: metrics::counter!(BOUNCES),
            attempts: ["delivered", "deferred", "failed", "mixed"]
                .map(|result| (result, metrics::counter!(ATTEMPTS, "result" => result))),
            attempt_seconds: metrics::histogram!(ATTEMPT_SECONDS),
            accept_seconds: metrics::histogram!(ACCEPT_SECONDS),
            out_opened: metrics::counter!(OUT_CONNECTIONS, "result" => "opened"),
            out_reused: metrics::counter!(OUT_CONNECTIONS, "result" => "reused"),
            out_failed: metrics::counter!(OUT_CONNECTIONS, "result" => "failed"),
            spool_seconds: metrics::histogram!(SPOOL_SECONDS),
        }
    }

    /// Counts one delivery attempt: `delivered`, `deferred`, `failed` or `mixed`.
    pub fn attempt(&self, result: &'static str, took: Duration) {
        let counter = self.attempts.iter().find(|(label, _)| *label == result);
        debug_assert!(counter.is_some(), "{result} is no result of an attempt");
        if let Some((_, counter)) = counter {
            counter.increment(1);
        }
        self.attempt_seconds.record(took.as_secs_f64());
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

/// Handles of one listener.
#[derive(Clone)]
pub struct ListenerMeters {
    name: String,
    /// See [`CONNECTIONS_ACCEPTED`].
    pub connections: Counter,
    /// See [`CONNECTIONS_OPEN`].
    pub open: Gauge,
    /// See [`MESSAGES_ACCEPTED`].
    pub accepted: Counter,
    /// See [`ACCEPTED_BYTES`].
    pub bytes: Counter,
}

impl std::fmt::Debug for ListenerMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerMeters")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ListenerMeters {
    /// Registers the handles of the listener `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let label = name.to_owned();
        Self {
            connections: metrics::counter!(CONNECTIONS_ACCEPTED, "listener" => label.clone()),
            open: metrics::gauge!(CONNECTIONS_OPEN, "listener" => label.clone()),
            accepted: metrics::counter!(MESSAGES_ACCEPTED, "listener" => label.clone()),
            bytes: metrics::counter!(ACCEPTED_BYTES, "listener" => label.clone()),
            name: label,
        }
    }

    /// Counts a connection that was turned away.
    pub fn connection_refused(&self, reason: &'static str) {
        metrics::counter!(CONNECTIONS_REFUSED, "listener" => self.name.clone(), "reason" => reason)
            .increment(1);
    }

    /// Counts a message that was refused at or after DATA.
    pub fn message_refused(&self, reason: &'static str) {
        metrics::counter!(MESSAGES_REFUSED, "listener" => self.name.clone(), "reason" => reason)
            .increment(1);
    }

    /// Counts a message that was answered with 250 and dropped.
    pub fn message_discarded(&self) {
        metrics::counter!(MESSAGES_DISCARDED, "listener" => self.name.clone()).increment(1);
    }

    /// Counts a refused MAIL.
    pub fn sender_refused(&self, reason: &'static str) {
        metrics::counter!(SENDERS_REFUSED, "listener" => self.name.clone(), "reason" => reason)
            .increment(1);
    }

    /// Counts a refused recipient.
    pub fn recipient_refused(&self, reason: &'static str) {
        metrics::counter!(RECIPIENTS_REFUSED, "listener" => self.name.clone(), "reason" => reason)
            .increment(1);
    }
}

/// Counts one question that went to the resolver.
pub fn dns_lookup(kind: &'static str, result: &'static str, took: Duration) {
    metrics::counter!(DNS_LOOKUPS, "type" => kind, "result" => result).increment(1);
    metrics::histogram!(DNS_SECONDS, "type" => kind).record(took.as_secs_f64());
}

/// Counts a plan that must not be used.
pub fn plan_kept_back() {
    metrics::counter!(PLANS_KEPT_BACK).increment(1);
}

/// Counts a reload of the configuration: `ok` or `failed`.
pub fn reloaded(result: &'static str) {
    metrics::counter!(RELOADS, "result" => result).increment(1);
}

/// Shows the state of the queue.
#[allow(clippy::cast_precision_loss)] // gauges are floats; counts stay far below 2^52
pub fn queue_gauges(numbers: &crate::dispatch::QueueNumbers) {
    let counts = &numbers.counts;
    for (state, count) in [
        ("resting", counts.resting),
        ("active", counts.active),
        ("held", counts.held),
    ] {
        metrics::gauge!(QUEUE_MESSAGES, "state" => state).set(count as f64);
    }
    for (state, count) in [("ready", counts.ready), ("in_flight", counts.in_flight)] {
        metrics::gauge!(QUEUE_JOBS, "state" => state).set(count as f64);
    }
    let open = counts.destinations.saturating_sub(counts.suspended);
    for (state, count) in [("open", open), ("suspended", counts.suspended)] {
        metrics::gauge!(QUEUE_DESTINATIONS, "state" => state).set(count as f64);
    }
    metrics::gauge!(QUEUE_ACTIVE).set(numbers.active_ms as f64 / 1000.0);
    metrics::gauge!(QUEUE_UNREADABLE).set(numbers.unreadable as f64);
    metrics::gauge!(QUEUE_OVERDUE).set(numbers.overdue_ms as f64 / 1000.0);
}

/// Shows what the spool counts itself.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn spool_gauges(stats: &spool::SpoolStats) {
    metrics::counter!(SPOOL_COMMITS).absolute(stats.commits_total);
    metrics::counter!(SPOOL_RECORDS).absolute(stats.records_total);
    metrics::counter!(SPOOL_WRITTEN).absolute(stats.written_bytes_total);
    metrics::counter!(SPOOL_ERRORS).absolute(stats.disk_errors_total + stats.full_total);
    metrics::gauge!(SPOOL_SEGMENTS).set(stats.segment_count as f64);
    metrics::gauge!(SPOOL_LIVE).set(stats.live_bytes as f64);
    metrics::gauge!(SPOOL_DEAD).set(stats.dead_bytes as f64);
}

/// The part of the DNS cache's hits that has been counted. A reload may bring a new cache,
/// which begins at 0; a counter never goes back.
#[derive(Debug, Default)]
pub struct DnsHits(Mutex<(Weak<mx::Directory>, u64)>);

impl DnsHits {
    fn count(&self, directory: &Arc<mx::Directory>) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: two scrapes at a time must not read the number in another order.
        let now = directory.stats().hits_count;
        let (of, before) = &*counted;
        let is_same = std::ptr::eq(of.as_ptr(), Arc::as_ptr(directory));
        let news = now.saturating_sub(if is_same { *before } else { 0 });
        metrics::counter!(DNS_HITS).increment(news);
        *counted = (Arc::downgrade(directory), now);
    }
}

/// Shows what lives in memory.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn core_gauges(core: &crate::core::Core, dns_hits: &DnsHits) {
    let memory = |part: &'static str, bytes: u64| {
        metrics::gauge!(CONTENT_MEMORY, "use" => part).set(bytes as f64);
    };
    memory("receiving", core.receiving.used_bytes());
    memory("cached", core.cache.used_bytes());
    let settings = core.settings.load();
    for link in settings.chain.links() {
        plugin_breaker(&link.config.name, link.guard.standing() as u8);
    }
    let dns = settings.directory.stats();
    metrics::gauge!(OUT_IDLE).set(core.pool.len() as f64);
    let open = core
        .outgoing_open
        .load(std::sync::atomic::Ordering::Relaxed);
    metrics::gauge!(OUT_OPEN).set(open as f64);
    metrics::gauge!(DNS_ENTRIES).set(dns.entries_count as f64);
    dns_hits.count(&settings.directory);
    core.resources.show();
}
