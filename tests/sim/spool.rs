//! The production log on a disk that fails: seeds × faults against a model.
//!
//! Whatever happens, after recovery every message that was acknowledged and not
//! removed is there with its bytes and metadata at least as new as the last that
//! was durable; none that was removed durably; none that was never accepted.

mod contract;
mod damage;
mod scripted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spool::{Options, Receipt, RecordId, SegmentLog, Spool, SpoolError, StoredMeta, Turn, Writer};
use testkit::sim_disk::{Chance, SimDisk};

/// What the model knows of one id.
struct Known {
    body: Bytes,
    /// All metadata given, in order.
    versions: Vec<StoredMeta>,
    /// Metadata before this one must not come back.
    durable_version: usize,
    state: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Handed over, no answer.
    Offered,
    /// Acknowledged.
    Taken,
    /// Refused, or removed: may be there after a crash.
    Leaving,
    /// Must never be seen again.
    Gone,
}

enum Awaited {
    Accept(RecordId),
    Flush,
}

/// A promise and how far the calls had come when it was asked for.
struct Promise {
    receipt: Receipt,
    of: Awaited,
    call_count: u64,
}

struct Simulation {
    seed: u64,
    chance: Chance,
    disk: SimDisk,
    segment_bytes: u64,
    known: BTreeMap<RecordId, Known>,
    /// Changes which are not known to be durable, with the number of the call.
    undurable: Vec<(u64, RecordId, Change)>,
    promises: Vec<Promise>,
    call_count: u64,
    next_id: u64,
    acknowledged_count: u64,
    /// This life sees few accepts and flushes.
    quiet: bool,
    reads_fail: bool,
}

