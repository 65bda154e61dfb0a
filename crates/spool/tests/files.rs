//! The log on real files, with its thread and callers of many threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use spool::{Commit, FileDisk, Options, RecordId, SegmentLog, Spool, SpoolError};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        tick: Duration::from_millis(1),
        ..Options::default()
    }
}

fn open(path: &std::path::Path, options: Options) -> Result<SegmentLog, SpoolError> {
    SegmentLog::open(Arc::new(FileDisk::new(path).expect("a directory")), options)
}

#[test]
fn a_spool_has_one_owner() {
    let directory = directory();
    let first = open(directory.path(), small()).expect("nobody else has it");
    let second = open(directory.path(), small());
    assert_eq!(second.err(), Some(SpoolError::Locked));
    drop(first);
    open(directory.path(), small()).expect("the first has let go");
}

#[test]
fn many_threads_share_commits_and_lose_nothing() {
    const THREADS: u64 = 16;
    const EACH: u64 = 100;
    let directory = directory();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let observer = move |commit: &Commit| {
        counter.fetch_add(commit.operation_count, Ordering::Relaxed);
    };
    let options = Options {
        observer: Some(Arc::new(observer)),
        ..small()
    };
    let log = open(directory.path(), options).expect("a healthy directory");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..EACH {
                    let id = RecordId(thread * EACH + number);
                    let body = Bytes::from(vec![thread as u8; 2000]);
                    let accepted = log.accept(id, number, Bytes::from_static(b"meta"), vec![body]);
                    assert_eq!(accepted.wait(), Ok(()));
                    if number % 10 != 0 {
                        log.remove(id).expect("the log is open");
                    }
                }
            });
        }
    });
    assert_eq!(log.flush().wait(), Ok(()));
    let stats = log.stats();
    assert_eq!(stats.accepted_total, THREADS * EACH);
    assert_eq!(stats.removed_total, THREADS * EACH * 9 / 10);
    assert_eq!(stats.live_count, THREADS * EACH / 10);
    assert!(
        stats.commits_total < stats.accepted_total,
        "nothing was shared: {stats:?}"
    );
    assert!(seen.load(Ordering::Relaxed) >= THREADS * EACH);
    drop(log);

    let log = open(directory.path(), small()).expect("a healthy directory");
    for record in log.live() {
        let body = log.read_body(record.id).expect("it is live").concat();
        assert_eq!(body, vec![(record.id.0 / EACH) as u8; 2000]);
        assert_eq!(record.due_at_ms % 10, 0);
    }
    assert_eq!(log.live().len() as u64, THREADS * EACH / 10);
}

#[test]
fn space_is_given_back_and_bounded() {
    let directory = directory();
    let limit = 20 * (64 << 10);
    let options = Options {
        max_bytes: Some(limit),
        ..small()
    };
    let log = open(directory.path(), options).expect("a healthy directory");
    // Many times what the limit allows, each removed but every hundredth.
    for id in 0..1000 {
        let body = Bytes::from(vec![1; 8000]);
        loop {
            match log
                .accept(RecordId(id), 0, Bytes::new(), vec![body.clone()])
                .wait()
            {
                Ok(()) => break,
                // Collection is under way.
                Err(SpoolError::Full) => assert_eq!(log.flush().wait(), Ok(())),
                Err(error) => panic!("{error}"),
            }
        }
        if id % 100 != 0 {
            log.remove(RecordId(id)).expect("the log is open");
        }
    }
    let stats = log.stats();
    assert!(stats.disk_bytes <= limit, "{stats:?}");
    assert!(stats.collected_total > 50, "{stats:?}");
    for id in (0..1000).step_by(100) {
        assert_eq!(
            log.read_body(RecordId(id)).expect("it is live").concat(),
            vec![1; 8000]
        );
    }
}

#[test]
fn a_full_spool_says_so_and_takes_mail_again_when_there_is_room() {
    let directory = directory();
    let options = Options {
        max_bytes: Some(8 * (64 << 10)),
        ..small()
    };
    let log = open(directory.path(), options).expect("a healthy directory");
    let accept = |id| {
        let body = Bytes::from(vec![2; 10_000]);
        log.accept(RecordId(id), 0, Bytes::new(), vec![body]).wait()
    };
    let taken = (0..1000).take_while(|id| accept(*id).is_ok()).count() as u64;
    assert!((10..100).contains(&taken), "{taken} fit");
    assert_eq!(accept(taken), Err(SpoolError::Full));
    assert!(log.stats().full);
    // Updates and removals still work.
    log.update(RecordId(1), 77, Bytes::from_static(b"x"))
        .expect("the log is open");
    for id in 2..taken {
        log.remove(RecordId(id)).expect("the log is open");
    }
    assert_eq!(log.flush().wait(), Ok(()));
    assert_eq!(
        log.read_meta(RecordId(1)).expect("it is live").due_at_ms,
        77
    );
    // Each try lets the writer collect some more.
    let again = (0..1000).find(|_| accept(5000).is_ok());
    assert!(again.is_some(), "{:?}", log.stats());
    assert!(!log.stats().full);
}

#[test]
fn metadata_that_fits_no_segment_is_refused() {
    let directory = directory();
    let log = open(directory.path(), small()).expect("a healthy directory");
    let meta = Bytes::from(vec![0; 64 << 10]);
    let refused = SpoolError::TooLarge {
        size_bytes: meta.len() as u64,
    };
    assert_eq!(
        log.accept(RecordId(1), 0, meta.clone(), vec![]).wait(),
        Err(refused.clone())
    );
    assert_eq!(log.update(RecordId(1), 0, meta), Err(refused));
}

#[test]
fn strangers_files_are_left_alone() {
    let directory = directory();
    let stranger = directory.path().join("notes.txt");
    std::fs::write(&stranger, "mine").expect("a file");
    let log = open(directory.path(), small()).expect("a healthy directory");
    assert_eq!(
        log.accept(RecordId(1), 0, Bytes::new(), vec![]).wait(),
        Ok(())
    );
    drop(log);
    drop(open(directory.path(), small()).expect("a healthy directory"));
    assert_eq!(
        std::fs::read_to_string(&stranger).expect("it is there"),
        "mine"
    );
}
