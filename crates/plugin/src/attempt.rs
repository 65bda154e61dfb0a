//! What a plugin is told after an attempt to deliver, and what it may advise.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smtp::{Domain, Reply};

use crate::environment::TlsFacts;
use crate::request::Recipient;

/// One attempt for some recipients that fared alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptReport {
    /// Identity in the spool.
    pub message_id: String,
    /// Domain of the recipients.
    pub domain: Domain,
    /// Those that fared like this, at most [`MAX_RECIPIENTS`](crate::MAX_RECIPIENTS).
    pub recipients: Vec<Recipient>,
    /// How.
    pub outcome: AttemptOutcome,
    /// As far as it came.
    pub stage: AttemptStage,
    /// Name of the host it was sent to, where it has one.
    pub host: Option<Domain>,
    /// Address it was sent to.
    pub address: Option<IpAddr>,
    /// Address it was sent from.
    pub source: Option<IpAddr>,
    /// The session's TLS, if it had one.
    pub tls: Option<TlsFacts>,
    /// Attempts for these recipients, counting this one.
    pub attempts: u32,
    /// How long it took.
    pub elapsed_ms: u32,
    /// Start of the first attempt, in milliseconds since the Unix epoch.
    pub first_attempt_at_ms: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// Accepted, with this reply.
    Delivered(Reply),
    /// Refused for now; it will be tried again.
    Temporary(Reply),
    /// Refused for good.
    Permanent(Reply),
    /// No reply to go by: connection refused, time-out, …
    Failed(String),
}

/// A stage of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptStage {
    /// Finding the host.
    Resolve,
    /// Connecting.
    Connect,
    /// Waiting for the greeting, EHLO.
    Greeting,
    /// STARTTLS and the handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    MailFrom,
    /// RCPT TO.
    RcptTo,
    /// DATA and its end.
    Data,
    /// After the end of data.
    Quit,
}

/// What to do next. Counts only after `Temporary` and `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "advice", content = "with", rename_all = "kebab-case")]
pub enum Advice {
    /// The queue's own schedule.
    Usual,
    /// Not before so many seconds from now.
    RetryAfter {
        /// From now.
        seconds: u32,
    },
    /// At once, by the next hop in the list.
    NextHopNow,
    /// Ask the routing plugins again, then try at once.
    Reroute,
    /// Bounce, with this reply: always 5xx.
    GiveUp(Reply),
    /// Keep aside until released, for this reason: one line of printable text.
    Hold(String),
}

impl Advice {
    /// The word of the contract: `usual`, `retry-after`, … Stable, for labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::RetryAfter { .. } => "retry-after",
            Self::NextHopNow => "next-hop-now",
            Self::Reroute => "reroute",
            Self::GiveUp(_) => "give-up",
            Self::Hold(_) => "hold",
        }
    }
}
