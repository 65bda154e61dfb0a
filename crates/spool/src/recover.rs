//! Opening a log: what the files hold, put together by sequence.

use std::sync::Arc;

use crate::SpoolError;
use crate::disk::Disk;
use crate::index::{Entry, IdMap, Index, Place, Segment};
use crate::queue::locked;
use crate::record::{IndexEntry, Kind};
use crate::rewrite::make_durable;
use crate::scan::{Contents, read_contents};
use crate::segments::{FileName, SegmentStore, seal};
use crate::shared::Shared;
use crate::writer::Writer;

/// What is known of one id while files are being read.
#[derive(Clone, Copy, Default)]
struct Found {
    put: Option<Version>,
    update: Option<Version>,
    /// The sequence of the last tombstone; sequences begin at 1.
    gone: u64,
    /// The segment which that tombstone names.
    gone_target: u32,
}

#[derive(Clone, Copy)]
struct Version {
    sequence: u64,
    due: u64,
    place: Place,
}

impl Found {
    /// The segment of a put that is dead though its tombstone names another
    /// segment: a copy which a crash has left.
    fn stray(&self) -> Option<u32> {
        let put = self.put.filter(|put| put.sequence <= self.gone)?;
        (put.place.segment != self.gone_target).then_some(put.place.segment)
    }

    /// The live record, if there is one: a put that no tombstone came after,
    /// with the newest metadata there is.
    fn entry(&self) -> Option<Entry> {
        let put = self.put.filter(|put| put.sequence > self.gone)?;
        let newest = match self.update {
            // A copy of the put that has the update's metadata has its sequence.
            Some(update) if update.sequence > put.sequence => update,
            _ => put,
        };
        Some(Entry {
            due_at_ms: newest.due,
            put: put.place,
            meta: newest.place,
        })
    }
}

/// Takes the log on `shared.disk` over.
///
/// # Errors
/// `Locked`; `Failed` if a file cannot be read: mail that may be in it must not
/// be given up because a disk is not well today.
pub(crate) fn recover(shared: Arc<Shared>) -> Result<Writer, SpoolError> {
    let lock = shared.disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => SpoolError::Locked,
        _ => SpoolError::from_io("lock the spool", &error),
    })?;
    let mut recovery = Recovery {
        disk: shared.disk.clone(),
        store: SegmentStore::new(shared.disk.clone(), &shared.options),
        index: Index::new(),
        found: IdMap::default(),
        sequence: 0,
        torn_bytes: 0,
        corrupt_count: 0,
    };
    recovery
        .read_files()
        .map_err(|error| SpoolError::from_io("open the spool", &error))?;
    recovery.build_index();
    let Recovery {
        store,
        index,
        sequence,
        torn_bytes,
        corrupt_count,
        ..
    } = recovery;
    *locked(&shared.index) = index;
    {
        let mut stats = locked(&shared.stats);
        stats.torn_bytes_total = torn_bytes;
        stats.corrupt_total = corrupt_count;
    }
    Ok(Writer::new(shared, store, sequence, lock))
}

struct Recovery {
    disk: Arc<dyn Disk>,
    store: SegmentStore,
    index: Index,
    found: IdMap<Found>,
    sequence: u64,
    torn_bytes: u64,
    corrupt_count: u64,
}

impl Recovery {
    fn read_files(&mut self) -> std::io::Result<()> {
        // The names as they are must not be those of memory alone.
        self.disk.sync_directory()?;
        let mut segments = Vec::new();
        let mut spares = Vec::new();
        for name in self.disk.list()? {
            let Some(parsed) = FileName::parse(&name) else {
                continue;
            };
            let file = self.disk.open(&name)?;
            let size_bytes = file.size_bytes()?;
            self.store.note_file(parsed.id(), size_bytes);
            match parsed {
                FileName::Segment { id, stamp } => {
                    segments.push((id, Segment::new(file, name, stamp, size_bytes)));
                }
                FileName::Spare { .. } => spares.push((name, file, size_bytes)),
                FileName::Corrupt { .. } => {}
            }
        }
        segments.sort_unstable_by_key(|(id, _)| *id);
        for (id, segment) in segments {
            self.read_segment(id, segment)?;
        }
        spares.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        for (name, file, size_bytes) in spares {
            self.store.adopt_spare(name, file, size_bytes)?;
        }
        Ok(())
    }

