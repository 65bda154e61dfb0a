//! The segment log as its callers see it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::index::{Entry, Place};
use crate::queue::{Accept, Operation, Pending, locked};
use crate::read::{ReadFault, read_head, read_record};
use crate::record::record_bytes;
use crate::recover::recover;
use crate::segments::largest_record_bytes;
use crate::shared::Shared;
use crate::spool::{LiveRecord, Receipt, RecordId, Spool, StoredMeta};
use crate::writer::Writer;
use crate::{Options, SpoolError, SpoolStats};

/// The production spool: an append-only segment log with group commit.
///
/// Dropping it closes it: what has been handed over is written and synced
/// first.
pub struct SegmentLog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SegmentLog {
    /// Opens the log on `disk`, recovers what it holds and starts its writer
    /// thread. Blocks while it reads.
    ///
    /// A full disk is no obstacle: what is there can be read and removed.
    ///
    /// # Errors
    /// [`SpoolError::Locked`], [`SpoolError::Failed`].
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<SegmentLog, SpoolError> {
        let (log, writer) = SegmentLog::open_stepped(disk, options)?;
        let thread = std::thread::Builder::new()
            .name("spool-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| SpoolError::from_io("start the writer thread", &error))?;
        *locked(&log.thread) = Some(thread);
        Ok(log)
    }

    /// As [`open`](SegmentLog::open), without a thread: nothing is written but
    /// by [`Writer::turn`].
    ///
    /// # Errors
    /// As [`open`](SegmentLog::open).
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(SegmentLog, Writer), SpoolError> {
        let shared = Arc::new(Shared::new(disk, options));
        let writer = recover(shared.clone())?;
        Ok((
            SegmentLog {
                shared,
                thread: Mutex::default(),
            },
            writer,
        ))
    }

    fn check_meta(&self, meta: &Bytes) -> Result<(), SpoolError> {
        let size_bytes = meta.len() as u64;
        let limit = largest_record_bytes(self.shared.options.segment_bytes());
        if record_bytes(size_bytes, 0) > limit {
            return Err(SpoolError::TooLarge { size_bytes });
        }
        Ok(())
    }

    /// Where the record is now, with its newest metadata if that is in memory.
    fn look_up(&self, id: RecordId) -> Result<(Entry, Option<StoredMeta>), SpoolError> {
        self.shared.queue.with_pending(id, |pending| {
            if pending.is_some_and(Pending::is_removed) {
                return Err(SpoolError::NotFound(id));
            }
            let newer = pending.and_then(Pending::newest).cloned();
            let entry = locked(&self.shared.index)
                .get(id)
                .ok_or(SpoolError::NotFound(id))?;
            Ok((entry, newer))
        })
    }

    /// Reads what `place` says of the record's entry. The writer may move the
    /// record and use the file again meanwhile: what is then read does not pass
    /// the checks, and the record is somewhere else.
    fn read_at_place<T>(
        &self,
        id: RecordId,
        place: impl Fn(&Entry) -> Place,
        read: impl Fn(&dyn DiskFile, u64, Place) -> Result<T, ReadFault>,
    ) -> Result<T, SpoolError> {
        loop {
            let (entry, _) = self.look_up(id)?;
            let at = place(&entry);
            let opened = {
                let index = locked(&self.shared.index);
                let segment = index.segments.get(&at.segment);
                segment.map(|segment| (segment.file.clone(), segment.stamp))
            };
            let fault = match opened.map(|(file, stamp)| read(&*file, stamp, at)) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(fault)) => fault,
                None => ReadFault::Corrupt,
            };
            let (now, _) = self.look_up(id)?;
            if place(&now) != at {
                continue;
            }
            return Err(match fault {
                ReadFault::Io(error) => SpoolError::from_io("read", &error),
                ReadFault::Corrupt => {
                    tracing::error!(%id, segment = at.segment, "spool: a live record is corrupt");
                    self.shared.note_corrupt(at.segment);
                    SpoolError::Corrupt {
                        id,
                        segment: u64::from(at.segment),
                    }
                }
            });
        }
    }

    fn accept_checked(&self, meta: &Bytes, body: &[Bytes]) -> Result<(u32, u32), SpoolError> {
        self.check_meta(meta)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut body_bytes = 0u64;
        for chunk in body {
            hasher.update(chunk);
            body_bytes += chunk.len() as u64;
        }
        let size_bytes = body_bytes + meta.len() as u64;
        let body_bytes =
            u32::try_from(body_bytes).map_err(|_| SpoolError::TooLarge { size_bytes })?;
        Ok((body_bytes, hasher.finalize()))
    }
}

