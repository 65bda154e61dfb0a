//! What is safe on disk: a durable segment log with group commit and recovery.

pub mod disk;
mod error;
mod log;
mod options;
mod spool;
mod stats;

pub use disk::{Disk, DiskFile, FileDisk};
pub use error::SpoolError;
pub use log::SegmentLog;
pub use options::Options;
pub use spool::{LiveRecord, Receipt, ReceiptSender, RecordId, Spool, StoredMeta};
pub use stats::{Commit, CommitObserver, SpoolStats};
