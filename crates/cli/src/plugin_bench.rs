//! `waypost plugin bench`: what a call costs, beside a native policy that decides nothing.
//!
//! Calls are made one after the other, so the numbers are of one core; a call is measured from
//! outside, with everything that the relay's own calls have around them in the host.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures time; nothing is decided by it"
)]

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use plugin::cases::{CaseFile, SampleCall};
use plugin::{CallEnvironment, Input, Instances, Output, PluginHost, PluginSpec};
use serde::Serialize;

use crate::plugin_test::{Subject, host};

/// Options of `waypost plugin bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// A component, or the directory of a plugin that has been built.
    #[arg(value_name = "COMPONENT|DIR", default_value = ".")]
    plugin: PathBuf,
    /// Others to be measured in the same run, by the same case.
    #[arg(long, value_name = "COMPONENT|DIR", num_args = 1..)]
    compare: Vec<PathBuf>,
    /// Directory of the cases; without it those of the plugin.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// The case whose first call is made; without it the first that expects an answer.
    #[arg(long)]
    case: Option<String>,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Calls that an instance serves where instances are reused.
    #[arg(long, default_value_t = 1000)]
    reuse: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    plugin: String,
    instances: &'static str,
    calls: usize,
    p50_us: f64,
    p99_us: f64,
    calls_per_second: f64,
    cpu_p50_us: f64,
    memory_bytes: usize,
    host_calls: u32,
    size_bytes: u64,
    load_ms: f64,
}

/// Calls before anything is counted.
const WARM_UP: usize = 100;

/// Interpreters take more than the default limits of a relay; what they take is measured here, not
/// forbidden.
const MEMORY_BYTES: usize = 64 << 20;

/// Measures, and prints the table.
#[allow(clippy::print_stdout)] // the table is the answer
pub(crate) async fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let first = Subject::find(&args.plugin, args.cases.as_deref())?;
    let files = CaseFile::read_directory(&first.cases)?;
    let cache = tempfile::tempdir().context("no place for compiled code")?;
    let host = host(cache.path())?;
    let mut lines = Vec::new();
    let sample = sample(&files, args, &first)?;
    lines.push(native(args, &sample).await);
    let case = sample.case.clone();
    let mut subjects = vec![first];
    for path in &args.compare {
        subjects.push(Subject::find(path, args.cases.as_deref())?);
    }
    for subject in &subjects {
        let sample = self::sample(&files, args, subject)?;
        lines.extend(measure(args, &host, subject, &sample).await?);
    }
    if args.json {
        println!("{:#}", serde_json::json!({ "case": case, "lines": lines }));
    } else {
        println!("case: {case}\n\n{}", table(&lines));
    }
    Ok(())
}

fn sample(files: &[CaseFile], args: &BenchArgs, subject: &Subject) -> anyhow::Result<SampleCall> {
    let mut spec = PluginSpec::new(&subject.name, &subject.component);
    spec.limits.memory_bytes = MEMORY_BYTES;
    spec.limits.cpu = Duration::from_secs(1);
    let found = files
        .iter()
        .find_map(|file| file.sample_call(args.case.as_deref(), &spec));
    match (found, &args.case) {
        (Some(sample), _) => Ok(sample),
        (None, Some(name)) => bail!("no case {name:?} expects an answer"),
        (None, None) => bail!("no case expects an answer"),
    }
}

/// Both ways that instances may live.
async fn measure(
    args: &BenchArgs,
    host: &PluginHost,
    subject: &Subject,
    sample: &SampleCall,
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let started = Instant::now();
    // Kept, so that the code is compiled once.
    let compiled = host
        .load(sample.spec.clone())
        .await
        .with_context(|| format!("{} cannot be loaded", subject.component.display()))?;
    let load = started.elapsed();
    for (instances, reuse) in [("new", 1), ("reused", args.reuse.max(2))] {
        let spec = PluginSpec {
            instances: Instances {
                reuse,
                ..Instances::default()
            },
            ..sample.spec.clone()
        };
        let plugin = host.load(spec).await?;
        let mut measured = Measured::new(args.seconds);
        while measured.wants_more() {
            let started = Instant::now();
            let call = plugin
                .call(sample.input.clone(), Arc::clone(&sample.environment))
                .await
                .with_context(|| format!("a call of {} failed", subject.name))?;
            measured.add(started.elapsed(), call.stats.cpu);
            measured.memory_bytes = measured.memory_bytes.max(call.stats.memory_peak_bytes);
            measured.host_calls = call.stats.host_calls;
        }
        lines.push(Line {
            size_bytes: plugin.inspect().size_bytes,
            load_ms: load.as_secs_f64() * 1e3,
            ..measured.line(&subject.name, instances)
        });
    }
    drop(compiled);
    Ok(lines)
}

