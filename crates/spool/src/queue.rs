//! Operations on their way to the writer, and what readers must know of them
//! before they are written.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::index::IdMap;
use crate::spool::{ReceiptSender, StoredMeta};
use crate::{Options, RecordId, SpoolError};

/// A record to be taken over.
pub(crate) struct Accept {
    pub(crate) id: RecordId,
    pub(crate) due_at_ms: u64,
    pub(crate) meta: Bytes,
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
    pub(crate) receipt: ReceiptSender,
}

/// A change that nobody waits for, and that is never given up.
#[derive(Clone)]
pub(crate) enum Lazy {
    Update {
        id: RecordId,
        due_at_ms: u64,
        meta: Bytes,
        ticket: u64,
    },
    /// `target` is where the put was when the index forgot the record, or where
    /// the put of a refused accept may be; without one, the index knows.
    Remove {
        id: RecordId,
        ticket: u64,
        target: Option<u32>,
    },
}

impl Lazy {
    pub(crate) fn id(&self) -> RecordId {
        match self {
            Lazy::Update { id, .. } | Lazy::Remove { id, .. } => *id,
        }
    }

    pub(crate) fn ticket(&self) -> u64 {
        match self {
            Lazy::Update { ticket, .. } | Lazy::Remove { ticket, .. } => *ticket,
        }
    }
}

/// One call of the trait.
pub(crate) enum Operation {
    Accept(Accept),
    Lazy(Lazy),
    Flush(ReceiptSender),
    Close(ReceiptSender),
}

impl Operation {
    fn is_lazy(&self) -> bool {
        matches!(self, Operation::Lazy(_))
    }

    fn cost_bytes(&self) -> u64 {
        let content = match self {
            Operation::Accept(accept) => u64::from(accept.body_bytes) + accept.meta.len() as u64,
            Operation::Lazy(Lazy::Update { meta, .. }) => meta.len() as u64,
            _ => 0,
        };
        content + 64
    }
}

/// What readers must know of an id beyond the index: changes on their way to it,
/// with their tickets.
#[derive(Default)]
pub(crate) struct Pending {
    /// Gone, whatever the index says.
    removed: Option<u64>,
    /// Newer metadata; after a removal that of a record yet to be accepted.
    updated: Option<(u64, StoredMeta)>,
}

impl Pending {
    /// Whether the record the index knows is to be removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// The newest metadata, if it is not in the index.
    pub(crate) fn newest(&self) -> Option<&StoredMeta> {
        self.updated.as_ref().map(|(_, stored)| stored)
    }
}

/// What waits for the writer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    /// Somebody waits for an answer.
    pub(crate) urgent: bool,
    /// There is something.
    pub(crate) any: bool,
    /// There is a batch full.
    pub(crate) full: bool,
}

#[derive(Default)]
struct Inner {
    operations: VecDeque<Operation>,
    bytes: u64,
    urgent_count: usize,
    pending: IdMap<Pending>,
    last_ticket: u64,
    writer_waits: bool,
    closed: bool,
}

/// The channel between callers and the writer. Unbounded: callers are bounded
/// by what they may have in flight.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    batch_count: usize,
    batch_bytes: u64,
}

