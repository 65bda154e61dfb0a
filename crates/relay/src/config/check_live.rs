//! What a `[[plugin]]` says of being changed while mail flows (`watch`, `cases`, `signature`,
//! `[plugin.breaker]`), and `[plugins]`, which holds for all of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::PublicKey;

use super::check::path_value;
use super::report::Severity;
use super::tree::Section;
use super::value::Wrong;

/// How one plugin is changed while mail flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveConfig {
    /// Whether a changed file is taken without being asked for.
    pub watch: bool,
    /// A directory of case files (`*.toml`) that a version has to pass.
    pub cases: Option<PathBuf>,
    /// The detached signature, where it is not the component's path with `.minisig` behind.
    pub signature: Option<PathBuf>,
    /// When it is no longer called for its failures.
    pub breaker: BreakerConfig,
}

/// `[plugin.breaker]`: when a plugin that keeps failing is no longer called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures within the window that open it; 0: it never opens.
    pub failures_count: u32,
    /// Share of the window's calls that have to have failed as well, in percent: a plugin that
    /// serves most mail is not taken away from it by one sender who makes it fail.
    pub failures_percent: u8,
    /// How far back failures count.
    pub window: Duration,
    /// How long the plugin is not called before one call tries it again.
    pub cool_down: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures_count: 20,
            failures_percent: 50,
            window: Duration::from_secs(60),
            cool_down: Duration::from_secs(30),
        }
    }
}

/// `[plugins]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginsConfig {
    /// Keys of which one has to have signed every component; empty: signatures are not asked for.
    pub trusted_keys: Vec<PublicKey>,
    /// Versions of each plugin that are kept for `waypost plugin rollback`, the one in force
    /// included.
    pub keep_versions_count: usize,
    /// How often the files of plugins with `watch` are looked at.
    pub watch_interval: Duration,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            trusted_keys: Vec::new(),
            keep_versions_count: 3,
            watch_interval: Duration::from_secs(2),
        }
    }
}

/// `[plugins]`.
pub(super) fn plugins(mut section: Section<'_>) -> PluginsConfig {
    let default = PluginsConfig::default();
    let keys = "a list of minisign public keys, as in [\"RWQ…\"]";
    let config = PluginsConfig {
        trusted_keys: section.texts("trusted_keys", keys, public_key),
        keep_versions_count: section.count("keep_versions", default.keep_versions_count, 1..=100),
        watch_interval: section.duration(
            "watch_interval",
            default.watch_interval,
            Duration::from_millis(10)..=Duration::from_secs(3600),
        ),
    };
    section.finish();
    config
}

fn public_key(text: &str) -> Result<PublicKey, Wrong> {
    let help = "write the second line of the file that `minisign -G` makes (minisign.pub): 56 \
                letters, beginning with \"RW\"";
    PublicKey::from_base64(text).map_err(|_| {
        let message = format!("{text:?} is not a minisign public key");
        Wrong::new(message, help)
    })
}

/// The keys of one plugin.
pub(super) fn live(
    plugin: &mut Section<'_>,
    directory: &Path,
    rules: &PluginsConfig,
) -> LiveConfig {
    let place = |text: &str| path_value(text).map(|path| directory.join(path));
    let signature = plugin.parsed("signature", "a path in quotes", place);
    if signature.is_some() && rules.trusted_keys.is_empty() {
        let help = "name the keys that may sign, as in [plugins] trusted_keys = [\"RWQ…\"]";
        let wrong = Wrong::new("a signature says nothing without keys to trust", help);
        plugin.fault(Severity::Error, "signature", wrong);
    }
    LiveConfig {
        watch: plugin.boolean("watch", false),
        cases: plugin.parsed("cases", "the path of a directory in quotes", place),
        signature,
        breaker: breaker(plugin.section("breaker")),
    }
}

fn breaker(mut section: Section<'_>) -> BreakerConfig {
    let default = BreakerConfig::default();
    let (shortest, day) = (Duration::from_millis(10), Duration::from_secs(86_400));
    let config = BreakerConfig {
        failures_count: section.count("failures", default.failures_count, 0..=1_000_000),
        failures_percent: section.count("percent", default.failures_percent, 0..=100),
        window: section.duration("window", default.window, shortest..=day),
        cool_down: section.duration("cool_down", default.cool_down, shortest..=day),
    };
    section.finish();
    config
}
