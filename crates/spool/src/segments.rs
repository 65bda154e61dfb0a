//! Segment files: where new ones come from and where old ones go.

use std::io;
use std::sync::Arc;

use crate::buffer::write_all_at;
use crate::disk::{Disk, DiskFile};
use crate::index::{Segment, spread};
use crate::record::{
    ENTRY_BYTES, Header, IndexEntry, SEAL_BYTES, SECTOR_BYTES, Seal, encode_index, record_bytes,
    to_units,
};
use crate::{Options, SpoolError};

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// Holds records.
    Segment { id: u32, stamp: u64 },
    /// Waits to become a segment; what is in it means nothing.
    Spare { id: u32 },
    /// Evidence; not ours any more.
    Corrupt { id: u32 },
}

impl FileName {
    pub(crate) fn parse(name: &str) -> Option<FileName> {
        let mut parts = name.split('-');
        let kind = parts.next()?;
        let id = u32::from_str_radix(parts.next()?, 16).ok()?;
        let parsed = match (kind, parts.next()) {
            ("segment", Some(stamp)) => FileName::Segment {
                id,
                stamp: u64::from_str_radix(stamp, 16).ok()?,
            },
            ("spare", None) => FileName::Spare { id },
            ("corrupt", Some(_)) => FileName::Corrupt { id },
            _ => return None,
        };
        parts.next().is_none().then_some(parsed)
    }

    pub(crate) fn id(self) -> u32 {
        match self {
            FileName::Segment { id, .. } | FileName::Spare { id } | FileName::Corrupt { id } => id,
        }
    }
}

fn segment_name(id: u32, stamp: u64) -> String {
    format!("segment-{id:08x}-{stamp:016x}")
}

fn spare_name(id: u32) -> String {
    format!("spare-{id:08x}")
}

fn corrupt_name(segment: &str) -> String {
    segment.replacen("segment", "corrupt", 1)
}

/// A segment being appended to.
pub(crate) struct Active {
    pub(crate) id: u32,
    pub(crate) stamp: u64,
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size_bytes: u64,
    /// End of the last record.
    pub(crate) end_bytes: u64,
    /// How far it is known to be on disk.
    pub(crate) durable_bytes: u64,
    pub(crate) entries: Vec<IndexEntry>,
}

impl Active {
    /// Whether a record of this size fits, and its place in the index too.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let index_bytes = ((self.entries.len() + 1) * ENTRY_BYTES + SEAL_BYTES) as u64;
        let end_bytes = (self.next_bytes() + bytes).next_multiple_of(SECTOR_BYTES);
        end_bytes + index_bytes <= self.size_bytes
    }

    /// Where the next record goes: behind a sync in a sector of its own.
    fn next_bytes(&self) -> u64 {
        if self.is_dirty() {
            self.end_bytes
        } else {
            self.end_bytes.next_multiple_of(SECTOR_BYTES)
        }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.end_bytes > self.durable_bytes
    }

    /// Takes the next place for a record; returns it in units.
    pub(crate) fn append(&mut self, header: &Header) -> (u32, u32) {
        self.end_bytes = self.next_bytes();
        let offset_units = to_units(self.end_bytes);
        let units = to_units(header.record_bytes());
        self.entries.push(IndexEntry {
            kind: header.kind,
            id: header.id,
            sequence: header.sequence,
            due: header.due,
            offset_units,
            units,
        });
        self.end_bytes += header.record_bytes();
        (offset_units, units)
    }

    /// The segment as the index knows it.
    pub(crate) fn to_segment(&self) -> Segment {
        let mut segment = Segment::new(
            self.file.clone(),
            self.name.clone(),
            self.stamp,
            self.size_bytes,
        );
        segment.active = true;
        segment
    }
}

/// Makes a segment's records durable, then its index and seal. Returns the bytes
/// written.
///
/// In that order: a seal vouches for every record in the index, so that none is
/// looked at when the log is opened.
pub(crate) fn seal(
    file: &dyn DiskFile,
    stamp: u64,
    size_bytes: u64,
    end_bytes: u64,
    entries: &[IndexEntry],
    damaged: bool,
) -> io::Result<u64> {
    let index = encode_index(entries);
    let index_at = end_bytes.next_multiple_of(SECTOR_BYTES);
    let seal = Seal {
        stamp,
        index_units: to_units(index_at),
        entry_count: u32::try_from(entries.len()).expect("fewer records than units"),
        index_crc: crc32fast::hash(&index),
        damaged,
    };
    let seal_at = size_bytes - SEAL_BYTES as u64;
    if index_at + index.len() as u64 > seal_at {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.sync_data()?;
    write_all_at(file, &index, index_at)?;
    write_all_at(file, &seal.encode(), seal_at)?;
    file.sync_data()?;
    Ok((index.len() + SEAL_BYTES) as u64)
}

/// What must be known of a segment to give its file back.
pub(crate) struct Emptied {
    pub(crate) id: u32,
    pub(crate) name: String,
    file: Arc<dyn DiskFile>,
    size_bytes: u64,
    damaged: bool,
}

impl Emptied {
    pub(crate) fn of(id: u32, segment: &Segment) -> Emptied {
        Emptied {
            id,
            name: segment.name.clone(),
            file: segment.file.clone(),
            size_bytes: segment.size_bytes,
            damaged: segment.damaged,
        }
    }
}

/// What a new segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New mail: must leave the reserve alone.
    Accept,
    /// Newer metadata: leaves the last spare of the reserve alone.
    Update,
    /// Removals and collection: what makes room in the end.
    Upkeep,
}

