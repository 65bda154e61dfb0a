//! What comes back from a call besides its verdicts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::phase::Output;
use crate::verdict::Verdict;

/// A call that was answered, checked and found good.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Of the phase that was asked.
    pub output: Output,
    /// What the plugin set with `message.set-attribute`, in order, `None` to
    /// remove: to be applied when the output is.
    pub attributes: Vec<(String, Option<String>)>,
    /// What it cost.
    pub stats: CallStats,
}

/// A routing call that was answered, checked and found good.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteCall {
    /// Together they name each recipient of the request exactly once.
    pub verdicts: Vec<Verdict>,
    /// What the plugin set with `message.set-attribute`, in order, `None` to
    /// remove: to be applied when the verdicts are.
    pub attributes: Vec<(String, Option<String>)>,
    /// What it cost.
    pub stats: CallStats,
}

/// What a call cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallStats {
    /// CPU time, instantiation included.
    pub cpu: Duration,
    /// Wall-clock time since the call had an instance.
    pub wall: Duration,
    /// Time spent waiting for an instance.
    pub queued: Duration,
    /// The most linear memory the instance had.
    pub memory_peak_bytes: usize,
    /// Host calls made.
    pub host_calls: u32,
    /// Log lines that were not written because of a limit.
    pub log_lines_dropped: u32,
    /// Log lines, where the environment [wants
    /// them](crate::CallEnvironment::wants_log).
    pub log: Vec<LogLine>,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// Printable text, no line break.
    pub text: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// Levels of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// For the plugin's author.
    Trace,
    /// For the plugin's author.
    Debug,
    /// For the administrator.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}
