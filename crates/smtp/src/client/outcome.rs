//! How a transaction ended, for each recipient and for the host.

use crate::reply::{Reply, Severity};

/// How it ended for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// The server took responsibility.
    Delivered(Reply),
    /// Not now. The reply may be 5yz where it spoke for one host only, in the
    /// greeting or at EHLO.
    Deferred(Reply),
    /// Never.
    Failed(Reply),
}

impl RecipientOutcome {
    /// By the severity of a final reply; 3yz cannot be one and defers.
    pub(super) fn of(reply: Reply) -> Self {
        match reply.severity() {
            Severity::Positive => Self::Delivered(reply),
            Severity::Transient | Severity::Intermediate => Self::Deferred(reply),
            Severity::Permanent => Self::Failed(reply),
        }
    }

    /// By the answer to RCPT. 552 has been used for "too many recipients", which
    /// passes (RFC 5321 section 4.5.3.1.10); with an enhanced code that says
    /// otherwise it is meant.
    pub(super) fn of_rcpt(reply: Reply) -> Self {
        let is_too_many = reply.code == 552
            && reply
                .enhanced
                .is_none_or(|enhanced| (enhanced.subject, enhanced.detail) == (5, 3));
        if is_too_many {
            Self::Deferred(reply)
        } else {
            Self::of(reply)
        }
    }

    /// The reply that decided.
    pub fn reply(&self) -> &Reply {
        match self {
            Self::Delivered(reply) | Self::Deferred(reply) | Self::Failed(reply) => reply,
        }
    }
}

/// How far a transaction had come when it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before the greeting, dialling included.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS and the handshake.
    Tls,
    /// MAIL, and what is decided before it from what the server offers.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The content was being sent.
    Content,
    /// The content had been sent: whether the server has taken it is known only
    /// from its reply.
    EndOfData,
}

/// Why a connection is no more, as the driver saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The peer closed it.
    Closed,
    /// A time-out of ours.
    TimedOut,
    /// It was never made; the text says why.
    DialFailed(String),
    /// TLS could not be set up; the text says why.
    Tls(String),
    /// An error of the network; the text says which.
    Network(String),
}

/// What a peer said that is not SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line longer than 2048 octets.
    #[error("a reply line is too long")]
    LineTooLong,
    /// More than 100 lines in one reply.
    #[error("a reply has too many lines")]
    TooManyLines,
    /// No three digits 200–599, or no space or hyphen behind them.
    #[error("a line is no reply")]
    NotAReply,
    /// A bare CR or LF.
    #[error("a reply line does not end with CRLF")]
    LineBreak,
    /// Lines of one reply with different codes.
    #[error("a reply has lines with different codes")]
    MixedCodes,
    /// A reply that the command cannot have, e.g. 250 to DATA.
    #[error("an unexpected reply")]
    Unexpected,
    /// More replies than there were commands.
    #[error("a reply that nothing was asked for")]
    Unasked,
}

/// What made the host, rather than a recipient, fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFailure {
    /// The host refused in its greeting, at EHLO, or with 421 at any time.
    Refused(Reply),
    /// TLS is required and not offered.
    TlsNotOffered,
    /// TLS is required and STARTTLS was refused.
    TlsRefused(Reply),
    /// The peer does not speak SMTP.
    Protocol(ProtocolError),
    /// The connection is no more, or was never made.
    Disconnected(Cause),
}

impl HostFailure {
    /// The reply that stands for it in logs and reports: the peer's own, or one
    /// of ours with what RFC 3463 has for the case.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Refused(reply) => reply.clone(),
            Self::TlsNotOffered => Reply::new(
                451,
                (4, 7, 4),
                "TLS is required and the host does not offer it",
            ),
            Self::TlsRefused(reply) => Reply::new(
                451,
                (4, 7, 4),
                format!("TLS is required and the host refused it: {reply}"),
            ),
            Self::Protocol(error) => Reply::new(
                451,
                (4, 5, 0),
                format!("The host does not speak SMTP: {error}"),
            ),
            Self::Disconnected(cause) => match cause {
                Cause::Closed => Reply::new(451, (4, 4, 2), "The host closed the connection"),
                Cause::TimedOut => Reply::new(451, (4, 4, 2), "The host did not answer in time"),
                Cause::DialFailed(text) => Reply::new(451, (4, 4, 1), text.clone()),
                Cause::Tls(text) => Reply::new(451, (4, 7, 5), text.clone()),
                Cause::Network(text) => Reply::new(451, (4, 4, 2), text.clone()),
            },
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// One per recipient, in the order of the transaction; empty when the host
    /// failed before any transaction was started.
    pub recipients: Vec<RecipientOutcome>,
    /// Whether those deferred should be tried at another host at once. True
    /// when the host failed or refused MAIL for now, and false when it may
    /// have taken the message without our hearing of it.
    pub try_next_host: bool,
    /// Whether another transaction may follow on this connection.
    pub reusable: bool,
    /// How far it came.
    pub stage: Stage,
    /// What failed, if it was the host.
    pub host_failure: Option<HostFailure>,
}
