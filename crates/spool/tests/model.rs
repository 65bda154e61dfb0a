//! Random calls against a map, on real files, with the log closed and opened in
//! between.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use spool::{FileDisk, Options, RecordId, SegmentLog, Spool, SpoolError, StoredMeta};

#[derive(Clone, Debug)]
enum Call {
    Accept {
        id: u64,
        due_at_ms: u64,
        meta: Vec<u8>,
        body: Vec<Vec<u8>>,
    },
    Update {
        id: u64,
        due_at_ms: u64,
        meta: Vec<u8>,
    },
    Remove {
        id: u64,
    },
    Flush,
    Reopen,
}

fn chunk() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0usize..40_000).prop_map(|size| vec![0xa5; size]),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let id = 0u64..12;
    let meta = prop::collection::vec(any::<u8>(), 0..80);
    let body = prop::collection::vec(chunk(), 0..4);
    prop_oneof![
        8 => (id.clone(), any::<u64>(), meta.clone(), body)
            .prop_map(|(id, due_at_ms, meta, body)| Call::Accept { id, due_at_ms, meta, body }),
        5 => (id.clone(), any::<u64>(), meta)
            .prop_map(|(id, due_at_ms, meta)| Call::Update { id, due_at_ms, meta }),
        5 => id.prop_map(|id| Call::Remove { id }),
        1 => Just(Call::Flush),
        2 => Just(Call::Reopen),
    ]
}

fn open(disk: &Arc<FileDisk>) -> SegmentLog {
    let options = Options {
        segment_bytes: 16 << 10,
        // Collection at every opportunity.
        tick: Duration::from_millis(1),
        lazy_sync: Duration::from_millis(5),
        ..Options::default()
    };
    SegmentLog::open(disk.clone(), options).expect("the directory is healthy")
}

type Model = HashMap<RecordId, (StoredMeta, Vec<u8>)>;

fn check(log: &SegmentLog, model: &Model) {
    let live = log.live();
    assert_eq!(live.len(), model.len());
    for record in live {
        let (meta, body) = &model[&record.id];
        assert_eq!(record.due_at_ms, meta.due_at_ms);
        assert_eq!(log.read_meta(record.id).as_ref(), Ok(meta));
        assert_eq!(
            log.read_body(record.id).map(|body| body.concat()).as_ref(),
            Ok(body)
        );
    }
}

fn make(log: &SegmentLog, model: &mut Model, call: Call) {
    match call {
        Call::Accept {
            id,
            due_at_ms,
            meta,
            body,
        } => {
            let (id, meta) = (RecordId(id), Bytes::from(meta));
            let whole = body.concat();
            let body = body.into_iter().map(Bytes::from).collect();
            let answer = log.accept(id, due_at_ms, meta.clone(), body).wait();
            match model.entry(id) {
                Entry::Occupied(_) => assert_eq!(answer, Err(SpoolError::Exists(id))),
                Entry::Vacant(vacant) => {
                    assert_eq!(answer, Ok(()));
                    vacant.insert((StoredMeta { due_at_ms, meta }, whole));
                }
            }
        }
        Call::Update {
            id,
            due_at_ms,
            meta,
        } => {
            let (id, meta) = (RecordId(id), Bytes::from(meta));
            log.update(id, due_at_ms, meta.clone())
                .expect("the log is open");
            if let Some((stored, _)) = model.get_mut(&id) {
                *stored = StoredMeta { due_at_ms, meta };
            }
        }
        Call::Remove { id } => {
            log.remove(RecordId(id)).expect("the log is open");
            model.remove(&RecordId(id));
        }
        Call::Flush => assert_eq!(log.flush().wait(), Ok(())),
        Call::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_map_that_survives(calls in prop::collection::vec(call(), 1..120)) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Arc::new(FileDisk::new(directory.path()).expect("a directory"));
        let mut log = open(&disk);
        let mut model = Model::new();
        for call in calls {
            if matches!(call, Call::Reopen) {
                check(&log, &model);
                drop(log);
                log = open(&disk);
                check(&log, &model);
            } else {
                make(&log, &mut model, call);
            }
        }
        check(&log, &model);
        prop_assert_eq!(log.stats().corrupt_total, 0);
    }
}
