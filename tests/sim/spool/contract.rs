//! The contract of `Spool`, kept by the production log on files and on the
//! simulated disk.

use std::sync::Arc;

use spool::{Disk, FileDisk, Options, SegmentLog};
use testkit::sim_disk::SimDisk;
use testkit::spool_contract;

fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> Box<spool_contract::Open<'static>> {
    Box::new(move || {
        let options = Options {
            segment_bytes,
            ..Options::default()
        };
        Box::new(SegmentLog::open(disk.clone(), options).expect("the disk is healthy"))
    })
}

#[test]
fn the_log_keeps_the_contract_on_files() {
    for segment_bytes in [16 << 10, 1 << 20] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let number = std::cell::Cell::new(0);
        spool_contract::all(|| {
            number.set(number.get() + 1);
            let path = directory.path().join(number.get().to_string());
            open(
                Arc::new(FileDisk::new(path).expect("a directory")),
                segment_bytes,
            )
        });
    }
}

#[test]
fn the_log_keeps_the_contract_on_the_simulated_disk() {
    for seed in 0..4 {
        spool_contract::all(|| open(Arc::new(SimDisk::new(seed)), 16 << 10));
    }
}
