//! Making sure that what a scan has found is on the disk.
//!
//! After a failed sync the kernel takes the pages for clean: they can be read
//! until memory is short, though no later sync will write them. A process that
//! is started then must not believe what it reads, so it writes it once more.

use std::io;

use crate::buffer::{read_exact_at, write_all_at};
use crate::disk::DiskFile;
use crate::record::{HEADER_BYTES, Header, IndexEntry, UNIT_BYTES, head_crc};
use crate::scan::Contents;

/// Bytes rewritten at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Rewrites every record that is not known to have been synced from the very
/// bytes that pass its checksums, and syncs. One whose bytes are gone meanwhile
/// was never durable: it is left out.
///
/// # Errors
/// Those of the disk: the records must not be relied upon.
pub(crate) fn make_durable(
    file: &dyn DiskFile,
    stamp: u64,
    contents: &mut Contents,
) -> io::Result<()> {
    let durable_bytes = contents.durable_bytes;
    let mut kept = Vec::with_capacity(contents.entries.len());
    for entry in std::mem::take(&mut contents.entries) {
        let end = (u64::from(entry.offset_units) + u64::from(entry.units)) * UNIT_BYTES;
        if end <= durable_bytes || rewrite(file, stamp, &entry)? {
            kept.push(entry);
        } else {
            contents.torn_bytes += u64::from(entry.units) * UNIT_BYTES;
        }
    }
    contents.entries = kept;
    file.sync_data()
}

/// Whether the record was whole and has been written again.
fn rewrite(file: &dyn DiskFile, stamp: u64, entry: &IndexEntry) -> io::Result<bool> {
    let start = u64::from(entry.offset_units) * UNIT_BYTES;
    let end = start + u64::from(entry.units) * UNIT_BYTES;
    let mut head = vec![0u8; HEADER_BYTES];
    read_exact_at(file, &mut head, start)?;
    let expected = Header::decode(&head, stamp).filter(|(header, _)| is_of(header, entry));
    let Some((header, crc)) = expected else {
        return Ok(false);
    };
    head.resize(header.body_start(), 0);
    read_exact_at(file, &mut head[HEADER_BYTES..], start + HEADER_BYTES as u64)?;
    let (raw, meta) = head.split_at(HEADER_BYTES);
    if head_crc(raw, meta) != crc {
        return Ok(false);
    }
    write_all_at(file, &head, start)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut at = start + head.len() as u64;
    let body_end = at + u64::from(header.body_bytes);
    let mut chunk = Vec::new();
    while at < end {
        chunk.resize((end - at).min(CHUNK_BYTES) as usize, 0);
        read_exact_at(file, &mut chunk, at)?;
        let of_body = body_end.saturating_sub(at).min(chunk.len() as u64) as usize;
        hasher.update(&chunk[..of_body]);
        write_all_at(file, &chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(hasher.finalize() == header.body_crc)
}

fn is_of(header: &Header, entry: &IndexEntry) -> bool {
    header.kind == entry.kind
        && header.id == entry.id
        && header.sequence == entry.sequence
        && header.record_bytes() == u64::from(entry.units) * UNIT_BYTES
}