#[derive(Clone, Copy)]
enum Change {
    Version(usize),
    Removal,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let segment_bytes = [4 << 10, 8 << 10, 32 << 10][chance.below(3) as usize];
        Simulation {
            seed,
            chance,
            disk: SimDisk::new(seed),
            segment_bytes,
            known: BTreeMap::new(),
            undurable: Vec::new(),
            promises: Vec::new(),
            call_count: 0,
            next_id: 1,
            acknowledged_count: 0,
            quiet: false,
            reads_fail: false,
        }
    }

    fn open(&self) -> (SegmentLog, Writer) {
        let options = Options {
            segment_bytes: self.segment_bytes,
            batch_count: 16,
            batch_bytes: 16 << 10,
            collect_step_bytes: 2 << 10,
            seed: self.seed,
            ..Options::default()
        };
        SegmentLog::open_stepped(Arc::new(self.disk.clone()), options)
            .unwrap_or_else(|error| panic!("seed {}: open: {error}", self.seed))
    }

    fn bytes(&mut self, length: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(length as usize);
        while bytes.len() < length as usize {
            bytes.extend_from_slice(&self.chance.bits().to_le_bytes());
        }
        bytes.truncate(length as usize);
        Bytes::from(bytes)
    }

    fn meta(&mut self) -> StoredMeta {
        let length = self.chance.below(200);
        StoredMeta {
            due_at_ms: self.chance.below(1 << 40),
            meta: self.bytes(length),
        }
    }

    fn accept(&mut self, log: &SegmentLog) {
        let id = RecordId(self.next_id);
        self.next_id += 1;
        let length = match self.chance.below(20) {
            0 => self.segment_bytes + self.chance.below(self.segment_bytes),
            1 => 0,
            _ => self.chance.below(self.segment_bytes / 3),
        };
        let body = self.bytes(length);
        let version = self.meta();
        self.known.insert(
            id,
            Known {
                body,
                versions: vec![version],
                durable_version: 0,
                state: Standing::Offered,
            },
        );
        self.offer(log, id);
    }

    fn offer(&mut self, log: &SegmentLog, id: RecordId) {
        let known = &self.known[&id];
        let first = known.versions[0].clone();
        let cut = known.body.len() / 2;
        let body = vec![known.body.slice(..cut), known.body.slice(cut..)];
        let receipt = log.accept(id, first.due_at_ms, first.meta, body);
        self.promise(receipt, Awaited::Accept(id));
    }

    fn promise(&mut self, receipt: Receipt, of: Awaited) {
        self.call_count += 1;
        self.promises.push(Promise {
            receipt,
            of,
            call_count: self.call_count,
        });
    }

    fn some_id(&mut self, standing: Standing) -> Option<RecordId> {
        let ids: Vec<RecordId> = self
            .known
            .iter()
            .filter(|(_, k)| k.state == standing)
            .map(|(id, _)| *id)
            .collect();
        (!ids.is_empty()).then(|| ids[self.chance.below(ids.len() as u64) as usize])
    }

    fn call(&mut self, log: &SegmentLog) {
        let choice = self.chance.below(20);
        match choice {
            // In some lives little comes in: changes are written, not yet synced.
            0..=7 if self.quiet && choice > 0 => self.pause(),
            0..=7 => self.accept(log),
            8..=11 => {
                let Some(id) = self.some_id(Standing::Taken) else {
                    return;
                };
                let version = self.meta();
                self.call_count += 1;
                let known = self.known.get_mut(&id).expect("it was just found");
                known.versions.push(version.clone());
                let number = known.versions.len() - 1;
                self.undurable
                    .push((self.call_count, id, Change::Version(number)));
                log.update(id, version.due_at_ms, version.meta)
                    .expect("the log is open");
            }
            12..=17 => {
                let Some(id) = self.some_id(Standing::Taken) else {
                    return;
                };
                self.call_count += 1;
                self.known.get_mut(&id).expect("it was just found").state = Standing::Leaving;
                self.undurable.push((self.call_count, id, Change::Removal));
                log.remove(id).expect("the log is open");
            }
            18 if !self.quiet => {
                let receipt = log.flush();
                self.promise(receipt, Awaited::Flush);
            }
            _ => self.look(log),
        }
    }

    /// Long enough for lazy changes to be written, seldom to be synced.
    fn pause(&mut self) {
        let time = Duration::from_millis(10 + self.chance.below(60));
        self.disk.advance(time);
    }

    /// What readers see while all is well.
    fn look(&mut self, log: &SegmentLog) {
        if let Some(id) = self.some_id(Standing::Taken) {
            let known = &self.known[&id];
            match log.read_meta(id) {
                Ok(stored) => assert_eq!(
                    Some(&stored),
                    known.versions.last(),
                    "seed {}: metadata of {id}",
                    self.seed
                ),
                Err(error) => self.allow(&error),
            }
            match log.read_body(id) {
                Ok(body) => assert_eq!(body.concat(), known.body, "seed {}: {id}", self.seed),
                Err(error) => self.allow(&error),
            }
        }
        if let Some(id) = self.some_id(Standing::Leaving) {
            assert_eq!(
                log.read_meta(id),
                Err(SpoolError::NotFound(id)),
                "seed {}",
                self.seed
            );
        }
    }

    /// A reader may be told that the disk fails, if it does, but nothing else.
    fn allow(&self, error: &SpoolError) {
        let failed = matches!(error, SpoolError::Failed { .. });
        let expected = self.disk.power_is_cut() || (failed && self.reads_fail);
        assert!(expected, "seed {}: {error}", self.seed);
    }

    /// Takes in what has been promised meanwhile.
    fn hear(&mut self) {
        for mut promise in std::mem::take(&mut self.promises) {
            match (promise.receipt.try_result(), &promise.of) {
                (None, _) => self.promises.push(promise),
                (Some(Ok(())), of) => {
                    if let Awaited::Accept(id) = of {
                        self.known.get_mut(id).expect("it was offered").state = Standing::Taken;
                        self.acknowledged_count += 1;
                    }
                    self.made_durable(promise.call_count);
                }
                (Some(Err(_)), Awaited::Accept(id)) => {
                    // Its removal is up to the log, durable when later calls are.
                    self.known.get_mut(id).expect("it was offered").state = Standing::Leaving;
                    self.call_count += 1;
                    self.undurable.push((self.call_count, *id, Change::Removal));
                }
                (Some(Err(_)), Awaited::Flush) => {}
            }
        }
    }

    /// Everything called up to `call_count` is durable.
    fn made_durable(&mut self, call_count: u64) {
        for (_, id, change) in self
            .undurable
            .extract_if(.., |(call, ..)| *call <= call_count)
        {
            let known = self.known.get_mut(&id).expect("only known ids change");
            match change {
                Change::Version(number) => {
                    known.durable_version = known.durable_version.max(number);
                }
                Change::Removal => known.state = Standing::Gone,
            }
        }
    }

    /// After a crash: compares, then takes what is there as the new truth.
    fn verify(&mut self, log: &SegmentLog) {
        let seed = self.seed;
        let live: BTreeMap<RecordId, u64> = log
            .live()
            .into_iter()
            .map(|record| (record.id, record.due_at_ms))
            .collect();
        for id in live.keys() {
            assert!(
                self.known.contains_key(id),
                "seed {seed}: {id} was never accepted"
            );
        }
        for (id, known) in &mut self.known {
            let Some(due_at_ms) = live.get(id) else {
                assert_ne!(known.state, Standing::Taken, "seed {seed}: {id} is lost");
                known.state = Standing::Gone;
                continue;
            };
            assert_ne!(
                known.state,
                Standing::Gone,
                "seed {seed}: {id} has come back"
            );
            let stored = log
                .read_meta(*id)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(
                stored.due_at_ms, *due_at_ms,
                "seed {seed}: due time of {id}"
            );
            let body = log
                .read_body(*id)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(body.concat(), known.body, "seed {seed}: body of {id}");
            let number = known
                .versions
                .iter()
                .rposition(|version| *version == stored);
            let number = number.unwrap_or_else(|| panic!("seed {seed}: strange metadata of {id}"));
            assert!(
                number >= known.durable_version,
                "seed {seed}: {id} has version {number}, not {}",
                known.durable_version
            );
            known.versions.truncate(number + 1);
            known.durable_version = number;
            known.state = Standing::Taken;
        }
        self.undurable.clear();
        self.promises.clear();
        let stats = log.stats();
        assert_eq!(
            (stats.corrupt_total, stats.damaged_count),
            (0, 0),
            "seed {seed}: damage where there is none: {stats:?}"
        );
    }

    fn turns(&mut self, writer: &mut Writer, most: u64) {
        let mut last = Turn::Again;
        for _ in 0..most {
            last = writer.turn();
            if last != Turn::Again {
                break;
            }
        }
        assert!(
            most < 1000 || last != Turn::Again,
            "seed {}: the writer never rests",
            self.seed
        );
        self.hear();
    }

    /// One life of the process: calls and turns until `calls` are done or the
    /// power is gone.
    fn live(&mut self, log: &SegmentLog, writer: &mut Writer, calls: u64) {
        for _ in 0..calls {
            self.call(log);
            if self.chance.one_in(3) {
                let most = 1 + self.chance.below(4);
                self.turns(writer, most);
            }
            if self.chance.one_in(8) {
                let time = Duration::from_millis(self.chance.below(1500));
                self.disk.advance(time);
            }
            if self.disk.power_is_cut() {
                break;
            }
        }
    }

    /// Without faults from here on the log must come to serve again.
    fn heal(&mut self, log: &SegmentLog, writer: &mut Writer) {
        self.disk.clear_faults();
        self.disk.set_capacity(u64::MAX);
        for _ in 0..4 {
            self.disk.advance(Duration::from_secs(2));
            self.turns(writer, 1000);
        }
        let mut flushed = log.flush();
        self.accept(log);
        let id = RecordId(self.next_id - 1);
        self.turns(writer, 1000);
        assert_eq!(
            flushed.try_result(),
            Some(Ok(())),
            "seed {}: flush",
            self.seed
        );
        assert_eq!(
            self.known[&id].state,
            Standing::Taken,
            "seed {}: accept",
            self.seed
        );
        let stats = log.stats();
        assert!(
            !stats.failed && !stats.full,
            "seed {}: {stats:?}",
            self.seed
        );
        // The flush came after everything the model had not seen made durable.
        self.made_durable(self.call_count);
    }

    /// With time enough, what is on disk is in proportion to what lives.
    fn assert_small(&mut self, log: &SegmentLog, writer: &mut Writer) {
        for _ in 0..4 {
            self.disk.advance(Duration::from_secs(60));
            self.turns(writer, 1000);
        }
        let stats = log.stats();
        let most = 2 * stats.live_bytes + 16 * self.segment_bytes;
        assert!(stats.disk_bytes <= most, "seed {}: {stats:?}", self.seed);
    }

    fn crash(&mut self, log: SegmentLog, writer: Writer) {
        self.hear();
        if self.disk.power_is_cut() || self.chance.one_in(2) {
            self.disk.power_cut();
        } else {
            self.disk.kill();
        }
        drop(writer);
        drop(log);
    }
}

