//! Limits and times of a segment log.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::CommitObserver;

/// How a [`SegmentLog`](crate::SegmentLog) behaves. The defaults suit a mail
/// relay; tests make everything small.
#[derive(Clone)]
pub struct Options {
    /// Size of a segment file; a larger record gets a file of its own size.
    /// Brought between 4 KiB and 1 GiB, to a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Most operations in one batch.
    pub batch_count: usize,
    /// A batch is closed once it holds this many bytes.
    pub batch_bytes: u64,
    /// Spare files kept ready and not usable by `accept`, so that removals,
    /// updates and collection go on when the disk is full.
    pub reserve_count: usize,
    /// Emptied files kept for reuse at most (beyond the reserve they are
    /// deleted when there are more).
    pub spare_count: usize,
    /// Limit for all files of the spool; `None` leaves it to the file system.
    pub max_bytes: Option<u64>,
    /// How long an update or removal may wait in memory for company: what a
    /// killed process can lose of them.
    pub lazy_write: Duration,
    /// How long an update or removal may be written without being synced: what
    /// a power cut can lose of them.
    pub lazy_sync: Duration,
    /// A sealed segment is collected when less than this percentage of it
    /// lives.
    pub collect_below_percent: u8,
    /// Collection copies at most about this many bytes between two batches.
    pub collect_step_bytes: u64,
    /// How often an idle log looks for something to collect, and a failed one
    /// for a disk that works again.
    pub tick: Duration,
    /// Hears of every commit.
    pub observer: Option<Arc<dyn CommitObserver>>,
    /// From it come the stamps of segments, which must not be guessed by those
    /// who send mail: from the operating system, unless a test sets it.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            batch_count: 4096,
            batch_bytes: 32 << 20,
            reserve_count: 2,
            spare_count: 4,
            max_bytes: None,
            lazy_write: Duration::from_millis(10),
            lazy_sync: Duration::from_secs(1),
            collect_below_percent: 50,
            collect_step_bytes: 1 << 20,
            tick: Duration::from_secs(1),
            observer: None,
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

impl Options {
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
            .clamp(4 << 10, 1 << 30)
            .next_multiple_of(4 << 10)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("lazy_write", &self.lazy_write)
            .field("lazy_sync", &self.lazy_sync)
            .finish_non_exhaustive()
    }
}
