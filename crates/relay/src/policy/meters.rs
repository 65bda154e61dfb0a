//! Counters of one plugin's calls, looked up once and kept as handles.

use metrics::{Counter, Histogram, SharedString};
use plugin::{CallStats, FailureReason};

use crate::telemetry::{PLUGIN_CALLS, PLUGIN_CPU, PLUGIN_SECONDS};

/// Result label of calls that were not made, or whose answer was dropped, because the message
/// could not be read.
pub(crate) const CONTENT_UNAVAILABLE: &str = "content_unavailable";

/// What is counted of one plugin.
pub(crate) struct CallMeters {
    plugin: SharedString,
    ok: Counter,
    seconds: Histogram,
    cpu: Histogram,
}

impl std::fmt::Debug for CallMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallMeters")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

impl CallMeters {
    /// Registers the handles of the plugin `name`.
    pub(crate) fn new(name: &str) -> Self {
        let plugin = SharedString::from_shared(name.into());
        Self {
            ok: metrics::counter!(PLUGIN_CALLS, "plugin" => plugin.clone(), "result" => "ok"),
            seconds: metrics::histogram!(PLUGIN_SECONDS, "plugin" => plugin.clone()),
            cpu: metrics::histogram!(PLUGIN_CPU, "plugin" => plugin.clone()),
            plugin,
        }
    }

    /// Counts a call whose verdicts were carried out.
    pub(crate) fn ok(&self, stats: &CallStats) {
        self.ok.increment(1);
        self.spent(stats);
    }

    /// Counts a call that was the plugin's failure.
    pub(crate) fn failed(&self, reason: FailureReason, stats: &CallStats) {
        self.count(reason.as_str());
        self.spent(stats);
    }

    /// Counts a call that was not made or not used, through no fault of the plugin.
    pub(crate) fn unreadable(&self) {
        self.count(CONTENT_UNAVAILABLE);
    }

    fn count(&self, result: &'static str) {
        metrics::counter!(PLUGIN_CALLS, "plugin" => self.plugin.clone(), "result" => result)
            .increment(1);
    }

    fn spent(&self, stats: &CallStats) {
        self.seconds.record(stats.wall.as_secs_f64());
        self.cpu.record(stats.cpu.as_secs_f64());
    }
}
