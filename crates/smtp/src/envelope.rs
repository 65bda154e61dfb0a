//! The envelope of a transaction (RFC 5321 section 2.3.1) and its typed parameters.

use serde::{Deserialize, Serialize};

use crate::address::{ForwardPath, ReversePath};

/// What octets the content holds: the `BODY` parameter (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum BodyType {
    /// `7BIT`, also when nothing was said.
    #[default]
    SevenBit,
    /// `8BITMIME`: octets above 127 occur.
    EightBitMime,
}

/// ESMTP parameters of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailParameters {
    /// `SIZE=`: the size the client declared, in octets (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyType,
}

/// ESMTP parameters of RCPT: none is known yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RcptParameters {}

/// One accepted recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Whom it is for.
    pub path: ForwardPath,
    /// What was said about it.
    pub parameters: RcptParameters,
}

/// Sender, parameters and accepted recipients of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where failures are told to.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL.
    pub parameters: MailParameters,
    /// In the order in which they were accepted.
    pub recipients: Vec<Recipient>,
}