fn run(seed: u64, fault: impl Fn(&mut Simulation), heals: bool) -> u64 {
    let mut simulation = Simulation::new(seed);
    for _ in 0..5 {
        let (log, mut writer) = simulation.open();
        simulation.verify(&log);
        fault(&mut simulation);
        simulation.quiet = simulation.chance.one_in(3);
        let calls = 20 + simulation.chance.below(120);
        simulation.live(&log, &mut writer, calls);
        // A process that dies while the disk fails leaves more to believe wrongly.
        let heals = heals && simulation.chance.one_in(2);
        if heals && !simulation.disk.power_is_cut() {
            simulation.heal(&log, &mut writer);
        }
        simulation.crash(log, writer);
    }
    let (log, mut writer) = simulation.open();
    simulation.verify(&log);
    simulation.heal(&log, &mut writer);
    simulation.assert_small(&log, &mut writer);
    simulation.acknowledged_count
}

fn run_seeds(seeds: std::ops::Range<u64>, fault: impl Fn(&mut Simulation), heals: bool) {
    let acknowledged: u64 = seeds.map(|seed| run(seed, &fault, heals)).sum();
    assert!(
        acknowledged > 1000,
        "only {acknowledged} messages acknowledged: nothing was tested"
    );
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let fault = |simulation: &mut Simulation| {
        let operations = simulation.chance.below(150);
        simulation.disk.cut_power_after(operations);
    };
    run_seeds(0..300, fault, false);
}

