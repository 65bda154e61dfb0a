//! Calls on record: what a call was asked with, every question it asked with the
//! answer it got, and how it ended.
//!
//! A [`Recorder`] stands between a call and its environment and writes the
//! [`Tape`]; a [`Replay`] is an environment that answers from one. Since the
//! contract is pure data, the same component with the same configuration, input
//! and answers ends in the same way, so a [`Record`] can be run again, with
//! another version of the plugin too.

mod compare;
mod overlay;
mod recorder;
mod redact;
mod replay;
mod replay_stores;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::call::{Call, LogLevel};
use crate::digest::Digest;
use crate::environment::{
    Answer, AuthSummary, Candidate, HeaderField, LookupFailure, Peer, Question, Sender,
};
use crate::error::{CallFailure, FailureReason};
use crate::http::{HttpFailure, HttpRequest, HttpResponse};
use crate::phase::{Input, Output, Phase};
use crate::plugin::Plugin;
use crate::request::Recipient;
use crate::shared::{StateEntry, StateFailure};
use crate::table::TableFailure;

pub use compare::{Difference, DifferenceKind, differences};
pub use overlay::ScratchOverlay;
pub use recorder::Recorder;
pub use redact::{Privacy, Redactor};
pub use replay::{Live, Replay};

/// The version of the format of [`Record`].
pub const FORMAT: u32 = 1;

/// One call, complete enough to be run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// Start of the call, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Identity of the message.
    pub message: String,
    /// Name of the plugin in the configuration.
    pub plugin: String,
    /// Which phase.
    pub phase: Phase,
    /// The component that was called.
    pub digest: Digest,
    /// Its configuration: see [`config_digest`].
    pub config_digest: Digest,
    /// What is shown of the mail.
    pub privacy: Privacy,
    /// Where a pseudonym changed what the plugin does, how: the record replays, but
    /// does not show what happened to this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlike: Option<String>,
    /// What it was asked.
    pub input: Input,
    /// What it asked.
    pub tape: Tape,
    /// How it ended.
    pub ending: Ending,
}

/// What a call asked and was told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tape {
    /// Of the random numbers.
    pub seed: u64,
    /// In the order of the answers.
    pub exchanges: Vec<Exchange>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The question.
    pub asked: Asked,
    /// The answer.
    pub told: Told,
}

/// A question of a call, by the method of
/// [`CallEnvironment`](crate::CallEnvironment) that answers it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // named after what they ask
pub enum Asked {
    MessageId,
    ReceivedAt,
    MessageSize,
    Attributes,
    Origin,
    EnvelopeSender,
    EnvelopeRecipients,
    Headers,
    Body {
        offset: u64,
        limit: u32,
    },
    Authentication,
    Candidates {
        with_addresses: bool,
    },
    MtaStsMode,
    QueuedCount,
    Lookup(Question),
    Now,
    Remaining,
    LogEnabled(LogLevel),
    Table(String),
    TableRevision(String),
    TableKey {
        table: String,
        key: String,
    },
    TableDomain {
        table: String,
        name: String,
    },
    TableAddress {
        table: String,
        address: IpAddr,
    },
    State,
    StateGet {
        key: String,
    },
    StatePut {
        key: String,
        value: Octets,
        ttl_ms: Option<u64>,
    },
    StatePutIf {
        key: String,
        value: Octets,
        version: u64,
        ttl_ms: Option<u64>,
    },
    StateRemove {
        key: String,
    },
    StateAdd {
        key: String,
        by: i64,
        ttl_ms: Option<u64>,
    },
    StateTake {
        key: String,
        cost: u32,
        /// As text: floating point numbers have no equality to go by.
        per_second: String,
        burst: u32,
    },
    Http(HttpRequest),
}

impl Asked {
    /// The question in one line.
    pub fn in_words(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| format!("{self:?}"))
    }
}

/// An answer; which variant belongs to which question is seen from the types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // named after what they hold
pub enum Told {
    Text(String),
    Number(u64),
    Flag(bool),
    Attributes(Arc<[(String, String)]>),
    Origin(Option<Peer>),
    Sender(Option<Sender>),
    Recipients(Arc<[Recipient]>),
    Headers(Arc<[HeaderField]>),
    Body(Option<Octets>),
    Authentication(Option<AuthSummary>),
    Candidates(Result<Vec<Candidate>, LookupFailure>),
    Mode(Option<String>),
    Lookup(Result<Answer, LookupFailure>),
    Table(Result<(), TableFailure>),
    TableValue(Result<Option<String>, TableFailure>),
    TableMatch(Result<Option<(String, String)>, TableFailure>),
    Entry(Result<Option<StateEntry>, StateFailure>),
    Version(Result<u64, StateFailure>),
    Swapped(Result<Option<u64>, StateFailure>),
    Done(Result<bool, StateFailure>),
    Sum(Result<i64, StateFailure>),
    Http(Result<HttpResponse, HttpFailure>),
}

/// Octets, shown as text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Octets(#[serde(with = "crate::octets")] pub Bytes);

impl From<&[u8]> for Octets {
    fn from(octets: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(octets))
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// With an answer that was found good.
    Answered {
        /// The answer.
        output: Output,
        /// What it set, `None` to remove.
        attributes: Vec<(String, Option<String>)>,
    },
    /// Without.
    Failed {
        /// Why.
        reason: FailureReason,
        /// In words.
        detail: String,
    },
}

impl Ending {
    /// How this call ended.
    pub fn of(result: &Result<Call, CallFailure>) -> Self {
        match result {
            Ok(call) => Self::answered(call),
            Err(failure) => Self::Failed {
                reason: failure.reason,
                detail: failure.detail.clone(),
            },
        }
    }

    /// With this answer.
    pub fn answered(call: &Call) -> Self {
        Self::Answered {
            output: call.output.clone(),
            attributes: call.attributes.clone(),
        }
    }

    /// Whether the same call ends like this again. One that ran out of time, of
    /// the processor's or the wall's, or found no instance, may fare better on
    /// another day.
    pub fn is_repeatable(&self) -> bool {
        !matches!(
            self,
            Self::Failed {
                reason: FailureReason::CpuLimit | FailureReason::WallLimit | FailureReason::Busy,
                ..
            }
        )
    }
}

/// The digest of a plugin's own section: of its canonical JSON.
pub fn config_digest(config: &toml::Table) -> Digest {
    // `Value` sorts the keys of a table.
    let tree = serde_json::to_value(config).unwrap_or_default();
    Digest::of(tree.to_string().as_bytes())
}

/// A record that was run again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// How it ended this time.
    pub ending: Ending,
    /// What is different from the record, notes left out; empty: nothing.
    pub differences: Vec<Difference>,
    /// Questions that the record has no answer to; they were answered with
    /// "nothing there", or with the nearest answer there is.
    pub news: Vec<String>,
}

impl Record {
    /// Runs the call again with this plugin. What it does to the state stays
    /// inside; nothing goes to the network.
    pub async fn replay(&self, plugin: &Plugin) -> Replayed {
        let replay = Arc::new(Replay::new(&self.tape));
        let world = Arc::clone(&replay);
        let result = plugin.call(self.input.clone(), world).await;
        let ending = Ending::of(&result);
        Replayed {
            differences: differences(&self.input, &self.ending, &ending),
            news: replay.news(),
            ending,
        }
    }
}