struct Spare {
    name: String,
    file: Arc<dyn DiskFile>,
}

/// Where segments come from.
pub(crate) struct SegmentStore {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    reserve_count: usize,
    spare_count: usize,
    max_bytes: u64,
    seed: u64,
    spares: Vec<Spare>,
    next_id: u32,
    disk_bytes: u64,
    /// A segment whose name could not be made durable. It is the next one.
    unnamed: Option<Active>,
}

impl SegmentStore {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: &Options) -> SegmentStore {
        SegmentStore {
            disk,
            segment_bytes: options.segment_bytes(),
            reserve_count: options.reserve_count,
            spare_count: options.spare_count.max(options.reserve_count),
            max_bytes: options.max_bytes.unwrap_or(u64::MAX),
            seed: options.seed,
            spares: Vec::new(),
            next_id: 1,
            disk_bytes: 0,
            unnamed: None,
        }
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    pub(crate) fn has_reserve(&self) -> bool {
        self.spares.len() >= self.reserve_count
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// The largest record that an ordinary segment takes.
    pub(crate) fn largest_record_bytes(&self) -> u64 {
        largest_record_bytes(self.segment_bytes)
    }

    /// A file that was found: its id is never given again, and its bytes count.
    pub(crate) fn note_file(&mut self, id: u32, size_bytes: u64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
        self.disk_bytes += size_bytes;
    }

    /// Takes a spare that was found, or deletes it if it is of no use.
    pub(crate) fn adopt_spare(
        &mut self,
        name: String,
        file: Arc<dyn DiskFile>,
        size_bytes: u64,
    ) -> io::Result<()> {
        if size_bytes == self.segment_bytes && self.spares.len() < self.spare_count {
            self.spares.push(Spare { name, file });
            return Ok(());
        }
        drop(file);
        self.disk.remove(&name)?;
        self.disk_bytes -= size_bytes;
        Ok(())
    }

    fn new_id(&mut self) -> Result<u32, SpoolError> {
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(SpoolError::Full)?;
        Ok(id)
    }

    fn create(&mut self, name: &str, size_bytes: u64) -> Result<Arc<dyn DiskFile>, SpoolError> {
        if self.disk_bytes.saturating_add(size_bytes) > self.max_bytes {
            return Err(SpoolError::Full);
        }
        let failed = |error: io::Error| SpoolError::from_io("create a segment", &error);
        let file = self.disk.create(name, size_bytes).map_err(failed)?;
        self.disk_bytes += size_bytes;
        // Its size and allocation, before anything relies on them.
        if let Err(error) = file.sync_data() {
            drop(file);
            if self.disk.remove(name).is_ok() {
                self.disk_bytes -= size_bytes;
            }
            return Err(failed(error));
        }
        Ok(file)
    }

    /// Fills the reserve up.
    ///
    /// # Errors
    /// `Full`, `Failed`: the reserve is less than it should be.
    pub(crate) fn keep_reserve(&mut self) -> Result<(), SpoolError> {
        while self.spares.len() < self.reserve_count {
            let name = spare_name(self.new_id()?);
            let file = self.create(&name, self.segment_bytes)?;
            self.spares.push(Spare { name, file });
        }
        Ok(())
    }

    /// A new segment, its name durable. `size_bytes` other than the usual gets a
    /// file of its own.
    ///
    /// # Errors
    /// `Full`, `Failed`.
    pub(crate) fn open_segment(
        &mut self,
        size_bytes: u64,
        purpose: Purpose,
    ) -> Result<Active, SpoolError> {
        if purpose == Purpose::Accept {
            self.keep_reserve()?;
        }
        let fresh = match self.unnamed.take() {
            Some(unnamed) if unnamed.size_bytes == size_bytes => unnamed,
            Some(unnamed) => {
                self.discard(&unnamed);
                self.new_segment(size_bytes, purpose)?
            }
            None => self.new_segment(size_bytes, purpose)?,
        };
        match self.disk.sync_directory() {
            Ok(()) => Ok(fresh),
            Err(error) => {
                self.unnamed = Some(fresh);
                Err(SpoolError::from_io("sync the directory", &error))
            }
        }
    }

    fn new_segment(&mut self, size_bytes: u64, purpose: Purpose) -> Result<Active, SpoolError> {
        let id = self.new_id()?;
        let stamp = spread(self.seed ^ spread(u64::from(id)));
        let name = segment_name(id, stamp);
        let usual = size_bytes == self.segment_bytes;
        let untouched = match purpose {
            Purpose::Accept => usize::MAX,
            Purpose::Update => 1,
            Purpose::Upkeep => 0,
        };
        let file = if usual && self.spares.len() > self.reserve_count {
            self.rename_spare(&name)?
        } else {
            match self.create(&name, size_bytes) {
                Err(SpoolError::Full) if usual && self.spares.len() > untouched => {
                    self.rename_spare(&name)?
                }
                created => created?,
            }
        };
        Ok(Active {
            id,
            stamp,
            name,
            file,
            size_bytes,
            end_bytes: 0,
            durable_bytes: 0,
            entries: Vec::new(),
        })
    }

    /// Deletes a file that nothing was written to.
    fn discard(&mut self, segment: &Active) {
        match self.disk.remove(&segment.name) {
            Ok(()) => self.disk_bytes -= segment.size_bytes,
            Err(error) => {
                // The next open finds it empty.
                tracing::warn!(%error, name = segment.name, "spool: cannot delete an empty file");
            }
        }
    }

    fn rename_spare(&mut self, name: &str) -> Result<Arc<dyn DiskFile>, SpoolError> {
        let spare = self.spares.pop().expect("the caller has seen a spare");
        match self.disk.rename(&spare.name, name) {
            Ok(()) => Ok(spare.file),
            Err(error) => {
                // Under which name it is now, the next open will see.
                Err(SpoolError::from_io("rename a spare", &error))
            }
        }
    }

    /// Whether a segment that could not be given back is gone by now; if so, for
    /// good.
    ///
    /// # Errors
    /// Those of the disk: it is still uncertain.
    pub(crate) fn is_gone(&mut self, segment: &Emptied) -> io::Result<bool> {
        let names = self.disk.list()?;
        if names.contains(&segment.name) {
            return Ok(false);
        }
        self.disk.sync_directory()?;
        let spare = spare_name(segment.id);
        if !names.contains(&spare) {
            return Ok(true);
        }
        self.spares.push(Spare {
            name: spare,
            file: segment.file.clone(),
        });
        Ok(true)
    }

    /// Gives a segment's file back: as a spare, as evidence, or to the file
    /// system. Durable when it returns.
    ///
    /// # Errors
    /// Those of the disk; under which name the file is then is uncertain.
    pub(crate) fn give_back(&mut self, segment: &Emptied) -> io::Result<()> {
        let reusable = segment.size_bytes == self.segment_bytes && !segment.damaged;
        if segment.damaged {
            self.disk
                .rename(&segment.name, &corrupt_name(&segment.name))?;
            self.disk.sync_directory()
        } else if reusable && self.spares.len() < self.spare_count {
            let name = spare_name(segment.id);
            self.disk.rename(&segment.name, &name)?;
            self.disk.sync_directory()?;
            self.spares.push(Spare {
                name,
                file: segment.file.clone(),
            });
            Ok(())
        } else {
            self.disk.remove(&segment.name)?;
            self.disk_bytes -= segment.size_bytes;
            self.disk.sync_directory()
        }
    }
}

/// The largest record that fits into a segment of this size.
pub(crate) fn largest_record_bytes(segment_bytes: u64) -> u64 {
    let content = segment_bytes - (ENTRY_BYTES + SEAL_BYTES) as u64;
    content - content % SECTOR_BYTES
}

/// The size of a file for one record that fits into no ordinary segment.
pub(crate) fn solo_segment_bytes(meta_bytes: u64, body_bytes: u64) -> u64 {
    let record_bytes = record_bytes(meta_bytes, body_bytes).next_multiple_of(SECTOR_BYTES);
    (record_bytes + (ENTRY_BYTES + SEAL_BYTES) as u64).next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is_and_strangers_are_left_alone() {
        let name = segment_name(10, 0xabc);
        assert_eq!(
            FileName::parse(&name),
            Some(FileName::Segment {
                id: 10,
                stamp: 0xabc
            })
        );
        assert_eq!(
            FileName::parse(&spare_name(11)),
            Some(FileName::Spare { id: 11 })
        );
        let corrupt = FileName::parse(&corrupt_name(&name));
        assert_eq!(corrupt, Some(FileName::Corrupt { id: 10 }));
        for stranger in [
            "lock",
            "segment-1",
            "spare-1-2",
            "segment-x-1",
            "segment-1-2-3",
            "a-1",
        ] {
            assert_eq!(FileName::parse(stranger), None, "{stranger}");
        }
    }
}
