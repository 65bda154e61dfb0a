//! What came of a candidate's calls, counted, with the latest examples.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use plugin::Phase;
use plugin::record::Difference;
use serde::{Deserialize, Serialize};

/// Where a candidate was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Beside the plugin in force.
    Shadow,
    /// In its place.
    Canary,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Result {
    Ok,
    Same,
    Differs,
    Failed,
    Skipped,
}

impl Result {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Counts and examples.
#[derive(Debug)]
pub(super) struct Tally {
    counts: BTreeMap<(Side, Phase, Result, &'static str), u64>,
    examples: VecDeque<Example>,
    examples_max: usize,
}

/// How often something came of the calls of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Where it was asked.
    pub side: Side,
    /// In which phase.
    pub phase: Phase,
    /// `same`, `differs`, `failed` or `skipped` in the shadow, `ok` or `failed` as a canary.
    pub result: String,
    /// The kind of the first difference, or why it failed or was left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A call that ended otherwise than the one in force, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// In milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Identity of the message.
    pub message: String,
    /// In which phase.
    pub phase: Phase,
    /// Where it was asked.
    pub side: Side,
    /// `before` is the plugin in force, `after` the candidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// All that is known of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// Name of the plugin.
    pub plugin: String,
    /// The candidate's component.
    pub path: PathBuf,
    /// `shadow` or `canary`.
    pub mode: String,
    /// Its share now.
    pub percent: f64,
    /// Its share as configured.
    pub configured_percent: f64,
    /// Digest of the candidate; none: it did not load.
    pub digest: Option<String>,
    /// The version that it gives itself.
    pub version: Option<String>,
    /// Digest of the plugin in force.
    pub active_digest: String,
    /// Why it did not load.
    pub load_error: Option<String>,
    /// Why it was taken out.
    pub stopped: Option<String>,
    /// Failures as a canary within the window.
    pub failed_recently: u64,
    /// Calls as a canary within the window.
    pub ended_recently: u64,
    /// Since it was loaded.
    pub counts: Vec<Count>,
    /// The latest first.
    pub examples: Vec<Example>,
}

impl CandidateStatus {
    /// Calls in the shadow with this result: `same`, `differs`, `failed`, `skipped`.
    #[must_use]
    pub fn shadow_count(&self, result: &str) -> u64 {
        let counts = self.counts.iter();
        counts
            .filter(|count| count.side == Side::Shadow && count.result == result)
            .map(|count| count.count)
            .sum()
    }
}

impl Tally {
    pub(super) fn new(examples_max: usize) -> Self {
        Self {
            counts: BTreeMap::new(),
            examples: VecDeque::new(),
            examples_max,
        }
    }

    pub(super) fn count(&mut self, side: Side, phase: Phase, result: Result, why: &'static str) {
        *self.counts.entry((side, phase, result, why)).or_default() += 1;
    }

    pub(super) fn keep(&mut self, example: Example) {
        self.examples.push_front(example);
        self.examples.truncate(self.examples_max);
    }

    pub(super) fn counts(&self) -> Vec<Count> {
        let counts = self.counts.iter();
        let line =
            |((side, phase, result, reason), count): (&(Side, Phase, Result, &str), &u64)| Count {
                side: *side,
                phase: *phase,
                result: result.as_str().to_owned(),
                reason: (*reason).to_owned(),
                count: *count,
            };
        counts.map(line).collect()
    }

    pub(super) fn examples(&self) -> Vec<Example> {
        self.examples.iter().cloned().collect()
    }
}
