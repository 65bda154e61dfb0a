//! What every implementation of `spool::Spool` must do, whatever is behind it.
//!
//! Each function takes a way to open the spool (again) on the same storage; the
//! spool is closed in between. [`all`] runs them, each on storage of its own.

use bytes::Bytes;
use spool::{LiveRecord, RecordId, Spool, SpoolError};

/// Opens the spool on some storage; called again it opens it again.
pub type Open<'a> = dyn Fn() -> Box<dyn Spool> + 'a;

/// Runs the whole contract. `fresh` makes new, empty storage and answers how to
/// open it.
///
/// # Panics
/// Where the contract is broken.
pub fn all<'a>(fresh: impl Fn() -> Box<Open<'a>>) {
    accepted_is_readable_and_survives(&*fresh());
    an_update_replaces_metadata_and_leaves_the_body(&*fresh());
    removed_is_gone_for_good(&*fresh());
    calls_on_one_id_take_effect_in_order(&*fresh());
    an_id_is_live_once(&*fresh());
    unknown_ids_are_told_or_ignored(&*fresh());
    any_size_comes_back(&*fresh());
    live_lists_by_due_time(&*fresh());
    closed_means_closed(&*fresh());
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn accept(spool: &dyn Spool, id: u64, due_at_ms: u64, meta: &str, body: &str) {
    let receipt = spool.accept(RecordId(id), due_at_ms, text(meta), vec![text(body)]);
    receipt
        .wait()
        .unwrap_or_else(|error| panic!("accept {id}: {error}"));
}

fn close(spool: Box<dyn Spool>) {
    spool.close().wait().expect("a healthy spool closes");
    drop(spool);
}

#[track_caller]
fn assert_record(spool: &dyn Spool, id: u64, due_at_ms: u64, meta: &str, body: &str) {
    let stored = spool.read_meta(RecordId(id)).expect("the record is live");
    assert_eq!(
        (stored.due_at_ms, &*stored.meta),
        (due_at_ms, meta.as_bytes())
    );
    let read = spool.read_body(RecordId(id)).expect("the record is live");
    assert_eq!(read.concat(), body.as_bytes());
}

#[track_caller]
fn assert_gone(spool: &dyn Spool, id: u64) {
    let id = RecordId(id);
    assert_eq!(spool.read_meta(id), Err(SpoolError::NotFound(id)));
    assert_eq!(spool.read_body(id), Err(SpoolError::NotFound(id)));
    assert!(spool.live().iter().all(|record| record.id != id));
}

/// What was acknowledged can be read, at once and after a restart.
pub fn accepted_is_readable_and_survives(open: &Open<'_>) {
    let spool = open();
    accept(&*spool, 1, 100, "envelope", "Subject: one\r\n\r\nbody");
    assert_record(&*spool, 1, 100, "envelope", "Subject: one\r\n\r\nbody");
    close(spool);
    let spool = open();
    assert_record(&*spool, 1, 100, "envelope", "Subject: one\r\n\r\nbody");
    assert_eq!(spool.stats().live_count, 1);
    close(spool);
}

/// An update is seen at once and survives; the body stays.
pub fn an_update_replaces_metadata_and_leaves_the_body(open: &Open<'_>) {
    let spool = open();
    accept(&*spool, 1, 100, "attempt 0", "body");
    for attempt in 1..4 {
        let meta = format!("attempt {attempt}");
        spool
            .update(RecordId(1), 100 + attempt, text(&meta))
            .expect("the spool is open");
        assert_record(&*spool, 1, 100 + attempt, &meta, "body");
    }
    spool.flush().wait().expect("a healthy spool flushes");
    assert_record(&*spool, 1, 103, "attempt 3", "body");
    close(spool);
    let spool = open();
    assert_record(&*spool, 1, 103, "attempt 3", "body");
    close(spool);
}

/// A removal is seen at once and survives.
pub fn removed_is_gone_for_good(open: &Open<'_>) {
    let spool = open();
    accept(&*spool, 1, 100, "m", "b");
    accept(&*spool, 2, 100, "m", "b");
    spool.remove(RecordId(1)).expect("the spool is open");
    assert_gone(&*spool, 1);
    spool.flush().wait().expect("a healthy spool flushes");
    assert_gone(&*spool, 1);
    close(spool);
    let spool = open();
    assert_gone(&*spool, 1);
    assert_record(&*spool, 2, 100, "m", "b");
    close(spool);
}

/// Nobody has to wait between the calls for one id.
pub fn calls_on_one_id_take_effect_in_order(open: &Open<'_>) {
    let spool = open();
    let mut receipts = Vec::new();
    for id in 1..=50 {
        receipts.push(spool.accept(RecordId(id), 1, text("first"), vec![text("body")]));
        spool
            .update(RecordId(id), 2, text("second"))
            .expect("the spool is open");
        if id % 2 == 0 {
            spool.remove(RecordId(id)).expect("the spool is open");
        }
    }
    for receipt in receipts {
        assert_eq!(receipt.wait(), Ok(()));
    }
    spool.flush().wait().expect("a healthy spool flushes");
    close(spool);
    let spool = open();
    for id in 1..=50 {
        if id % 2 == 0 {
            assert_gone(&*spool, id);
        } else {
            assert_record(&*spool, id, 2, "second", "body");
        }
    }
    close(spool);
}

/// A live id is refused, one that is gone may be given again.
pub fn an_id_is_live_once(open: &Open<'_>) {
    let spool = open();
    let id = RecordId(7);
    accept(&*spool, 7, 1, "first", "first body");
    let again = spool.accept(id, 2, text("second"), vec![text("second body")]);
    assert_eq!(again.wait(), Err(SpoolError::Exists(id)));
    assert_record(&*spool, 7, 1, "first", "first body");
    spool
        .update(id, 3, text("updated"))
        .expect("the spool is open");
    spool.remove(id).expect("the spool is open");
    accept(&*spool, 7, 4, "third", "third body");
    assert_record(&*spool, 7, 4, "third", "third body");
    close(spool);
    let spool = open();
    assert_record(&*spool, 7, 4, "third", "third body");
    close(spool);
}

/// Reading what is not there is an error; changing it is nothing.
pub fn unknown_ids_are_told_or_ignored(open: &Open<'_>) {
    let spool = open();
    assert_gone(&*spool, 99);
    spool
        .update(RecordId(99), 1, text("m"))
        .expect("the spool is open");
    spool.remove(RecordId(98)).expect("the spool is open");
    spool.flush().wait().expect("a healthy spool flushes");
    assert_gone(&*spool, 99);
    assert_eq!(spool.stats().ignored_total, 2);
    close(spool);
    let spool = open();
    assert!(spool.live().is_empty());
    close(spool);
}

/// Empty, odd, many chunks, more than a segment: every byte comes back.
pub fn any_size_comes_back(open: &Open<'_>) {
    let sizes = [0, 1, 7, 8, 9, 4095, 4096, 70_000, 1 << 20, (3 << 20) + 5];
    let body = |size: usize| -> Vec<Bytes> {
        let whole: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        whole.chunks(30_011).map(Bytes::copy_from_slice).collect()
    };
    let meta = |size: usize| Bytes::from(vec![7; size.min(1500)]);
    let check = |spool: &dyn Spool| {
        for (id, size) in (1..).zip(sizes) {
            assert_eq!(
                spool.read_meta(RecordId(id)).expect("it is live").meta,
                meta(size)
            );
            let read = spool.read_body(RecordId(id)).expect("it is live");
            assert_eq!(read.concat(), body(size).concat(), "{size} bytes");
        }
    };
    let spool = open();
    for (id, size) in (1..).zip(sizes) {
        spool
            .accept(RecordId(id), 1, meta(size), body(size))
            .wait()
            .expect("it fits");
    }
    check(&*spool);
    close(spool);
    let spool = open();
    check(&*spool);
    close(spool);
}

/// The list from which a scheduler is filled.
pub fn live_lists_by_due_time(open: &Open<'_>) {
    let spool = open();
    for id in 1..=200 {
        accept(&*spool, id, 1000 - id, "m", "b");
    }
    spool
        .update(RecordId(200), 5000, text("later"))
        .expect("the spool is open");
    spool.remove(RecordId(1)).expect("the spool is open");
    let mut expected: Vec<LiveRecord> = (2..200)
        .map(|id| LiveRecord {
            id: RecordId(id),
            due_at_ms: 1000 - id,
        })
        .collect();
    expected.reverse();
    expected.push(LiveRecord {
        id: RecordId(200),
        due_at_ms: 5000,
    });
    assert_eq!(spool.live(), expected);
    close(spool);
    let spool = open();
    assert_eq!(spool.live(), expected);
    assert_eq!(spool.stats().live_count, 199);
    close(spool);
}

/// After `close` every call says so.
pub fn closed_means_closed(open: &Open<'_>) {
    let spool = open();
    accept(&*spool, 1, 1, "m", "b");
    spool.close().wait().expect("a healthy spool closes");
    let refused = spool.accept(RecordId(2), 1, text("m"), vec![]);
    assert_eq!(refused.wait(), Err(SpoolError::Closed));
    assert_eq!(spool.remove(RecordId(1)), Err(SpoolError::Closed));
    assert_eq!(
        spool.update(RecordId(1), 1, text("m")),
        Err(SpoolError::Closed)
    );
    assert_eq!(spool.flush().wait(), Err(SpoolError::Closed));
    drop(spool);
    let spool = open();
    assert_record(&*spool, 1, 1, "m", "b");
    close(spool);
}
