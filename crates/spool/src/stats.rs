//! Plain numbers for metrics, and a hook for histograms.

use std::time::Duration;

/// What a spool has done since it was opened (`*_total`) and how it stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Live records now.
    pub live_count: u64,
    /// Bytes of live records on disk now, headers included.
    pub live_bytes: u64,
    /// Bytes on disk now that only collection can give back.
    pub dead_bytes: u64,
    /// Segment files that hold records now.
    pub segment_count: u64,
    /// Empty files kept ready for the next segments, the reserve included.
    pub spare_count: u64,
    /// Size of all segment and spare files, in bytes.
    pub disk_bytes: u64,
    /// Updates and removals which are not durable yet.
    pub pending_count: u64,
    /// Batches made durable.
    pub commits_total: u64,
    /// Records made durable, of any kind, copies of collection excluded.
    pub records_total: u64,
    /// Messages accepted durably.
    pub accepted_total: u64,
    /// Updates written.
    pub updated_total: u64,
    /// Removals written.
    pub removed_total: u64,
    /// Updates and removals of ids which were not live.
    pub ignored_total: u64,
    /// Bytes written, indexes and copies included.
    pub written_bytes_total: u64,
    /// Bytes copied by collection.
    pub copied_bytes_total: u64,
    /// Segments given back by collection.
    pub collected_total: u64,
    /// Calls of fdatasync.
    pub syncs_total: u64,
    /// Time spent in fdatasync, in microseconds.
    pub sync_us_total: u64,
    /// Time spent in write, in microseconds.
    pub write_us_total: u64,
    /// The largest batch so far, in operations.
    pub largest_batch_count: u64,
    /// Accepts refused for want of space.
    pub full_total: u64,
    /// Errors of the disk on write or sync.
    pub disk_errors_total: u64,
    /// Records found corrupt.
    pub corrupt_total: u64,
    /// Segments with damage, kept as evidence.
    pub damaged_count: u64,
    /// Bytes of unfinished writes which recovery left out, as it should.
    pub torn_bytes_total: u64,
    /// Accepts are being refused because no segment can be written; the log
    /// tries again by itself.
    pub failed: bool,
    /// Accepts are being refused for want of space.
    pub full: bool,
}

/// One batch made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// Operations in the batch.
    pub operation_count: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// From the first byte handed to the disk to the end of the sync.
    pub duration: Duration,
    /// Of that, the sync.
    pub sync_duration: Duration,
}

/// Hears of every commit, on the writer thread: it must be quick. A closure
/// will do.
pub trait CommitObserver: Send + Sync {
    /// A batch has become durable.
    fn committed(&self, commit: &Commit);
}

impl<F: Fn(&Commit) + Send + Sync> CommitObserver for F {
    fn committed(&self, commit: &Commit) {
        self(commit);
    }
}
