//! Finding out what a segment holds: from its index, or record by record.

use std::collections::BTreeSet;
use std::io;

use crate::buffer::read_exact_at;
use crate::disk::DiskFile;
use crate::record::{
    ENTRY_BYTES, HEADER_BYTES, Header, IndexEntry, SEAL_BYTES, SECTOR_BYTES, Seal, UNIT_BYTES,
    decode_index, head_crc, to_units,
};

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// What is left out around a place that cannot be read.
const BLOCK_BYTES: u64 = 4 << 10;
/// With more such places in one file, or more than an eighth of it, the disk is
/// not well today, and the mail in it must not be given up.
const MOST_BAD_BLOCKS: u64 = 64;

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) entries: Vec<IndexEntry>,
    /// End of the last record.
    pub(crate) end_bytes: u64,
    /// How far it is known to have been synced, for one without a seal.
    pub(crate) durable_bytes: u64,
    /// It has a seal, so that a restart need not scan it.
    pub(crate) sealed: bool,
    /// Something that had been durable is broken: here, or when it was sealed.
    pub(crate) damaged: bool,
    /// Broken places found just now.
    pub(crate) damage_count: u64,
    /// Of these, blocks that the disk refuses to read. There may be anything in
    /// them.
    pub(crate) unreadable_count: u64,
    /// Bytes of unfinished writes, left out.
    pub(crate) torn_bytes: u64,
}

/// Reads the index if there is a whole one, else scans.
///
/// `durable_bytes` is how much of the segment is known to have been synced.
pub(crate) fn read_contents(
    file: &dyn DiskFile,
    stamp: u64,
    size_bytes: u64,
    durable_bytes: u64,
) -> io::Result<Contents> {
    let Some(seal) = read_seal(file, stamp, size_bytes)? else {
        return scan(file, stamp, size_bytes, durable_bytes);
    };
    let end_bytes = u64::from(seal.index_units) * UNIT_BYTES;
    if let Some(entries) = read_index(file, &seal, size_bytes)? {
        let damaged = seal.damaged;
        return Ok(Contents {
            entries,
            end_bytes,
            sealed: true,
            damaged,
            ..Contents::default()
        });
    }
    // The seal says that all of it was durable.
    let mut contents = scan(file, stamp, size_bytes, end_bytes.min(size_bytes))?;
    let complete = contents.entries.len() == seal.entry_count as usize;
    if complete && contents.damage_count == 0 {
        // The power went while the index was written: it can be made again.
        contents.damaged = seal.damaged;
    } else {
        contents.damaged = true;
        contents.damage_count += 1;
    }
    Ok(contents)
}

