//! What can go wrong, in terms a relay can act upon.

use std::io;

use crate::RecordId;

/// Why a spool operation failed. Cheap to clone: one disk error fails a whole
/// batch.
///
/// All of them are local faults; [`may_pass`](SpoolError::may_pass) tells
/// "ask again later" (4xx to a peer) from the rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// No space: the file system's, a quota's, or the spool's own limit.
    /// RFC 3463: X.3.1.
    #[error("the spool is full")]
    Full,
    /// The disk failed; nothing of this operation may be relied upon.
    /// RFC 3463: X.3.0.
    #[error("the spool failed to {during}: {kind}{}", os_suffix(*os_error))]
    Failed {
        /// What was being done, as a verb phrase.
        during: &'static str,
        /// The class of the error.
        kind: io::ErrorKind,
        /// The errno, where there is one.
        os_error: Option<i32>,
    },
    /// No live record has this id.
    #[error("no record {0} in the spool")]
    NotFound(RecordId),
    /// A live record has this id already.
    #[error("record {0} is in the spool already")]
    Exists(RecordId),
    /// The record is there but its checksum does not hold. The bytes stay where
    /// they are, as evidence, until the record is removed (and the file even
    /// then).
    #[error("record {id} in segment {segment} is corrupt")]
    Corrupt {
        /// The record.
        id: RecordId,
        /// The number of the segment which holds it.
        segment: u64,
    },
    /// Metadata or body are larger than a record can be.
    #[error("a record of {size_bytes} bytes is more than the spool can hold")]
    TooLarge {
        /// Metadata and body together.
        size_bytes: u64,
    },
    /// Another process (or another log in this one) has the spool open.
    #[error("the spool is in use by another process")]
    Locked,
    /// The spool has been closed.
    #[error("the spool is closed")]
    Closed,
}

fn os_suffix(os_error: Option<i32>) -> String {
    os_error
        .map(|code| format!(" (os error {code})"))
        .unwrap_or_default()
}

impl SpoolError {
    /// Whether the same call may succeed later without anybody repairing the
    /// record itself.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            SpoolError::Full | SpoolError::Failed { .. } | SpoolError::Locked
        )
    }

    /// Sorts an error of the disk: out of space is `Full`, all else `Failed`.
    pub(crate) fn from_io(during: &'static str, error: &io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full,
            kind => SpoolError::Failed {
                during,
                kind,
                os_error: error.raw_os_error(),
            },
        }
    }
}
