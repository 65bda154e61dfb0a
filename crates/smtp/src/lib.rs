//! SMTP as sans-IO state machines, and the words every other crate speaks.
//!
//! Nothing here opens a socket, reads a clock or decides a policy: a driver
//! feeds bytes and answers in and carries actions out. [`ServerSession`] is the
//! receiving side (RFC 5321), [`ClientSession`] the sending side, and
//! [`DotUnstuffer`] / [`DotStuffer`] are the transparency procedure of
//! RFC 5321 section 4.5.2 over shared buffers.
//!
//! Extensions spoken: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME
//! (RFC 6152), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS (RFC 3207).

mod address;
mod client;
mod content;
mod envelope;
mod queue_id;
mod reply;
mod serde_text;
mod server;
mod syntax;

pub use address::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};
pub use client::{
    Capabilities, Cause, ClientAction, ClientConfig, ClientPhase, ClientSession, ClientTls,
    ClientTransaction, EightBitToSevenBitHop, HostFailure, ProtocolError, RecipientOutcome, Stage,
    TransactionOutcome,
};
pub use content::{BareLineBreak, DotStuffer, DotUnstuffer, StuffedPieces, Unstuffed};
pub use envelope::{BodyType, Envelope, MailParameters, RcptParameters, Recipient};
pub use queue_id::{QueueId, QueueIdError};
pub use reply::{EnhancedStatusCode, EnhancedStatusCodeError, Reply, ReplyError, Severity};
pub use server::{
    Answer, CloseReason, Question, ServerAction, ServerConfig, ServerPhase, ServerSession,
    ServerTls,
};
