//! Sequences of faults that chance would find too seldom, step by step: removed
//! mail must not come back, and what a failed sync has lost must not be believed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spool::{Options, Receipt, RecordId, SegmentLog, Spool, SpoolError, Turn, Writer};
use testkit::sim_disk::SimDisk;

/// Seven records with [`BODY_BYTES`] fill a segment of this size.
const SEGMENT_BYTES: u64 = 8 << 10;
const BODY_BYTES: usize = 1000;

fn body(id: u64) -> Bytes {
    Bytes::from(vec![id as u8; BODY_BYTES])
}

/// One life of a log, turn by turn.
struct Life {
    disk: SimDisk,
    log: SegmentLog,
    writer: Writer,
}

impl Life {
    fn open(disk: &SimDisk, collect_step_bytes: u64) -> Life {
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            collect_step_bytes,
            seed: 1,
            ..Options::default()
        };
        let opened = SegmentLog::open_stepped(Arc::new(disk.clone()), options);
        let (log, writer) = opened.expect("the disk is healthy");
        Life {
            disk: disk.clone(),
            log,
            writer,
        }
    }

    fn accept(&self, ids: impl IntoIterator<Item = u64>) -> Vec<Receipt> {
        let accept = |id| {
            self.log
                .accept(RecordId(id), id, Bytes::new(), vec![body(id)])
        };
        ids.into_iter().map(accept).collect()
    }

    /// Accepts, in one turn.
    fn take(&mut self, ids: impl IntoIterator<Item = u64>) {
        let receipts = self.accept(ids);
        self.writer.turn();
        for mut receipt in receipts {
            assert_eq!(receipt.try_result(), Some(Ok(())));
        }
    }

    fn remove(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.log.remove(RecordId(id)).expect("the log is open");
        }
    }

    /// One turn that makes all changes so far durable, and one step of collection.
    fn flush(&mut self) {
        let mut flushed = self.log.flush();
        self.writer.turn();
        assert_eq!(flushed.try_result(), Some(Ok(())));
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            if self.writer.turn() != Turn::Again {
                self.disk.advance(Duration::from_secs(2));
            }
        }
    }

    fn live_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.log.live().iter().map(|live| live.id.0).collect();
        ids.sort_unstable();
        ids
    }

    fn assert_live(&self, ids: &[u64], when: &str) {
        assert_eq!(self.live_ids(), ids, "{when}");
        for id in ids {
            match self.log.read_body(RecordId(*id)) {
                Ok(read) => assert!(read.concat() == body(*id), "{when}: another body of {id}"),
                Err(error) => panic!("{when}: {error}"),
            }
        }
    }

    fn end(self, crash: impl FnOnce(&SimDisk)) {
        crash(&self.disk);
    }
}

/// Two of a full segment live, and the first of them has been copied out and
/// then removed, when the process ends.
fn end_with_a_removed_copy(disk: &SimDisk, crash: impl FnOnce(&SimDisk)) {
    let mut life = Life::open(disk, 1);
    life.take(1..=8);
    life.remove(3..=8);
    life.flush();
    life.remove([1]);
    life.flush();
    life.end(crash);
}

fn survives_any_number_of_turns(seed: u64, crash: fn(&SimDisk)) {
    for turns in 0..20 {
        let disk = SimDisk::new(seed);
        end_with_a_removed_copy(&disk, crash);
        let mut life = Life::open(&disk, 1);
        life.assert_live(&[2], "after the crash");
        life.turns(turns);
        life.end(SimDisk::kill);
        let life = Life::open(&disk, 1);
        let when = format!("seed {seed}, {turns} turns after the crash");
        life.assert_live(&[2], &when);
    }
}

#[test]
fn a_copy_that_lost_to_the_original_does_not_take_the_tombstone_with_it() {
    survives_any_number_of_turns(1, SimDisk::kill);
}

#[test]
fn a_tombstone_of_a_copy_that_a_power_cut_lost_still_buries_the_original() {
    for seed in 0..20 {
        survives_any_number_of_turns(seed, SimDisk::power_cut);
    }
}

#[test]
fn survivors_that_find_no_new_segment_leave_the_tombstones_of_what_they_copied() {
    // Segments of 1..=7, 8..=14, 15..=21, 22..=28. The survivors of the first
    // three fill more than one segment, and no second is to be had.
    for turns in 0..20 {
        let disk = SimDisk::new(3);
        let mut life = Life::open(&disk, 1 << 20);
        life.take(1..=29);
        life.remove((4..=7).chain(11..=14).chain(18..=21));
        life.flush();
        life.turns(1);
        assert_eq!(
            life.log.stats().collected_total,
            2,
            "{:?}",
            life.log.stats()
        );
        disk.fail_directory_sync_after(0);
        life.turns(1);
        disk.clear_faults();
        assert_eq!(
            life.log.stats().collected_total,
            2,
            "{:?}",
            life.log.stats()
        );
        // 15 has been copied, to where everything is removed now.
        life.remove((1..=3).chain(8..=10).chain([15]).chain(23..=29));
        life.flush();
        let large = Bytes::from(vec![0; 7000]);
        let mut rotated = life.log.accept(RecordId(30), 0, Bytes::new(), vec![large]);
        life.turns(1 + turns);
        assert_eq!(rotated.try_result(), Some(Ok(())));
        life.remove([30]);
        life.flush();
        life.end(SimDisk::kill);
        let life = Life::open(&disk, 1 << 20);
        life.assert_live(&[16, 17, 22], &format!("{turns} turns later"));
    }
}

