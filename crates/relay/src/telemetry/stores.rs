//! What the relay counts of tables, of plugin state and of plugins' requests.

use std::time::Duration;

use super::{
    HTTP_REQUESTS, HTTP_SECONDS, STATE_BYTES, STATE_DAMAGED, STATE_ENTRIES, STATE_REFUSED,
    STATE_WRITES, TABLE_AGE, TABLE_BYTES, TABLE_ENTRIES, TABLE_LOADS,
};

/// Counts a reading of a table's file: `ok`, `unchanged` or `failed`.
pub fn table_loaded(table: &str, result: &'static str) {
    metrics::counter!(TABLE_LOADS, "table" => table.to_owned(), "result" => result).increment(1);
}

/// Shows a table as it is in use.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn table_gauges(table: &str, entries: usize, bytes: usize, age_ms: u64) {
    let name = table.to_owned();
    metrics::gauge!(TABLE_ENTRIES, "table" => name.clone()).set(entries as f64);
    metrics::gauge!(TABLE_BYTES, "table" => name.clone()).set(bytes as f64);
    metrics::gauge!(TABLE_AGE, "table" => name).set(age_ms as f64 / 1000.0);
}

/// Shows how much a plugin keeps.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn state_gauges(plugin: &str, bytes: usize, entries: usize) {
    let name = plugin.to_owned();
    metrics::gauge!(STATE_BYTES, "plugin" => name.clone()).set(bytes as f64);
    metrics::gauge!(STATE_ENTRIES, "plugin" => name).set(entries as f64);
}

/// Counts a write that a plugin's quota did not allow.
pub fn state_refused(plugin: &str) {
    metrics::counter!(STATE_REFUSED, "plugin" => plugin.to_owned()).increment(1);
}

/// Counts a write of durable state to disk.
pub fn state_written(plugin: &str, is_ok: bool) {
    let result = if is_ok { "ok" } else { "failed" };
    metrics::counter!(STATE_WRITES, "plugin" => plugin.to_owned(), "result" => result).increment(1);
}

/// Counts a file of durable state that could not be read, or not all of it.
pub fn state_damaged(plugin: &str) {
    metrics::counter!(STATE_DAMAGED, "plugin" => plugin.to_owned()).increment(1);
}

/// Counts a request of a plugin.
pub fn http_sent(plugin: &str, result: &'static str, took: Duration) {
    let name = plugin.to_owned();
    metrics::counter!(HTTP_REQUESTS, "plugin" => name.clone(), "result" => result).increment(1);
    metrics::histogram!(HTTP_SECONDS, "plugin" => name).record(took.as_secs_f64());
}
