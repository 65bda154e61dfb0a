//! The one table of names: every metric with its kind, unit and help text.

use metrics::Unit;

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
        pub(super) const CONSTANTS: &[&str] = &[$(stringify!($constant),)*];
    };
}

table! {
    BUILD_INFO Gauge Count "waypost_build_info" "Always 1; the label version says what runs.";
    CONNECTIONS_ACCEPTED Counter Count "waypost_connections_accepted_total" "SMTP connections taken, by listener.";
    CONNECTIONS_REFUSED Counter Count "waypost_connections_refused_total" "SMTP connections turned away, by listener and reason.";
    CONNECTIONS_OPEN Gauge Count "waypost_connections_open" "SMTP connections open now, by listener.";
    MESSAGES_ACCEPTED Counter Count "waypost_messages_accepted_total" "Messages answered with 250 after end of data, by listener.";
    MESSAGES_REFUSED Counter Count "waypost_messages_refused_total" "Messages refused at or after DATA, by listener and reason: size, bare_line_break, memory, loop, spool, plugin (one said so), plugin_failed.";
    MESSAGES_DISCARDED Counter Count "waypost_messages_discarded_total" "Messages answered with 250 and dropped because a plugin said so, by listener.";
    SENDERS_REFUSED Counter Count "waypost_senders_refused_total" "MAIL commands refused because of a plugin, by listener and reason: plugin (one said so), plugin_failed.";
    RECIPIENTS_REFUSED Counter Count "waypost_recipients_refused_total" "RCPT commands refused, by listener and reason: relay_denied, too_many_recipients (aliases counted), plugin (one said so), plugin_failed.";
    ACCEPTED_BYTES Counter Bytes "waypost_accepted_bytes_total" "Octets of accepted messages, by listener.";
    ACCEPT_SECONDS Histogram Seconds "waypost_accept_seconds" "Time from end of data to the reply, the commit to disk included.";
    DELIVERED Counter Count "waypost_recipients_delivered_total" "Recipients for whom a next hop took the message.";
    DEFERRED Counter Count "waypost_recipients_deferred_total" "Attempts for a recipient that ended in a wait, by cause: remote (the next hop), local (DNS, plugin, spool).";
    BOUNCED Counter Count "waypost_recipients_bounced_total" "Recipients given up, by cause: failed, expired, operator.";
    PLANS_KEPT_BACK Counter Count "waypost_plans_kept_back_total" "Plans that the check at the end of routing refused: a fault of the relay; their mail waits.";
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
    PLUGIN_CALLS Counter Count "waypost_plugin_calls_total" "Calls of a plugin, by plugin, phase and result: ok, or the reason of the failure.";
    PLUGIN_SECONDS Histogram Seconds "waypost_plugin_call_seconds" "Wall-clock time of a plugin call, by plugin and phase.";
    PLUGIN_CPU Histogram Seconds "waypost_plugin_call_cpu_seconds" "CPU time of a plugin call, by plugin and phase.";
    PLUGIN_ACTIONS Counter Count "waypost_plugin_actions_total" "What plugins did to mail that came in, by plugin, phase (sender, recipient, message) and action: rewrite, drop, hold, discard, defer, reject.";
    PLUGIN_INFO Gauge Count "waypost_plugin_info" "1 for what is loaded, by plugin, version and digest; 0 for what was.";
    PLUGIN_RELOADS Counter Count "waypost_plugin_reloads_total" "Versions of a plugin that were tried, by plugin and result: ok, or the step that it did not pass (read, pin, signature, component, start, config, cases, kept).";
    PLUGIN_VERSIONS Gauge Count "waypost_plugin_versions_loaded" "Versions of plugins and candidates in memory: those in force, and others until the work that began with them has ended.";
    PLUGIN_BREAKER Gauge Count "waypost_plugin_breaker_state" "Whether a plugin is called: 0 yes, 1 it is tried again, 2 no, because it keeps failing.";
    PLUGIN_EVENTS Counter Count "waypost_plugin_events_total" "Counters kept by plugins, by plugin and event.";
    PLUGIN_VALUES Histogram Count "waypost_plugin_values" "Values observed by plugins, by plugin and name.";
    SHADOW_CALLS Counter Count "waypost_plugin_shadow_total" "Calls of a candidate beside its plugin, by plugin, phase, result (same, differs, failed, skipped) and reason: the first kind of difference, or of failure.";
    CANARY_CALLS Counter Count "waypost_plugin_canary_total" "Calls by which a candidate decided, by plugin, phase, result (ok, failed) and reason.";
    CANDIDATE_LOADS Counter Count "waypost_plugin_candidate_loads_total" "Candidates loaded, by plugin and result: ok, failed.";
    CANDIDATE_STOPS Counter Count "waypost_plugin_candidate_stops_total" "Candidates taken out for their failures, by plugin.";
    CANDIDATE_SHARE Gauge Count "waypost_plugin_candidate_share" "Share of the messages that a candidate is asked about, 0 to 1, by plugin and mode: shadow, canary.";
    DECISION_RECORDS Counter Count "waypost_decision_log_records_total" "Records of the decision log, by result: written, dropped (too many waited, or too large ones), failed.";
    DECISION_WAITING Gauge Bytes "waypost_decision_log_waiting_bytes" "Records that wait for the decision log; waiting_size is the limit.";
    DECISION_BYTES Gauge Bytes "waypost_decision_log_bytes" "Size of the decision log.";
    TABLE_LOADS Counter Count "waypost_table_loads_total" "Readings of a table's file, by table and result: ok, unchanged, failed.";
    TABLE_ENTRIES Gauge Count "waypost_table_entries" "Entries of a table in use, by table.";
    TABLE_BYTES Gauge Bytes "waypost_table_bytes" "Memory of a table in use, by table.";
    TABLE_AGE Gauge Seconds "waypost_table_age_seconds" "Time since the version of a table in use was read, by table.";
    STATE_BYTES Gauge Bytes "waypost_plugin_state_bytes" "State that a plugin keeps, as its quota counts it, by plugin.";
    STATE_ENTRIES Gauge Count "waypost_plugin_state_entries" "Entries of a plugin's state, by plugin.";
    STATE_REFUSED Counter Count "waypost_plugin_state_refused_total" "Writes of state that a plugin's quota did not allow, by plugin.";
    STATE_WRITES Counter Count "waypost_plugin_state_writes_total" "Writes of durable plugin state to disk, by plugin and result: ok, failed.";
    STATE_DAMAGED Counter Count "waypost_plugin_state_damaged_total" "Files of durable plugin state that could not be read in full, by plugin.";
    HTTP_REQUESTS Counter Count "waypost_plugin_http_requests_total" "HTTP requests of a plugin, by plugin and result: ok, denied, timeout, connect, too_large, protocol.";
    HTTP_SECONDS Histogram Seconds "waypost_plugin_http_seconds" "Time of a plugin's HTTP request, its wait for a turn included, by plugin.";
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
