//! The trait that the relay sees, and the few types in its signatures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{SpoolError, SpoolStats};

/// Names one record for its whole life. The relay uses its queue id.
///
/// The caller keeps ids unique; an id that is still live is refused with
/// [`SpoolError::Exists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A record that rests in the spool: what a scheduler must keep in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveRecord {
    /// The record.
    pub id: RecordId,
    /// When it is due, in Unix milliseconds, as last accepted or updated.
    pub due_at_ms: u64,
}

/// What [`Spool::read_meta`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMeta {
    /// When the record is due, in Unix milliseconds.
    pub due_at_ms: u64,
    /// The metadata as last accepted or updated.
    pub meta: Bytes,
}

/// Resolves when an operation is durable, or has failed for good.
///
/// Dropping it does not take the operation back.
#[derive(Debug)]
#[must_use = "nothing is acknowledged until the receipt resolves"]
pub struct Receipt(oneshot::Receiver<Result<(), SpoolError>>);

/// The other end of a [`Receipt`]; dropped without an answer it stands for
/// [`SpoolError::Closed`].
#[derive(Debug)]
pub struct ReceiptSender(oneshot::Sender<Result<(), SpoolError>>);

impl Receipt {
    /// A receipt and the end that resolves it.
    pub fn channel() -> (ReceiptSender, Receipt) {
        let (sender, receiver) = oneshot::channel();
        (ReceiptSender(sender), Receipt(receiver))
    }

    /// A receipt that has been resolved already.
    pub fn ready(result: Result<(), SpoolError>) -> Receipt {
        let (sender, receipt) = Receipt::channel();
        sender.resolve(result);
        receipt
    }

    /// The result if there is one by now; the receipt is spent by it.
    pub fn try_result(&mut self) -> Option<Result<(), SpoolError>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(SpoolError::Closed)),
        }
    }

    /// Blocks the calling thread until the result is there. For threads of
    /// one's own: within an async runtime this panics; await the receipt there.
    pub fn wait(self) -> Result<(), SpoolError> {
        self.0.blocking_recv().unwrap_or(Err(SpoolError::Closed))
    }
}

impl Future for Receipt {
    type Output = Result<(), SpoolError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|result| result.unwrap_or(Err(SpoolError::Closed)))
    }
}

impl ReceiptSender {
    /// Resolves the receipt. Nobody listening is no error.
    pub fn resolve(self, result: Result<(), SpoolError>) {
        drop(self.0.send(result));
    }
}

/// A durable store of records, each an id, a due time, metadata and a body.
///
/// Operations on one id take effect in the order of the calls. `accept`,
/// `update`, `remove`, `flush` and `close` never block on a disk; the reads may
/// (call them where blocking is allowed).
///
/// The duplicate window: a `remove` or `update` is durable only when a later
/// [`flush`](Spool::flush) or `accept` has resolved, or the implementation's
/// lazy time has passed. A crash before that brings the record (or its earlier
/// metadata) back; a crash after it never does.
pub trait Spool: Send + Sync {
    /// Takes a record over. The receipt resolves with `Ok` only when the record
    /// survives a power cut; until then the record is not readable.
    ///
    /// The chunks of `body` are released as soon as the receipt is resolved.
    /// Queued operations are bounded by the caller's budget for messages in
    /// flight, not here.
    ///
    /// # Errors (by the receipt)
    /// [`SpoolError::Full`], [`SpoolError::Failed`], [`SpoolError::Exists`],
    /// [`SpoolError::TooLarge`], [`SpoolError::Closed`]: the record is not there.
    fn accept(&self, id: RecordId, due_at_ms: u64, meta: Bytes, body: Vec<Bytes>) -> Receipt;

    /// Replaces due time and metadata; readable at once, durable within the
    /// duplicate window. An id that is not live is ignored (and counted).
    ///
    /// # Errors
    /// [`SpoolError::TooLarge`], [`SpoolError::Closed`]. A disk error is not reported here: the change
    /// is kept in memory and written when the disk allows it.
    fn update(&self, id: RecordId, due_at_ms: u64, meta: Bytes) -> Result<(), SpoolError>;

    /// Forgets a record; gone at once for readers, durably within the duplicate
    /// window. An id that is not live is ignored (and counted).
    ///
    /// # Errors
    /// As [`update`](Spool::update).
    fn remove(&self, id: RecordId) -> Result<(), SpoolError>;

    /// Due time and metadata of a live record, without touching its body. May
    /// block on the disk.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`], [`SpoolError::Corrupt`], [`SpoolError::Failed`].
    fn read_meta(&self, id: RecordId) -> Result<StoredMeta, SpoolError>;

    /// The body of a live record, checked against its checksum, in chunks of at
    /// most 1 MiB. May block on the disk.
    ///
    /// # Errors
    /// As [`read_meta`](Spool::read_meta).
    fn read_body(&self, id: RecordId) -> Result<Vec<Bytes>, SpoolError>;

    /// Calls `visit` for every live record, in no particular order: what a
    /// scheduler is filled from after a restart. Records accepted or removed
    /// meanwhile may or may not be seen.
    fn for_each_live(&self, visit: &mut dyn FnMut(LiveRecord));

    /// All live records, sorted by due time, then id.
    fn live(&self) -> Vec<LiveRecord> {
        let mut records = Vec::new();
        self.for_each_live(&mut |record| records.push(record));
        records.sort_unstable_by_key(|record| (record.due_at_ms, record.id));
        records
    }

    /// Resolves when everything called before it is durable.
    fn flush(&self) -> Receipt;

    /// Flushes, then lets go of the store. Later operations answer
    /// [`SpoolError::Closed`].
    fn close(&self) -> Receipt;

    /// Counters and sizes, for metrics; cheap.
    fn stats(&self) -> SpoolStats;
}
