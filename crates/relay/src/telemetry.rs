//! Metrics and logs: every metric's name, unit and help text, in one table.
//!
//! Names follow Prometheus' conventions (`promtool check metrics` is run over them by the peer
//! tests). Counters of the hot path are registered once and kept as handles in [`Meters`].

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::config::{Config, DeliveryConfig, DnsConfig, LimitsConfig, QueueConfig, StorageConfig};

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
        #[cfg(test)]
        const CONSTANTS: &[&str] = &[$(stringify!($constant),)*];
    };
}

table! {
    BUILD_INFO Gauge Count "waypost_build_info" "Always 1; the label version says what runs.";
    CONNECTIONS_ACCEPTED Counter Count "waypost_connections_accepted_total" "SMTP connections taken, by listener.";
    CONNECTIONS_REFUSED Counter Count "waypost_connections_refused_total" "SMTP connections turned away, by listener and reason.";
    CONNECTIONS_OPEN Gauge Count "waypost_connections_open" "SMTP connections open now, by listener.";
    MESSAGES_ACCEPTED Counter Count "waypost_messages_accepted_total" "Messages answered with 250 after end of data, by listener.";
    MESSAGES_REFUSED Counter Count "waypost_messages_refused_total" "Messages refused at or after DATA, by listener and reason: size, bare_line_break, memory, loop, spool.";
    RECIPIENTS_REFUSED Counter Count "waypost_recipients_refused_total" "RCPT commands refused, by listener and reason.";
    ACCEPTED_BYTES Counter Bytes "waypost_accepted_bytes_total" "Octets of accepted messages, by listener.";
    ACCEPT_SECONDS Histogram Seconds "waypost_accept_seconds" "Time from end of data to the reply, the commit to disk included.";
    DELIVERED Counter Count "waypost_recipients_delivered_total" "Recipients for whom a next hop took the message.";
    DEFERRED Counter Count "waypost_recipients_deferred_total" "Attempts for a recipient that ended in a wait, by cause: remote (the next hop), local (DNS, plugin, spool).";
    BOUNCED Counter Count "waypost_recipients_bounced_total" "Recipients given up, by cause: failed, expired.";
    DISCARDED Counter Count "waypost_recipients_discarded_total" "Recipients dropped by policy, without a bounce.";
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
    PLUGIN_INFO Gauge Count "waypost_plugin_info" "1 for what is loaded, by plugin, version and digest; 0 for what was.";
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
    LIMITS Gauge Count "waypost_limit" "Configured limits, by name as in the configuration; octets, seconds or a number.";
    RELOADS Counter Count "waypost_reloads_total" "Reloads of the configuration, by result: ok, failed.";
}

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

/// Shows a plugin as loaded, or as no longer loaded.
pub fn plugin_info(plugin: &plugin::Inspection, is_loaded: bool) {
    let version = plugin.identity.as_ref().map_or("", |(_, version)| version);
    metrics::gauge!(
        PLUGIN_INFO,
        "plugin" => plugin.name.clone(),
        "version" => version.to_owned(),
        "digest" => plugin.sha256.to_string(),
    )
    .set(if is_loaded { 1.0 } else { 0.0 });
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
    let dns = settings.directory.stats();
    metrics::gauge!(OUT_IDLE).set(core.pool.len() as f64);
    let open = core
        .outgoing_open
        .load(std::sync::atomic::Ordering::Relaxed);
    metrics::gauge!(OUT_OPEN).set(open as f64);
    metrics::gauge!(DNS_ENTRIES).set(dns.entries_count as f64);
    dns_hits.count(&settings.directory);
}