fn read_seal(file: &dyn DiskFile, stamp: u64, size_bytes: u64) -> io::Result<Option<Seal>> {
    let Some(at) = size_bytes.checked_sub(SEAL_BYTES as u64) else {
        return Ok(None);
    };
    let mut raw = [0u8; SEAL_BYTES];
    match read_exact_at(file, &mut raw, at) {
        Ok(()) => Ok(Seal::decode(&raw, stamp)),
        // The scan finds out what can be read.
        Err(error) if is_bad_block(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_index(
    file: &dyn DiskFile,
    seal: &Seal,
    size_bytes: u64,
) -> io::Result<Option<Vec<IndexEntry>>> {
    let start = u64::from(seal.index_units) * UNIT_BYTES;
    let length = seal.entry_count as usize * ENTRY_BYTES;
    if start + length as u64 + SEAL_BYTES as u64 > size_bytes {
        return Ok(None);
    }
    let mut raw = vec![0u8; length];
    match read_exact_at(file, &mut raw, start) {
        Err(error) if is_bad_block(&error) => return Ok(None),
        read => read?,
    }
    if crc32fast::hash(&raw) != seal.index_crc {
        return Ok(None);
    }
    Ok(decode_index(&raw))
}

/// EIO: these bytes cannot be read, others perhaps can.
fn is_bad_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A record that was found, and whether its body is whole.
struct Found {
    offset: u64,
    header: Header,
    whole: bool,
}

impl Found {
    /// How far the segment had been synced when this was written.
    fn told_bytes(&self) -> u64 {
        u64::from(self.header.durable_units) * UNIT_BYTES
    }

    /// What is between `end` and this record is only the rest of a sector.
    fn follows_a_sync_at(&self, end: u64) -> bool {
        self.told_bytes() == end && self.offset == end.next_multiple_of(SECTOR_BYTES)
    }
}

/// Looks for records from the first byte to the last.
///
/// Behind a broken place the scan looks on: records are complete in themselves
/// and ordered by their sequence, so that one more record of a batch that was
/// never acknowledged does no harm, while one lost behind a broken bit would.
fn scan(
    file: &dyn DiskFile,
    stamp: u64,
    size_bytes: u64,
    durable_bytes: u64,
) -> io::Result<Contents> {
    let mut window = Window {
        file,
        size_bytes,
        start: 0,
        bytes: Vec::new(),
        bad_blocks: BTreeSet::new(),
    };
    let mut found: Vec<Found> = Vec::new();
    let mut offset = 0;
    while let Some(candidate) = window.next_stamp(offset, stamp)? {
        match window.record(candidate, stamp)? {
            Some(record) => {
                let length = record.header.record_bytes();
                offset = candidate + if record.whole { length } else { UNIT_BYTES };
                found.push(record);
            }
            None => offset = candidate + UNIT_BYTES,
        }
    }
    let mut contents = sort_out(&found, durable_bytes);
    if !window.bad_blocks.is_empty() {
        contents.damaged = true;
        contents.unreadable_count = window.bad_blocks.len() as u64;
        contents.damage_count += contents.unreadable_count;
    }
    Ok(contents)
}

/// Tells damage from unfinished writes: each record says how much of the
/// segment had been synced before it was written, and what had been synced
/// cannot be unfinished.
fn sort_out(found: &[Found], durable_bytes: u64) -> Contents {
    let told = found.iter().map(Found::told_bytes).max().unwrap_or(0);
    let durable = told.max(durable_bytes);
    let mut contents = Contents::default();
    let mut expected = 0;
    let mut last_end = 0;
    for record in found {
        let end = record.offset + record.header.record_bytes();
        last_end = end.max(last_end);
        if record.offset > expected && !record.follows_a_sync_at(expected) {
            note_hole(&mut contents, expected, record.offset, durable);
        }
        if !record.whole {
            if end > durable {
                continue;
            }
            // It is there, and whoever reads it will be told that it is broken.
            contents.damage_count += 1;
        }
        contents.entries.push(IndexEntry {
            kind: record.header.kind,
            id: record.header.id,
            sequence: record.header.sequence,
            due: record.header.due,
            offset_units: to_units(record.offset),
            units: to_units(record.header.record_bytes()),
        });
        expected = expected.max(end);
    }
    // Where an index begins may be a little behind the last record.
    if expected < told || expected.next_multiple_of(SECTOR_BYTES) < durable {
        note_hole(&mut contents, expected, durable, durable);
    }
    // Behind all of it, so that no index is written over what is broken.
    contents.end_bytes = last_end.max(durable);
    contents.durable_bytes = durable;
    contents.damaged = contents.damage_count > 0;
    contents
}

fn note_hole(contents: &mut Contents, from: u64, to: u64, durable: u64) {
    if from < durable {
        contents.damage_count += 1;
    } else {
        contents.torn_bytes += to - from;
    }
}

/// A stretch of the file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    size_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
    /// Blocks that cannot be read, taken for zeros.
    bad_blocks: BTreeSet<u64>,
}

impl Window<'_> {
    /// The bytes at `offset`, or `None` where the file is too short for them.
    fn at(&mut self, offset: u64, length: u64) -> io::Result<Option<&[u8]>> {
        let end = match offset.checked_add(length) {
            Some(end) if end <= self.size_bytes => end,
            _ => return Ok(None),
        };
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = length.max(CHUNK_BYTES).min(self.size_bytes - offset);
            self.bytes.resize(
                usize::try_from(wanted).expect("a chunk fits into memory"),
                0,
            );
            self.start = offset;
            self.read(offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.bytes[from..from + length as usize]))
    }

    /// Fills the window. Where the disk fails it goes on block by block.
    fn read(&mut self, offset: u64) -> io::Result<()> {
        match read_exact_at(self.file, &mut self.bytes, offset) {
            Err(error) if is_bad_block(&error) => {}
            read => return read,
        }
        let most = (self.size_bytes / BLOCK_BYTES / 8).clamp(1, MOST_BAD_BLOCKS);
        let mut at = 0;
        while at < self.bytes.len() {
            let block = (offset + at as u64) / BLOCK_BYTES;
            let block_end = ((block + 1) * BLOCK_BYTES - offset) as usize;
            let end = block_end.min(self.bytes.len());
            let part = &mut self.bytes[at..end];
            match read_exact_at(self.file, part, offset + at as u64) {
                Err(error) if is_bad_block(&error) => {
                    self.bad_blocks.insert(block);
                    if self.bad_blocks.len() as u64 > most {
                        return Err(error);
                    }
                    part.fill(0);
                }
                read => read?,
            }
            at = end;
        }
        Ok(())
    }

    /// The next place from `offset` on where a header with `stamp` may be.
    fn next_stamp(&mut self, mut offset: u64, stamp: u64) -> io::Result<Option<u64>> {
        let stamp = stamp.to_le_bytes();
        // The stamp is the second unit of a header.
        while offset + (HEADER_BYTES as u64) <= self.size_bytes {
            let at = offset + UNIT_BYTES;
            let in_window = (self.start + self.bytes.len() as u64).saturating_sub(at);
            let whole = if in_window >= UNIT_BYTES && at >= self.start {
                in_window / UNIT_BYTES * UNIT_BYTES
            } else {
                CHUNK_BYTES.min((self.size_bytes - at) / UNIT_BYTES * UNIT_BYTES)
            };
            let Some(bytes) = self.at(at, whole)? else {
                return Ok(None);
            };
            let hit = bytes
                .chunks_exact(UNIT_BYTES as usize)
                .position(|unit| unit == stamp);
            if let Some(hit) = hit {
                return Ok(Some(offset + hit as u64 * UNIT_BYTES));
            }
            offset += whole;
        }
        Ok(None)
    }

    fn record(&mut self, offset: u64, stamp: u64) -> io::Result<Option<Found>> {
        let Some(raw) = self.at(offset, HEADER_BYTES as u64)? else {
            return Ok(None);
        };
        let Some((header, crc)) = Header::decode(raw, stamp) else {
            return Ok(None);
        };
        if offset + header.record_bytes() > self.size_bytes {
            return Ok(None);
        }
        let head_bytes = header.body_start() as u64;
        let Some(head) = self.at(offset, head_bytes)? else {
            return Ok(None);
        };
        let (raw, meta) = head.split_at(HEADER_BYTES);
        if head_crc(raw, meta) != crc {
            return Ok(None);
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut at = offset + head_bytes;
        let end = at + u64::from(header.body_bytes);
        while at < end {
            let length = (end - at).min(CHUNK_BYTES);
            let Some(chunk) = self.at(at, length)? else {
                return Ok(None);
            };
            hasher.update(chunk);
            at += length;
        }
        let whole = hasher.finalize() == header.body_crc;
        Ok(Some(Found {
            offset,
            header,
            whole,
        }))
    }
}
