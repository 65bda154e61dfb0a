//! What is in memory: where every live record is, and how full each segment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::RecordId;
use crate::disk::DiskFile;
use crate::record::{HEADER_BYTES, UNIT_BYTES};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset_units: u32,
    pub(crate) units: u32,
}

impl Place {
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.offset_units) * UNIT_BYTES
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT_BYTES
    }
}

/// All that is kept in memory of a live record (and its id as the key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) due_at_ms: u64,
    /// The put, which has the body.
    pub(crate) put: Place,
    /// The record with the newest metadata: the put itself or an update.
    pub(crate) meta: Place,
}

const _: () = assert!(
    size_of::<Entry>() == 32,
    "a million queued messages are 45 MB"
);

/// Ids are our own numbers, so spreading them well is enough.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = spread(self.0 ^ value);
    }
}

/// The finisher of splitmix64: each bit of the result depends on every bit of
/// `value`.
pub(crate) fn spread(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A map by record id.
pub(crate) type IdMap<T> = HashMap<RecordId, T, BuildHasherDefault<IdHasher>>;
/// A set of record ids.
type IdSet = HashSet<RecordId, BuildHasherDefault<IdHasher>>;

/// A segment file with records in it.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) name: String,
    pub(crate) stamp: u64,
    pub(crate) size_bytes: u64,
    /// End of the records.
    pub(crate) used_bytes: u64,
    /// How far it is known to be on disk, for one without a seal.
    pub(crate) durable_bytes: u64,
    /// Bytes of puts and updates that the index points at.
    pub(crate) live_bytes: u64,
    /// Tombstones in this segment, by the segment of the put they bury, whether
    /// or not that one still exists.
    pub(crate) tombstones: BTreeMap<u32, u32>,
    /// Being appended to.
    pub(crate) active: bool,
    /// Something in it is corrupt: never reused, kept aside in the end.
    pub(crate) damaged: bool,
    /// Collection could not read all of it, and tries again at this time of the
    /// disk's clock; never, if what is left is corrupt.
    pub(crate) unreadable_until: Option<Duration>,
    /// Given back, but whether the disk knows is uncertain until the next open.
    pub(crate) undead: bool,
}

impl Segment {
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        name: String,
        stamp: u64,
        size_bytes: u64,
    ) -> Segment {
        Segment {
            file,
            name,
            stamp,
            size_bytes,
            used_bytes: 0,
            durable_bytes: 0,
            live_bytes: 0,
            tombstones: BTreeMap::new(),
            active: false,
            damaged: false,
            unreadable_until: None,
            undead: false,
        }
    }
}

/// A change to the index, made once its record is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    Put {
        id: RecordId,
        due_at_ms: u64,
        place: Place,
    },
    Update {
        id: RecordId,
        due_at_ms: u64,
        place: Place,
    },
    Tombstone {
        id: RecordId,
        target: u32,
        place: Place,
    },
}

const SHARD_COUNT: usize = 64;

/// The index. In shards, so that no single map has to grow for long.
pub(crate) struct Index {
    shards: Vec<IdMap<Entry>>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// Puts that need not be those which a tombstone of their id names, by their
    /// segment: collection has copied them, or a fault has left them. As long as
    /// the segment is there, no other loses its tombstones of these ids.
    copies: BTreeMap<u32, IdSet>,
    /// Bytes that have died since the log was opened: when to look for
    /// something to collect.
    pub(crate) died_bytes: u64,
}

fn shard_of(id: RecordId) -> usize {
    // Bits which the maps themselves do not use.
    (spread(id.0) >> 40) as usize % SHARD_COUNT
}

impl Index {
    pub(crate) fn new() -> Index {
        Index {
            shards: (0..SHARD_COUNT).map(|_| IdMap::default()).collect(),
            segments: BTreeMap::new(),
            copies: BTreeMap::new(),
            died_bytes: 0,
        }
    }

    pub(crate) fn get(&self, id: RecordId) -> Option<Entry> {
        self.shards[shard_of(id)].get(&id).copied()
    }

    pub(crate) fn live_count(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn shard(&self, number: usize) -> &IdMap<Entry> {
        &self.shards[number]
    }

    fn revive(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_bytes += place.bytes();
        }
    }

