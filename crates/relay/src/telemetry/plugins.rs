//! What the relay counts of plugins, and what plugins count themselves.

use super::{
    PLUGIN_ACTIONS, PLUGIN_BREAKER, PLUGIN_EVENTS, PLUGIN_INFO, PLUGIN_RELOADS, PLUGIN_VALUES,
    PLUGIN_VERSIONS,
};

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

/// Counts what a plugin did to mail that came in: `rewrite`, `drop`, `hold`, `discard`, `defer`
/// or `reject`.
pub fn plugin_action(plugin: &str, phase: plugin::Phase, action: &'static str) {
    metrics::counter!(
        PLUGIN_ACTIONS,
        "plugin" => plugin.to_owned(),
        "phase" => phase.as_str(),
        "action" => action,
    )
    .increment(1);
}

/// Counts a version of a plugin that was tried: `ok`, or the step that it did not pass.
pub fn plugin_reloaded(plugin: &str, result: &'static str) {
    metrics::counter!(PLUGIN_RELOADS, "plugin" => plugin.to_owned(), "result" => result)
        .increment(1);
}

/// Shows whether a plugin is called: 0 yes, 1 it is tried again, 2 no.
pub fn plugin_breaker(plugin: &str, state: u8) {
    metrics::gauge!(PLUGIN_BREAKER, "plugin" => plugin.to_owned()).set(f64::from(state));
}

/// Shows how many versions of plugins are in memory.
#[allow(clippy::cast_precision_loss)] // gauges are floats
pub fn plugin_versions(count: usize) {
    metrics::gauge!(PLUGIN_VERSIONS).set(count as f64);
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