/// A policy that is part of the relay and has no opinion: what the seam costs without a plugin.
trait NativePolicy: Send + Sync {
    fn call<'a>(
        &'a self,
        input: Input,
        environment: Arc<dyn CallEnvironment>,
    ) -> Pin<Box<dyn Future<Output = Output> + Send + 'a>>;
}

struct NoOpinion;

impl NativePolicy for NoOpinion {
    fn call<'a>(
        &'a self,
        input: Input,
        environment: Arc<dyn CallEnvironment>,
    ) -> Pin<Box<dyn Future<Output = Output> + Send + 'a>> {
        Box::pin(async move {
            std::hint::black_box((&input, &environment));
            Output::Route(Vec::new())
        })
    }
}

async fn native(args: &BenchArgs, sample: &SampleCall) -> Line {
    let policy: Box<dyn NativePolicy> = Box::new(NoOpinion);
    let mut measured = Measured::new(args.seconds);
    while measured.wants_more() {
        let started = Instant::now();
        let output = policy
            .call(sample.input.clone(), Arc::clone(&sample.environment))
            .await;
        std::hint::black_box(output);
        measured.add(started.elapsed(), Duration::ZERO);
    }
    measured.line("native, no opinion", "none")
}

/// Times of calls.
struct Measured {
    until: Option<Instant>,
    seconds: f64,
    warm_up: usize,
    walls: Vec<Duration>,
    cpus: Vec<Duration>,
    memory_bytes: usize,
    host_calls: u32,
}

/// Enough for any percentile, and no more memory than the machine has.
const CALLS_MAX: usize = 2_000_000;

impl Measured {
    fn new(seconds: f64) -> Self {
        Self {
            until: None,
            seconds,
            warm_up: WARM_UP,
            walls: Vec::new(),
            cpus: Vec::new(),
            memory_bytes: 0,
            host_calls: 0,
        }
    }

    fn wants_more(&self) -> bool {
        let enough = self.walls.len() >= CALLS_MAX;
        !enough && self.until.is_none_or(|until| Instant::now() < until)
    }

    fn add(&mut self, wall: Duration, cpu: Duration) {
        if self.warm_up > 0 {
            self.warm_up -= 1;
            if self.warm_up == 0 {
                let span = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
                self.until = Some(Instant::now() + span);
            }
            return;
        }
        self.walls.push(wall);
        self.cpus.push(cpu);
    }

    fn line(mut self, plugin: &str, instances: &'static str) -> Line {
        let total: Duration = self.walls.iter().sum();
        self.walls.sort_unstable();
        self.cpus.sort_unstable();
        #[allow(clippy::cast_precision_loss, reason = "two million at most")]
        let calls = self.walls.len() as f64;
        Line {
            plugin: plugin.to_owned(),
            instances,
            calls: self.walls.len(),
            p50_us: micros(&self.walls, 50),
            p99_us: micros(&self.walls, 99),
            calls_per_second: calls / total.as_secs_f64().max(1e-9),
            cpu_p50_us: micros(&self.cpus, 50),
            memory_bytes: self.memory_bytes,
            host_calls: self.host_calls,
            size_bytes: 0,
            load_ms: 0.0,
        }
    }
}

/// A percentile of sorted times.
fn micros(sorted: &[Duration], part: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * part / 100;
    sorted.get(at).map_or(0.0, Duration::as_secs_f64) * 1e6
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| plugin | instances | p50 µs | p99 µs | calls/s | CPU p50 µs | memory KiB | host calls | component KiB | load ms |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for line in lines {
        text.push_str(&format!(
            "| {} | {} | {:.2} | {:.2} | {:.0} | {:.2} | {} | {} | {} | {:.0} |\n",
            line.plugin,
            line.instances,
            line.p50_us,
            line.p99_us,
            line.calls_per_second,
            line.cpu_p50_us,
            line.memory_bytes / 1024,
            line.host_calls,
            line.size_bytes / 1024,
            line.load_ms,
        ));
    }
    text.push_str(
        "\nOne call after the other. `new`: an instance for each call; `reused`: one instance serves many.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=101).map(Duration::from_micros).collect();
        assert!((micros(&times, 50) - 51.0).abs() < 1e-6);
        assert!((micros(&times, 99) - 100.0).abs() < 1e-6);
        assert!(micros(&[], 50).abs() < 1e-9);
    }
}
