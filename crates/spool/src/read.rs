//! Reading one record back, checked.

use std::io;

use bytes::Bytes;

use crate::RecordId;
use crate::buffer::read_exact_at;
use crate::disk::DiskFile;
use crate::index::Place;
use crate::record::{HEADER_BYTES, Header, head_crc};

/// Enough for header and metadata of nearly every message.
const HEAD_GUESS_BYTES: u64 = 4 << 10;
/// Largest chunk of a body.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a record could not be read.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// The disk said so.
    Io(io::Error),
    /// The bytes there are not that record.
    Corrupt,
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> ReadFault {
        match error.kind() {
            // The file is shorter than it was.
            io::ErrorKind::UnexpectedEof => ReadFault::Corrupt,
            _ => ReadFault::Io(error),
        }
    }
}

/// Header and metadata of the record at `place`.
pub(crate) fn read_head(
    file: &dyn DiskFile,
    stamp: u64,
    id: RecordId,
    place: Place,
) -> Result<(Header, Bytes), ReadFault> {
    let mut head = vec![0u8; place.bytes().min(HEAD_GUESS_BYTES) as usize];
    read_exact_at(file, &mut head, place.offset())?;
    let (header, crc) = Header::decode(&head, stamp).ok_or(ReadFault::Corrupt)?;
    if header.id != id || header.record_bytes() != place.bytes() {
        return Err(ReadFault::Corrupt);
    }
    let end = header.body_start();
    if end > head.len() {
        let known = head.len();
        head.resize(end, 0);
        read_exact_at(file, &mut head[known..], place.offset() + known as u64)?;
    }
    let meta = &head[HEADER_BYTES..end];
    if head_crc(&head[..HEADER_BYTES], meta) != crc {
        return Err(ReadFault::Corrupt);
    }
    Ok((header, Bytes::copy_from_slice(meta)))
}

/// The whole record at `place`, the body in chunks.
pub(crate) fn read_record(
    file: &dyn DiskFile,
    stamp: u64,
    id: RecordId,
    place: Place,
) -> Result<(Header, Bytes, Vec<Bytes>), ReadFault> {
    let (header, meta) = read_head(file, stamp, id, place)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut chunks = Vec::new();
    let mut offset = place.offset() + header.body_start() as u64;
    let mut left = header.body_bytes as usize;
    while left > 0 {
        let mut chunk = vec![0u8; left.min(CHUNK_BYTES)];
        read_exact_at(file, &mut chunk, offset)?;
        hasher.update(&chunk);
        offset += chunk.len() as u64;
        left -= chunk.len();
        chunks.push(Bytes::from(chunk));
    }
    if hasher.finalize() != header.body_crc {
        return Err(ReadFault::Corrupt);
    }
    Ok((header, meta, chunks))
}
