//! Who decided what and why: what one plugin did about some recipients, for `explain`, for the
//! history of a message and for logs.

use plugin::{CallStats, LogLine, Phase, Verdict};
use queue::PolicyDecision;
use serde::Serialize;

use super::call::{Failure, Unread};
use super::chain::Link;
use super::meters::CONTENT_UNAVAILABLE;
use super::words;
use crate::config::OnError;

/// The first digits of a component's digest: enough to tell versions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortDigest(plugin::Digest);

impl std::fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut octets = self.0.as_bytes().iter().take(6);
        octets.try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl Serialize for ShortDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What one plugin did about some recipients.
#[derive(Debug, Clone, Serialize)]
pub struct CallTrace {
    /// Name in the configuration.
    pub plugin: String,
    /// Version that what was called gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of what was called, shortened.
    pub digest: ShortDigest,
    /// `ok`, `content_unavailable`, or the reason of the failure.
    pub result: &'static str,
    /// What it decided, in words; the detail of a failure. Empty where nobody reads it now: the
    /// verdict has it all.
    pub decision: String,
    /// What it decided, in the words of the contract; none: it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The plugin's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What came of it where that is not just what was decided: what `on_error` made of a
    /// failure, or why a decision was not carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// CPU time in microseconds.
    pub cpu_us: u128,
    /// Wall-clock time in microseconds.
    pub wall_us: u128,
    /// Host calls made.
    pub host_calls: u32,
    /// The most memory it had, in octets.
    pub memory_peak_bytes: usize,
    /// Its log lines, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogLine>,
}

impl CallTrace {
    /// A verdict that was carried out, or is about to be. `is_shown`: somebody waits to read it.
    pub(crate) fn ok(link: &Link, verdict: &Verdict, stats: &CallStats, is_shown: bool) -> Self {
        Self {
            decision: if is_shown {
                words::verdict(verdict)
            } else {
                String::new()
            },
            verdict: Some(verdict.clone()),
            note: verdict.note.clone(),
            ..Self::new(link, PolicyDecision::OK, stats)
        }
    }

    /// A plugin that gave no usable answer.
    pub(crate) fn failed(link: &Link, failure: Failure) -> Self {
        let trace = Self::new(link, failure.reason.as_str(), &failure.stats);
        Self {
            consequence: Some(consequence(failure.on_error(link), link.on_error())),
            decision: failure.detail,
            ..trace
        }
    }

    /// A plugin that could not be shown the message.
    pub(crate) fn unreadable(link: &Link, unread: &Unread) -> Self {
        Self {
            decision: unread.error.to_string(),
            consequence: Some("the mail waits until the message can be read".to_owned()),
            ..Self::new(link, CONTENT_UNAVAILABLE, &unread.stats)
        }
    }

    fn new(link: &Link, result: &'static str, stats: &CallStats) -> Self {
        Self {
            plugin: link.config.name.clone(),
            version: link.version().map(ToOwned::to_owned),
            digest: ShortDigest(link.plugin.inspect().sha256),
            result,
            decision: String::new(),
            verdict: None,
            note: None,
            consequence: None,
            cpu_us: stats.cpu.as_micros(),
            wall_us: stats.wall.as_micros(),
            host_calls: stats.host_calls,
            memory_peak_bytes: stats.memory_peak_bytes,
            log: stats.log.clone(),
        }
    }

    /// What of it is kept with the message.
    #[must_use]
    pub fn decided(&self) -> PolicyDecision {
        PolicyDecision {
            policy: self.plugin.clone(),
            version: self.version.clone().unwrap_or_default(),
            digest: self.digest.to_string(),
            phase: Phase::Routing.as_str().to_owned(),
            result: self.result.to_owned(),
            text: match &self.verdict {
                Some(verdict) if self.decision.is_empty() => words::verdict(verdict),
                _ => self.decision.clone(),
            },
            note: self.note.clone(),
            consequence: self.consequence.clone(),
        }
    }
}

/// What a failure comes to. `configured` differs where it is not the plugin's fault.
fn consequence(is: OnError, configured: OnError) -> String {
    let (key, what) = match is {
        OnError::Defer => ("defer", "the mail waits"),
        OnError::Reject => ("reject", "the mail is returned"),
        OnError::Continue => ("continue", "the plugin is passed over"),
    };
    if is == configured {
        format!("on_error = {key}: {what}")
    } else {
        format!("not its fault: {what}")
    }
}

/// What a plugin said, or why it did not, in another phase than routing.
pub(crate) fn decision(link: &Link, phase: Phase, result: &str, text: String) -> PolicyDecision {
    PolicyDecision {
        policy: link.config.name.clone(),
        version: link.version().unwrap_or_default().to_owned(),
        digest: ShortDigest(link.plugin.inspect().sha256).to_string(),
        phase: phase.as_str().to_owned(),
        result: result.to_owned(),
        text,
        note: None,
        consequence: None,
    }
}
