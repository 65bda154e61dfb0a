//! `cargo xtask bench --hostile`: what mail for others notices of plugins that misbehave.
//!
//! Two relays alike take turns. In both, some domains belong to a plugin each; in one these
//! plugins answer at once that their mail is to wait, in the other they loop, eat memory, recurse,
//! trap and ask without end. While that mail comes in at a steady rate, mail for another domain is
//! timed, message by message, from MAIL to its end of data at the next hop.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::relays::{self, Way};
use super::{BenchArgs, Steps};

/// What the plugins of the hostile relay do, each for a domain of its own.
const BEHAVIOURS: [&str; 8] = [
    "spin",
    "allocate",
    "recurse",
    "trap",
    "host-calls",
    "huge",
    "log",
    "many-hops",
];
/// Between two messages of the plugins' domains, each to the next of them.
const ATTACK_EVERY: Duration = Duration::from_millis(20);
/// Between two messages that are timed.
const GOOD_EVERY: Duration = Duration::from_millis(10);
/// How many are timed in a round.
const GOOD_COUNT: usize = 1500;
/// How long one may take before the run is given up.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// Measures and prints.
///
/// # Errors
/// When something does not start, or mail does not arrive.
pub(super) fn run(
    waypost: &Path,
    components: &[PathBuf],
    work_dir: &Path,
    steps: &mut Steps,
    args: &BenchArgs,
) -> anyhow::Result<()> {
    let guest = relays::component(components, "misbehave.wasm")?;
    let sink = Sink::start()?;
    let mut ways = Vec::new();
    for (name, behave) in [("well-behaved", false), ("hostile", true)] {
        let plugins = plugins(guest, behave);
        ways.push(relays::relay(
            name,
            waypost,
            sink.address,
            &plugins,
            &work_dir.join(name),
        )?);
    }
    steps.begin(&format!(
        "{} rounds of {GOOD_COUNT} timed messages beside {} a second for {} plugins",
        args.rounds,
        1000 / ATTACK_EVERY.as_millis(),
        BEHAVIOURS.len()
    ));
    let mut samples: Vec<Vec<[Duration; 3]>> = vec![Vec::new(); ways.len()];
    for round in 1..=args.rounds {
        for (way, samples) in ways.iter().zip(&mut samples) {
            let sample = measure(way, &sink)?;
            println!(
                "      round {round}: {:<14} p50 {:?}  p99 {:?}  max {:?}",
                way.name, sample[0], sample[1], sample[2]
            );
            samples.push(sample);
        }
    }
    let middle = |samples: &[[Duration; 3]], at: usize| {
        super::meter::median(
            samples
                .iter()
                .map(|sample| sample[at].as_secs_f64() * 1000.0),
        )
    };
    println!();
    for (way, samples) in ways.iter().zip(&samples) {
        println!(
            "{:<14} p50 {:.2} ms  p99 {:.2} ms",
            way.name,
            middle(samples, 0),
            middle(samples, 1)
        );
    }
    println!(
        "p99 beside hostile plugins, over p99 beside well-behaved ones: {:.2}",
        middle(&samples[1], 1) / middle(&samples[0], 1)
    );
    for way in ways {
        if let Some(relay) = way.relay {
            relay.stop()?;
        }
    }
    Ok(())
}

/// A plugin for each domain; never out of the chain, or the worst would soon be over.
fn plugins(guest: &Path, hostile: bool) -> String {
    let mut text = String::new();
    for name in BEHAVIOURS {
        let behaviour = if hostile { name } else { "defer" };
        text.push_str(&format!(
            "[[plugin]]\nname = \"{name}\"\npath = {guest:?}\ndomains = [\"{name}.test\"]\n\
             breaker = {{ failures = 0 }}\nconfig = {{ behaviour = \"{behaviour}\", lines = 100000 }}\n"
        ));
    }
    text
}

