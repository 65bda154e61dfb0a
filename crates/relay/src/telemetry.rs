//! Metrics and logs: every metric's name, unit and help text, in one table.
//!
//! Names follow Prometheus' conventions (`promtool check metrics` is run over them by the peer
//! tests). Counters of the hot path are registered once and kept as handles in [`Meters`].

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Unit of its values.
    pub unit: Unit,
    /// Help text; names the labels.
    pub help: &'static str,
}

macro_rules! table {
    ($($constant:ident $kind:ident $unit:ident $name:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric that the relay itself emits.
        pub const TABLE: &[Row] = &[
            $(Row { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help },)*
        ];
    };
}

table! {
    BUILD_INFO Gauge Count "waypost_build_info" "Always 1; the label version says what runs.";
    CONNECTIONS_ACCEPTED Counter Count "waypost_connections_accepted_total" "SMTP connections taken, by listener.";
    CONNECTIONS_REFUSED Counter Count "waypost_connections_refused_total" "SMTP connections turned away, by listener and reason.";
    CONNECTIONS_OPEN Gauge Count "waypost_connections_open" "SMTP connections open now, by listener.";
    MESSAGES_ACCEPTED Counter Count "waypost_messages_accepted_total" "Messages answered with 250 after end of data, by listener.";
    MESSAGES_REFUSED Counter Count "waypost_messages_refused_total" "Messages refused at or after DATA, by listener and reason.";
    RECIPIENTS_REFUSED Counter Count "waypost_recipients_refused_total" "RCPT commands refused, by listener and reason.";
    ACCEPTED_BYTES Counter Bytes "waypost_accepted_bytes_total" "Octets of accepted messages, by listener.";
    ACCEPT_SECONDS Histogram Seconds "waypost_accept_seconds" "Time from end of data to the reply, the commit to disk included.";
    DELIVERED Counter Count "waypost_recipients_delivered_total" "Recipients for whom a next hop took the message.";
    DEFERRED Counter Count "waypost_recipients_deferred_total" "Attempts for a recipient that ended in a wait, by cause: remote (the next hop), local (DNS, plugin, spool).";
    BOUNCED Counter Count "waypost_recipients_bounced_total" "Recipients given up, by cause: failed, expired.";
    DISCARDED Counter Count "waypost_recipients_discarded_total" "Recipients dropped by policy or by an operator, without a bounce.";
    BOUNCES Counter Count "waypost_bounce_messages_total" "Bounce messages (RFC 3464) made.";
    ATTEMPTS Counter Count "waypost_attempts_total" "Delivery attempts, by result: delivered, deferred, failed, mixed.";
    ATTEMPT_SECONDS Histogram Seconds "waypost_attempt_seconds" "Time of a delivery attempt, over all hosts it tried.";
    OUT_CONNECTIONS Counter Count "waypost_outbound_connections_total" "Uses of an outgoing connection, by result: opened, reused, failed.";
    OUT_OPEN Gauge Count "waypost_outbound_connections_open" "Outgoing connections open now, idle ones included.";
    OUT_IDLE Gauge Count "waypost_outbound_connections_idle" "Outgoing connections kept open for reuse.";
    QUEUE_MESSAGES Gauge Count "waypost_queue_messages" "Messages in the queue, by state: resting, active, held.";
    QUEUE_JOBS Gauge Count "waypost_queue_jobs" "Deliveries of active messages, by state: ready, in_flight.";
    QUEUE_DESTINATIONS Gauge Count "waypost_queue_destinations" "Destinations known to the scheduler, by state: open, suspended.";
    QUEUE_OVERDUE Gauge Seconds "waypost_queue_overdue_seconds" "How long the most overdue message has been waiting past its due time.";
    QUEUE_ACTIVE Gauge Seconds "waypost_queue_oldest_active_seconds" "How long the oldest message in memory has been worked on: work that never ends shows here.";
    QUEUE_UNREADABLE Gauge Count "waypost_queue_unreadable_messages" "Messages found unreadable since the start; they stay in the spool.";
    PLUGIN_CALLS Counter Count "waypost_plugin_calls_total" "Calls of a plugin, by plugin and result: ok, or the reason of the failure.";
    PLUGIN_SECONDS Histogram Seconds "waypost_plugin_call_seconds" "Wall-clock time of a plugin call, by plugin.";
    PLUGIN_CPU Histogram Seconds "waypost_plugin_call_cpu_seconds" "CPU time of a plugin call, by plugin.";
    PLUGIN_INFO Gauge Count "waypost_plugin_info" "Always 1; labels say plugin, version and digest of what is loaded.";
    PLUGIN_EVENTS Counter Count "waypost_plugin_events_total" "Counters kept by plugins, by plugin and event.";
    PLUGIN_VALUES Histogram Count "waypost_plugin_values" "Values observed by plugins, by plugin and name.";
    DNS_LOOKUPS Counter Count "waypost_dns_lookups_total" "DNS look-ups, that went to a server, by type and result: found, no_such_domain, no_records, temporary.";
    DNS_HITS Counter Count "waypost_dns_cache_hits_total" "DNS look-ups answered from the cache.";
    DNS_SECONDS Histogram Seconds "waypost_dns_lookup_seconds" "Time of a DNS look-up that was not in the cache, by type.";
    DNS_ENTRIES Gauge Count "waypost_dns_cache_entries" "Answers in the DNS cache.";
    SPOOL_COMMITS Counter Count "waypost_spool_commits_total" "Group commits: one fdatasync each.";
    SPOOL_SECONDS Histogram Seconds "waypost_spool_commit_seconds" "Time of a group commit, write and fdatasync.";
    SPOOL_RECORDS Counter Count "waypost_spool_records_total" "Records written to the spool.";
    SPOOL_WRITTEN Counter Bytes "waypost_spool_written_bytes_total" "Octets written to the spool.";
    SPOOL_ERRORS Counter Count "waypost_spool_errors_total" "Spool operations that failed.";
    SPOOL_SEGMENTS Gauge Count "waypost_spool_segments" "Segment files in use.";
    SPOOL_LIVE Gauge Bytes "waypost_spool_live_bytes" "Octets of records that are still needed.";
    SPOOL_DEAD Gauge Bytes "waypost_spool_dead_bytes" "Octets of records no longer needed and not yet given back.";
    CONTENT_MEMORY Gauge Bytes "waypost_content_memory_bytes" "Message content in memory, by use: receiving, cached.";
    LIMITS Gauge Count "waypost_limit" "Configured limits, by name; the unit is that of what they limit.";
    RELOADS Counter Count "waypost_reloads_total" "Reloads of the configuration, by result: ok, failed.";
}

/// Seconds: from a cached answer to a slow host.
const SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

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
    for cause in ["failed", "expired"] {
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
    /// See [`DISCARDED`].
    pub discarded: Counter,
    /// See [`BOUNCES`].
    pub bounces: Counter,
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
            discarded: metrics::counter!(DISCARDED),
            bounces: metrics::counter!(BOUNCES),
            attempt_seconds: metrics::histogram!(ATTEMPT_SECONDS),
            accept_seconds: metrics::histogram!(ACCEPT_SECONDS),
            out_opened: metrics::counter!(OUT_CONNECTIONS, "result" => "opened"),
            out_reused: metrics::counter!(OUT_CONNECTIONS, "result" => "reused"),
            out_failed: metrics::counter!(OUT_CONNECTIONS, "result" => "failed"),
            spool_seconds: metrics::histogram!(SPOOL_SECONDS),
        }
    }

    /// Counts one delivery attempt.
    pub fn attempt(&self, result: &'static str, took: Duration) {
        metrics::counter!(ATTEMPTS, "result" => result).increment(1);
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

/// Counts a reload of the configuration: `ok` or `failed`.
pub fn reloaded(result: &'static str) {
    metrics::counter!(RELOADS, "result" => result).increment(1);
}

/// Takes what plugins count themselves.
#[derive(Debug, Clone, Copy)]
pub struct PluginMetrics;

impl plugin::MetricSink for PluginMetrics {
    fn count(&self, plugin: &str, name: &str, by: u64, labels: &[(String, String)]) {
        metrics::counter!(PLUGIN_EVENTS, plugin_labels(plugin, name, labels)).increment(by);
    }

    fn observe(&self, plugin: &str, name: &str, value: f64, labels: &[(String, String)]) {
        metrics::histogram!(PLUGIN_VALUES, plugin_labels(plugin, name, labels)).record(value);
    }
}

fn plugin_labels(plugin: &str, name: &str, labels: &[(String, String)]) -> Vec<metrics::Label> {
    let mut all = vec![
        metrics::Label::new("plugin", plugin.to_owned()),
        metrics::Label::new("name", name.to_owned()),
    ];
    // The plugin's own labels may not stand for ours.
    all.extend(
        labels
            .iter()
            .map(|(key, value)| metrics::Label::new(format!("label_{key}"), value.clone())),
    );
    all
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

/// Shows what lives in memory, and the limits it has.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn core_gauges(core: &crate::core::Core) {
    let memory = |part: &'static str, bytes: u64| {
        metrics::gauge!(CONTENT_MEMORY, "use" => part).set(bytes as f64);
    };
    memory("receiving", core.receiving.used_bytes());
    memory("cached", core.cache.used_bytes());
    let settings = core.settings.load();
    let dns = settings.directory.stats();
    metrics::gauge!(OUT_IDLE).set(core.pool.len() as f64);
    let open = core
        .outgoing_open
        .load(std::sync::atomic::Ordering::Relaxed);
    metrics::gauge!(OUT_OPEN).set(open as f64);
    metrics::gauge!(DNS_ENTRIES).set(dns.entries_count as f64);
    metrics::counter!(DNS_HITS).absolute(dns.hits_count);
    let (limits, queue) = (&settings.config.limits, &settings.config.queue);
    let delivery = &settings.config.delivery;
    for (name, value) in [
        ("limits.message_size", limits.message_size_bytes),
        ("limits.recipients", limits.recipients_count as u64),
        ("limits.connections", limits.connections_count as u64),
        ("limits.in_flight", limits.in_flight_bytes),
        ("queue.active_messages", queue.active_messages_count as u64),
        ("queue.concurrency", u64::from(queue.concurrency_count)),
        ("delivery.connections", delivery.connections_count as u64),
        (
            "dns.cache_entries",
            settings.config.dns.cache_entries_count as u64,
        ),
    ] {
        metrics::gauge!(LIMITS, "name" => name).set(value as f64);
    }
}