impl Spool for SegmentLog {
    fn accept(&self, id: RecordId, due_at_ms: u64, meta: Bytes, body: Vec<Bytes>) -> Receipt {
        // On the caller's thread, of which there are many.
        let (body_bytes, body_crc) = match self.accept_checked(&meta, &body) {
            Ok(checked) => checked,
            Err(error) => return Receipt::ready(Err(error)),
        };
        let (receipt, answer) = Receipt::channel();
        let accept = Accept {
            id,
            due_at_ms,
            meta,
            body,
            body_bytes,
            body_crc,
            receipt,
        };
        self.shared.queue.push_urgent(Operation::Accept(accept));
        answer
    }

    fn update(&self, id: RecordId, due_at_ms: u64, meta: Bytes) -> Result<(), SpoolError> {
        self.check_meta(&meta)?;
        self.shared
            .queue
            .push_update(id, StoredMeta { due_at_ms, meta })
    }

    fn remove(&self, id: RecordId) -> Result<(), SpoolError> {
        self.shared.queue.push_remove(id)
    }

    fn read_meta(&self, id: RecordId) -> Result<StoredMeta, SpoolError> {
        if let (_, Some(newer)) = self.look_up(id)? {
            return Ok(newer);
        }
        let (header, meta) = self.read_at_place(
            id,
            |entry| entry.meta,
            |file, stamp, place| read_head(file, stamp, id, place),
        )?;
        Ok(StoredMeta {
            due_at_ms: header.due,
            meta,
        })
    }

    fn read_body(&self, id: RecordId) -> Result<Vec<Bytes>, SpoolError> {
        self.read_at_place(
            id,
            |entry| entry.put,
            |file, stamp, place| read_record(file, stamp, id, place),
        )
        .map(|(_, _, body)| body)
    }

    fn for_each_live(&self, visit: &mut dyn FnMut(LiveRecord)) {
        let shard_count = locked(&self.shared.index).shard_count();
        let mut records = Vec::new();
        for number in 0..shard_count {
            self.shared.queue.with_all_pending(|pending| {
                let index = locked(&self.shared.index);
                for (id, entry) in index.shard(number) {
                    let pending = pending.get(id);
                    if pending.is_some_and(Pending::is_removed) {
                        continue;
                    }
                    let newest = pending.and_then(Pending::newest);
                    let due_at_ms = newest.map_or(entry.due_at_ms, |newest| newest.due_at_ms);
                    records.push(LiveRecord { id: *id, due_at_ms });
                }
            });
            for record in records.drain(..) {
                visit(record);
            }
        }
    }

    fn flush(&self) -> Receipt {
        let (sender, receipt) = Receipt::channel();
        self.shared.queue.push_urgent(Operation::Flush(sender));
        receipt
    }

    fn close(&self) -> Receipt {
        let (sender, receipt) = Receipt::channel();
        self.shared.queue.push_urgent(Operation::Close(sender));
        receipt
    }

    fn stats(&self) -> SpoolStats {
        self.shared.stats()
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        let Some(thread) = locked(&self.thread).take() else {
            return;
        };
        drop(self.close());
        // A panic of the writer has been reported where it happened.
        drop(thread.join());
    }
}
