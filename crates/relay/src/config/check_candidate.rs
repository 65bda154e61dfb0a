//! `[plugin.candidate]`, a version of a plugin that is on trial, and
//! `[decision_log]`, which keeps decisions for `waypost plugin replay`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::path_value;
use super::check_plugin::{digest_value, field_name, free_table};
use super::tree::{Node, Section};
use super::value::Wrong;

/// How a candidate takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateMode {
    /// It is asked after the active plugin has decided, and its answer only compared.
    Shadow,
    /// It decides for its share of the messages.
    Canary,
}

impl CandidateMode {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// A share of all messages, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    millionths: u32,
}

impl Percent {
    /// No message.
    pub const NONE: Self = Self { millionths: 0 };
    /// Every message.
    pub const ALL: Self = Self {
        millionths: 1_000_000,
    };

    /// This share; none below 0 and above 100.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range by then
    pub fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self {
            millionths: (percent * 10_000.0).round() as u32,
        })
    }

    /// Out of a million.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// From a number out of a million; more is all.
    #[must_use]
    pub fn from_millionths(millionths: u32) -> Self {
        Self { millionths }.min(Self::ALL)
    }

    /// From 0 to 100.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.millionths) / 10_000.0
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", self.get())
    }
}

/// `[plugin.candidate]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateConfig {
    /// The component; relative paths have the configuration's directory in front.
    pub path: PathBuf,
    /// The file must have this digest.
    pub sha256: Option<plugin::Digest>,
    /// Its own section, where it is not that of the plugin.
    pub config: Option<toml::Table>,
    /// Whether it decides.
    pub mode: CandidateMode,
    /// Which share of the messages it is asked about.
    pub percent: Percent,
    /// Failures within the window that are not yet too many.
    pub failures_max_count: u32,
    /// Share of the window's calls that may fail.
    pub failures_max: Percent,
    /// How far back failures count.
    pub window: Duration,
    /// Shadow calls at a time.
    pub concurrency_count: usize,
    /// Differences that are kept to be looked at.
    pub examples_count: usize,
}

/// What a decision log shows of the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPrivacy {
    /// Local parts, domains of the envelope, client addresses, user names, header values and
    /// bodies are pseudonyms.
    Hash,
    /// As `Hash`, but domains and client addresses are as they are.
    Domains,
    /// Everything as it is.
    Full,
}

/// `[decision_log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionLogConfig {
    /// Whether decisions are kept.
    pub enabled: bool,
    /// Where: `decisions` in the spool unless set.
    pub directory: PathBuf,
    /// All files together.
    pub max_size_bytes: u64,
    /// All records together.
    pub max_records_count: u64,
    /// Which share of the messages.
    pub sample: Percent,
    /// What is shown of the mail.
    pub privacy: LogPrivacy,
    /// Header fields whose values are kept whatever the privacy, lower case.
    pub keep_headers: Vec<String>,
    /// Records that may wait to be written; more are dropped and counted.
    pub waiting_count: usize,
    /// What they may hold together, in octets; more are dropped and counted.
    pub waiting_bytes: usize,
}

const MODES: [(&str, CandidateMode); 2] = [
    ("shadow", CandidateMode::Shadow),
    ("canary", CandidateMode::Canary),
];

const PRIVACY: [(&str, LogPrivacy); 3] = [
    ("domains", LogPrivacy::Domains),
    ("hash", LogPrivacy::Hash),
    ("full", LogPrivacy::Full),
];

const PATH_HELP: &str = "name the component (.wasm) that is on trial; a relative path starts at \
                         the directory of this file";

/// The candidate of one plugin, where there is one. Its file is not among those that must be
/// there: a relay runs without its candidate, and says so.
pub(super) fn candidate(plugin: &mut Section<'_>, directory: &Path) -> Option<CandidateConfig> {
    let mut section = plugin.section("candidate");
    let path = section.required("path", PATH_HELP).and_then(|node| {
        let path = node.parsed("a path in quotes", path_value)?;
        Some(directory.join(path))
    });
    let mode = section.choice("mode", CandidateMode::Shadow, &MODES);
    let share = match mode {
        CandidateMode::Shadow => Percent::ALL,
        // Nobody's mail is decided by a candidate before somebody has said how much.
        CandidateMode::Canary => Percent::NONE,
    };
    let window = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let candidate = CandidateConfig {
        sha256: section.parsed("sha256", "a digest in quotes", digest_value),
        config: section.node("config").and_then(|node| free_table(&node)),
        mode,
        percent: percent(&mut section, "percent", share),
        failures_max_count: section.count("max_failures", 5, 0..=1_000_000),
        failures_max: percent(&mut section, "max_failure_percent", DEFAULT_FAILURES),
        window: section.duration("window", Duration::from_secs(600), window),
        concurrency_count: section.count("concurrency", 16, 1..=10_000),
        examples_count: section.count("examples", 100, 0..=10_000),
        path: path.clone().unwrap_or_default(),
    };
    section.finish();
    path.map(|_| candidate)
}

/// One in a hundred.
const DEFAULT_FAILURES: Percent = Percent { millionths: 10_000 };

/// `[decision_log]`; `spool` is the directory of the spool.
pub(super) fn decision_log(
    mut section: Section<'_>,
    directory: &Path,
    spool: &Path,
) -> DecisionLogConfig {
    let named = section.parsed("directory", "the path of a directory in quotes", path_value);
    let headers = "a list of header field names, as in [\"List-Id\"]";
    let waiting = section.size("waiting_size", 64 << 20, 64 << 10..=1 << 40);
    let config = DecisionLogConfig {
        enabled: section.boolean("enabled", false),
        directory: named.map_or_else(|| spool.join("decisions"), |path| directory.join(path)),
        max_size_bytes: section.size("max_size", 64 << 20, 64 << 10..=1 << 40),
        max_records_count: section.count("max_records", 100_000, 1..=1_000_000_000),
        sample: percent(&mut section, "sample", Percent::ALL),
        privacy: section.choice("privacy", LogPrivacy::Domains, &PRIVACY),
        keep_headers: section.texts("keep_headers", headers, field_name),
        waiting_count: section.count("waiting", 1024, 1..=1_000_000),
        waiting_bytes: usize::try_from(waiting).unwrap_or(usize::MAX),
    };
    section.finish();
    config
}

fn percent(section: &mut Section<'_>, key: &'static str, default: Percent) -> Percent {
    section
        .node(key)
        .and_then(|node| percent_value(&node))
        .unwrap_or(default)
}

fn percent_value(node: &Node<'_>) -> Option<Percent> {
    let value = node.value().get_ref();
    let integer = value.as_integer().map(|integer| integer.as_str());
    let float = value.as_float().map(|float| float.as_str());
    let number = integer.or(float).and_then(|text| text.parse().ok());
    let percent = number.and_then(Percent::new);
    if percent.is_none() {
        let help = "write a number from 0 to 100, as in 5 or 0.5";
        node.error(Wrong::new("this is not a share in percent", help));
    }
    percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_to_a_millionth() {
        assert_eq!(Percent::new(0.5).unwrap().millionths(), 5_000);
        assert_eq!(Percent::new(0.0001).unwrap().millionths(), 1);
        assert_eq!(Percent::new(100.0), Some(Percent::ALL));
        assert_eq!(Percent::new(-0.1), None);
        assert_eq!(Percent::new(100.1), None);
        assert_eq!(Percent::new(f64::NAN), None);
        assert_eq!(Percent::new(2.5).unwrap().to_string(), "2.5 %");
    }
}
