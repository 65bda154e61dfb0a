//! The queue's record of a message as octets in the spool.
//!
//! The first octet is the version of the layout; what follows is postcard. A record of a
//! version that this build does not know is an error and stays in the spool untouched.

use bytes::Bytes;
use queue::QueuedMessage;
use thiserror::Error;

/// Layout that this build writes.
const VERSION: u8 = 1;

/// Why a record cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The record is of a newer or an unknown layout.
    #[error("record of layout {found}, this build reads {VERSION}")]
    UnknownVersion {
        /// What the record says.
        found: u8,
    },
    /// The record has no octets at all.
    #[error("empty record")]
    Empty,
    /// The octets do not decode.
    #[error("record does not decode: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Encodes the queue's record of a message.
///
/// # Errors
/// When a value cannot be serialised, which no value of this type can cause in practice.
pub fn encode(message: &QueuedMessage) -> Result<Bytes, RecordError> {
    let buffer = Vec::with_capacity(256);
    let mut octets = postcard::to_extend(&VERSION, buffer)?;
    octets = postcard::to_extend(message, octets)?;
    Ok(Bytes::from(octets))
}

/// Decodes a record.
///
/// # Errors
/// See [`RecordError`].
pub fn decode(octets: &[u8]) -> Result<QueuedMessage, RecordError> {
    match octets.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION, rest)) => Ok(postcard::from_bytes(rest)?),
        Some((&found, _)) => Err(RecordError::UnknownVersion { found }),
    }
}
