//! What is known of a message, to the spool.

use queue::{History, QueuedMessage, UnixMs};
use spool::{RecordId, Spool, SpoolError};

use crate::store;

/// Saves the state of a message. Where that is more than the spool can hold, what plugins noted
/// stays behind, and then the story of its attempts: without what has become of its recipients
/// those that have the mail would get it again.
///
/// # Errors
/// The spool did not take it, or not even the least of it.
pub(super) fn save(
    spool: &dyn Spool,
    message: &QueuedMessage,
    due_at: UnixMs,
) -> Result<(), SpoolError> {
    let id = message.id;
    let size_bytes = match write(spool, message, due_at) {
        Err(SpoolError::TooLarge { size_bytes }) => size_bytes,
        result => return result,
    };
    tracing::error!(%id, size_bytes, "a message's record is too large for the spool; what plugins noted with it is not kept");
    let mut least = message.clone();
    least.attributes = Vec::new();
    let size_bytes = match write(spool, &least, due_at) {
        Err(SpoolError::TooLarge { size_bytes }) => size_bytes,
        result => return result,
    };
    tracing::error!(%id, size_bytes, "a message's record is still too large for the spool; the story of its attempts is not kept");
    least.history = History::default();
    write(spool, &least, due_at)
}

fn write(spool: &dyn Spool, message: &QueuedMessage, due_at: UnixMs) -> Result<(), SpoolError> {
    let id = message.id;
    match store::encode(message) {
        Ok(record) => spool.update(RecordId(id.get()), due_at.0, record),
        Err(error) => {
            tracing::error!(%id, %error, "cannot encode a message; the spool keeps its last state");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use queue::{AttemptRecord, Origin, QueuedRecipient, RecipientState};
    use smtp::{MailParameters, QueueId, RcptParameters, Reply};
    use spool::{FileDisk, Options, SegmentLog};

    use super::*;

    const SEGMENT_BYTES: u64 = 1 << 20;

    fn message(attribute_bytes: usize, story_bytes: usize) -> QueuedMessage {
        let mailbox = "you@dest.test".parse().expect("a mailbox");
        let recipient = QueuedRecipient::new(mailbox, RcptParameters::default(), UnixMs(9));
        let record = AttemptRecord {
            outcome: "x".repeat(story_bytes),
            ..AttemptRecord::default()
        };
        QueuedMessage {
            id: QueueId::new(77),
            received_at: UnixMs(8),
            expires_at: UnixMs(1000),
            size_bytes: 4,
            origin: Origin::default(),
            reverse_path: "<me@sender.test>".parse().expect("a path"),
            parameters: MailParameters::default(),
            recipients: vec![recipient],
            attributes: vec![("name".to_owned(), "x".repeat(attribute_bytes))],
            hold: None,
            released_at: None,
            history: [record].into_iter().collect(),
        }
    }

    /// What is left of that once one more recipient has the mail.
    fn saved(attribute_bytes: usize, story_bytes: usize) -> QueuedMessage {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = FileDisk::new(directory.path()).expect("a disk");
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            ..Options::default()
        };
        let spool = SegmentLog::open(Arc::new(disk), options).expect("a spool");
        let id = RecordId(77);
        let first = store::encode(&message(0, 0)).expect("it encodes");
        let receipt = spool.accept(id, 9, first, vec![b"body".as_slice().into()]);
        receipt.wait().expect("it is taken");
        let mut message = message(attribute_bytes, story_bytes);
        for recipient in &mut message.recipients {
            recipient.state = RecipientState::Delivered {
                at: UnixMs(11),
                reply: Reply::new(250, (2, 0, 0), "taken"),
                host: None,
            };
        }
        save(&spool, &message, UnixMs(20)).expect("it is saved");
        let stored = spool.read_meta(id).expect("it is there");
        assert_eq!(stored.due_at_ms, 20);
        store::decode(&stored.meta).expect("it decodes")
    }

    #[test]
    fn what_became_of_recipients_is_saved_before_all_else() {
        let much = usize::try_from(SEGMENT_BYTES).expect("small");
        for (attribute_bytes, story_bytes, kept) in [
            (100, 100, (1, 1)),
            (much, 100, (0, 1)),
            (much, much, (0, 0)),
        ] {
            let saved = saved(attribute_bytes, story_bytes);
            assert_eq!((saved.attributes.len(), saved.history.len()), kept);
            let state = &saved.recipients[0].state;
            assert!(
                matches!(state, RecipientState::Delivered { .. }),
                "{state:?}"
            );
        }
    }
}
