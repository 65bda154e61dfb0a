//! Layout 1 of the record: attempts without recipients and decisions.
//!
//! Frozen: mail that an earlier version has queued is read with it. What has not changed since
//! is taken from the queue as it is.

use queue::{AttemptRecord, Hold, Origin, QueuedMessage, QueuedRecipient, UnixMs};
use serde::{Deserialize, Serialize};
use smtp::{MailParameters, QueueId, ReversePath};

/// See [`QueuedMessage`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) id: QueueId,
    pub(super) received_at: UnixMs,
    pub(super) expires_at: UnixMs,
    pub(super) size_bytes: u64,
    pub(super) origin: Origin,
    pub(super) reverse_path: ReversePath,
    pub(super) parameters: MailParameters,
    pub(super) recipients: Vec<QueuedRecipient>,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) hold: Option<Hold>,
    pub(super) released_at: Option<UnixMs>,
    pub(super) history: Vec<Attempt>,
}

/// See [`AttemptRecord`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) at: UnixMs,
    pub(super) destination: String,
    pub(super) host: Option<String>,
    pub(super) address: Option<String>,
    pub(super) stage: String,
    pub(super) outcome: String,
    pub(super) duration_ms: u64,
}

impl From<Message> for QueuedMessage {
    fn from(old: Message) -> Self {
        Self {
            id: old.id,
            received_at: old.received_at,
            expires_at: old.expires_at,
            size_bytes: old.size_bytes,
            origin: old.origin,
            reverse_path: old.reverse_path,
            parameters: old.parameters,
            recipients: old.recipients,
            attributes: old.attributes,
            hold: old.hold,
            released_at: old.released_at,
            history: old.history.into_iter().map(AttemptRecord::from).collect(),
        }
    }
}

impl From<Attempt> for AttemptRecord {
    fn from(old: Attempt) -> Self {
        Self {
            at: old.at,
            destination: old.destination,
            host: old.host,
            address: old.address,
            stage: old.stage,
            outcome: old.outcome,
            duration_ms: old.duration_ms,
            ..Self::default()
        }
    }
}
