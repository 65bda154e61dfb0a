//! Encoding operations into a batch.

use bytes::Bytes;

use crate::batch::{Batch, Staged};
use crate::index::{Effect, Place};
use crate::queue::{Accept, Lazy, Operation, locked};
use crate::record::{Header, Kind, record_bytes, to_units};
use crate::segments::{Active, Purpose, seal, solo_segment_bytes};
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{RecordId, SpoolError};
use std::time::Duration;

/// Why a record was not staged.
pub(crate) enum Unstaged {
    /// This one only; the batch goes on.
    Refused(SpoolError),
    /// The batch is lost.
    Broken(SpoolError),
}

/// A record to be staged, before its place is known.
struct Draft<'a> {
    kind: Kind,
    id: RecordId,
    /// Due time, or the target of a tombstone.
    due: u64,
    meta: &'a [u8],
    body: &'a [Bytes],
    body_bytes: u32,
    body_crc: u32,
}

impl Draft<'_> {
    fn record_bytes(&self) -> u64 {
        record_bytes(self.meta.len() as u64, u64::from(self.body_bytes))
    }

    fn header(&self, active: &Active, sequence: u64) -> Header {
        Header {
            kind: self.kind,
            stamp: active.stamp,
            sequence,
            id: self.id,
            due: self.due,
            meta_bytes: u32::try_from(self.meta.len()).expect("checked where it came in"),
            body_bytes: self.body_bytes,
            body_crc: self.body_crc,
            durable_units: to_units(active.durable_bytes),
        }
    }
}

impl<'a> Draft<'a> {
    fn put(accept: &'a Accept) -> Draft<'a> {
        Draft {
            kind: Kind::Put,
            id: accept.id,
            due: accept.due_at_ms,
            meta: &accept.meta,
            body: &accept.body,
            body_bytes: accept.body_bytes,
            body_crc: accept.body_crc,
        }
    }

    fn update(id: RecordId, due: u64, meta: &'a [u8]) -> Draft<'a> {
        Draft {
            kind: Kind::Update,
            id,
            due,
            meta,
            body: &[],
            body_bytes: 0,
            body_crc: 0,
        }
    }

    fn tombstone(id: RecordId, target: u32) -> Draft<'a> {
        let due = u64::from(target);
        Draft {
            kind: Kind::Tombstone,
            id,
            due,
            meta: &[],
            body: &[],
            body_bytes: 0,
            body_crc: 0,
        }
    }
}

impl Writer {
    /// Has a segment and the reserve ready, so that the first message need not
    /// wait for them. A disk that is full or broken shows when it is needed.
    pub(crate) fn prepare(&mut self) {
        let ready = self.store.keep_reserve().and_then(|()| {
            self.store
                .open_segment(self.store.segment_bytes(), Purpose::Accept)
        });
        match ready {
            Ok(main) => {
                locked(&self.shared.index)
                    .segments
                    .insert(main.id, main.to_segment());
                self.main = Some(main);
            }
            Err(error) => {
                tracing::warn!(%error, "spool: cannot prepare for new mail yet");
                let now = self.shared.disk.now();
                self.health.refused(error, now, Duration::ZERO);
            }
        }
    }

