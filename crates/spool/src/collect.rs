//! Collection: what still lives in a segment that is mostly dead is copied to
//! the survivors' segment, and the file is used again.
//!
//! Copies keep their sequence, so that it does not matter for recovery which
//! copies exist. The order of the steps does: copy, sync the copies and
//! everything that made the rest dead, and only then give the file back.

use std::time::Duration;

use bytes::Bytes;

use crate::batch::Cost;
use crate::buffer::WriteBuffer;
use crate::index::{Entry, Place};
use crate::queue::locked;
use crate::read::{ReadFault, read_head, read_record};
use crate::record::{Header, IndexEntry, Kind, UNIT_BYTES, record_bytes, to_units};
use crate::scan::read_contents;
use crate::segments::{Active, Emptied, Purpose, solo_segment_bytes};
use crate::victim::{next_retry, pick};
use crate::writer::Writer;
use crate::{RecordId, SpoolError};

/// So many ticks a segment that could not be read is left alone.
const UNREADABLE_TICKS: u32 = 60;

/// Copies are synced after as many bytes as so many steps copy.
const SYNC_STEPS: u64 = 4;

/// The state of collection.
#[derive(Default)]
pub(crate) struct Collection {
    /// The survivors' segment.
    survivors: Option<Active>,
    buffer: WriteBuffer,
    drain: Option<Drain>,
    /// Moves whose copies are encoded only; the index knows nothing of them.
    encoded: Vec<Move>,
    /// Moves which the index has followed, but whose copies are not durable yet.
    moves: Vec<Move>,
    /// How much had died when there was last nothing to do.
    looked_at_bytes: u64,
    /// When to look again, if anything has died since.
    look_at: Option<Duration>,
}

impl Collection {
    pub(crate) fn look_again_at(&self) -> Option<Duration> {
        self.look_at
    }
}

/// A segment being emptied.
struct Drain {
    victim: u32,
    entries: Vec<IndexEntry>,
    next: usize,
}

struct Move {
    id: RecordId,
    old: Entry,
    new: Entry,
}

/// What a step came to.
enum Fault {
    /// The survivors' segment cannot be written.
    Write(SpoolError),
    /// The victim cannot be read.
    Read,
}

impl Writer {
    /// One step of collection; says whether there may be more to do.
    pub(crate) fn collect(&mut self, now: Duration) -> bool {
        // While lost changes wait to be written again, the records which they
        // made obsolete are what a crash would fall back to.
        if self.health.is_failed() || (self.health.has_lost() && !self.backlog.is_empty()) {
            return false;
        }
        if self.collection.drain.is_none() && !self.choose(now) {
            return false;
        }
        match self.step() {
            Ok(true) => self.finish_drain(now),
            Ok(false) => {}
            Err(fault) => self.abandon_drain(fault, now),
        }
        true
    }

    /// Looks for a segment to empty. Those that hold nothing of use are given
    /// back right away.
    fn choose(&mut self, now: Duration) -> bool {
        let options = &self.shared.options;
        let due = self.collection.look_at.is_some_and(|at| now >= at);
        let victim = {
            let index = locked(&self.shared.index);
            let died = index.died_bytes - self.collection.looked_at_bytes;
            if !due && died < self.store.segment_bytes() / 4 {
                if died > 0 && self.collection.look_at.is_none() {
                    self.collection.look_at = Some(now + options.tick);
                }
                return false;
            }
            self.collection.looked_at_bytes = index.died_bytes;
            self.collection.look_at = None;
            let victim = pick(&index, options.collect_below_percent, now);
            if victim.is_none() {
                self.collection.look_at = next_retry(&index, now);
            }
            victim
        };
        let Some(victim) = victim else {
            self.settle_undead(now);
            return false;
        };
        // There may be another one: look again after this.
        self.collection.look_at = Some(now);
        self.begin(victim, now)
    }

    fn begin(&mut self, victim: u32, now: Duration) -> bool {
        let (file, stamp, size_bytes, durable_bytes, dead) = {
            let index = locked(&self.shared.index);
            let Some(segment) = index.segments.get(&victim) else {
                return false;
            };
            let dead = index.needed_bytes(victim) == 0;
            (
                segment.file.clone(),
                segment.stamp,
                segment.size_bytes,
                segment.durable_bytes,
                dead,
            )
        };
        if dead {
            self.collection.drain = Some(Drain {
                victim,
                entries: Vec::new(),
                next: 0,
            });
            return true;
        }
        match read_contents(&*file, stamp, size_bytes, durable_bytes) {
            Ok(contents) if contents.unreadable_count > 0 => {
                // There may be tombstones in them.
                tracing::error!(segment = victim, "spool: a segment has unreadable blocks");
                self.put_aside(victim, now);
                false
            }
            Ok(contents) => {
                if contents.damaged {
                    self.shared.note_corrupt(victim);
                }
                self.collection.drain = Some(Drain {
                    victim,
                    entries: contents.entries,
                    next: 0,
                });
                true
            }
            Err(error) => {
                tracing::error!(%error, segment = victim, "spool: cannot read a segment to collect");
                self.put_aside(victim, now);
                false
            }
        }
    }

