//! The queue's record of a message as octets in the spool.
//!
//! The first octet is the version of the layout; what follows is postcard. Records of earlier
//! layouts are read, and written anew when the message next changes. A record of a version that
//! this build does not know is an error and stays in the spool untouched.

mod first;

use bytes::Bytes;
use queue::QueuedMessage;
use thiserror::Error;

/// Layout that this build writes.
const VERSION: u8 = 2;
/// The layout before attempts told of recipients and decisions.
const FIRST: u8 = 1;

/// Why a record cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The record is of a newer or an unknown layout.
    #[error("record of layout {found}, this build reads up to {VERSION}")]
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
        Some((&FIRST, rest)) => Ok(postcard::from_bytes::<first::Message>(rest)?.into()),
        Some((&found, _)) => Err(RecordError::UnknownVersion { found }),
    }
}

#[cfg(test)]
mod tests {
    use queue::{
        AttemptRecord, Hold, Origin, PolicyDecision, QueuedRecipient, RecipientState, UnixMs,
    };
    use smtp::{MailParameters, QueueId, RcptParameters, Reply};

    use super::*;

    fn message() -> QueuedMessage {
        let mailbox = "you@dest.test".parse().expect("a mailbox");
        let mut recipient = QueuedRecipient::new(mailbox, RcptParameters::default(), UnixMs(9));
        recipient.state = RecipientState::Delivered {
            at: UnixMs(11),
            reply: Reply::new(250, (2, 0, 0), "taken"),
            host: Some("mx.test".to_owned()),
        };
        let record = AttemptRecord {
            at: UnixMs(10),
            destination: "dest.test".to_owned(),
            address: Some("192.0.2.1:25".to_owned()),
            outcome: "451 later".to_owned(),
            duration_ms: 7,
            recipients: vec![0],
            recipient_count: 1,
            decisions: vec![PolicyDecision {
                policy: "table".to_owned(),
                note: Some("why".to_owned()),
                ..PolicyDecision::default()
            }],
            prompt: true,
            ..AttemptRecord::default()
        };
        QueuedMessage {
            id: QueueId::new(77),
            received_at: UnixMs(8),
            expires_at: UnixMs(1000),
            size_bytes: 4096,
            origin: Origin::default(),
            reverse_path: "<me@sender.test>".parse().expect("a path"),
            parameters: MailParameters::default(),
            recipients: vec![recipient],
            attributes: vec![("name".to_owned(), "value".to_owned())],
            hold: Some(Hold {
                reason: "look".to_owned(),
                held_at: UnixMs(12),
                release_at: None,
            }),
            released_at: Some(UnixMs(9)),
            history: [record].into_iter().collect(),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let octets = encode(&message()).expect("it encodes");
        assert_eq!(decode(&octets).expect("it decodes"), message());
    }

    /// As the release before wrote it, octet for octet: what it stands for must not change.
    const OF_LAYOUT_1: &str = "\
        010d3030303030303030303030324408e807802000000000000e6d654073656e6465722e74657374\
        0000010d796f7540646573742e746573740000010bfa010105322e302e300574616b656e01076d78\
        2e7465737401046e616d650576616c756501046c6f6f6b0c000109010a09646573742e7465737400\
        010c3139322e302e322e313a32350009343531206c6174657207";

    fn octets_of_layout_1() -> Vec<u8> {
        let digits = OF_LAYOUT_1.as_bytes().chunks_exact(2);
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits
            .map(|pair| octet(pair).expect("hexadecimal"))
            .collect()
    }

    #[test]
    fn a_record_of_layout_1_is_read() {
        let mut known = message();
        known.history = known
            .history
            .iter()
            .cloned()
            .map(|record| AttemptRecord {
                recipients: Vec::new(),
                recipient_count: 0,
                decisions: Vec::new(),
                prompt: false,
                ..record
            })
            .collect();
        assert_eq!(decode(&octets_of_layout_1()).expect("it decodes"), known);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(matches!(decode(&[]), Err(RecordError::Empty)));
        assert!(matches!(
            decode(&[3, 0]),
            Err(RecordError::UnknownVersion { found: 3 })
        ));
        let octets = encode(&message()).expect("it encodes");
        assert!(matches!(
            decode(&octets[..octets.len() - 1]),
            Err(RecordError::Malformed(_))
        ));
    }
}
