//! What a component has to pass before it is called for mail: it can be read, is the one that the
//! configuration pins, is signed where that is asked for, compiles and links, takes its
//! configuration, and passes its cases.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use minisign_verify::PublicKey;
use plugin::cases::{CaseError, CaseFile, run_file};
use plugin::{Digest, LoadError, Plugin, PluginSpec};
use thiserror::Error;

use super::chain;
use super::host::Host;
use super::signature::{self, SIGNATURE_MAX_BYTES, SignatureFault};
use crate::config::{PluginConfig, PluginsConfig};

/// Cases that are named when some fail.
const FAILED_SHOWN: usize = 5;

/// Why a version is not taken.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It does not load.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// It is not signed as it should be.
    #[error("{0}")]
    Signature(#[from] SignatureFault),
    /// Its cases cannot be run.
    #[error("cases: {0}")]
    Cases(#[from] CaseError),
    /// Some of its cases fail.
    #[error("{failed} of {count} cases fail:\n{report}")]
    CasesFail {
        /// So many.
        failed: usize,
        /// Of so many.
        count: usize,
        /// The first of them, with what differs.
        report: String,
    },
    /// What was kept of its versions cannot be used.
    #[error("{path}: {source}; after removing it the configured file is taken", path = path.display())]
    Kept {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Refusal {
    /// Stable label for metrics: which of the steps it did not pass.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Load(LoadError::Read { .. }) => "read",
            Self::Load(LoadError::Pin { .. }) => "pin",
            Self::Load(LoadError::ConfigRefused { .. }) => "config",
            Self::Load(LoadError::Start { .. }) => "start",
            Self::Load(_) => "component",
            Self::Signature(_) => "signature",
            Self::Cases(_) | Self::CasesFail { .. } => "cases",
            Self::Kept { .. } => "kept",
        }
    }
}

/// Where a component and its signature are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) component: PathBuf,
    pub(crate) signature: PathBuf,
}

impl Place {
    /// Where the configuration says.
    pub(crate) fn configured(entry: &PluginConfig) -> Self {
        let named = entry.live.signature.clone();
        Self {
            component: entry.path.clone(),
            signature: named.unwrap_or_else(|| signature::beside(&entry.path)),
        }
    }
}

/// How a file looks from outside. One that looks the same has not been written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    component: Look,
    /// A signature may come after the component.
    signature: Option<Look>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Stamp {
    /// None where there is no component.
    pub(crate) fn of(place: &Place) -> Option<Self> {
        Some(Self {
            component: Look::at(&place.component)?,
            signature: Look::at(&place.signature),
        })
    }
}

/// How the files look now, asked where blocking is allowed.
pub(crate) async fn stamp(place: &Place) -> Option<Stamp> {
    let place = place.clone();
    let looked = tokio::task::spawn_blocking(move || Stamp::of(&place));
    looked.await.ok().flatten()
}

/// A component that was read and is what it should be, as far as its octets tell.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) path: PathBuf,
    pub(crate) octets: Vec<u8>,
    pub(crate) digest: Digest,
    /// Checked; none where signatures are not asked for.
    pub(crate) signature: Option<String>,
    /// Taken before it was read.
    pub(crate) stamp: Option<Stamp>,
}

/// Reads a component, and checks the configuration's pin and its signature.
///
/// # Errors
/// [`Refusal`], which says what the operator has to change.
pub(crate) async fn fetch(
    place: Place,
    pin: Option<Digest>,
    rules: &PluginsConfig,
) -> Result<Fetched, Refusal> {
    let keys = rules.trusted_keys.clone();
    let read = tokio::task::spawn_blocking(move || read(&place, pin, &keys));
    read.await
        .unwrap_or(Err(Refusal::Load(LoadError::ShuttingDown)))
}

/// Digest of what is in a file; none where it cannot be read.
pub(crate) async fn digest(path: &Path) -> Option<Digest> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path).ok());
    Some(Digest::of(&read.await.ok()??))
}

fn read(place: &Place, pin: Option<Digest>, keys: &[PublicKey]) -> Result<Fetched, Refusal> {
    let path = place.component.clone();
    let stamp = Stamp::of(place);
    let octets = std::fs::read(&path).map_err(|source| LoadError::Read {
        path: path.clone(),
        source,
    })?;
    let digest = Digest::of(&octets);
    if let Some(expected) = pin
        && expected != digest
    {
        return Err(Refusal::Load(LoadError::Pin {
            path,
            expected,
            found: digest,
        }));
    }
    let mut signature = None;
    if !keys.is_empty() {
        let at = &place.signature;
        let text = read_signature(at).map_err(|source| SignatureFault::Missing {
            component: path.clone(),
            signature: at.clone(),
            source,
        })?;
        signature::verify(&octets, &text, keys, (&path, at))?;
        signature = Some(text);
    }
    Ok(Fetched {
        path,
        octets,
        digest,
        signature,
        stamp,
    })
}

fn read_signature(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(SIGNATURE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Loads what was read, and runs its cases. Compiling is done beside the asynchronous threads.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub(crate) async fn admit(
    host: &Host,
    entry: &PluginConfig,
    fetched: &Fetched,
) -> Result<Plugin, Refusal> {
    let spec = PluginSpec {
        path: fetched.path.clone(),
        // What is loaded is what was checked, whoever writes to the file meanwhile.
        sha256: Some(fetched.digest),
        ..chain::spec(entry)
    };
    let plugin = host.plugins().load(spec.clone()).await?;
    if let Some(directory) = &entry.live.cases {
        run_cases(host, spec, directory).await?;
    }
    Ok(plugin)
}

/// Configuration and grants come from the cases, limits from the configuration.
async fn run_cases(host: &Host, spec: PluginSpec, directory: &Path) -> Result<(), Refusal> {
    let spec = PluginSpec {
        // What the plugin counts in its cases is not counted as mail's.
        name: format!("{} (cases)", spec.name),
        ..spec
    };
    let directory = directory.to_owned();
    let read = tokio::task::spawn_blocking(move || CaseFile::read_directory(&directory));
    let files = read.await.map_err(|_| LoadError::ShuttingDown)??;
    let (mut count, mut failed, mut report) = (0, 0, Vec::new());
    for file in &files {
        for outcome in run_file(host.plugins(), &spec, file).await? {
            count += 1;
            if !outcome.passed() {
                failed += 1;
                if report.len() < FAILED_SHOWN {
                    report.push(outcome.to_string());
                }
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Refusal::CasesFail {
        failed,
        count,
        report: report.join("\n"),
    })
}