    /// Copies some; `true` when the victim has been gone through.
    fn step(&mut self) -> Result<bool, Fault> {
        let Some(mut drain) = self.collection.drain.take() else {
            return Ok(true);
        };
        let result = self.copy_some(&mut drain);
        let done = drain.next >= drain.entries.len();
        self.collection.drain = Some(drain);
        result?;
        self.write_copies()?;
        // Little by little: accepts wait for the same disk.
        let limit = self.shared.options.collect_step_bytes * SYNC_STEPS;
        let survivors = self.collection.survivors.as_ref();
        if survivors.is_some_and(|active| active.end_bytes - active.durable_bytes >= limit) {
            self.sync_survivors()?;
        }
        Ok(done)
    }

    fn copy_some(&mut self, drain: &mut Drain) -> Result<(), Fault> {
        while let Some(entry) = drain.entries.get(drain.next) {
            if self.collection.buffer.len() >= self.shared.options.collect_step_bytes {
                break;
            }
            let place = Place {
                segment: drain.victim,
                offset_units: entry.offset_units,
                units: entry.units,
            };
            match entry.kind {
                Kind::Put => self.copy_put(entry, place)?,
                Kind::Update => self.copy_update(entry, place)?,
                Kind::Tombstone => self.copy_tombstone(entry, place)?,
            }
            drain.next += 1;
        }
        Ok(())
    }

    fn copy_put(&mut self, entry: &IndexEntry, place: Place) -> Result<(), Fault> {
        let old = match locked(&self.shared.index).get(entry.id) {
            Some(old) if old.put == place => old,
            _ => return Ok(()),
        };
        let Some((mut header, mut meta, body)) = self.read_live(entry.id, place, true)? else {
            return Ok(());
        };
        let mut merged = old.meta == old.put;
        // Metadata that cannot be read stays where it is: the put is whole.
        if !merged
            && let Ok(Some((newer, newer_meta, _))) = self.read_live(entry.id, old.meta, false)
        {
            let bytes = record_bytes(newer_meta.len() as u64, u64::from(header.body_bytes));
            merged = bytes <= self.store.largest_record_bytes();
            if merged {
                header.sequence = newer.sequence;
                header.due = newer.due;
                header.meta_bytes = newer.meta_bytes;
                meta = newer_meta;
            }
        }
        let put = self.append_copy(header, &meta, &body)?;
        // Before the first byte of it is written: from then on it exists twice.
        locked(&self.shared.index).note_copy(place.segment, entry.id);
        let meta = if merged { put } else { old.meta };
        self.record_move(entry.id, old, Entry { put, meta, ..old });
        Ok(())
    }

    fn copy_update(&mut self, entry: &IndexEntry, place: Place) -> Result<(), Fault> {
        let old = match locked(&self.shared.index).get(entry.id) {
            Some(old) if old.meta == place => old,
            _ => return Ok(()),
        };
        let Some((header, meta, _)) = self.read_live(entry.id, place, false)? else {
            return Ok(());
        };
        let meta = self.append_copy(header, &meta, &[])?;
        self.record_move(entry.id, old, Entry { meta, ..old });
        Ok(())
    }

    fn copy_tombstone(&mut self, entry: &IndexEntry, place: Place) -> Result<(), Fault> {
        let target = entry.target();
        if locked(&self.shared.index).tombstone_is_spent(place.segment, target, entry.id) {
            return Ok(());
        }
        let header = Header {
            kind: Kind::Tombstone,
            stamp: 0,
            sequence: entry.sequence,
            id: entry.id,
            due: entry.due,
            meta_bytes: 0,
            body_bytes: 0,
            body_crc: 0,
            durable_units: 0,
        };
        let copy = self.append_copy(header, &[], &[])?;
        locked(&self.shared.index).count_tombstone(copy.segment, target);
        Ok(())
    }

    /// The record at `place`, or nothing if it is corrupt: then it stays where
    /// it is.
    #[allow(clippy::type_complexity, reason = "header, metadata, body: said once")]
    fn read_live(
        &self,
        id: RecordId,
        place: Place,
        whole: bool,
    ) -> Result<Option<(Header, Bytes, Vec<Bytes>)>, Fault> {
        let (file, stamp) = {
            let index = locked(&self.shared.index);
            let segment = index.segments.get(&place.segment).ok_or(Fault::Read)?;
            (segment.file.clone(), segment.stamp)
        };
        let read = if whole {
            read_record(&*file, stamp, id, place)
        } else {
            read_head(&*file, stamp, id, place).map(|(header, meta)| (header, meta, Vec::new()))
        };
        match read {
            Ok(record) => Ok(Some(record)),
            Err(ReadFault::Corrupt) => {
                tracing::error!(%id, segment = place.segment, "spool: a live record is corrupt");
                self.shared.note_corrupt(place.segment);
                Ok(None)
            }
            Err(ReadFault::Io(error)) => {
                tracing::error!(%error, segment = place.segment, "spool: cannot read a record");
                Err(Fault::Read)
            }
        }
    }

