//! Cases of a plugin: what it is asked, what it can see, what it should say.
//!
//! An author keeps them beside the plugin, in `cases/*.toml`:
//!
//! ```toml
//! [config]                              # of all cases of the file
//! routes."example.com" = "relay.example.net:2525"
//!
//! [[case]]
//! name = "an exact entry names the next hop"
//! recipients = ["a@example.com"]        # all else has a default
//!
//! [[case.expect]]                       # one table per verdict
//! decision = "use-hops"
//! hops = [{ host = "relay.example.net", port = 2525 }]
//! ```
//!
//! What the expected verdict states has to be so; what it leaves out may be
//! anything. Lists have to have the same length. `expect = []`: no opinion.
//! Instead of `expect` there may be `expect_failure = { reason = "…", detail =
//! "…" }` or `expect_faults = ["…"]` for what `check-config` says; texts there
//! need only be contained.
//!
//! A case sees the candidates, DNS answers, message, time and random seed that
//! it states, so it gives the same answer everywhere.

mod compare;
mod run;
mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use run::{Outcome, run_file};

use crate::grants::{Grants, HopPattern};

/// A file of cases.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    raw: RawFile,
}

/// Why a file of cases cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file or directory cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what a file of cases looks like.
    #[error("{path}: {detail}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and what.
        detail: String,
    },
    /// There is no case.
    #[error("no cases in {path}", path = path.display())]
    None {
        /// The file or directory.
        path: PathBuf,
    },
}

impl CaseFile {
    /// Reads one file.
    ///
    /// # Errors
    /// [`CaseError`], with line and column where the text is at fault.
    pub fn read(path: &Path) -> Result<Self, CaseError> {
        let text = std::fs::read_to_string(path).map_err(|source| CaseError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads every `*.toml` of a directory, in the order of their names.
    ///
    /// # Errors
    /// As [`CaseFile::read`]; also when there is none.
    pub fn read_directory(directory: &Path) -> Result<Vec<Self>, CaseError> {
        let read = |source| CaseError::Read {
            path: directory.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(CaseError::None {
                path: directory.to_owned(),
            });
        }
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CaseError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| CaseError::Format {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        if raw.case.is_empty() {
            return Err(CaseError::None {
                path: path.to_owned(),
            });
        }
        let file = Self {
            path: path.to_owned(),
            raw,
        };
        for case in &file.raw.case {
            case.check().map_err(|detail| CaseError::Format {
                path: path.to_owned(),
                detail: format!("case {:?}: {detail}", case.name),
            })?;
        }
        Ok(file)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    grants: RawGrants,
    case: Vec<RawCase>,
}

/// Without a word about them a case has every grant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrants {
    dns: bool,
    body_bytes: u64,
    route_hosts: Vec<HopPattern>,
    rewrite_domains: Vec<HopPattern>,
    route_unix: Vec<PathBuf>,
    credentials: Vec<String>,
    source_pools: Vec<String>,
    traffic_classes: Vec<String>,
}

impl Default for RawGrants {
    fn default() -> Self {
        Self {
            dns: true,
            body_bytes: u64::MAX,
            route_hosts: vec!["*".parse().expect("`*` is a pattern")],
            rewrite_domains: vec!["*".parse().expect("`*` is a pattern")],
            route_unix: Vec::new(),
            credentials: Vec::new(),
            source_pools: Vec::new(),
            traffic_classes: Vec::new(),
        }
    }
}

impl From<RawGrants> for Grants {
    fn from(raw: RawGrants) -> Self {
        Self {
            dns: raw.dns,
            body_bytes: raw.body_bytes,
            route_hosts: raw.route_hosts,
            rewrite_domains: raw.rewrite_domains,
            route_unix: raw.route_unix,
            credentials: raw.credentials,
            source_pools: raw.source_pools,
            traffic_classes: raw.traffic_classes,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    /// In place of the file's.
    config: Option<toml::Table>,
    grants: Option<RawGrants>,
    /// Empty only where the configuration is what is tested.
    #[serde(default)]
    recipients: Vec<smtp::Mailbox>,
    domain: Option<smtp::Domain>,
    /// Empty: the null reverse-path.
    #[serde(default = "usual_sender")]
    sender: String,
    #[serde(default)]
    attempt: u32,
    #[serde(default = "usual_size")]
    size_bytes: u64,
    #[serde(default)]
    received_at_ms: u64,
    #[serde(default)]
    listener: String,
    user: Option<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    /// A list of hosts, or a failure: `no-such-domain`, `no-records`,
    /// `null-mx`, `temporary`.
    #[serde(default)]
    candidates: Option<RawCandidates>,
    /// `"mx example.org" = ["10 mx.example.org"]`, likewise `txt`, `address`
    /// and `ptr`; a failure instead of a list. What is not there does not exist.
    #[serde(default)]
    dns: BTreeMap<String, RawAnswer>,
    mta_sts_mode: Option<String>,
    #[serde(default)]
    queued_count: u64,
    /// Header and body, as in a mail file.
    #[serde(default)]
    message: String,
    #[serde(default)]
    now_ms: u64,
    #[serde(default)]
    seed: u64,
    expect: Option<Vec<toml::Table>>,
    expect_failure: Option<RawFailure>,
    expect_faults: Option<Vec<String>>,
}

fn usual_sender() -> String {
    "sender@client.example".to_owned()
}

fn usual_size() -> u64 {
    4096
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RawCandidates {
    Failure(Failure),
    Hosts(Vec<RawCandidate>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCandidate {
    host: smtp::Domain,
    #[serde(default)]
    preference: u16,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    port: Option<u16>,
    #[serde(default)]
    secure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RawAnswer {
    Failure(Failure),
    Records(Vec<String>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Failure {
    NoSuchDomain,
    NoRecords,
    NullMx,
    Temporary,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFailure {
    reason: String,
    #[serde(default)]
    detail: String,
}

impl RawCase {
    /// What the types do not say.
    fn check(&self) -> Result<(), String> {
        let expectations = [
            self.expect.is_some(),
            self.expect_failure.is_some(),
            self.expect_faults.is_some(),
        ];
        if expectations.iter().filter(|&&stated| stated).count() != 1 {
            return Err(
                "one of `expect`, `expect_failure` and `expect_faults` is wanted".to_owned(),
            );
        }
        if self.expect_faults.is_none() && self.recipients.is_empty() {
            return Err("`recipients` is wanted, at least one".to_owned());
        }
        if let Some(failure) = &self.expect_failure
            && !crate::FailureReason::ALL
                .iter()
                .any(|reason| reason.as_str() == failure.reason)
        {
            let known = crate::FailureReason::ALL
                .map(crate::FailureReason::as_str)
                .join(", ");
            return Err(format!("no reason {:?}; there are {known}", failure.reason));
        }
        world::World::of(self).map(|_world| ())
    }
}
