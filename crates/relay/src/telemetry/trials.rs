//! What is counted of candidates and of the decision log.

use plugin::Phase;

use super::{
    CANARY_CALLS, CANDIDATE_LOADS, CANDIDATE_SHARE, CANDIDATE_STOPS, DECISION_BYTES,
    DECISION_RECORDS, DECISION_WAITING, SHADOW_CALLS,
};

/// Counts a call in the shadow: `same`, `differs`, `failed` or `skipped`, and why.
pub fn shadow_call(plugin: &str, phase: Phase, result: &'static str, reason: &'static str) {
    metrics::counter!(
        SHADOW_CALLS,
        "plugin" => plugin.to_owned(),
        "phase" => phase.as_str(),
        "result" => result,
        "reason" => reason,
    )
    .increment(1);
}

/// Counts a call by which a candidate decided: `ok` or `failed`, and why.
pub fn canary_call(plugin: &str, phase: Phase, result: &'static str, reason: &'static str) {
    metrics::counter!(
        CANARY_CALLS,
        "plugin" => plugin.to_owned(),
        "phase" => phase.as_str(),
        "result" => result,
        "reason" => reason,
    )
    .increment(1);
}

/// Counts a candidate that was loaded (`ok`) or not (`failed`).
pub fn candidate_loaded(plugin: &str, result: &'static str) {
    metrics::counter!(CANDIDATE_LOADS, "plugin" => plugin.to_owned(), "result" => result)
        .increment(1);
}

/// Counts a candidate that was taken out for its failures.
pub fn candidate_stopped(plugin: &str) {
    metrics::counter!(CANDIDATE_STOPS, "plugin" => plugin.to_owned()).increment(1);
}

/// Shows a candidate's share of the messages.
pub fn candidate_share(plugin: &str, mode: &'static str, millionths: u32) {
    metrics::gauge!(CANDIDATE_SHARE, "plugin" => plugin.to_owned(), "mode" => mode)
        .set(f64::from(millionths) / 1e6);
}

/// Counts records of decisions: `written`, `dropped` or `failed`.
pub fn decision_records(result: &'static str, count: u64) {
    metrics::counter!(DECISION_RECORDS, "result" => result).increment(count);
}

/// Shows how large the decision log is.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn decision_log_size(bytes: u64) {
    metrics::gauge!(DECISION_BYTES).set(bytes as f64);
}

/// Octets more that wait for the decision log, or fewer.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn decision_log_waiting(bytes: usize, is_more: bool) {
    let waiting = metrics::gauge!(DECISION_WAITING);
    if is_more {
        waiting.increment(bytes as f64);
    } else {
        waiting.decrement(bytes as f64);
    }
}
