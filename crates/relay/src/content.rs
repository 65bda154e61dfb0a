//! Message content in memory: what is being received, and what was just accepted and waits for
//! its first attempt.
//!
//! Both have a limit. Over the first, new content is refused with 452 4.3.1; over the second,
//! an accepted message is simply not kept and its first attempt reads it from the spool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smtp::QueueId;

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

/// Content of accepted messages that have not been tried yet.
#[derive(Debug)]
pub struct ContentCache {
    shards: Vec<Mutex<HashMap<QueueId, (Content, Lease)>>>,
    budget: Arc<Budget>,
}

impl ContentCache {
    const SHARDS: usize = 16;

    /// A cache that keeps at most `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect(),
            budget: Budget::new(limit_bytes),
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