    /// Encodes a copy for the survivors' segment.
    fn append_copy(
        &mut self,
        mut header: Header,
        meta: &[u8],
        body: &[Bytes],
    ) -> Result<Place, Fault> {
        let bytes = header.record_bytes();
        if !self
            .collection
            .survivors
            .as_ref()
            .is_some_and(|active| active.fits(bytes))
        {
            self.rotate_survivors(&header)?;
        }
        let collection = &mut self.collection;
        let active = collection
            .survivors
            .as_mut()
            .expect("there was one or it was just opened");
        header.stamp = active.stamp;
        header.durable_units = to_units(active.durable_bytes);
        let (offset_units, units) = active.append(&header);
        let end = collection.buffer.len() + bytes;
        collection.buffer.append(|arena| header.encode(meta, arena));
        for chunk in body {
            collection.buffer.push(chunk);
        }
        collection.buffer.pad_to(end);
        Ok(Place {
            segment: active.id,
            offset_units,
            units,
        })
    }

    fn record_move(&mut self, id: RecordId, old: Entry, new: Entry) {
        self.collection.encoded.push(Move { id, old, new });
    }

    /// A segment for copies, the first of which is that of `header`.
    fn rotate_survivors(&mut self, header: &Header) -> Result<(), Fault> {
        self.sync_survivors()?;
        // Segments may have been larger when it was accepted.
        let size_bytes = if header.record_bytes() > self.store.largest_record_bytes() {
            solo_segment_bytes(u64::from(header.meta_bytes), u64::from(header.body_bytes))
        } else {
            self.store.segment_bytes()
        };
        let fresh = self
            .store
            .open_segment(size_bytes, Purpose::Upkeep)
            .map_err(Fault::Write)?;
        locked(&self.shared.index)
            .segments
            .insert(fresh.id, fresh.to_segment());
        if let Some(old) = self.collection.survivors.replace(fresh) {
            self.retire(&old);
            let mut cost = Cost::default();
            let sealed = self.seal_active(&old, &mut cost);
            self.count_copies(&cost);
            if let Err(error) = sealed {
                // Its records are durable; only a restart takes longer.
                tracing::warn!(%error, "spool: cannot seal the survivors' segment");
            }
        }
        Ok(())
    }

    /// Writes what has been encoded and points the index at it.
    fn write_copies(&mut self) -> Result<(), Fault> {
        let collection = &mut self.collection;
        let Some(active) = collection
            .survivors
            .as_ref()
            .filter(|_| !collection.buffer.is_empty())
        else {
            return Ok(());
        };
        let at = active.end_bytes - collection.buffer.len();
        let written = collection.buffer.write_to(&*active.file, at);
        let cost = Cost {
            written_bytes: collection.buffer.len(),
            ..Cost::default()
        };
        collection.buffer.clear();
        self.count_copies(&cost);
        written.map_err(|error| Fault::Write(SpoolError::from_io("write", &error)))?;
        let collection = &mut self.collection;
        let mut index = locked(&self.shared.index);
        for step in &collection.encoded {
            index.relocate(step.id, &step.old, &step.new);
        }
        collection.moves.append(&mut collection.encoded);
        if let Some(active) = &collection.survivors
            && let Some(segment) = index.segments.get_mut(&active.id)
        {
            segment.used_bytes = active.end_bytes;
        }
        Ok(())
    }

    /// Makes the copies so far durable.
    fn sync_survivors(&mut self) -> Result<(), Fault> {
        self.write_copies()?;
        let Some(active) = self
            .collection
            .survivors
            .as_mut()
            .filter(|active| active.is_dirty())
        else {
            return Ok(());
        };
        let started = self.shared.disk.now();
        let synced = active.file.sync_data();
        let sync_time = self.shared.disk.now().saturating_sub(started);
        let cost = Cost {
            sync_count: 1,
            sync_time,
            ..Cost::default()
        };
        synced.map_err(|error| Fault::Write(SpoolError::from_io("sync", &error)))?;
        active.durable_bytes = active.end_bytes;
        self.collection.moves.clear();
        self.count_copies(&cost);
        Ok(())
    }