    fn read_segment(&mut self, id: u32, mut segment: Segment) -> std::io::Result<()> {
        let mut contents = read_contents(&*segment.file, segment.stamp, segment.size_bytes, 0)?;
        self.torn_bytes += contents.torn_bytes;
        self.corrupt_count += contents.damage_count;
        segment.damaged = contents.damaged;
        segment.used_bytes = contents.end_bytes;
        if contents.damage_count > 0 {
            tracing::error!(
                segment = segment.name,
                broken = contents.damage_count,
                readable = contents.entries.len(),
                "spool: a segment is damaged; it will be kept aside"
            );
        }
        if !contents.sealed && (contents.damaged || !contents.entries.is_empty()) {
            make_durable(&*segment.file, segment.stamp, &mut contents)?;
            seal_recovered(&segment, &contents);
        }
        segment.durable_bytes = contents.end_bytes;
        self.index.segments.insert(id, segment);
        for entry in &contents.entries {
            self.note(id, entry);
        }
        // A segment without any record is dead, and collection gives it back.
        self.index.died_bytes += u64::from(contents.entries.is_empty());
        self.remember_tombstones(id, &contents.entries);
        Ok(())
    }

    fn remember_tombstones(&mut self, id: u32, entries: &[IndexEntry]) {
        let Some(segment) = self.index.segments.get_mut(&id) else {
            return;
        };
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Tombstone) {
            *segment.tombstones.entry(entry.target()).or_default() += 1;
        }
    }

    fn note(&mut self, segment: u32, entry: &IndexEntry) {
        self.sequence = self.sequence.max(entry.sequence);
        let place = Place {
            segment,
            offset_units: entry.offset_units,
            units: entry.units,
        };
        let version = Version {
            sequence: entry.sequence,
            due: entry.due,
            place,
        };
        let found = self.found.entry(entry.id).or_default();
        match entry.kind {
            Kind::Tombstone => {
                if found.gone < entry.sequence {
                    found.gone = entry.sequence;
                    found.gone_target = entry.target();
                }
            }
            Kind::Update => {
                if found
                    .update
                    .is_none_or(|known| known.sequence < entry.sequence)
                {
                    found.update = Some(version);
                }
            }
            Kind::Put => {
                let loser = match found.put {
                    Some(known) if known.sequence >= entry.sequence => Some(place),
                    known => {
                        found.put = Some(version);
                        known.map(|known| known.place)
                    }
                };
                // A collection was interrupted.
                if let Some(loser) = loser {
                    self.index.note_copy(loser.segment, entry.id);
                }
            }
        }
    }

    fn build_index(&mut self) {
        let mut lived = 0;
        for (id, found) in std::mem::take(&mut self.found) {
            if let Some(segment) = found.stray() {
                self.index.note_copy(segment, id);
            }
            match found.entry() {
                Some(entry) => {
                    self.index.insert(id, entry);
                    lived += entry.put.bytes();
                }
                None => self.index.died_bytes += 1,
            }
        }
        tracing::info!(
            records = self.index.live_count(),
            bytes = lived,
            segments = self.index.segments.len(),
            torn_bytes = self.torn_bytes,
            broken = self.corrupt_count,
            "spool: recovered"
        );
    }
}

/// Fixes what a scan found, so that every later open sees the same, whatever a
/// crash has left behind the last record. Its records are durable already: if it
/// cannot be done now, the next open scans again.
fn seal_recovered(segment: &Segment, contents: &Contents) {
    let sealed = seal(
        &*segment.file,
        segment.stamp,
        segment.size_bytes,
        contents.end_bytes,
        &contents.entries,
        contents.damaged,
    );
    if let Err(error) = sealed {
        tracing::warn!(%error, segment = segment.name, "spool: cannot seal a segment");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64, segment: u32) -> Option<Version> {
        let place = Place {
            segment,
            offset_units: 0,
            units: 8,
        };
        Some(Version {
            sequence,
            due: sequence * 10,
            place,
        })
    }

    #[test]
    fn the_newest_put_that_no_tombstone_follows_is_live() {
        let put = Found {
            put: version(5, 1),
            update: version(7, 2),
            gone: 4,
            gone_target: 1,
        };
        let entry = put.entry().expect("the tombstone is of an earlier life");
        assert_eq!(
            (entry.due_at_ms, entry.put.segment, entry.meta.segment),
            (70, 1, 2)
        );
        let older_update = Found {
            update: version(3, 2),
            ..put
        };
        assert_eq!(older_update.entry().map(|entry| entry.due_at_ms), Some(50));
        assert_eq!(Found { gone: 8, ..put }.entry(), None);
        assert_eq!(
            Found { put: None, ..put }.entry(),
            None,
            "an update alone means nothing"
        );
    }

    #[test]
    fn a_copy_that_its_tombstone_does_not_name_is_a_stray() {
        let dead = Found {
            put: version(5, 22),
            update: None,
            gone: 9,
            gone_target: 20,
        };
        assert_eq!(dead.stray(), Some(22));
        assert_eq!(
            Found {
                gone_target: 22,
                ..dead
            }
            .stray(),
            None
        );
        assert_eq!(Found { gone: 4, ..dead }.stray(), None, "it is live");
    }
}
