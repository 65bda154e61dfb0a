//! kill -9 at random times under load: nothing that was acknowledged is lost, and what arrives
//! twice was in flight when the relay died.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Relay, note, wait_for};
use crate::injector::Injector;
use crate::recorder::{Arrival, Recorder};

const ROUNDS: usize = 30;
const CLIENTS: usize = 8;
/// Each life of the relay acknowledges at least this much before it ends: a kill is under load.
const ACKNOWLEDGED_PER_LIFE: usize = 40;
/// A message is in flight from its delivery until the spool has noted it. That takes one write of
/// the log, and until then each client can have at most a message or two more on the way.
const IN_FLIGHT_LIMIT: usize = 8 * CLIENTS;

/// Clients that send until they are told to stop, each message with a subject of its own.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged_count: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged_count = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS)
            .map(|client| {
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&acknowledged_count));
                std::thread::spawn(move || send_until(&stop, address, client, &count))
            })
            .collect();
        Self {
            stop,
            acknowledged_count,
            clients,
        }
    }

    fn acknowledged_count(&self) -> usize {
        self.acknowledged_count.load(Ordering::Relaxed)
    }

    /// Ends the clients; the subjects of all messages that were answered 250.
    fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients
            .flat_map(|client| client.join().expect("clients do not panic"))
            .collect()
    }
}

fn send_until(
    stop: &AtomicBool,
    address: SocketAddr,
    client: usize,
    acknowledged_count: &AtomicUsize,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let body = "Not to be lost. 0123456789\r\n".repeat(64);
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut injector) = Injector::connect(address) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            // A number is never used again, acknowledged or not: each subject is one message.
            number += 1;
            let subject = format!("kill-{client}-{number}");
            let recipient = format!("{client}@destination.test");
            if injector.send(&[&recipient], &subject, &body).is_err() {
                break;
            }
            acknowledged.push(subject);
            acknowledged_count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

#[test]
fn kill_9_loses_nothing() {
    let recorder = Recorder::start();
    let mut relay = Relay::start(recorder.address, "");
    let load = Load::start(relay.smtp);
    // xorshift: the rounds differ, the runs hardly.
    let mut random: u64 = 0x9E37_79B9_7F4A_7C15;
    for _ in 0..ROUNDS {
        let before = load.acknowledged_count();
        wait_for("acknowledged messages", || {
            (load.acknowledged_count() >= before + ACKNOWLEDGED_PER_LIFE).then_some(())
        });
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The moment of the kill is what this test is about; nothing is concluded from its length.
        std::thread::sleep(Duration::from_micros(random % 1_000_000));
        relay.kill();
        recorder.next_life();
        relay.restart();
    }
    let acknowledged = load.finish();
    let subjects = |arrivals: &[Arrival]| -> BTreeSet<String> {
        arrivals
            .iter()
            .filter_map(|arrival| arrival.field("Subject"))
            .collect()
    };
    relay.wait_empty();
    let arrivals = recorder.arrivals();
    let lost: Vec<String> = acknowledged
        .difference(&subjects(&arrivals))
        .cloned()
        .collect();
    let twice = duplicates(&arrivals);
    let farthest = twice
        .iter()
        .map(|duplicate| duplicate.before_kill)
        .max()
        .unwrap_or(0);
    note(&format!(
        "kill -9, {ROUNDS} times: {} acknowledged, {} lost, {} arrived, {} of them again \
         (each among the last {} before a kill)",
        acknowledged.len(),
        lost.len(),
        arrivals.len(),
        twice.len(),
        farthest + 1,
    ));
    assert!(
        lost.is_empty(),
        "acknowledged and lost: {lost:?}\n{}",
        relay.log_tail()
    );
    for duplicate in &twice {
        assert_ne!(
            duplicate.life, duplicate.next_life,
            "twice without a kill: {duplicate:?}"
        );
        assert!(
            duplicate.before_kill < IN_FLIGHT_LIMIT,
            "not in flight: {duplicate:?}"
        );
    }
    relay.stop();
}

/// A message that arrived again.
#[derive(Debug)]
struct Duplicate {
    #[allow(dead_code, reason = "names it in a failure")]
    subject: String,
    /// Of the earlier copy.
    life: usize,
    /// Of the later copy.
    next_life: usize,
    /// How many messages arrived between the earlier copy and the end of its life.
    before_kill: usize,
}

fn duplicates(arrivals: &[Arrival]) -> Vec<Duplicate> {
    let mut in_life: BTreeMap<usize, usize> = BTreeMap::new();
    // Where each subject was seen last: the life, and its place in it.
    let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut found = Vec::new();
    for arrival in arrivals {
        let place = in_life.entry(arrival.life).or_insert(0);
        *place += 1;
        let subject = arrival.field("Subject").expect("each message has one");
        if let Some((life, place)) = seen.insert(subject.clone(), (arrival.life, *place)) {
            found.push((subject, life, place, arrival.life));
        }
    }
    let in_flight = |(subject, life, place, next_life): (String, usize, usize, usize)| Duplicate {
        subject,
        life,
        next_life,
        before_kill: in_life[&life] - place,
    };
    found.into_iter().map(in_flight).collect()
}

#[test]
fn duplicates_are_found_with_their_distance() {
    let arrival = |life, subject: &str| Arrival {
        life,
        sender: String::new(),
        recipients: Vec::new(),
        content: format!("Subject: {subject}\r\n\r\n"),
    };
    let arrivals = [
        arrival(0, "a"),
        arrival(0, "b"),
        arrival(0, "c"),
        arrival(1, "b"),
        arrival(1, "d"),
    ];
    let found = duplicates(&arrivals);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].life, found[0].next_life, found[0].before_kill),
        (0, 1, 1)
    );
}