    /// The victim has been gone through: when nothing depends on its records any
    /// more, its file is given back.
    fn finish_drain(&mut self, now: Duration) {
        if let Err(fault) = self.sync_survivors() {
            return self.abandon_drain(fault, now);
        }
        // What made the rest obsolete must not be lost once the rest is gone.
        if !self.sync_lazily() {
            self.collection.drain = None;
            return;
        }
        let Some(drain) = self.collection.drain.take() else {
            return;
        };
        let emptied = {
            let mut index = locked(&self.shared.index);
            let Some(segment) = index.segments.get_mut(&drain.victim) else {
                return;
            };
            if segment.live_bytes > 0 {
                segment.damaged = true;
                segment.unreadable_until = Some(Duration::MAX);
                let (segment, bytes) = (drain.victim, segment.live_bytes);
                tracing::error!(segment, bytes, "spool: a damaged segment is kept aside");
                return;
            }
            Emptied::of(drain.victim, segment)
        };
        // Without the lock: callers must not wait for the disk.
        let given_back = self.store.give_back(&emptied);
        let mut index = locked(&self.shared.index);
        match given_back {
            Ok(()) => {
                index.forget_segment(emptied.id);
                drop(index);
                locked(&self.shared.stats).collected_total += 1;
                self.health.room_made(now);
                self.publish_sizes();
            }
            Err(error) => {
                tracing::error!(%error, name = emptied.name, "spool: cannot give a segment back");
                if let Some(segment) = index.segments.get_mut(&emptied.id) {
                    segment.undead = true;
                }
            }
        }
    }

    /// Finds out whether segments which could not be given back are gone by now.
    fn settle_undead(&mut self, now: Duration) {
        let undead: Vec<Emptied> = {
            let index = locked(&self.shared.index);
            let undead = index.segments.iter().filter(|(_, segment)| segment.undead);
            undead
                .map(|(id, segment)| Emptied::of(*id, segment))
                .collect()
        };
        for emptied in undead {
            let gone = self.store.is_gone(&emptied);
            let mut index = locked(&self.shared.index);
            match gone {
                Ok(true) => index.forget_segment(emptied.id),
                Ok(false) => {
                    if let Some(segment) = index.segments.get_mut(&emptied.id) {
                        segment.undead = false;
                    }
                    let again = now + self.shared.options.tick;
                    self.collection.look_at.get_or_insert(again);
                }
                Err(error) => {
                    tracing::warn!(%error, name = emptied.name, "spool: still cannot give it back");
                    let again = now + self.shared.options.tick;
                    self.collection.look_at.get_or_insert(again);
                }
            }
        }
    }

    /// Another segment may be readable: this one is tried again later.
    fn put_aside(&mut self, victim: u32, now: Duration) {
        let until = now + self.shared.options.tick * UNREADABLE_TICKS;
        if let Some(segment) = locked(&self.shared.index).segments.get_mut(&victim) {
            segment.unreadable_until = Some(until);
        }
    }

    /// Leaves the victim as it is: what was copied is in both places, which
    /// recovery and tombstones allow for.
    fn abandon_drain(&mut self, fault: Fault, now: Duration) {
        self.collection.look_at = Some(now + self.shared.options.tick);
        let fault = match fault {
            Fault::Read => match self.write_copies() {
                Ok(()) => Fault::Read,
                Err(worse) => worse,
            },
            write => write,
        };
        let victim = self.collection.drain.take().map(|drain| drain.victim);
        let Fault::Write(error) = fault else {
            if let Some(victim) = victim {
                self.put_aside(victim, now);
            }
            return;
        };
        tracing::error!(%error, "spool: collection failed");
        self.collection.buffer.clear();
        self.collection.encoded.clear();
        let lost = self
            .collection
            .survivors
            .take_if(|active| active.is_dirty());
        let Some(lost) = lost else { return };
        locked(&self.shared.stats).disk_errors_total += 1;
        self.retire(&lost);
        let mut index = locked(&self.shared.index);
        for entry in lost.entries.iter().filter(|entry| entry.kind == Kind::Put) {
            if u64::from(entry.offset_units) * UNIT_BYTES >= lost.durable_bytes {
                index.note_copy(lost.id, entry.id);
            }
        }
        for step in self.collection.moves.drain(..).rev() {
            index.relocate(step.id, &step.new, &step.old);
        }
    }

    /// Ends collection when the log is closed.
    pub(crate) fn close_collection(&mut self) {
        self.collection.drain = None;
        if self.sync_survivors().is_ok()
            && let Some(active) = self.collection.survivors.take()
        {
            // Without a seal the next open scans: slower, no worse.
            drop(self.seal_active(&active, &mut Cost::default()));
        }
    }

    fn count_copies(&self, cost: &Cost) {
        let mut stats = locked(&self.shared.stats);
        cost.add_to(&mut stats);
        stats.copied_bytes_total += cost.written_bytes;
    }
}