/// A lock that a panic elsewhere does not take down: every critical section
/// leaves its content whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Queue {
        Queue {
            inner: Mutex::default(),
            work: Condvar::new(),
            batch_count: options.batch_count.max(1),
            batch_bytes: options.batch_bytes.max(1),
        }
    }

    /// Hands over an operation that somebody waits for. Closed: its receipt
    /// resolves with that.
    pub(crate) fn push_urgent(&self, operation: Operation) {
        let closes = matches!(operation, Operation::Close(_));
        let mut inner = locked(&self.inner);
        if inner.closed {
            return;
        }
        inner.closed = closes;
        inner.bytes += operation.cost_bytes();
        inner.urgent_count += 1;
        inner.operations.push_back(operation);
        self.wake(&inner, true);
    }

    /// Hands over newer metadata, visible to readers from now on.
    pub(crate) fn push_update(&self, id: RecordId, stored: StoredMeta) -> Result<(), SpoolError> {
        self.push_lazy(|inner, ticket| {
            let StoredMeta { due_at_ms, meta } = stored.clone();
            inner.pending.entry(id).or_default().updated = Some((ticket, stored));
            Lazy::Update {
                id,
                due_at_ms,
                meta,
                ticket,
            }
        })
    }

    /// Hands over a removal, visible to readers from now on.
    pub(crate) fn push_remove(&self, id: RecordId) -> Result<(), SpoolError> {
        self.push_lazy(|inner, ticket| {
            inner.pending.insert(
                id,
                Pending {
                    removed: Some(ticket),
                    updated: None,
                },
            );
            Lazy::Remove {
                id,
                ticket,
                target: None,
            }
        })
    }

    fn push_lazy(&self, note: impl FnOnce(&mut Inner, u64) -> Lazy) -> Result<(), SpoolError> {
        let mut inner = locked(&self.inner);
        if inner.closed {
            return Err(SpoolError::Closed);
        }
        inner.last_ticket += 1;
        let ticket = inner.last_ticket;
        let operation = Operation::Lazy(note(&mut inner, ticket));
        inner.bytes += operation.cost_bytes();
        inner.operations.push_back(operation);
        let first = inner.operations.len() == 1;
        let full = self.is_full(&inner);
        self.wake(&inner, first || full);
        Ok(())
    }

    fn wake(&self, inner: &Inner, worth_it: bool) {
        if worth_it && inner.writer_waits {
            self.work.notify_one();
        }
    }

    fn is_full(&self, inner: &Inner) -> bool {
        inner.operations.len() >= self.batch_count || inner.bytes >= self.batch_bytes
    }

    fn waiting_in(&self, inner: &Inner) -> Waiting {
        Waiting {
            urgent: inner.urgent_count > 0,
            any: !inner.operations.is_empty(),
            full: self.is_full(inner),
        }
    }

    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting_in(&locked(&self.inner))
    }

    /// Moves one batch out.
    pub(crate) fn take_batch(&self) -> Vec<Operation> {
        let mut inner = locked(&self.inner);
        let mut batch = Vec::with_capacity(inner.operations.len().min(self.batch_count));
        let mut bytes = 0;
        while batch.len() < self.batch_count && bytes < self.batch_bytes {
            let Some(operation) = inner.operations.pop_front() else {
                break;
            };
            bytes += operation.cost_bytes();
            inner.urgent_count -= usize::from(!operation.is_lazy());
            batch.push(operation);
        }
        inner.bytes -= bytes;
        batch
    }

    /// Blocks the writer until there is something new or `timeout` has passed.
    /// `seen` is what it knows to be there.
    pub(crate) fn wait(&self, seen: Waiting, timeout: Option<Duration>) {
        let mut inner = locked(&self.inner);
        let now = self.waiting_in(&inner);
        if now.urgent || now.full || (now.any && !seen.any) {
            return;
        }
        inner.writer_waits = true;
        inner = match timeout {
            Some(timeout) => {
                let waited = self.work.wait_timeout(inner, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .work
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner),
        };
        inner.writer_waits = false;
    }

    /// What readers must know of `id` beyond the index. The closure looks into
    /// the index under the same lock, so that the two fit together.
    pub(crate) fn with_pending<T>(
        &self,
        id: RecordId,
        look: impl FnOnce(Option<&Pending>) -> T,
    ) -> T {
        let inner = locked(&self.inner);
        look(inner.pending.get(&id))
    }

    /// As [`with_pending`](Queue::with_pending), for many ids.
    pub(crate) fn with_all_pending<T>(&self, look: impl FnOnce(&IdMap<Pending>) -> T) -> T {
        look(&locked(&self.inner).pending)
    }

    /// The index knows these changes now.
    pub(crate) fn settle(&self, changes: &[Lazy]) {
        if changes.is_empty() {
            return;
        }
        let mut inner = locked(&self.inner);
        for change in changes {
            let Some(pending) = inner.pending.get_mut(&change.id()) else {
                continue;
            };
            let ticket = change.ticket();
            pending.removed.take_if(|known| *known == ticket);
            pending.updated.take_if(|(known, _)| *known == ticket);
            if pending.removed.is_none() && pending.updated.is_none() {
                inner.pending.remove(&change.id());
            }
        }
    }

    /// These changes have been in the index, but the disk lost them: until they
    /// are written again readers have them from here.
    pub(crate) fn unsettle(&self, changes: &[Lazy]) {
        let mut inner = locked(&self.inner);
        for change in changes {
            let Lazy::Update {
                id,
                due_at_ms,
                meta,
                ticket,
            } = change
            else {
                continue;
            };
            let pending = inner.pending.entry(*id).or_default();
            // A removal on its way is newer than what was written.
            let newer = pending
                .updated
                .as_ref()
                .is_some_and(|(known, _)| known > ticket);
            if !newer && pending.removed.is_none() {
                let stored = StoredMeta {
                    due_at_ms: *due_at_ms,
                    meta: meta.clone(),
                };
                pending.updated = Some((*ticket, stored));
            }
        }
    }

    pub(crate) fn pending_count(&self) -> u64 {
        locked(&self.inner).pending.len() as u64
    }

    /// Refuses everything from now on and lets go of what still waits, whose
    /// receipts resolve as closed.
    pub(crate) fn shut(&self) {
        let mut inner = locked(&self.inner);
        inner.closed = true;
        let left = std::mem::take(&mut inner.operations);
        inner.urgent_count = 0;
        inner.bytes = 0;
        drop(inner);
        drop(left);
    }
}
