//! The single writer: takes batches from the queue and makes them durable.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::SpoolError;
use crate::backlog::Backlog;
use crate::batch::{Batch, Cost, Staged};
use crate::buffer::WriteBuffer;
use crate::collect::Collection;
use crate::health::Health;
use crate::queue::{Lazy, Operation, locked};
use crate::segments::{Active, SegmentStore, seal};
use crate::shared::Shared;
use crate::spool::ReceiptSender;
use crate::stats::Commit;

/// What a [`Writer`] wants to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing until an operation comes in, or so much time has passed.
    Rest(Option<Duration>),
    /// The log is closed; the writer has done its work.
    Closed,
}

/// The writing half of a [`SegmentLog`](crate::SegmentLog).
///
/// [`SegmentLog::open`](crate::SegmentLog::open) gives it a thread. A
/// simulation, or whoever has a thread to spare, takes it from
/// [`SegmentLog::open_stepped`](crate::SegmentLog::open_stepped) and calls
/// [`turn`](Writer::turn). Dropping it closes the log where it stands, as a
/// crash would.
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: SegmentStore,
    pub(crate) main: Option<Active>,
    /// Encoded, and not yet written to the end of `main`.
    pub(crate) buffer: WriteBuffer,
    pub(crate) collection: Collection,
    /// Changes that must be written before anything else.
    pub(crate) backlog: Backlog,
    /// Changes that are written but not known to be durable, in the form in
    /// which they would be written again.
    pub(crate) unsynced: Vec<Lazy>,
    pub(crate) health: Health,
    pub(crate) sequence: u64,
    dirty_since: Option<Duration>,
    lazy_since: Option<Duration>,
    closing: Option<ReceiptSender>,
    /// It has been closed in good order.
    is_finished: bool,
    /// Held as long as the writer lives.
    _lock: Box<dyn Any + Send + Sync>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: SegmentStore,
        sequence: u64,
        lock: Box<dyn Any + Send + Sync>,
    ) -> Writer {
        let mut writer = Writer {
            shared,
            store,
            main: None,
            buffer: WriteBuffer::default(),
            collection: Collection::default(),
            backlog: Backlog::default(),
            unsynced: Vec::new(),
            health: Health::default(),
            sequence,
            dirty_since: None,
            lazy_since: None,
            closing: None,
            is_finished: false,
            _lock: lock,
        };
        writer.prepare();
        writer.publish_sizes();
        writer
    }

    /// Runs the writer until the log is closed.
    pub(crate) fn run(mut self) {
        loop {
            let seen = self.shared.queue.waiting();
            match self.turn() {
                Turn::Again => {}
                Turn::Rest(timeout) => self.shared.queue.wait(seen, timeout),
                Turn::Closed => return,
            }
        }
    }

    /// Does what is due: one batch, or one lazy sync, and one step of
    /// collection. Blocks on the disk, never on the queue.
    pub fn turn(&mut self) -> Turn {
        let now = self.shared.disk.now();
        let waiting = self.shared.queue.waiting();
        if waiting.any && self.lazy_since.is_none() {
            self.lazy_since = Some(now);
        }
        let lazy_due = self.lazy_due().is_some_and(|due| now >= due);
        let retry_due = !self.backlog.is_empty() && now >= self.health.retry_at();
        let mut worked = true;
        if waiting.urgent || waiting.full || lazy_due || retry_due {
            self.lazy_since = None;
            let operations = self.shared.queue.take_batch();
            self.commit(operations, now);
        } else if self.sync_due().is_some_and(|due| now >= due) {
            self.sync_lazily();
        } else {
            worked = false;
        }
        if let Some(receipt) = self.closing.take() {
            self.finish(receipt);
            return Turn::Closed;
        }
        let collected = self.collect(now);
        if worked || collected {
            Turn::Again
        } else {
            Turn::Rest(self.rest(now))
        }
    }

    fn lazy_due(&self) -> Option<Duration> {
        self.lazy_since
            .map(|since| since + self.shared.options.lazy_write)
    }

    fn sync_due(&self) -> Option<Duration> {
        self.dirty_since
            .map(|since| since + self.shared.options.lazy_sync)
    }

    fn rest(&self, now: Duration) -> Option<Duration> {
        let retry = (!self.backlog.is_empty()).then(|| self.health.retry_at());
        let due = [
            self.lazy_due(),
            self.sync_due(),
            retry,
            self.collection.look_again_at(),
        ];
        due.into_iter()
            .flatten()
            .min()
            .map(|due| due.saturating_sub(now))
    }

    /// One batch: encode, write once, sync once if somebody waits for it.
    fn commit(&mut self, operations: Vec<Operation>, now: Duration) {
        let mut batch = Batch::of(operations.len());
        if let Some(error) = self.health.blocks(now) {
            self.refuse_all(&mut batch, operations, &error);
            return;
        }
        let started = self.shared.disk.now();
        let mut outcome = self.fill(&mut batch, operations, now);
        if outcome.is_ok() {
            outcome = self.write_out(&mut batch);
        }
        let dirty = self.main.as_ref().is_some_and(Active::is_dirty);
        let awaited = batch.is_awaited()
            || self.health.error().is_some()
            || self.sync_due().is_some_and(|due| now >= due);
        let mut durable = !dirty;
        if outcome.is_ok() && dirty && awaited {
            outcome = self.sync_main(&mut batch);
            durable = true;
        }
        // The chunks of the bodies, before anybody hears of the outcome.
        self.buffer.clear();
        match outcome {
            Ok(()) => self.settle(batch, durable, started),
            Err(error) => self.fail(batch, &error),
        }
    }

    /// Writes what is in the buffer to the end of the main segment.
    pub(crate) fn write_out(&mut self, batch: &mut Batch) -> Result<(), SpoolError> {
        let Some(main) = self.main.as_ref().filter(|_| !self.buffer.is_empty()) else {
            return Ok(());
        };
        let disk = &self.shared.disk;
        let started = disk.now();
        let written = self
            .buffer
            .write_to(&*main.file, main.end_bytes - self.buffer.len());
        batch.cost.write_time += disk.now().saturating_sub(started);
        batch.cost.written_bytes += self.buffer.len();
        self.buffer.clear();
        written.map_err(|error| SpoolError::from_io("write", &error))
    }

    /// Makes all of the main segment durable.
    fn sync_main(&mut self, batch: &mut Batch) -> Result<(), SpoolError> {
        let Some(main) = self.main.as_mut().filter(|main| main.is_dirty()) else {
            return Ok(());
        };
        let disk = &self.shared.disk;
        let started = disk.now();
        let synced = main.file.sync_data();
        batch.cost.sync_time += disk.now().saturating_sub(started);
        batch.cost.sync_count += 1;
        synced.map_err(|error| SpoolError::from_io("sync", &error))?;
        main.durable_bytes = main.end_bytes;
        Ok(())
    }

    /// The sync that bounds the duplicate window when nobody waits.
    pub(crate) fn sync_lazily(&mut self) -> bool {
        let mut batch = Batch::default();
        let started = self.shared.disk.now();
        match self.sync_main(&mut batch) {
            Ok(()) => {
                self.settle(batch, true, started);
                true
            }
            Err(error) => {
                self.fail(batch, &error);
                false
            }
        }
    }

    /// The batch is written, and durable if `durable`: now it is true.
    fn settle(&mut self, mut batch: Batch, durable: bool, started: Duration) {
        let now = self.shared.disk.now();
        {
            let mut index = locked(&self.shared.index);
            for effect in &batch.effects {
                index.apply(*effect);
            }
            if let Some(main) = &self.main
                && let Some(segment) = index.segments.get_mut(&main.id)
            {
                segment.used_bytes = main.end_bytes;
                segment.durable_bytes = main.durable_bytes;
            }
        }
        self.shared.queue.settle(&batch.lazies);
        self.shared.queue.settle(&batch.ignored);
        if durable {
            self.unsynced.clear();
            self.dirty_since = None;
        } else {
            self.unsynced.append(&mut batch.lazies);
            self.dirty_since.get_or_insert(now);
        }
        // A sync that succeeded clears a failure; only room clears a full disk.
        let proven = durable
            && batch.cost.sync_count > 0
            && (!self.health.is_full() || self.store.has_reserve());
        if proven && self.backlog.is_empty() && batch.refused_full_count == 0 {
            self.health.succeeded();
        }
        self.count(&batch);
        let commit = Commit {
            operation_count: batch.operation_count,
            written_bytes: batch.cost.written_bytes,
            duration: now.saturating_sub(started),
            sync_duration: batch.cost.sync_time,
        };
        let synced = batch.cost.sync_count > 0;
        for accept in batch.accepts {
            accept.receipt.resolve(Ok(()));
        }
        let flushed = match self.health.error() {
            Some(error) if !self.backlog.is_empty() => Err(error.clone()),
            _ => Ok(()),
        };
        for receipt in batch.flushes {
            receipt.resolve(flushed.clone());
        }
        // Last: whoever waits for the disk need not wait for this.
        if synced {
            self.observe(&commit);
        }
    }

    fn count(&mut self, batch: &Batch) {
        use crate::index::Effect;
        self.publish_sizes();
        let mut stats = locked(&self.shared.stats);
        for effect in &batch.effects {
            match effect {
                Effect::Put { .. } => stats.accepted_total += 1,
                Effect::Update { .. } => stats.updated_total += 1,
                Effect::Tombstone { .. } => stats.removed_total += 1,
            }
        }
        stats.records_total += batch.effects.len() as u64;
        stats.ignored_total += batch.ignored.len() as u64;
        stats.full_total += batch.refused_full_count;
        batch.cost.add_to(&mut stats);
        stats.largest_batch_count = stats.largest_batch_count.max(batch.operation_count);
        if batch.cost.sync_count == 0 {
            return;
        }
        stats.commits_total += 1;
    }

    /// Tells the observer of a batch that has been made durable.
    fn observe(&self, commit: &Commit) {
        let Some(observer) = &self.shared.options.observer else {
            return;
        };
        // Somebody else's code; what it counts is not worth the log.
        let heard = catch_unwind(AssertUnwindSafe(|| observer.committed(commit)));
        if heard.is_err() {
            tracing::error!("spool: the observer of commits has panicked");
        }
    }

    pub(crate) fn publish_sizes(&self) {
        let mut stats = locked(&self.shared.stats);
        stats.spare_count = self.store.spare_count() as u64;
        stats.disk_bytes = self.store.disk_bytes();
        stats.pending_count = self.unsynced.len() as u64;
        stats.failed = self.health.is_failed();
        stats.full = self.health.is_full();
    }

    /// The batch is lost, and so is whatever else was not synced: the segment is
    /// never touched again, accepts fail, and every other change since the last
    /// good sync will be written into a fresh segment.
    fn fail(&mut self, mut batch: Batch, error: &SpoolError) {
        tracing::error!(%error, "spool: a batch failed; going on in a fresh segment");
        self.buffer.clear();
        self.retire_main();
        let mut lost = std::mem::take(&mut self.unsynced);
        self.shared.queue.unsettle(&lost);
        lost.append(&mut batch.lazies);
        // Their records may have reached the disk all the same.
        lost.extend(batch.accepts.iter().map(|accept| Lazy::Remove {
            id: accept.id,
            ticket: 0,
            target: Some(accept.segment),
        }));
        // What waits already was called after these.
        let mut waiting = std::mem::take(&mut self.backlog);
        for lazy in lost {
            self.keep_for_later(lazy);
        }
        while let Some(lazy) = waiting.pop(true, true) {
            self.keep_for_later(lazy);
        }
        self.dirty_since = None;
        let now = self.shared.disk.now();
        self.health
            .failed(error.clone(), now, self.shared.options.tick);
        self.shared.queue.settle(&batch.ignored);
        batch.effects.clear();
        self.count(&batch);
        locked(&self.shared.stats).disk_errors_total += 1;
        for Staged { receipt, .. } in batch.accepts {
            receipt.resolve(Err(error.clone()));
        }
        for receipt in batch.flushes {
            receipt.resolve(Err(error.clone()));
        }
    }

    /// Answers a batch without trying to write it.
    fn refuse_all(&mut self, batch: &mut Batch, operations: Vec<Operation>, error: &SpoolError) {
        for operation in operations {
            self.put_off(batch, operation, error);
        }
        for receipt in batch.flushes.drain(..) {
            receipt.resolve(Err(error.clone()));
        }
        self.publish_sizes();
    }

    /// Fails what may fail and keeps what may not.
    pub(crate) fn put_off(&mut self, batch: &mut Batch, operation: Operation, error: &SpoolError) {
        match operation {
            Operation::Accept(accept) => {
                batch.refused_full_count += u64::from(*error == SpoolError::Full);
                accept.receipt.resolve(Err(error.clone()));
            }
            Operation::Lazy(lazy) => self.keep_for_later(lazy),
            Operation::Flush(receipt) => batch.flushes.push(receipt),
            Operation::Close(receipt) => self.closing = Some(receipt),
        }
    }

    pub(crate) fn close_with(&mut self, receipt: ReceiptSender) {
        self.closing = Some(receipt);
    }

    /// Stops writing to the main segment for good.
    fn retire_main(&mut self) {
        // A fresh one, into which nothing has been written, is as good as new.
        let Some(main) = self.main.take_if(|main| main.is_dirty()) else {
            return;
        };
        self.retire(&main);
    }

    pub(crate) fn retire(&mut self, active: &Active) {
        let mut index = locked(&self.shared.index);
        if let Some(segment) = index.segments.get_mut(&active.id) {
            segment.active = false;
            segment.used_bytes = active.end_bytes;
            segment.durable_bytes = active.durable_bytes;
        }
        // It may be of no use at all: worth a look.
        index.died_bytes += active.end_bytes.saturating_sub(active.durable_bytes);
    }

    /// Makes `fresh` the main segment; the one before gets what is in the buffer,
    /// its index and its seal.
    ///
    /// # Errors
    /// What was staged for the one before is lost.
    pub(crate) fn rotate(&mut self, batch: &mut Batch, fresh: Active) -> Result<(), SpoolError> {
        let written = self.write_out(batch);
        locked(&self.shared.index)
            .segments
            .insert(fresh.id, fresh.to_segment());
        let Some(old) = self.main.replace(fresh) else {
            return written;
        };
        let sealed = written.and_then(|()| self.seal_active(&old, &mut batch.cost));
        let durable_bytes = if sealed.is_ok() {
            old.end_bytes
        } else {
            old.durable_bytes
        };
        self.retire(&Active {
            durable_bytes,
            ..old
        });
        sealed
    }

    pub(crate) fn seal_active(&self, active: &Active, cost: &mut Cost) -> Result<(), SpoolError> {
        let damaged = {
            let index = locked(&self.shared.index);
            index
                .segments
                .get(&active.id)
                .is_some_and(|segment| segment.damaged)
        };
        let disk = &self.shared.disk;
        let started = disk.now();
        let sealed = seal(
            &*active.file,
            active.stamp,
            active.size_bytes,
            active.end_bytes,
            &active.entries,
            damaged,
        );
        cost.sync_time += disk.now().saturating_sub(started);
        cost.sync_count += 1;
        cost.written_bytes += sealed.map_err(|error| SpoolError::from_io("seal", &error))?;
        Ok(())
    }

    /// Closes the log: everything durable, the open segments sealed, so that the
    /// next open need not scan them.
    fn finish(&mut self, receipt: ReceiptSender) {
        let mut left = usize::MAX;
        while !self.backlog.is_empty() && self.backlog.len() < left {
            left = self.backlog.len();
            self.commit(Vec::new(), self.shared.disk.now());
        }
        let mut batch = Batch::default();
        let result = match (self.backlog.is_empty(), self.health.error()) {
            (false, Some(error)) => Err(error.clone()),
            _ => self.sync_main(&mut batch),
        };
        if result.is_ok()
            && let Some(main) = self.main.take()
        {
            // Without a seal the next open scans: slower, no worse.
            drop(self.seal_active(&main, &mut batch.cost));
        }
        self.close_collection();
        self.count(&batch);
        self.shared.queue.shut();
        self.is_finished = true;
        receipt.resolve(result);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            self.shared.writer_is_gone.store(true, Ordering::Relaxed);
        }
        if std::thread::panicking() {
            tracing::error!("spool: the writer has panicked; no more mail is taken");
        }
        // A writer that is gone, even by a panic, leaves nobody waiting.
        self.shared.queue.shut();
    }
}
