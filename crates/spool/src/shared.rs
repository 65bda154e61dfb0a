//! What callers, readers and the writer have in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::Disk;
use crate::index::Index;
use crate::queue::{Queue, locked};
use crate::{Options, SpoolStats};

/// Lock order: queue, then index, then stats.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) index: Mutex<Index>,
    pub(crate) stats: Mutex<SpoolStats>,
    /// The writer has ended without being told to, by a panic most likely.
    pub(crate) writer_is_gone: AtomicBool,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options) -> Shared {
        let queue = Queue::new(&options);
        Shared {
            disk,
            options,
            queue,
            index: Mutex::new(Index::new()),
            stats: Mutex::default(),
            writer_is_gone: AtomicBool::new(false),
        }
    }

    /// A live record turned out to be corrupt: its segment becomes evidence.
    pub(crate) fn note_corrupt(&self, segment: u32) {
        if let Some(segment) = locked(&self.index).segments.get_mut(&segment) {
            segment.damaged = true;
        }
        locked(&self.stats).corrupt_total += 1;
    }

    pub(crate) fn stats(&self) -> SpoolStats {
        let mut stats = *locked(&self.stats);
        stats.failed |= self.writer_is_gone.load(Ordering::Relaxed);
        stats.pending_count += self.queue.pending_count();
        let index = locked(&self.index);
        stats.live_count = index.live_count();
        stats.segment_count = index.segments.len() as u64;
        for segment in index.segments.values() {
            stats.live_bytes += segment.live_bytes;
            stats.dead_bytes += segment.used_bytes.saturating_sub(segment.live_bytes);
            stats.damaged_count += u64::from(segment.damaged);
        }
        stats
    }
}
