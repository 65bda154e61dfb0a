//! The five phases a plugin may take part in: what each is asked with, and what
//! each answers.
//!
//! Both sides serialise, so that a call can be recorded and replayed, and tested
//! from a file.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::{Advice, AttemptReport};
use crate::dialogue::{MessageVerdict, RecipientVerdict, SenderVerdict};
use crate::environment::{Peer, Sender};
use crate::request::{Recipient, RouteRequest};
use crate::verdict::Verdict;

/// A phase of a message's life in which plugins are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// After MAIL FROM.
    Sender,
    /// After each RCPT TO.
    Recipient,
    /// After the end of DATA, before the relay answers.
    Message,
    /// Choosing next hops.
    Routing,
    /// After an attempt to deliver.
    Delivery,
}

/// A text that names no [`Phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no phase: there are sender, recipient, message, routing and delivery")]
pub struct PhaseError;

impl Phase {
    /// Every phase, in the order of a message's life.
    pub const ALL: [Self; 5] = [
        Self::Sender,
        Self::Recipient,
        Self::Message,
        Self::Routing,
        Self::Delivery,
    ];

    /// Stable label for metrics, logs and the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Routing => "routing",
            Self::Delivery => "delivery",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or(PhaseError)
    }
}

/// What a plugin is asked: one value per phase. What is costly or rarely needed
/// comes through [`CallEnvironment`](crate::CallEnvironment) instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of it for a call, and it is moved a few times"
)]
pub enum Input {
    /// For [`Phase::Sender`].
    MailFrom(MailFrom),
    /// For [`Phase::Recipient`].
    Rcpt(Recipient),
    /// For [`Phase::Message`]: all of it is in the environment.
    Message,
    /// For [`Phase::Routing`].
    Route(Arc<RouteRequest>),
    /// For [`Phase::Delivery`].
    Delivery(Arc<AttemptReport>),
}

/// MAIL FROM and who said it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MailFrom {
    /// The client.
    pub peer: Peer,
    /// The reverse-path with its parameters.
    pub sender: Sender,
}

impl Input {
    /// The phase that is asked with it.
    pub fn phase(&self) -> Phase {
        match self {
            Self::MailFrom(_) => Phase::Sender,
            Self::Rcpt(_) => Phase::Recipient,
            Self::Message => Phase::Message,
            Self::Route(_) => Phase::Routing,
            Self::Delivery(_) => Phase::Delivery,
        }
    }
}

/// What a plugin answered, after the host has checked it: plain values that name
/// nothing the plugin may not use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Of [`Phase::Sender`].
    MailFrom(SenderVerdict),
    /// Of [`Phase::Recipient`].
    Rcpt(RecipientVerdict),
    /// Of [`Phase::Message`].
    Message(MessageVerdict),
    /// Of [`Phase::Routing`]; together they name each recipient of the request
    /// exactly once.
    Route(Vec<Verdict>),
    /// Of [`Phase::Delivery`].
    Delivery(Advice),
}

impl Output {
    /// The phase that gave it.
    pub fn phase(&self) -> Phase {
        match self {
            Self::MailFrom(_) => Phase::Sender,
            Self::Rcpt(_) => Phase::Recipient,
            Self::Message(_) => Phase::Message,
            Self::Route(_) => Phase::Routing,
            Self::Delivery(_) => Phase::Delivery,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_one_spelling() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
            assert_eq!(
                serde_json::to_value(phase).unwrap(),
                serde_json::json!(phase.as_str())
            );
        }
        assert_eq!("route".parse::<Phase>(), Err(PhaseError));
    }
}