    fn bury(&mut self, place: Place) {
        self.died_bytes += place.bytes();
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_bytes -= place.bytes();
        }
    }

    fn bury_entry(&mut self, entry: Entry) {
        self.bury(entry.put);
        if entry.meta != entry.put {
            self.bury(entry.meta);
        }
    }

    /// Enters a record found by recovery or just written.
    pub(crate) fn insert(&mut self, id: RecordId, entry: Entry) {
        if let Some(old) = self.shards[shard_of(id)].insert(id, entry) {
            self.bury_entry(old);
        }
        self.revive(entry.put);
        if entry.meta != entry.put {
            self.revive(entry.meta);
        }
    }

    pub(crate) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Put {
                id,
                due_at_ms,
                place,
            } => {
                self.insert(
                    id,
                    Entry {
                        due_at_ms,
                        put: place,
                        meta: place,
                    },
                );
            }
            Effect::Update {
                id,
                due_at_ms,
                place,
            } => {
                let Some(entry) = self.shards[shard_of(id)].get_mut(&id) else {
                    return;
                };
                let old = *entry;
                entry.due_at_ms = due_at_ms;
                entry.meta = place;
                if old.meta != old.put {
                    self.bury(old.meta);
                }
                self.revive(place);
            }
            Effect::Tombstone { id, target, place } => {
                if let Some(entry) = self.shards[shard_of(id)].remove(&id) {
                    self.bury_entry(entry);
                }
                self.died_bytes += place.bytes();
                self.count_tombstone(place.segment, target);
            }
        }
    }

    pub(crate) fn count_tombstone(&mut self, segment: u32, target: u32) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            *segment.tombstones.entry(target).or_default() += 1;
        }
    }

    /// Points `id` at `new` if it still is at `old`; says whether it was.
    pub(crate) fn relocate(&mut self, id: RecordId, old: &Entry, new: &Entry) -> bool {
        let Some(entry) = self.shards[shard_of(id)].get_mut(&id) else {
            return false;
        };
        if entry.put != old.put {
            return false;
        }
        let before = *entry;
        entry.put = new.put;
        // Metadata written meanwhile stays where it is.
        if before.meta == old.meta {
            entry.meta = new.meta;
        }
        let after = *entry;
        self.bury_entry(before);
        self.revive(after.put);
        if after.meta != after.put {
            self.revive(after.meta);
        }
        true
    }

    /// Forgets a segment that is no more.
    pub(crate) fn forget_segment(&mut self, id: u32) {
        self.segments.remove(&id);
        self.copies.remove(&id);
    }

    /// `segment` has a put of `id` which the next tombstone may not name.
    pub(crate) fn note_copy(&mut self, segment: u32, id: RecordId) {
        if self.segments.contains_key(&segment) {
            self.copies.entry(segment).or_default().insert(id);
        }
    }

    /// Whether tombstones elsewhere wait for this segment to be gone.
    pub(crate) fn has_copies(&self, segment: u32) -> bool {
        self.copies.contains_key(&segment)
    }

    /// Whether a tombstone of `id` in segment `holder` that buries a put in
    /// `target` may be forgotten together with `holder`: no put of this id can be
    /// recovered.
    pub(crate) fn tombstone_is_spent(&self, holder: u32, target: u32, id: RecordId) -> bool {
        let copied = |(segment, ids): (&u32, &IdSet)| *segment != holder && ids.contains(&id);
        (target == holder || !self.segments.contains_key(&target))
            && !self.copies.iter().any(copied)
    }

    /// Bytes that collection of `id` would have to copy; at times a few more, but
    /// nothing only if it is nothing.
    pub(crate) fn needed_bytes(&self, id: u32) -> u64 {
        let Some(segment) = self.segments.get(&id) else {
            return 0;
        };
        let mut needed_count = 0;
        let mut other_count = 0;
        for (target, count) in &segment.tombstones {
            if *target != id && self.segments.contains_key(target) {
                needed_count += u64::from(*count);
            } else {
                other_count += u64::from(*count);
            }
        }
        if other_count > 0 {
            let others = self.copies.iter().filter(|(segment, _)| **segment != id);
            let copied_count: usize = others.map(|(_, ids)| ids.len()).sum();
            needed_count += other_count.min(copied_count as u64);
        }
        segment.live_bytes + needed_count * HEADER_BYTES as u64
    }
}
