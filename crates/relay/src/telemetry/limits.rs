//! `waypost_limit`: every limit of the configuration, by the name of its key.

use super::LIMITS;
use crate::config::{
    Config, DeliveryConfig, DnsConfig, LimitsConfig, PluginConfig, QueueConfig, StorageConfig,
    TableConfig,
};

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
    for table in &config.tables {
        show(&format!("table.{}", table.name), &table_limits(table));
    }
    for plugin in &config.plugins {
        show(&format!("plugin.{}", plugin.name), &grant_limits(plugin));
    }
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn table_limits(table: &TableConfig) -> [(&'static str, f64); 2] {
    [
        ("max_size", table.max_size_bytes as f64),
        ("max_entries", table.max_entries_count as f64),
    ]
}

/// Limits of state and HTTP, as far as the plugin has them.
#[allow(clippy::cast_precision_loss)] // gauges are floats
fn grant_limits(plugin: &PluginConfig) -> Vec<(&'static str, f64)> {
    let mut limits = Vec::new();
    let state = plugin.grants.state_bytes;
    limits.extend(state.map(|bytes| ("grants.state", bytes as f64)));
    if !plugin.grants.http.is_empty() {
        let http = &plugin.http;
        limits.extend([
            ("grants.http_timeout", http.timeout.as_secs_f64()),
            ("grants.http_request_size", http.request_bytes as f64),
            ("grants.http_response_size", http.response_bytes as f64),
            ("grants.http_concurrency", http.concurrency_count as f64),
        ]);
    }
    limits
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn reception_limits(limits: &LimitsConfig) -> [(&'static str, f64); 14] {
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
        ("attributes", limits.attributes_bytes as f64),
        ("shutdown_timeout", limits.shutdown_timeout.as_secs_f64()),
    ]
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
fn queue_limits(queue: &QueueConfig) -> [(&'static str, f64); 13] {
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
        ("retry_after_min", queue.retry_after_min.as_secs_f64()),
        ("retry_after_max", queue.retry_after_max.as_secs_f64()),
        ("prompt_retries", queue.prompt_retries_count as f64),
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
fn delivery_limits(delivery: &DeliveryConfig) -> [(&'static str, f64); 12] {
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
        ("feedback_calls", delivery.feedback_calls_count as f64),
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
