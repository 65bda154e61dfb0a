//! The receiving side of SMTP: what it is told, what it asks and what it does.
//!
//! A driver owns the socket and loops: carry out [`ServerSession::poll`] until
//! it returns nothing, then read, but only while [`ServerSession::wants_input`],
//! and hand the octets to [`ServerSession::receive`].

mod command;
mod dialogue;
mod lines;
mod replies;
mod session;

use bytes::Bytes;

use crate::address::{Domain, ForwardPath, ReversePath};
use crate::envelope::{MailParameters, RcptParameters};
use crate::reply::Reply;

pub use session::ServerSession;

/// What STARTTLS (RFC 3207) is to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerTls {
    /// There is no certificate: not offered.
    #[default]
    Off,
    /// Offered until TLS is up.
    Offered,
    /// Offered, and without TLS no mail is taken (530 5.7.0).
    Required,
}

/// How a listener speaks. Shared by all of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The name in the greeting and in the answer to EHLO.
    pub hostname: Domain,
    /// What follows the name in the greeting.
    pub greeting: String,
    /// Largest content in octets, as counted by RFC 1870; `None` for any size.
    pub max_message_bytes: Option<u64>,
    /// Accepted recipients per message, at least 100 (RFC 5321 section
    /// 4.5.3.1.8); the next one is answered 452 4.5.3.
    pub max_recipient_count: usize,
    /// Messages per connection; the next MAIL is answered 421.
    pub max_message_count: u32,
    /// Commands that were no valid commands, since the last message; the one
    /// that reaches this count is answered 421.
    pub max_error_count: u32,
    /// How far beyond the largest content, in octets, a refused message is read
    /// on to its end before the connection is closed instead.
    pub max_discarded_bytes: u64,
    /// STARTTLS.
    pub tls: ServerTls,
}

impl ServerConfig {
    /// A config with the limits that suit a relay, without TLS.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            greeting: "ESMTP Waypost".to_owned(),
            max_message_bytes: Some(50 * 1024 * 1024),
            max_recipient_count: 1000,
            max_message_count: 10_000,
            max_error_count: 20,
            max_discarded_bytes: 64 * 1024 * 1024,
            tls: ServerTls::Off,
        }
    }
}

/// A decision that is not the machine's to make. While one is open no command
/// is read; [`ServerSession::answer`] closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A connection was made. Refusals: 554 (the client may only quit, RFC 5321
    /// section 3.1), 4yz (closes).
    Connect,
    /// EHLO or HELO.
    Ehlo {
        /// How the client names itself.
        name: Domain,
        /// EHLO, not HELO.
        extended: bool,
    },
    /// MAIL, its syntax, sequence and declared size checked.
    Mail {
        /// The sender.
        reverse_path: ReversePath,
        /// Its parameters.
        parameters: MailParameters,
    },
    /// RCPT, its syntax and sequence checked.
    Rcpt {
        /// The recipient.
        path: ForwardPath,
        /// Its parameters.
        parameters: RcptParameters,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with the usual reply.
    Accept,
    /// 2yz: yes, with this reply (for Connect and Ehlo the usual one is sent).
    /// 4yz or 5yz: no; 421 closes the connection too. Anything else can only be
    /// a fault of ours and is sent as 451 4.3.0.
    Reply(Reply),
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAction {
    /// Write to the peer.
    Send(Bytes),
    /// Decide, and call [`ServerSession::answer`]. Polling before the answer is
    /// allowed and sends what was held back to be coalesced.
    Ask(Question),
    /// The next part of the content, without stuffing; usually a slice of what
    /// was received.
    Content(Bytes),
    /// The content so far is to be forgotten and no more comes: it was refused,
    /// by the machine or by [`ServerSession::abort_content`]. The machine reads
    /// on to the end of it and answers by itself.
    DiscardContent,
    /// The content is whole. Take responsibility or not, then call
    /// [`ServerSession::committed`].
    Commit,
    /// After the preceding Send has been written: start TLS, drop anything read
    /// in clear, then call [`ServerSession::tls_started`].
    UpgradeTls,
    /// Close the connection. The last action.
    Close(CloseReason),
}

/// Why the machine closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The driver asked for it with [`ServerSession::shutdown`].
    Shutdown,
    /// An answer was 421, or Connect was refused for now.
    Refused,
    /// Too many commands that were none.
    TooManyErrors,
    /// The limit of messages per connection.
    TooManyMessages,
    /// A line or a refused message without end.
    Flood,
    /// The driver's [`ServerSession::time_out`].
    TimedOut,
}

/// What the session waits for, for time-outs (RFC 5321 section 4.5.3.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerPhase {
    /// The next command.
    Command,
    /// More content.
    Content,
    /// The driver: an answer or the commit.
    Driver,
    /// The TLS handshake.
    Tls,
    /// Nothing any more.
    Closed,
}