/// Shows every limit of the configuration, by the name of its key.
pub fn limits(config: &Config) {
    let show = |section: &str, values: &[(&str, f64)]| {
        for (key, value) in values {
            metrics::gauge!(LIMITS, "name" => format!("{section}.{key}")).set(*value);
        }
    };
    show("limits", &reception_limits(&config.limits));
    show("queue", &queue_limits(&config.queue));
    show("dns", &dns_limits(&config.dns));
    show("delivery", &delivery_limits(&config.delivery));
    show("storage", &storage_limits(&config.storage));
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn reception_limits(limits: &LimitsConfig) -> [(&'static str, f64); 13] {
    [
        ("message_size", limits.message_size_bytes as f64),
        ("recipients", limits.recipients_count as f64),
        ("connections", limits.connections_count as f64),
        (
            "connections_per_address",
            limits.connections_per_address_count as f64,
        ),
        (
            "messages_per_connection",
            limits.messages_per_connection_count as f64,
        ),
        (
            "errors_per_connection",
            f64::from(limits.errors_per_connection_count),
        ),
        ("in_flight", limits.in_flight_bytes as f64),
        ("command_timeout", limits.command_timeout.as_secs_f64()),
        (
            "content_idle_timeout",
            limits.content_idle_timeout.as_secs_f64(),
        ),
        ("content_timeout", limits.content_timeout.as_secs_f64()),
        ("session_timeout", limits.session_timeout.as_secs_f64()),
        ("hops", limits.hops_count as f64),
        ("shutdown_timeout", limits.shutdown_timeout.as_secs_f64()),
    ]
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn queue_limits(queue: &QueueConfig) -> [(&'static str, f64); 10] {
    [
        ("expires_after", queue.expires_after.as_secs_f64()),
        (
            "bounce_expires_after",
            queue.bounce_expires_after.as_secs_f64(),
        ),
        ("active_messages", queue.active_messages_count as f64),
        ("reserved_for_fresh", queue.reserved_for_fresh_count as f64),
        ("concurrency", f64::from(queue.concurrency_count)),
        (
            "initial_concurrency",
            f64::from(queue.initial_concurrency_count),
        ),
        (
            "ready_per_destination",
            queue.ready_per_destination_count as f64,
        ),
        (
            "failures_to_suspend",
            f64::from(queue.failures_to_suspend_count),
        ),
        ("suspend", queue.suspend.as_secs_f64()),
        ("suspend_max", queue.suspend_max.as_secs_f64()),
    ]
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn dns_limits(dns: &DnsConfig) -> [(&'static str, f64); 6] {
    [
        ("timeout", dns.timeout.as_secs_f64()),
        ("attempts", dns.attempts_count as f64),
        ("cache_entries", dns.cache_entries_count as f64),
        ("ttl_floor", dns.ttl_floor.as_secs_f64()),
        ("ttl_ceiling", dns.ttl_ceiling.as_secs_f64()),
        (
            "negative_ttl_ceiling",
            dns.negative_ttl_ceiling.as_secs_f64(),
        ),
    ]
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn delivery_limits(delivery: &DeliveryConfig) -> [(&'static str, f64); 11] {
    [
        ("connect_timeout", delivery.connect_timeout.as_secs_f64()),
        ("greeting_timeout", delivery.greeting_timeout.as_secs_f64()),
        ("command_timeout", delivery.command_timeout.as_secs_f64()),
        ("data_timeout", delivery.data_timeout.as_secs_f64()),
        ("content_timeout", delivery.content_timeout.as_secs_f64()),
        (
            "end_of_content_timeout",
            delivery.end_of_content_timeout.as_secs_f64(),
        ),
        ("hosts_limit", delivery.hosts_limit_count as f64),
        ("addresses_limit", delivery.addresses_limit_count as f64),
        ("connections", delivery.connections_count as f64),
        ("idle_timeout", delivery.idle_timeout.as_secs_f64()),
        (
            "messages_per_connection",
            f64::from(delivery.messages_per_connection_count),
        ),
    ]
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn storage_limits(storage: &StorageConfig) -> Vec<(&'static str, f64)> {
    let mut limits = vec![
        ("segment_size", storage.segment_size_bytes as f64),
        ("batch", storage.batch_count as f64),
        ("batch_size", storage.batch_size_bytes as f64),
        ("spare_segments", storage.spare_segments_count as f64),
    ];
    limits.extend(storage.max_size_bytes.map(|max| ("max_size", max as f64)));
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_emitted() {
        let source = concat!(
            include_str!("telemetry.rs"),
            include_str!("policy/meters.rs")
        );
        for constant in CONSTANTS {
            let emitted = ["counter!(", "gauge!(", "histogram!("].iter().any(|call| {
                source.split(call).skip(1).any(|rest| {
                    let name = rest.trim_start().strip_prefix(constant);
                    name.is_some_and(|rest| rest.starts_with([',', ')']))
                })
            });
            assert!(emitted, "{constant} is in the table and nowhere else");
        }
    }

    #[test]
    fn names_of_metrics_have_the_suffix_of_their_kind() {
        for row in TABLE {
            let is_total = row.name.ends_with("_total");
            assert_eq!(is_total, row.kind == Kind::Counter, "{}", row.name);
            assert!(row.name.starts_with("waypost_"), "{}", row.name);
        }
    }
}
