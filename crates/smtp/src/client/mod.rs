//! The sending side of SMTP: what it is told, what it does and how it ended.
//!
//! A driver owns the socket: it carries out [`ClientSession::poll`] until that
//! returns nothing, reads, hands the octets to [`ClientSession::receive`], and
//! tells with [`ClientSession::disconnected`] when the connection is no more.

mod capabilities;
mod outcome;
mod replies;
mod session;
mod transaction;

use bytes::Bytes;

use crate::address::{Domain, ReversePath};
use crate::envelope::{MailParameters, Recipient};

pub use capabilities::Capabilities;
pub use outcome::{Cause, HostFailure, ProtocolError, RecipientOutcome, Stage, TransactionOutcome};
pub use session::ClientSession;

/// What STARTTLS is to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientTls {
    /// In clear, or over the TLS that is up already.
    Off,
    /// Where it is offered and granted, else in clear (RFC 7435).
    #[default]
    IfOffered,
    /// Without it nothing is sent; the host failed.
    Required,
}

/// A message with octets above 127 and a host that does not offer 8BITMIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EightBitToSevenBitHop {
    /// Send it as it is. RFC 6152 section 3 has it converted or returned, but a
    /// conversion breaks signatures and practically every such host takes it.
    #[default]
    Send,
    /// Fail it with 554 5.6.3.
    Fail,
}

/// How a client speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The name in EHLO.
    pub ehlo_name: Domain,
    /// STARTTLS.
    pub tls: ClientTls,
    /// TLS is up from the start (implicit TLS, RFC 8314).
    pub is_tls: bool,
    /// What to do with 8-bit content where 8BITMIME is not offered.
    pub eight_bit_to_seven_bit_hop: EightBitToSevenBitHop,
}

impl ClientConfig {
    /// TLS where it is offered, 8-bit content sent to whoever is there.
    pub fn new(ehlo_name: Domain) -> Self {
        Self {
            ehlo_name,
            tls: ClientTls::default(),
            is_tls: false,
            eight_bit_to_seven_bit_hop: EightBitToSevenBitHop::default(),
        }
    }
}

/// A message to send: all of it but its content, which the driver holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTransaction {
    /// The sender.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL. `size` is not looked at, `size_bytes` is.
    pub parameters: MailParameters,
    /// The recipients; outcomes are in the same order.
    pub recipients: Vec<Recipient>,
    /// Size of the content in octets before stuffing, a CRLF that the last line
    /// lacks included (RFC 1870).
    pub size_bytes: u64,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAction {
    /// Write to the peer.
    Send(Bytes),
    /// Write the content through a [`DotStuffer`](crate::DotStuffer) with its
    /// terminator, then call [`ClientSession::content_sent`]. Input should be
    /// read meanwhile: a server may refuse early.
    SendContent,
    /// Start TLS, drop anything read in clear, then call
    /// [`ClientSession::tls_started`], or [`ClientSession::disconnected`] with
    /// [`Cause::Tls`].
    UpgradeTls,
    /// [`ClientSession::start`] may be called, or [`ClientSession::quit`]. Not
    /// emitted when a transaction was waiting for its turn.
    Ready,
    /// How the transaction ended. If it is `reusable`, [`ClientAction::Ready`]
    /// follows, possibly after a RSET has been answered.
    Outcome(TransactionOutcome),
    /// Close the connection. The last action.
    Close,
}

/// What the session waits for, for time-outs (RFC 5321 section 4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientPhase {
    /// The greeting: 5 minutes.
    Greeting,
    /// The answer to EHLO, HELO or STARTTLS.
    Hello,
    /// The TLS handshake.
    Tls,
    /// Nothing: idle between transactions.
    Ready,
    /// The answer to MAIL: 5 minutes.
    Mail,
    /// The answer to RCPT: 5 minutes.
    Rcpt,
    /// The answer to DATA: 2 minutes.
    Data,
    /// The content being written: 3 minutes per block.
    Content,
    /// The answer to the end of the content: 10 minutes.
    EndOfData,
    /// The answer to RSET.
    Reset,
    /// The answer to QUIT.
    Quit,
    /// Nothing any more.
    Closed,
}
