//! `metrics`: a plugin's own counters and histograms, bounded in number.

use crate::bindings::{metrics, types};
use crate::state::CallState;
use crate::text::one_line;

use super::pairs;

/// Labels of one series; further ones are left out.
const LABELS: usize = 8;

impl metrics::Host for CallState {
    fn count(
        &mut self,
        name: String,
        by: u64,
        labels: Vec<types::Attribute>,
    ) -> wasmtime::Result<()> {
        self.charge(1)?;
        if let Some((name, labels)) = self.series(name, labels) {
            self.metrics.count(&self.profile.name, &name, by, &labels);
        }
        Ok(())
    }

    fn observe(
        &mut self,
        name: String,
        value: f64,
        labels: Vec<types::Attribute>,
    ) -> wasmtime::Result<()> {
        self.charge(1)?;
        // A histogram that once summed a NaN is lost for good.
        if let Some((name, labels)) = self.series(name, labels)
            && value.is_finite()
        {
            self.metrics
                .observe(&self.profile.name, &name, value, &labels);
        }
        Ok(())
    }
}

impl CallState {
    /// The series to count in; `None`: the name is none, there is no room for
    /// it, or the call was counted when it was made.
    fn series(
        &self,
        name: String,
        labels: Vec<types::Attribute>,
    ) -> Option<(String, Vec<(String, String)>)> {
        if !is_metric_name(&name) || self.environment.is_repetition() {
            return None;
        }
        let mut labels: Vec<_> = pairs(labels)
            .into_iter()
            .filter(|(label, _)| is_metric_name(label))
            .map(|(label, value)| (label, one_line(&value, 64)))
            .take(LABELS)
            .collect();
        labels.sort();
        labels.dedup_by(|later, earlier| later.0 == earlier.0);
        if self.profile.series.admit(&name, &labels) {
            return Some((name, labels));
        }
        // At most one more for each known name and set of label names; what is new
        // now is dropped.
        if !self.profile.series.knows_shape(&name, &labels) {
            return None;
        }
        for (_, value) in &mut labels {
            "other".clone_into(value);
        }
        Some((name, labels))
    }
}

fn is_metric_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
        && !name.starts_with("__")
}
