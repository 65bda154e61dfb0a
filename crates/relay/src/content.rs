//! Message content in memory: what is being received, and what was just accepted and is in its
//! first attempt.
//!
//! Both have a limit. Over the first, new content is refused with 452 4.3.1; over the second,
//! an accepted message is simply not kept and its first attempt reads it from the spool. What is
//! read back has an allowance of its own: it is taken when a host is there to send to, for one
//! transaction, and over it the attempt waits a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smtp::QueueId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A message's octets, un-stuffed, in pieces; cheap to clone.
pub type Content = Arc<[Bytes]>;

/// Octets of a message.
#[must_use]
pub fn size_bytes(content: &[Bytes]) -> u64 {
    content.iter().map(|piece| piece.len() as u64).sum()
}

/// A process-wide allowance of octets.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicU64,
    limit_bytes: AtomicU64,
}

impl Budget {
    /// An allowance of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            limit_bytes: AtomicU64::new(limit_bytes),
        })
    }

    /// Octets taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// A changed limit holds for what is taken from now on.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// An empty lease on this budget.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    /// Takes more; false when the budget is spent, and then nothing is taken.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget
            .used_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The allowance for content that is read back from the spool.
///
/// As large as the limit it was made with, and rounded to pieces of 64 KiB; a reload leaves it
/// as it is. A message larger than all of it may be read when nothing else is.
#[derive(Debug)]
pub struct ReadBudget {
    free: Arc<Semaphore>,
    piece_count: u32,
}

impl ReadBudget {
    const PIECE_BYTES: u64 = 64 * 1024;

    /// An allowance of `limit_bytes`, one piece at least.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        let piece_count = u32::try_from(limit_bytes / Self::PIECE_BYTES)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 4);
        Self {
            free: Arc::new(Semaphore::new(piece_count as usize)),
            piece_count,
        }
    }

    /// Waits, first come first served, until so many octets may be read; to be held as long as
    /// they are in memory.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let pieces = bytes.div_ceil(Self::PIECE_BYTES).max(1);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.free);
        // Nobody closes the semaphore; if somebody did, mail would still have to flow.
        free.acquire_many_owned(pieces.min(self.piece_count))
            .await
            .ok()
    }
}

/// Content of accepted messages from their acceptance until they rest or leave the queue: the
/// whole of their first attempt, over every host.
#[derive(Debug)]
pub struct ContentCache {
    shards: Vec<Mutex<HashMap<QueueId, (Content, Lease)>>>,
    budget: Arc<Budget>,
    /// For those that are not kept.
    pub reading: ReadBudget,
}

impl ContentCache {
    const SHARDS: usize = 16;

    /// A cache that keeps at most `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect(),
            budget: Budget::new(limit_bytes),
            reading: ReadBudget::new(limit_bytes),
        }
    }

    /// Octets kept now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.budget.used_bytes()
    }

    /// A changed limit holds for what is kept from now on.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.budget.set_limit(limit_bytes);
    }

    /// Keeps the content if there is room.
    pub fn insert(&self, id: QueueId, content: Content) {
        let mut lease = self.budget.lease();
        if lease.grow(size_bytes(&content)) {
            self.shard(id).insert(id, (content, lease));
        }
    }

    /// The content, if it is kept.
    #[must_use]
    pub fn get(&self, id: QueueId) -> Option<Content> {
        self.shard(id)
            .get(&id)
            .map(|(content, _)| Arc::clone(content))
    }

    /// Forgets the content.
    pub fn remove(&self, id: QueueId) {
        self.shard(id).remove(&id);
    }

    fn shard(&self, id: QueueId) -> MutexGuard<'_, HashMap<QueueId, (Content, Lease)>> {
        let index = usize::try_from(id.get() % Self::SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_refuses_and_recovers() {
        let budget = Budget::new(10);
        let mut first = budget.lease();
        assert!(first.grow(8));
        let mut second = budget.lease();
        assert!(!second.grow(3));
        drop(first);
        assert!(second.grow(10));
        assert_eq!(budget.used_bytes(), 10);
    }

    #[tokio::test]
    async fn what_is_read_back_waits_for_room() {
        use futures_util::FutureExt;
        let budget = ReadBudget::new(3 * 64 * 1024);
        let whole = budget.take(u64::MAX).await.expect("nothing else is read");
        let mut next = std::pin::pin!(budget.take(1));
        assert!(next.as_mut().now_or_never().is_none());
        drop(whole);
        let _next = next.await.expect("room");
        assert!(budget.take(2 * 64 * 1024).now_or_never().is_some());
    }

    #[test]
    fn a_full_cache_keeps_what_it_has() {
        let cache = ContentCache::new(4);
        let content =
            |text: &'static str| -> Content { vec![Bytes::from_static(text.as_bytes())].into() };
        cache.insert(QueueId::new(1), content("abc"));
        cache.insert(QueueId::new(2), content("de"));
        assert!(cache.get(QueueId::new(1)).is_some());
        assert!(cache.get(QueueId::new(2)).is_none());
        cache.remove(QueueId::new(1));
        assert_eq!(cache.used_bytes(), 0);
    }
}
