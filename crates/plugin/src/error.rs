//! How loading and calling a plugin can fail. A failed call is one thing with a
//! reason; what happens to the mail then is the administrator's choice
//! (`on_error`), never the plugin's.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::call::CallStats;
use crate::digest::Digest;
use crate::phase::Phase;

/// Why a call gave no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The guest trapped: a panic, `unreachable`, an access out of bounds, a
    /// stack overflow, or a call of a WASI function that is not there.
    Trap,
    /// Over its CPU budget.
    CpuLimit,
    /// Over its wall-clock limit; waiting for look-ups counts.
    WallLimit,
    /// It ended after growing its memory or tables was refused.
    MemoryLimit,
    /// Too many host calls.
    HostCallLimit,
    /// What it passed to the host in one step was too large.
    DataLimit,
    /// Its answer breaks the contract or goes beyond its grants.
    InvalidAnswer,
    /// The plugin said `err(temporary)`.
    Temporary,
    /// The plugin said `err(broken)`, or its `init` failed.
    Broken,
    /// No instance came free in time; the plugin was not called.
    Busy,
}

impl FailureReason {
    /// Every reason, so that a metric can show each from the start.
    pub const ALL: [Self; 10] = [
        Self::Trap,
        Self::CpuLimit,
        Self::WallLimit,
        Self::MemoryLimit,
        Self::HostCallLimit,
        Self::DataLimit,
        Self::InvalidAnswer,
        Self::Temporary,
        Self::Broken,
        Self::Busy,
    ];

    /// Stable label for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::CpuLimit => "cpu_limit",
            Self::WallLimit => "wall_limit",
            Self::MemoryLimit => "memory_limit",
            Self::HostCallLimit => "host_call_limit",
            Self::DataLimit => "data_limit",
            Self::InvalidAnswer => "invalid_answer",
            Self::Temporary => "temporary",
            Self::Broken => "broken",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that gave no verdict. The plugin is unharmed: the next call gets a new
/// instance.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct CallFailure {
    /// What kind of failure.
    pub reason: FailureReason,
    /// One short line for people: the trap and where it happened, the field of
    /// the answer that is wrong, the guest's own words.
    pub detail: String,
    /// What the call cost until then.
    pub stats: CallStats,
}

/// Why a plugin cannot be used. The text is for the administrator; it names the
/// file and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The component.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the one that the configuration pins.
    #[error("{path} has sha256 {found}, the configuration pins {expected}", path = path.display())]
    Pin {
        /// The component.
        path: PathBuf,
        /// From the configuration.
        expected: Digest,
        /// Of the file.
        found: Digest,
    },
    /// The file is no WebAssembly component.
    #[error("{path} is not a WebAssembly component: {detail}", path = path.display())]
    NotAComponent {
        /// The component.
        path: PathBuf,
        /// What it is instead, or what the compiler said.
        detail: String,
    },
    /// It takes part in no phase.
    #[error(
        "{path} exports no phase of waypost:policy@0.1 (sender-phase, recipient-phase, message-phase, routing-phase, delivery-phase); it exports {exports}",
        path = path.display(),
        exports = list(exports)
    )]
    NoPhase {
        /// The component.
        path: PathBuf,
        /// What it has instead.
        exports: Vec<String>,
    },
    /// The configuration wants it asked in a phase that it takes no part in.
    #[error(
        "plugin {plugin} takes no part in the phase {phase}; it exports {}",
        exported.iter().map(|phase| phase.as_str()).collect::<Vec<_>>().join(", ")
    )]
    PhaseMissing {
        /// Name of the plugin.
        plugin: String,
        /// As configured.
        phase: Phase,
        /// Those it takes part in, never empty.
        exported: Vec<Phase>,
    },
    /// It imports something of `waypost:policy` that this relay does not have.
    #[error(
        "{path} imports {import}, which this relay does not have: it was built for another version of the contract",
        path = path.display()
    )]
    UnknownImport {
        /// The component.
        path: PathBuf,
        /// Interface and function.
        import: String,
    },
    /// A function or an export has another type than the contract says.
    #[error("{path} does not fit the contract waypost:policy@0.1: {detail}", path = path.display())]
    Mismatch {
        /// The component.
        path: PathBuf,
        /// What the linker said.
        detail: String,
    },
    /// A limit in the configuration is above what the host provides.
    #[error("plugin {plugin}: {limit} = {value} is out of range, it may be 1 to {most}")]
    Limit {
        /// Name of the plugin.
        plugin: String,
        /// Name of the limit.
        limit: &'static str,
        /// As configured.
        value: u64,
        /// The most it may be.
        most: u64,
    },
    /// It failed while it was started, identified or checked.
    #[error("plugin {plugin} failed in {step}: {failure}")]
    Start {
        /// Name of the plugin.
        plugin: String,
        /// `instantiate`, `identify`, `check-config`.
        step: &'static str,
        /// How.
        failure: Box<CallFailure>,
    },
    /// The plugin refuses its configuration.
    #[error("plugin {plugin} refuses its configuration: {}", messages.join("; "))]
    ConfigRefused {
        /// Name of the plugin.
        plugin: String,
        /// Each fault it found, never empty.
        messages: Vec<String>,
    },
    /// The relay is shutting down.
    #[error("the host is shutting down")]
    ShuttingDown,
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// Why there is no plugin host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The WebAssembly engine refuses to start with either allocator.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    /// The cache directory cannot be used.
    #[error("cannot use the plugin cache {path}: {source}", path = path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ticker thread cannot be started.
    #[error("cannot start the ticker thread: {0}")]
    Ticker(std::io::Error),
}
