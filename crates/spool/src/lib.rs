//! What is safe on disk: a durable segment log with group commit and recovery.
//!
//! Mail is written once and mostly removed within milliseconds. That is a log:
//! [`SegmentLog`] appends records to segment files, one write and one fdatasync
//! for all callers of [`Spool::accept`] who came meanwhile. [`Spool`] is the
//! trait the relay knows, [`Disk`] the seam to the file system; the production
//! log runs unchanged on a simulated disk which loses power, tears writes, fails
//! syncs, runs full and flips bits.
//!
//! # Records
//!
//! A *put* has metadata and body, an *update* newer metadata, a *tombstone* ends
//! a record and names the segment of the put it buries. Each carries a sequence,
//! which alone decides: the newest put that is newer than every tombstone of its
//! id is live, with the metadata of the newest update that is newer than it. In
//! which file or order records are found does not matter. A copy made by
//! collection keeps its sequence, so that it may exist twice.
//!
//! A segment's file name has 64 random bits, its stamp, which every record in it
//! repeats under its checksum. So neither the stale records of a file used again
//! nor anything in a body is taken for a record.
//!
//! # What can be on disk
//!
//! Names change by rename only, and the directory is synced before anything
//! relies on it.
//!
//! | state | file | content | a crash leaves it | recovery |
//! |---|---|---|---|---|
//! | spare | `spare-ID` | means nothing | a spare | adopted, or deleted |
//! | active | `segment-ID-STAMP` | records; what was synced is whole, behind it whole, torn or missing records | active | scanned; what is not known to be synced is rewritten and synced, for after a failed sync it may be in memory only; sealed; never appended to |
//! | retired | the same | as active, after a write or sync failed | retired | as active |
//! | sealed | the same | records, index, seal: all durable before the seal was written | sealed | the index is read |
//! | being collected | the same | as sealed or retired; some puts are also in another segment | sealed, or spare if the rename was done | the copy with the same or a newer sequence counts |
//! | corrupt | `corrupt-ID-STAMP` | evidence | corrupt | left alone, counted |
//!
//! | move | legal when | made durable by |
//! |---|---|---|
//! | spare → active | the spare's name was durable | rename, directory sync, before the first record |
//! | nothing → active, spare | | create, file sync, (active:) directory sync |
//! | active → sealed | all its records are written | file sync, index and seal, file sync |
//! | active → retired | a write or sync failed: what had not been synced is void | nothing: its accepts have failed; updates and removals since the last good sync are written again elsewhere, and tombstones for the failed accepts |
//! | sealed, retired → being collected | no other collection is under way | |
//! | being collected → spare, deleted | nothing in it is live, and the copies *and* everything that made the rest dead are synced | rename or unlink, directory sync |
//! | damaged → corrupt | nothing in it is live | rename, directory sync |
//!
//! A seal vouches for all records before it, so recovery trusts the index. In an
//! active segment each record says how far the segment had been synced before it
//! was written: a broken place below that mark is damage and is reported, one
//! above it is an unfinished write and is left out. Records behind a broken place
//! are found in either case. What cannot be told from an unfinished write is
//! damage to the very last batch of a segment that was active when the process
//! ended.
//!
//! # Tombstones
//!
//! A tombstone may be forgotten only when no older put of its id can be found
//! again: its target is durably gone (or goes with it, being the same segment),
//! and no other segment may hold another put of this id: a collection that began
//! and did not end has copied it, or recovery has found it twice, or where its
//! newest tombstone does not say. Left-over updates without a put mean nothing.
//!
//! # Failures
//!
//! * A write or sync fails: every accept in the batch fails, the segment is never
//!   written to or synced again, a fresh one is opened. While that fails, too,
//!   accepts fail at once ([`SpoolStats::failed`]), and it is tried again every
//!   [`Options::tick`].
//! * No space: accepts fail with [`SpoolError::Full`], while updates, removals
//!   and collection use the reserve ([`Options::reserve_count`] preallocated
//!   files); the last of it is for removals and collection alone. Of changes
//!   that cannot be written the last of each id waits. Every later accept tries
//!   again.
//! * The power goes while a sector is written: what had been synced is in
//!   other sectors of 512 bytes. A disk which garbles more than that around a
//!   write it has not finished is not provided for.
//! * A block cannot be read when the log is opened: it is left out and reported
//!   as damage; with many of them the log is not opened.
//! * A live record is corrupt: whoever reads it is told
//!   ([`SpoolError::Corrupt`]), it is counted, and its file is never used again.
//! * An accept that failed may be live after a crash that came before the
//!   tombstone which buries it was durable: its sender was told to try again, so
//!   this is a duplicate, not a ghost.
//!
//! # Memory
//!
//! 32 B and the 8 B id for each live record, in hash maps: 45 to 80 MB for a
//! million. Bodies only until their batch is written.

mod backlog;
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
mod rewrite;
mod scan;
mod segments;
mod shared;
mod spool;
mod stage;
mod stats;
mod victim;
mod writer;

pub use disk::{Disk, DiskFile, FileDisk};
pub use error::SpoolError;
pub use log::SegmentLog;
pub use options::Options;
pub use spool::{LiveRecord, Receipt, ReceiptSender, RecordId, Spool, StoredMeta};
pub use stats::{Commit, CommitObserver, SpoolStats};
pub use writer::{Turn, Writer};
