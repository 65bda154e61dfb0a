//! What a plugin may ask during a call in the SMTP dialogue, answered from the transaction as
//! it stands.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mx::Directory;
use plugin::{
    Answer, BodyType, CallEnvironment, HeaderField, LookupFailure, Peer, Question, Recipient,
    Sender,
};
use smtp::{MailParameters, Mailbox, QueueId, RcptParameters, ReversePath};

use super::edits::HeaderChanges;
use super::environment;
use crate::trace;

/// A recipient that was accepted, as plugins have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where the mail goes.
    pub(crate) mailbox: Mailbox,
    /// Parameters of RCPT.
    pub(crate) parameters: RcptParameters,
    /// What the client said, where a plugin changed it.
    pub(crate) original: Option<Mailbox>,
}

/// The world of one call. Everything in it is shared, so that making one costs next to nothing;
/// lists are made when they are asked for.
pub(crate) struct SessionEnvironment {
    pub(crate) id: QueueId,
    /// When MAIL was given.
    pub(crate) received_at_ms: u64,
    pub(crate) peer: Arc<Peer>,
    pub(crate) sender: Sender,
    pub(crate) recipients: Arc<Vec<Accepted>>,
    pub(crate) attributes: Arc<[(String, String)]>,
    /// None before the end of data.
    pub(crate) shown: Option<Shown>,
    pub(crate) directory: Arc<Directory>,
}

/// A whole message, with what earlier plugins changed in its header.
pub(crate) struct Shown {
    content: Arc<[Bytes]>,
    changes: HeaderChanges,
    size_bytes: u64,
    /// Where the body begins; looked for once.
    body_offset: OnceLock<usize>,
}

impl Shown {
    pub(crate) fn new(content: Arc<[Bytes]>, changes: HeaderChanges, size_bytes: u64) -> Self {
        Self {
            content,
            changes,
            size_bytes,
            body_offset: OnceLock::new(),
        }
    }

    fn body(&self, offset: u64, limit: usize) -> Bytes {
        let begin = *self
            .body_offset
            .get_or_init(|| trace::header_length(&self.content));
        trace::slice(&self.content, begin as u64 + offset, limit)
    }
}

/// MAIL FROM as the contract puts it.
pub(crate) fn sender(reverse_path: &ReversePath, parameters: &MailParameters) -> Sender {
    Sender {
        mailbox: reverse_path.mailbox().cloned(),
        declared_size_bytes: parameters.size,
        body: match parameters.body {
            smtp::BodyType::SevenBit => BodyType::SevenBit,
            smtp::BodyType::EightBitMime => BodyType::EightBitMime,
        },
        ..Sender::default()
    }
}

impl CallEnvironment for SessionEnvironment {
    fn message_id(&self) -> String {
        self.id.to_string()
    }

    fn received_at_ms(&self) -> u64 {
        self.received_at_ms
    }

    fn message_size_bytes(&self) -> u64 {
        self.shown.as_ref().map_or(0, |shown| shown.size_bytes)
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        Arc::clone(&self.attributes)
    }

    fn origin(&self) -> Option<Peer> {
        Some(Peer::clone(&self.peer))
    }

    fn envelope_sender(&self) -> Option<Sender> {
        Some(self.sender.clone())
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        let mailboxes = self.recipients.iter();
        mailboxes
            .map(|recipient| Recipient::from(recipient.mailbox.clone()))
            .collect()
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async {
            match &self.shown {
                Some(shown) => shown.changes.fields(&shown.content).into(),
                None => Arc::from([]),
            }
        })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let shown = self.shown.as_ref()?;
            Some(shown.body(offset, limit as usize))
        })
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(environment::lookup(&self.directory, question))
    }
}