#[test]
fn nothing_is_lost_or_comes_back_when_the_process_is_killed() {
    run_seeds(1000..1100, |_| {}, false);
}

#[test]
fn a_failed_sync_is_never_believed() {
    let fault = |simulation: &mut Simulation| {
        let most = [4, 30][simulation.chance.below(2) as usize];
        let syncs = simulation.chance.below(most);
        simulation.disk.fail_sync_after(syncs);
        if simulation.chance.one_in(2) {
            let operations = 50 + simulation.chance.below(100);
            simulation.disk.cut_power_after(operations);
        }
    };
    run_seeds(2000..2100, fault, true);
}

#[test]
fn a_disk_that_goes_on_failing_is_waited_for() {
    let fault = |simulation: &mut Simulation| {
        let count = simulation.chance.below(20);
        simulation.disk.set_faults_persist(true);
        match simulation.chance.below(3) {
            0 => simulation.disk.fail_write_after(count),
            1 => simulation.disk.fail_sync_after(count),
            _ => simulation.disk.fail_directory_sync_after(count / 2),
        }
    };
    run_seeds(7000..7100, fault, true);
}

#[test]
fn what_cannot_be_read_for_a_while_is_not_given_up() {
    let fault = |simulation: &mut Simulation| {
        simulation.reads_fail = true;
        let persists = simulation.chance.one_in(2);
        simulation.disk.set_faults_persist(persists);
        let reads = simulation.chance.below(60);
        simulation.disk.fail_read_after(reads);
    };
    run_seeds(8000..8100, fault, true);
}

#[test]
fn a_failed_write_or_directory_sync_loses_nothing() {
    let fault = |simulation: &mut Simulation| {
        let count = simulation.chance.below(20);
        if simulation.chance.one_in(2) {
            simulation.disk.fail_write_after(count);
        } else {
            simulation.disk.fail_directory_sync_after(count / 2);
        }
    };
    run_seeds(3000..3100, fault, true);
}

#[test]
fn a_full_disk_refuses_mail_and_recovers() {
    let fault = |simulation: &mut Simulation| {
        let segments = 4 + simulation.chance.below(8);
        simulation
            .disk
            .set_capacity(segments * simulation.segment_bytes);
    };
    run_seeds(4000..4100, fault, true);
}

#[test]
fn a_write_that_finds_the_disk_full_half_way_loses_nothing() {
    let fault = |simulation: &mut Simulation| {
        let segments = 2 + simulation.chance.below(8);
        simulation.disk.set_sparse(true);
        simulation
            .disk
            .set_capacity(segments * simulation.segment_bytes);
    };
    run_seeds(5000..5100, fault, true);
}