    /// Encodes what was put off before, as far as a batch goes, then `operations`.
    /// All of them are in the batch, put off or answered when this returns,
    /// whatever it returns.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        operations: Vec<Operation>,
        now: Duration,
    ) -> Result<(), SpoolError> {
        let mut broken = self.fill_from_backlog(batch, now).err();
        let mut reserve = None;
        for operation in operations {
            if let Some(error) = &broken {
                self.put_off(batch, operation, error);
                continue;
            }
            let staged = match operation {
                Operation::Accept(accept) => {
                    let ready = reserve
                        .get_or_insert_with(|| self.store.keep_reserve())
                        .clone();
                    self.stage_accept(batch, accept, ready)
                }
                Operation::Lazy(lazy) => self.stage_in_order(batch, lazy, now),
                Operation::Flush(receipt) => {
                    batch.flushes.push(receipt);
                    Ok(())
                }
                Operation::Close(receipt) => {
                    self.close_with(receipt);
                    Ok(())
                }
            };
            broken = staged.err();
        }
        match broken {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn fill_from_backlog(&mut self, batch: &mut Batch, now: Duration) -> Result<(), SpoolError> {
        let mut left = self.shared.options.batch_count.max(1);
        while left > 0 {
            let next = self
                .backlog
                .pop(!batch.refuses_removals, !batch.refuses_updates);
            let Some(lazy) = next else { break };
            self.stage_lazy(batch, lazy, now)?;
            left -= 1;
        }
        Ok(())
    }

    /// A change that came in just now: behind those of its id which wait, and a
    /// removal before all updates that do.
    fn stage_in_order(
        &mut self,
        batch: &mut Batch,
        lazy: Lazy,
        now: Duration,
    ) -> Result<(), SpoolError> {
        let id = lazy.id();
        let waits = match &lazy {
            Lazy::Update { .. } => !self.backlog.is_empty(),
            Lazy::Remove { .. } => batch.refuses_removals || self.backlog.has_removal(id),
        };
        if waits {
            self.keep_for_later(lazy);
            return Ok(());
        }
        if let Some(obsolete) = self.backlog.take_update(id) {
            self.shared.queue.settle(&[obsolete]);
        }
        self.stage_lazy(batch, lazy, now)
    }

    /// Puts a change into the backlog.
    pub(crate) fn keep_for_later(&mut self, lazy: Lazy) {
        let id = lazy.id();
        let superseded = self.backlog.push(lazy);
        if let Some(change) = superseded.change {
            self.shared.queue.settle(&[change]);
        }
        if let Some(segment) = superseded.copy_in {
            locked(&self.shared.index).note_copy(segment, id);
        }
    }

    /// # Errors
    /// The batch is broken. Everything else is told to whoever waits.
    fn stage_accept(
        &mut self,
        batch: &mut Batch,
        accept: Accept,
        ready: Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        let taken = batch
            .target(&locked(&self.shared.index), accept.id)
            .is_some();
        let draft = Draft::put(&accept);
        let placed = if taken {
            Err(Unstaged::Refused(SpoolError::Exists(accept.id)))
        } else if let (false, Some(error)) = (self.backlog.is_empty(), self.health.error()) {
            // What could not be written must come first: a removal in it may
            // concern an earlier attempt to accept this id.
            Err(Unstaged::Refused(error.clone()))
        } else if let Err(error) = ready {
            Err(Unstaged::Refused(error))
        } else if draft.record_bytes() > self.store.largest_record_bytes() {
            self.write_solo(batch, &draft).map_err(Unstaged::Refused)
        } else {
            self.stage(batch, &draft, Purpose::Accept)
        };
        match placed {
            Ok(place) => {
                let Accept {
                    id,
                    due_at_ms,
                    receipt,
                    ..
                } = accept;
                batch.push(Effect::Put {
                    id,
                    due_at_ms,
                    place,
                });
                batch.accepts.push(Staged {
                    id,
                    segment: place.segment,
                    receipt,
                });
                Ok(())
            }
            Err(Unstaged::Refused(error)) => {
                self.note_refusal(batch, &error);
                accept.receipt.resolve(Err(error));
                Ok(())
            }
            Err(Unstaged::Broken(error)) => {
                accept.receipt.resolve(Err(error.clone()));
                Err(error)
            }
        }
    }

    fn note_refusal(&mut self, batch: &mut Batch, error: &SpoolError) {
        if matches!(error, SpoolError::Full | SpoolError::Failed { .. }) {
            batch.refused_full_count += u64::from(*error == SpoolError::Full);
            let now = self.shared.disk.now();
            // To ask for room is cheap; a disk that fails is left alone for a while.
            let pause = match error {
                SpoolError::Full => Duration::ZERO,
                _ => self.shared.options.tick,
            };
            self.health.refused(error.clone(), now, pause);
        }
    }

    fn stage_lazy(
        &mut self,
        batch: &mut Batch,
        lazy: Lazy,
        now: Duration,
    ) -> Result<(), SpoolError> {
        let live = batch.target(&locked(&self.shared.index), lazy.id());
        let target = match &lazy {
            Lazy::Remove { target, .. } => live.or(*target),
            Lazy::Update { .. } => live,
        };
        let Some(target) = target else {
            batch.ignored.push(lazy);
            return Ok(());
        };
        let draft = match &lazy {
            Lazy::Update {
                id,
                due_at_ms,
                meta,
                ..
            } => Draft::update(*id, *due_at_ms, meta),
            Lazy::Remove { id, .. } => Draft::tombstone(*id, target),
        };
        let purpose = match &lazy {
            Lazy::Update { .. } => Purpose::Update,
            Lazy::Remove { .. } => Purpose::Upkeep,
        };
        match self.stage(batch, &draft, purpose) {
            Ok(place) => {
                let (effect, lazy) = settled_form(lazy, target, place);
                batch.push(effect);
                batch.lazies.push(lazy);
                Ok(())
            }
            Err(Unstaged::Refused(error)) => {
                self.health.refused(error, now, self.shared.options.tick);
                batch.refuses_updates = true;
                batch.refuses_removals |= purpose == Purpose::Upkeep;
                self.keep_for_later(lazy);
                Ok(())
            }
            Err(Unstaged::Broken(error)) => {
                self.keep_for_later(lazy);
                Err(error)
            }
        }
    }

    /// Encodes a record for the main segment, opening a new one if need be.
    fn stage(
        &mut self,
        batch: &mut Batch,
        draft: &Draft<'_>,
        purpose: Purpose,
    ) -> Result<Place, Unstaged> {
        let bytes = draft.record_bytes();
        // While there is no spare left, updates leave half of the last segment to
        // removals: they make room, and updates do not.
        let is_last = purpose == Purpose::Update && self.store.spare_count() == 0;
        let fits = |main: &Active| {
            main.fits(bytes) && (!is_last || main.end_bytes + bytes <= main.size_bytes / 2)
        };
        if !self.main.as_ref().is_some_and(fits) {
            let size_bytes = self.store.segment_bytes();
            let fresh = self
                .store
                .open_segment(size_bytes, purpose)
                .map_err(Unstaged::Refused)?;
            self.rotate(batch, fresh).map_err(Unstaged::Broken)?;
        }
        let main = self
            .main
            .as_mut()
            .expect("there was one or it was just opened");
        self.sequence += 1;
        let header = draft.header(main, self.sequence);
        let (offset_units, units) = main.append(&header);
        let end = self.buffer.len() + bytes;
        self.buffer.append(|arena| header.encode(draft.meta, arena));
        for chunk in draft.body {
            self.buffer.push(chunk);
        }
        self.buffer.pad_to(end);
        Ok(Place {
            segment: main.id,
            offset_units,
            units,
        })
    }

    /// A record larger than a segment: a file of its own, written, sealed and
    /// synced at once, without touching what is staged.
    fn write_solo(&mut self, batch: &mut Batch, draft: &Draft<'_>) -> Result<Place, SpoolError> {
        let size_bytes = solo_segment_bytes(draft.meta.len() as u64, u64::from(draft.body_bytes));
        let mut solo = self.store.open_segment(size_bytes, Purpose::Accept)?;
        self.sequence += 1;
        let header = draft.header(&solo, self.sequence);
        let (offset_units, units) = solo.append(&header);
        let mut buffer = crate::buffer::WriteBuffer::default();
        buffer.append(|arena| header.encode(draft.meta, arena));
        for chunk in draft.body {
            buffer.push(chunk);
        }
        buffer.pad_to(solo.end_bytes);
        let written = buffer.write_to(&*solo.file, 0).and_then(|()| {
            seal(
                &*solo.file,
                solo.stamp,
                size_bytes,
                solo.end_bytes,
                &solo.entries,
                false,
            )
        });
        enter_solo(&self.shared, &solo, draft.id, written.is_ok());
        batch.cost.sync_count += 2;
        match written {
            Ok(index_bytes) => {
                batch.cost.written_bytes += solo.end_bytes + index_bytes;
                Ok(Place {
                    segment: solo.id,
                    offset_units,
                    units,
                })
            }
            Err(error) => {
                // It may be on the disk all the same: buried like any other
                // refused accept.
                self.keep_for_later(Lazy::Remove {
                    id: draft.id,
                    ticket: 0,
                    target: Some(solo.id),
                });
                Err(SpoolError::from_io("write a large record", &error))
            }
        }
    }
}

/// A solo segment is never active; one that could not be written holds a put
/// that must not come back, like the copies of a broken collection.
fn enter_solo(shared: &Shared, solo: &Active, id: RecordId, written: bool) {
    let mut segment = solo.to_segment();
    segment.active = false;
    segment.used_bytes = solo.end_bytes;
    segment.durable_bytes = if written { solo.end_bytes } else { 0 };
    let mut index = locked(&shared.index);
    index.segments.insert(solo.id, segment);
    if !written {
        index.note_copy(solo.id, id);
    }
}

/// The effect of a change, and the form in which it would be written again: a
/// removal then has to know its target, for the index does not any more.
fn settled_form(lazy: Lazy, segment: u32, place: Place) -> (Effect, Lazy) {
    match lazy {
        Lazy::Update { id, due_at_ms, .. } => (
            Effect::Update {
                id,
                due_at_ms,
                place,
            },
            lazy,
        ),
        Lazy::Remove { id, ticket, .. } => {
            let effect = Effect::Tombstone {
                id,
                target: segment,
                place,
            };
            (
                effect,
                Lazy::Remove {
                    id,
                    ticket,
                    target: Some(segment),
                },
            )
        }
    }
}
