//! Instances of one plugin that wait for their next call, where the configuration
//! lets an instance serve more than one.
//!
//! An instance in here belongs to nobody: a call takes it out, and puts it back
//! only when it ended well. It keeps its place in the pool of the host, which takes
//! it away when a call of any plugin waits for one.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::instance::Live;
use crate::limits::Instances;
use crate::plugin::Loaded;

/// The instances that wait, the one that waited longest first.
pub(crate) struct IdleInstances {
    rules: Instances,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    instances: VecDeque<Idle>,
    /// Something will look when the oldest has waited for long enough.
    is_watched: bool,
}

struct Idle {
    live: Live,
    place: OwnedSemaphorePermit,
    since: Instant,
}

impl IdleInstances {
    pub(crate) fn new(rules: Instances) -> Self {
        Self {
            rules,
            shelf: Mutex::default(),
        }
    }

    /// The one that was used last, with its place in the pool.
    pub(crate) fn take(&self) -> Option<(Live, OwnedSemaphorePermit)> {
        if self.rules.reuse == 1 {
            return None;
        }
        let idle = self.lock().instances.pop_back()?;
        Some((idle.live, idle.place))
    }

    /// Gives up the one that waited longest.
    pub(crate) fn retire_oldest(&self) -> bool {
        // Bound, so that the instance is dropped after the lock is.
        let oldest = self.lock().instances.pop_front();
        oldest.is_some()
    }

    /// Gives up all of them.
    pub(crate) fn retire_all(&self) {
        let all = std::mem::take(&mut self.lock().instances);
        drop(all);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().instances.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up those that waited for too long; when the next will have.
    fn retire_expired(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let next = {
            let mut shelf = self.lock();
            while let Some(oldest) = shelf.instances.front()
                && oldest.since + self.rules.idle <= now
            {
                expired.extend(shelf.instances.pop_front());
            }
            let next = shelf
                .instances
                .front()
                .map(|idle| idle.since + self.rules.idle);
            shelf.is_watched = next.is_some();
            next
        };
        drop(expired);
        next
    }
}

impl Loaded {
    /// Keeps an instance whose call ended well for the next one, unless it has
    /// served long enough or its place is wanted.
    pub(crate) fn park(self: &Arc<Self>, mut live: Live, place: OwnedSemaphorePermit) {
        let rules = self.idle.rules;
        if live.served >= rules.reuse || rules.idle == Duration::ZERO {
            return;
        }
        live.store.data_mut().release();
        let mut shelf = self.idle.lock();
        // A call that waits has said so before it looks through the shelves: either
        // it is seen here, or it finds this instance.
        if self.host.waiting.load(Ordering::SeqCst) > 0 {
            drop(shelf);
            return;
        }
        shelf.instances.push_back(Idle {
            live,
            place,
            since: Instant::now(),
        });
        if !shelf.is_watched {
            shelf.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(self), Instant::now() + rules.idle));
        }
    }
}

/// Sees to it that no instance waits for longer than the configuration says. Ends
/// with the last one.
async fn watch(plugin: Weak<Loaded>, mut next: Instant) {
    loop {
        tokio::time::sleep_until(next).await;
        let Some(plugin) = plugin.upgrade() else {
            return;
        };
        match plugin.idle.retire_expired() {
            Some(later) => next = later,
            None => return,
        }
    }
}