#[test]
fn what_a_failed_sync_lost_is_not_believed_by_the_next_life() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut life = Life::open(&disk, 1 << 20);
        life.take(1..=8);
        // The copy of 1 will have newer metadata than the original.
        life.log
            .update(RecordId(1), 7, Bytes::from_static(b"newer"))
            .expect("the log is open");
        life.remove(3..=8);
        let mut flushed = life.log.flush();
        // Syncs of the batch, of a new file, and of the survivors in it.
        disk.fail_sync_after(2);
        life.writer.turn();
        assert_eq!(flushed.try_result(), Some(Ok(())));
        assert_eq!(life.log.stats().disk_errors_total, 1);
        life.end(SimDisk::kill);

        let mut life = Life::open(&disk, 1 << 20);
        life.assert_live(&[1, 2], &format!("seed {seed}, killed"));
        life.turns(20);
        life.end(SimDisk::power_cut);
        let life = Life::open(&disk, 1 << 20);
        life.assert_live(&[1, 2], &format!("seed {seed}, without power"));
        let stored = life.log.read_meta(RecordId(1)).expect("it is live");
        assert_eq!(&*stored.meta, b"newer", "seed {seed}");
    }
}

#[test]
fn while_a_disk_is_full_removals_come_before_updates() {
    let disk = SimDisk::new(5);
    let mut life = Life::open(&disk, 1 << 20);
    life.take(1..=40);
    disk.set_capacity(0);
    // Far more newer metadata than the reserve has room for, and again.
    for due in 0..200 {
        for id in 1..=40 {
            let meta = Bytes::from(vec![due as u8; 500]);
            let updated = life.log.update(RecordId(id), due, meta);
            updated.expect("the log is open");
        }
        if due % 10 == 0 {
            life.turns(3);
        }
    }
    life.remove(1..=39);
    life.turns(60);
    life.flush();
    life.assert_live(&[40], "with room made");
    let stored = life.log.read_meta(RecordId(40)).expect("it is live");
    assert_eq!((stored.due_at_ms, stored.meta.len()), (199, 500));
    assert_eq!(life.log.stats().pending_count, 0, "{:?}", life.log.stats());
    life.end(SimDisk::power_cut);
    let life = Life::open(&disk, 1 << 20);
    life.assert_live(&[40], "after a power cut");
}

#[test]
fn a_smaller_segment_size_leaves_large_records_to_files_of_their_own() {
    let disk = SimDisk::new(6);
    let large = Options {
        segment_bytes: 64 << 10,
        seed: 1,
        ..Options::default()
    };
    let opened = SegmentLog::open_stepped(Arc::new(disk.clone()), large);
    let (log, mut writer) = opened.expect("the disk is healthy");
    let body = |id: u64| Bytes::from(vec![id as u8; 20_000]);
    let accept = |id| log.accept(RecordId(id), 0, Bytes::new(), vec![body(id)]);
    let mut accepted: Vec<Receipt> = (1..=4).map(accept).collect();
    writer.turn();
    for id in 1..=2 {
        log.remove(RecordId(id)).expect("the log is open");
    }
    accepted.push(log.flush());
    writer.turn();
    for mut receipt in accepted {
        assert_eq!(receipt.try_result(), Some(Ok(())));
    }
    disk.kill();
    drop((log, writer));
    let mut life = Life::open(&disk, 1 << 20);
    life.turns(20);
    assert!(
        life.log.stats().collected_total > 0,
        "{:?}",
        life.log.stats()
    );
    life.end(SimDisk::power_cut);
    let life = Life::open(&disk, 1 << 20);
    assert_eq!(life.live_ids(), [3, 4]);
    for id in 3..=4 {
        let read = life.log.read_body(RecordId(id)).expect("it is live");
        assert!(read.concat() == body(id), "another body of {id}");
    }
}

#[test]
fn a_writer_that_is_gone_shows() {
    let life = Life::open(&SimDisk::new(7), 1);
    assert!(!life.log.stats().failed);
    drop(life.writer);
    assert!(life.log.stats().failed);
    let mut refused = life.log.accept(RecordId(1), 0, Bytes::new(), vec![]);
    assert_eq!(refused.try_result(), Some(Err(SpoolError::Closed)));
}
