//! Counters of one plugin's calls, looked up once and kept as handles.

use std::sync::OnceLock;

use metrics::{Counter, Histogram, SharedString};
use plugin::{CallStats, Phase};

use crate::telemetry::{PLUGIN_CALLS, PLUGIN_CPU, PLUGIN_SECONDS};

/// Result label of calls that were not made, or whose answer was dropped, because the message
/// could not be read.
pub(crate) const CONTENT_UNAVAILABLE: &str = "content_unavailable";

/// What is counted of one plugin, over all its versions.
pub(crate) struct CallMeters {
    plugin: SharedString,
    phases: [OnceLock<PhaseMeters>; Phase::ALL.len()],
}

/// Handles of one phase; registered when it is first called.
struct PhaseMeters {
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
    /// For the plugin `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            plugin: SharedString::from_shared(name.into()),
            phases: Default::default(),
        }
    }

    fn of(&self, phase: Phase) -> &PhaseMeters {
        let plugin = || self.plugin.clone();
        let label = phase.as_str();
        let handles = self.phases.get(phase as usize);
        let handles = handles.expect("there is a place for each phase");
        handles.get_or_init(|| PhaseMeters {
            ok: metrics::counter!(PLUGIN_CALLS, "plugin" => plugin(), "phase" => label, "result" => "ok"),
            seconds: metrics::histogram!(PLUGIN_SECONDS, "plugin" => plugin(), "phase" => label),
            cpu: metrics::histogram!(PLUGIN_CPU, "plugin" => plugin(), "phase" => label),
        })
    }

    /// Counts a call whose answer is carried out.
    pub(crate) fn ok(&self, phase: Phase, stats: &CallStats) {
        self.of(phase).ok.increment(1);
        self.spent(phase, stats);
    }

    /// Counts a call that failed.
    pub(crate) fn failed(&self, phase: Phase, reason: &'static str, stats: &CallStats) {
        self.not_called(phase, reason);
        self.spent(phase, stats);
    }

    /// Counts a call that was not made or not used, through no fault of the plugin.
    pub(crate) fn unreadable(&self, phase: Phase) {
        self.not_called(phase, CONTENT_UNAVAILABLE);
    }

    /// Counts a call that was not made.
    pub(crate) fn not_called(&self, phase: Phase, result: &'static str) {
        metrics::counter!(
            PLUGIN_CALLS,
            "plugin" => self.plugin.clone(),
            "phase" => phase.as_str(),
            "result" => result,
        )
        .increment(1);
    }

    fn spent(&self, phase: Phase, stats: &CallStats) {
        let meters = self.of(phase);
        meters.seconds.record(stats.wall.as_secs_f64());
        meters.cpu.record(stats.cpu.as_secs_f64());
    }
}