/// One round: p50, p99 and the longest.
fn measure(way: &Way, sink: &Sink) -> anyhow::Result<[Duration; 3]> {
    let over = Arc::new(AtomicBool::new(false));
    let attack = {
        let (over, address) = (Arc::clone(&over), way.address);
        std::thread::spawn(move || attack(address, &over))
    };
    let timed = time_messages(way.address, sink);
    over.store(true, Ordering::Relaxed);
    let attacked = attack.join();
    let mut latencies = timed?;
    match attacked {
        Ok(Ok(_count)) => {}
        Ok(Err(error)) => return Err(error.context("mail for the plugins was not taken")),
        Err(_panic) => bail!("the injector ended"),
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    Ok([at(50), at(99), at(100)])
}

/// Sends mail to each plugin's domain in turn until it is over.
fn attack(address: SocketAddr, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut client = Client::connect(address)?;
    let mut count = 0;
    let started_at = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let domain = BEHAVIOURS[count % BEHAVIOURS.len()];
        client.send(&format!("x@{domain}.test"), "attack")?;
        count += 1;
        pause_until(started_at + ATTACK_EVERY * u32::try_from(count)?);
    }
    Ok(count)
}

fn time_messages(address: SocketAddr, sink: &Sink) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::connect(address)?;
    let mut sent_at = Vec::with_capacity(GOOD_COUNT);
    let started_at = Instant::now();
    for number in 0..GOOD_COUNT {
        pause_until(started_at + GOOD_EVERY * u32::try_from(number)?);
        sent_at.push(Instant::now());
        client.send("you@good.test", &format!("timed {number}"))?;
    }
    let waiting_since = Instant::now();
    loop {
        let arrived = sink.take_if(GOOD_COUNT);
        if let Some(arrived) = arrived {
            let latency = |(number, sent_at): (usize, &Instant)| {
                let at = arrived.get(&number).context("a message did not arrive")?;
                Ok(at.duration_since(*sent_at))
            };
            return sent_at.iter().enumerate().map(latency).collect();
        }
        if waiting_since.elapsed() > ARRIVAL_LIMIT {
            bail!("not all messages arrived within {ARRIVAL_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pause_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// One connection into a relay, waiting for each reply.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            reader: BufReader::new(stream),
        };
        client.reply("220")?;
        client.say("EHLO bench.test", "250")?;
        Ok(client)
    }

    fn send(&mut self, to: &str, subject: &str) -> anyhow::Result<()> {
        self.say("MAIL FROM:<sender@source.test>", "250")?;
        self.say(&format!("RCPT TO:<{to}>"), "250")?;
        self.say("DATA", "354")?;
        self.say(&format!("Subject: {subject}\r\n\r\nHello\r\n."), "250")
    }

    fn say(&mut self, line: &str, wanted: &str) -> anyhow::Result<()> {
        self.reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
        self.reply(wanted)
    }

    fn reply(&mut self, wanted: &str) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 || !line.starts_with(wanted) {
                bail!("wanted {wanted}, got {line:?}");
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

/// A next hop that notes when each timed message came to its end.
struct Sink {
    address: SocketAddr,
    arrived: Arc<Mutex<HashMap<usize, Instant>>>,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let arrived = Arc::new(Mutex::new(HashMap::new()));
        let noted = Arc::clone(&arrived);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                // A relay that hangs up is done.
                std::thread::spawn(move || drop(serve(stream, &noted)));
            }
        });
        Ok(Self { address, arrived })
    }

    /// What arrived, once it is so many.
    fn take_if(&self, count: usize) -> Option<HashMap<usize, Instant>> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        (arrived.len() >= count).then(|| std::mem::take(&mut *arrived))
    }
}

fn serve(stream: TcpStream, noted: &Mutex<HashMap<usize, Instant>>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    out.write_all(b"220 sink.test\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let word = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        if word != "DATA" {
            out.write_all(b"250 2.0.0 OK\r\n")?;
            continue;
        }
        out.write_all(b"354 go on\r\n")?;
        let mut number = None;
        for line in lines.by_ref() {
            let line = line?;
            if line == "." {
                break;
            }
            if let Some(text) = line.strip_prefix("Subject: timed ") {
                number = text.trim().parse().ok();
            }
        }
        if let Some(number) = number {
            let now = Instant::now();
            noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(number, now);
        }
        out.write_all(b"250 2.0.0 OK\r\n")?;
    }
    Ok(())
}
