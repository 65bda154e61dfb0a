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
//! # What a case is about
//!
//! `phase` says what is asked; without it `routing`. In the other phases the answer
//! is one table, and what an action carries is under `with`:
//!
//! ```toml
//! [[case]]
//! name = "a closed mailbox is refused"
//! phase = "recipient"
//! sender = "a@client.example"           # of the envelope, in any phase; "" is <>
//! rcpt = "closed@example.com"           # the one that is asked about
//! recipients = ["b@example.com"]        # those that were accepted before
//! peer = { ip = "192.0.2.1", helo = "client.example", listener = "mx", user = "ann" }
//! expect = { action = "reject", with = { code = 550 } }
//!
//! [[case]]
//! name = "a full mailbox is tried again in an hour"
//! phase = "delivery"
//! recipients = ["a@example.com"]
//! outcome = { temporary = "452 4.2.2 full" } # or delivered, permanent; failed = "refused"
//! stage = "rcpt-to"
//! host = "mx.example.com"
//! attempts = 3
//! expect = { advice = "retry-after", with = { seconds = 3600 } }
//! ```
//!
//! `[[case.step]]` makes several calls of one case, which share state, time as
//! given, and the attributes of messages with the same `message_id`. A step has what
//! a case has, and what the case says is the default for its steps:
//!
//! ```toml
//! [[case]]
//! name = "the second in a minute waits"
//! recipients = ["a@example.com"]
//!
//! [[case.step]]
//! now_ms = 1_000
//! expect = []
//!
//! [[case.step]]
//! now_ms = 2_000
//! expect = [{ decision = "defer" }]
//! expect_state = { "seen/example.com" = "2" }
//! ```
//!
//! # What it can see
//!
//! Nothing but what the case states: `candidates`, `dns`, `message` (header and
//! body), `attributes`, `authentication`, `now_ms`, `seed`, and for the file as a
//! whole or for one case
//!
//! ```toml
//! [tables.transport]                    # by name: keys, domains or networks
//! "example.com" = "smtp:relay"
//! [state]                               # what there is before the first call
//! "seen/example.com" = 1
//! [http."POST http://policy.example/"]  # or { failure = "timeout" }
//! status = 200
//! body = '{ "ok": true }'
//! [dns]
//! "mx example.com" = ["10 mx.example.com"]
//! ```
//!
//! so it gives the same answer everywhere. Without `grants` a case may use all of
//! it.
//!
//! # What is expected
//!
//! What `expect` states has to be so; what it leaves out may be anything. Lists
//! have to have the same length. `expect = []`: no opinion. Instead there may be
//! `expect_failure = { reason = "…", detail = "…" }`, or `expect_faults = ["…"]` for
//! what `check-config` says; texts there need only be contained. Besides,
//! `expect_attributes` and `expect_state` say what has to be there after the call;
//! `false` stands for nothing. A step without any expectation is held against the
//! whole answer in `snapshots/FILE.json`, which [`Snapshots::Update`] writes.

mod compare;
mod format;
mod run;
mod sample;
mod snapshot;
mod stores;
mod world;

use std::path::{Path, PathBuf};

pub use run::{Outcome, run_file, run_file_with};
pub use sample::SampleCall;
pub use snapshot::Snapshots;

/// A file of cases.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    cases: Vec<format::Case>,
}

/// Why a file of cases cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file or directory cannot be read, or a snapshot cannot be written.
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
    /// [`CaseError`], with the line where the text or a case is at fault.
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

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is no case; never of a file that was read.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CaseError> {
        let cases = format::read(text).map_err(|detail| CaseError::Format {
            path: path.to_owned(),
            detail,
        })?;
        if cases.is_empty() {
            return Err(CaseError::None {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            cases,
        })
    }
}
