//! What is safe on disk: a durable segment log with group commit and recovery.

mod batch;
mod buffer;
mod collect;
pub mod disk;
mod error;
mod health;
mod index;
mod log;
mod options;
mod queue;
mod read;
mod record;
mod recover;
mod scan;
mod segments;
mod shared;
mod spool;
mod stage;
mod stats;
mod writer;

pub use disk::{Disk, DiskFile, FileDisk};
pub use error::SpoolError;
pub use log::SegmentLog;
pub use options::Options;
pub use spool::{LiveRecord, Receipt, ReceiptSender, RecordId, Spool, StoredMeta};
pub use stats::{Commit, CommitObserver, SpoolStats};
pub use writer::{Turn, Writer};
