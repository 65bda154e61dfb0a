//! The configuration: one TOML file, read once, checked as a whole.
//!
//! Two layers. The first is the tree of the file with the place of every key
//! and value (`tree`); the second is [`Config`], which holds only values that
//! were checked. On the way from one to the other every fault is noted and
//! reading goes on, so that the administrator sees all of them in one report
//! with file, line, caret and what would be right.
//!
//! Serde is not used for the first layer: it stops at the first unknown key or
//! wrong type, and one fault a run is what this module exists to avoid.
//!
//! Relative paths in the file are relative to the directory of the file.

mod check;
mod check_candidate;
mod check_instances;
mod check_live;
mod check_plugin;
mod check_pools;
mod check_sections;
mod check_stores;
mod next_hop;
mod pattern;
mod report;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod value;

use std::path::{Path, PathBuf};

use smtp::Domain;

pub use check_candidate::{CandidateConfig, CandidateMode, DecisionLogConfig, LogPrivacy, Percent};
pub use check_live::{BreakerConfig, LiveConfig, PluginsConfig};
pub use check_pools::{SourceConfig, SourcePoolConfig};
pub use check_stores::{
    CredentialConfig, CredentialScheme, CredentialSource, HttpGrant, TableConfig, TableFormat,
};
pub use pattern::{DomainPattern, Networks, SenderPattern};
pub use report::{ConfigErrors, Diagnostic, Report, Severity};
pub use types::{
    AdminConfig, DeliveryConfig, DnsConfig, LimitsConfig, ListenerConfig, LogConfig, LogFormat,
    OnError, PluginConfig, PluginFilter, QueueConfig, SmarthostConfig, SmarthostHost,
    StorageConfig, TlsConfig, TlsMode,
};

/// A configuration in which every value was checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, as named by the caller.
    pub file: PathBuf,
    /// Our own name: in the greeting, in Received fields, in EHLO, in bounces.
    pub hostname: Domain,
    /// Where we listen; at least one, names unique.
    pub listeners: Vec<ListenerConfig>,
    /// Where everything goes, tried in order. Empty: by the MX records.
    pub smarthosts: Vec<SmarthostConfig>,
    /// The spool: its directory (`spool`) and its tuning (`[storage]`).
    pub storage: StorageConfig,
    /// `[limits]`: what one peer may ask for.
    pub limits: LimitsConfig,
    /// `[queue]`: retries, expiry and concurrency.
    pub queue: QueueConfig,
    /// `[dns]`: the resolver and its cache.
    pub dns: DnsConfig,
    /// `[delivery]`: outgoing connections.
    pub delivery: DeliveryConfig,
    /// `[admin]`: metrics, health, explain.
    pub admin: AdminConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[tls]`: enables STARTTLS on the listeners.
    pub tls: Option<TlsConfig>,
    /// `[plugins]`: what holds for every plugin.
    pub plugin_rules: PluginsConfig,
    /// `[[table]]`: files that plugins look things up in.
    pub tables: Vec<TableConfig>,
    /// `[[source_pool]]`: our own addresses to send from.
    pub source_pools: Vec<SourcePoolConfig>,
    /// `[[credential]]`: secrets that go with requests of plugins.
    pub credentials: Vec<CredentialConfig>,
    /// `[[plugin]]`, in the order in which they are asked. Those with
    /// `enabled = false` are here too.
    pub plugins: Vec<PluginConfig>,
    /// `[decision_log]`: what `waypost plugin replay` replays.
    pub decision_log: DecisionLogConfig,
    /// What is allowed but probably not meant.
    pub warnings: Report,
    /// Files that it names, for [`Config::check_files`].
    file_mentions: Vec<FileMention>,
}

/// Where the configuration names a file that must be there.
#[derive(Clone, Debug)]
struct FileMention {
    key: String,
    span: std::ops::Range<usize>,
    path: PathBuf,
    /// What would make it right.
    help: &'static str,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Every fault of the file at once; or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) => Err(ConfigErrors::unreadable(path, &error)),
        }
    }

    /// Checks `text`, which came from the file `file_name`: relative paths
    /// are taken from its directory and reports name it. Nothing but the
    /// system's host name is looked at.
    ///
    /// # Errors
    /// Every fault of the text at once.
    pub fn parse(text: &str, file_name: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        check::parse(text, file_name.as_ref(), &system_host_name()).0
    }

    /// Looks whether the files that the configuration names are there and can
    /// be read: certificates and the components of enabled plugins.
    ///
    /// # Errors
    /// Every file that is missing, at the line that names it.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        check::check_files(self)
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&ListenerConfig> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

/// The name of this machine, as the kernel has it; empty where there is none.
fn system_host_name() -> String {
    // Waypost runs on Linux; the file spares a system call crate.
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_ascii_lowercase())
        .unwrap_or_default()
}
