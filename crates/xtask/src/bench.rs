//! `cargo xtask bench`: messages a second and CPU per message, side by side in one run.
//!
//! Machines are noisy, so nothing here is worth quoting but the ratios: the ways take turns,
//! round by round, and the medians are compared. One sink serves the whole run. A way's time ends
//! when the sink has counted its last message, so it covers the queue and not only the injection.

mod hostile;
mod meter;
mod relays;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::process::Service;
use crate::programs::{Program, SMTP_SINK, SMTP_SOURCE};
use crate::steps::{Steps, cargo, succeed};
use crate::{plugins, target_dir};
use meter::{Sample, SinkCounter, cpu_seconds};
use relays::Way;

/// How long one way may take in one round before the run is given up.
const WAY_LIMIT: Duration = Duration::from_secs(600);
/// After the last message has arrived the relay still notes it down: that work is its cost too.
const SETTLE: Duration = Duration::from_millis(1500);

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// Messages in each measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
    /// Size of each body, in bytes.
    #[arg(long, default_value_t = 4096)]
    size_bytes: u32,
    /// Concurrent sessions of the injector.
    #[arg(long, default_value_t = 20)]
    sessions: u32,
    /// Rounds; each measures every way once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One message per connection, instead of many over each.
    #[arg(long)]
    reconnect: bool,
    /// Measure instead how long mail takes beside plugins that misbehave.
    #[arg(long)]
    hostile: bool,
}

/// Builds, measures and prints the table.
///
/// # Errors
/// When Postfix's tools are missing, a build fails, or messages do not arrive.
pub(crate) fn bench(root: &Path, args: &BenchArgs) -> anyhow::Result<()> {
    let source = installed(SMTP_SOURCE)?;
    let sink_program = installed(SMTP_SINK)?;
    let mut steps = Steps::new(3);
    steps.begin("the sample plugins, to WebAssembly components");
    let components = plugins::build_plugins(root)?;
    steps.begin("the relay as a release build");
    succeed(cargo(root).args(["build", "--release", "--package", "waypost-cli"]))?;

    let work_dir = target_dir(root).join("bench");
    if work_dir.exists() {
        std::fs::remove_dir_all(&work_dir)?;
    }
    std::fs::create_dir_all(&work_dir)?;
    let waypost = target_dir(root).join("release/waypost");
    if args.hostile {
        return hostile::run(&waypost, &components, &work_dir, &mut steps, args);
    }
    let sink = SinkCounter::start(&sink_program, &work_dir)?;
    let ways = relays::start(&waypost, &components, sink.address(), &work_dir)?;

    steps.begin(&format!(
        "{} rounds of {} messages of {} bytes over {} sessions, {}",
        args.rounds,
        args.messages,
        args.size_bytes,
        args.sessions,
        if args.reconnect {
            "one a connection"
        } else {
            "many a connection"
        }
    ));
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ways.len()];
    for round in 1..=args.rounds {
        for (way, samples) in ways.iter().zip(&mut samples) {
            let sample = measure(way, &source, &sink, args)?;
            println!(
                "      round {round}: {:<28} {:>7.0} messages/s",
                way.name, sample.messages_per_second
            );
            samples.push(sample);
        }
    }
    print_table(&ways, &samples);
    for way in ways {
        if let Some(relay) = way.relay {
            relay.stop()?;
        }
    }
    Ok(())
}

fn installed(program: Program) -> anyhow::Result<PathBuf> {
    program.find().with_context(|| {
        format!(
            "{} is not installed (Debian: {})",
            program.name, program.package
        )
    })
}

/// One way, once: inject, wait until the sink has counted everything.
fn measure(
    way: &Way,
    source: &Path,
    sink: &SinkCounter,
    args: &BenchArgs,
) -> anyhow::Result<Sample> {
    let counted_before = sink.count()?;
    let cpu_before = way
        .relay
        .as_ref()
        .map(|relay| cpu_seconds(relay.id()))
        .transpose()?;
    let mut command = injection(source, way, args);
    let started_at = Instant::now();
    let mut injector = Service::start("smtp-source", &mut command)?;
    let mut injected = false;
    loop {
        let arrived = sink.count()? - counted_before;
        if arrived >= args.messages {
            break;
        }
        if !injected && let Some(status) = injector.ended()? {
            if !status.success() {
                bail!("smtp-source ended with {status} on the way '{}'", way.name);
            }
            injected = true;
        }
        if started_at.elapsed() > WAY_LIMIT {
            bail!(
                "{arrived} of {} messages arrived on the way '{}'",
                args.messages,
                way.name
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = started_at.elapsed();
    std::thread::sleep(SETTLE);
    let arrived = sink.count()? - counted_before;
    if arrived != args.messages {
        bail!(
            "{arrived} messages arrived on the way '{}', not {}",
            way.name,
            args.messages
        );
    }
    let cpu_ms_per_message = match (cpu_before, &way.relay) {
        (Some(before), Some(relay)) => {
            Some((cpu_seconds(relay.id())? - before) * 1000.0 / as_float(args.messages))
        }
        _ => None,
    };
    Ok(Sample {
        messages_per_second: as_float(args.messages) / elapsed.as_secs_f64(),
        cpu_ms_per_message,
    })
}

/// `-N` numbers the recipients, so that no cache makes one way look better than mail would.
fn injection(source: &Path, way: &Way, args: &BenchArgs) -> Command {
    let mut command = Command::new(source);
    command
        .args([
            "-N",
            "-f",
            "sender@source.test",
            "-t",
            "recipient@destination.test",
            "-C",
            "20",
        ])
        .args([
            "-s",
            &args.sessions.to_string(),
            "-m",
            &args.messages.to_string(),
        ])
        .args(["-l", &args.size_bytes.to_string()])
        .args((!args.reconnect).then_some("-d"))
        .arg(way.address.to_string())
        .stdout(Stdio::null());
    command
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of messages stay far below 2^52"
)]
fn as_float(count: u64) -> f64 {
    count as f64
}

fn print_table(ways: &[Way], samples: &[Vec<Sample>]) {
    let rate =
        |samples: &[Sample]| meter::median(samples.iter().map(|sample| sample.messages_per_second));
    let (direct, plain) = (rate(&samples[0]), rate(&samples[1]));
    println!();
    println!(
        "{:<28} {:>12} {:>22} {:>10} {:>10} {:>18}",
        "way", "messages/s", "lowest … highest", "of direct", "of plain", "CPU s per 1000"
    );
    for (way, samples) in ways.iter().zip(samples) {
        let median = rate(samples);
        let rates = samples.iter().map(|sample| sample.messages_per_second);
        let range = format!(
            "{:.0} … {:.0}",
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(0.0, f64::max)
        );
        // Milliseconds a message are seconds per thousand.
        let cpu: Vec<f64> = samples
            .iter()
            .filter_map(|sample| sample.cpu_ms_per_message)
            .collect();
        let cpu = if cpu.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.3}", meter::median(cpu.into_iter()))
        };
        println!(
            "{:<28} {median:>12.0} {range:>22} {:>10.2} {:>10.2} {cpu:>18}",
            way.name,
            median / direct,
            median / plain
        );
    }
    println!();
    println!(
        "Medians of {} rounds; CPU is the relay's own, user and system.",
        samples[0].len()
    );
}
