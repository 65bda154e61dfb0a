//! One batch on its way to the disk: what it will change, and who waits for it.

use std::time::Duration;

use crate::index::{Effect, IdMap, Index};
use crate::queue::Lazy;
use crate::spool::ReceiptSender;
use crate::{RecordId, SpoolStats};

/// An accept whose record is in the batch.
pub(crate) struct Staged {
    pub(crate) id: RecordId,
    /// The segment of its put.
    pub(crate) segment: u32,
    pub(crate) receipt: ReceiptSender,
}

/// What has been encoded and not yet settled.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) accepts: Vec<Staged>,
    pub(crate) flushes: Vec<ReceiptSender>,
    /// In the form in which they would have to be written again.
    pub(crate) lazies: Vec<Lazy>,
    /// Changes of ids that are not live: nothing to write.
    pub(crate) ignored: Vec<Lazy>,
    pub(crate) effects: Vec<Effect>,
    /// Ids whose state the batch changes: the segment of the put, or gone.
    targets: IdMap<Option<u32>>,
    /// There was no segment for an update in this batch: no more is tried.
    pub(crate) refuses_updates: bool,
    /// Nor for a removal.
    pub(crate) refuses_removals: bool,
    pub(crate) operation_count: u64,
    pub(crate) refused_full_count: u64,
    pub(crate) cost: Cost,
}

/// What was spent on the disk.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) written_bytes: u64,
    pub(crate) write_time: Duration,
    pub(crate) sync_time: Duration,
    pub(crate) sync_count: u64,
}

impl Cost {
    pub(crate) fn add_to(&self, stats: &mut SpoolStats) {
        stats.written_bytes_total += self.written_bytes;
        stats.write_us_total += micros(self.write_time);
        stats.syncs_total += self.sync_count;
        stats.sync_us_total += micros(self.sync_time);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Batch {
    pub(crate) fn of(operation_count: usize) -> Batch {
        Batch {
            operation_count: operation_count as u64,
            ..Batch::default()
        }
    }

    /// The segment that holds the put of `id` once the batch so far is written,
    /// if `id` is live then.
    pub(crate) fn target(&self, index: &Index, id: RecordId) -> Option<u32> {
        match self.targets.get(&id) {
            Some(target) => *target,
            None => index.get(id).map(|entry| entry.put.segment),
        }
    }

    /// Adds a change that has been encoded.
    pub(crate) fn push(&mut self, effect: Effect) {
        match &effect {
            Effect::Put { id, place, .. } => {
                self.targets.insert(*id, Some(place.segment));
            }
            Effect::Tombstone { id, .. } => {
                self.targets.insert(*id, None);
            }
            Effect::Update { .. } => {}
        }
        self.effects.push(effect);
    }

    /// Whether somebody waits for it to be durable.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.accepts.is_empty() || !self.flushes.is_empty()
    }
}
