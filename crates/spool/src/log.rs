//! The segment log as its callers see it.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::spool::{LiveRecord, Receipt, RecordId, Spool, StoredMeta};
use crate::{Options, SpoolError, SpoolStats};

/// The production spool: an append-only segment log with group commit.
pub struct SegmentLog {
    _disk: Arc<dyn Disk>,
}

impl SegmentLog {
    /// Opens the log on `disk`, recovers what it holds and starts its writer
    /// thread. Blocks while it reads.
    ///
    /// # Errors
    /// [`SpoolError::Locked`], [`SpoolError::Full`] (no room for the first
    /// segments), [`SpoolError::Failed`].
    pub fn open(disk: Arc<dyn Disk>, _options: Options) -> Result<SegmentLog, SpoolError> {
        drop(disk);
        Err(SpoolError::Closed)
    }
}

impl Spool for SegmentLog {
    fn accept(&self, _id: RecordId, _due_at_ms: u64, _meta: Bytes, _body: Vec<Bytes>) -> Receipt {
        Receipt::ready(Err(SpoolError::Closed))
    }

    fn update(&self, _id: RecordId, _due_at_ms: u64, _meta: Bytes) -> Result<(), SpoolError> {
        Err(SpoolError::Closed)
    }

    fn remove(&self, _id: RecordId) -> Result<(), SpoolError> {
        Err(SpoolError::Closed)
    }

    fn read_meta(&self, _id: RecordId) -> Result<StoredMeta, SpoolError> {
        Err(SpoolError::Closed)
    }

    fn read_body(&self, _id: RecordId) -> Result<Vec<Bytes>, SpoolError> {
        Err(SpoolError::Closed)
    }

    fn for_each_live(&self, _visit: &mut dyn FnMut(LiveRecord)) {}

    fn flush(&self) -> Receipt {
        Receipt::ready(Err(SpoolError::Closed))
    }

    fn close(&self) -> Receipt {
        Receipt::ready(Err(SpoolError::Closed))
    }

    fn stats(&self) -> SpoolStats {
        SpoolStats::default()
    }
}
