//! What a routing call costs: microseconds and CPU of calls to a sample plugin, one
//! after the other, beside a native function that does nothing.
//!
//! `cargo xtask plugins && cargo run --release -p waypost-plugin --example call`
//!
//! Arguments: how many calls of each kind (20000), and which kinds (all: `new`,
//! `reused`, `on-demand`).

#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures on the machine's own clock"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin::{
    Allocation, CallEnvironment, EmptyEnvironment, HostOptions, Input, Instances, Plugin,
    PluginHost, PluginSpec, Recipient, RouteRequest,
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let calls = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let wanted: Vec<String> = arguments.collect();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<12}{:>9}{:>9}{:>9}{:>14}{:>12}",
        "instances", "p50 µs", "p90 µs", "p99 µs", "CPU p50 µs", "calls/s"
    )?;
    for kind in ["new", "reused", "on-demand"] {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == kind) {
            continue;
        }
        let plugin = load(kind).await?;
        let mut times = measure(&plugin, calls).await?;
        report(&mut out, kind, &mut times)?;
    }
    report(&mut out, "native", &mut native(calls))?;
    Ok(())
}

/// Wall and CPU time of each call, and of all.
struct Times {
    walls: Vec<Duration>,
    cpus: Vec<Duration>,
    all: Duration,
}

fn report(out: &mut impl std::io::Write, kind: &str, times: &mut Times) -> Result<(), Failure> {
    times.walls.sort();
    times.cpus.sort();
    let micros = |sorted: &[Duration], part: usize| {
        let at = sorted.len().saturating_sub(1) * part / 100;
        sorted.get(at).map_or(0.0, Duration::as_secs_f64) * 1e6
    };
    #[allow(clippy::cast_precision_loss, reason = "a count of calls is small")]
    let rate = times.walls.len() as f64 / times.all.as_secs_f64();
    writeln!(
        out,
        "{kind:<12}{:>9.2}{:>9.2}{:>9.2}{:>14.2}{rate:>12.0}",
        micros(&times.walls, 50),
        micros(&times.walls, 90),
        micros(&times.walls, 99),
        micros(&times.cpus, 50)
    )?;
    Ok(())
}

/// The sample with a table of one domain.
async fn load(kind: &str) -> Result<Plugin, Failure> {
    let host = PluginHost::new(HostOptions {
        allocation: if kind == "on-demand" {
            Allocation::OnDemand
        } else {
            Allocation::Auto
        },
        ..HostOptions::new(Arc::new(|| 0), 0)
    })?;
    let directory = std::env::var_os("WAYPOST_PLUGINS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"),
        PathBuf::from,
    );
    let path = directory.join("smarthost-table.wasm");
    let mut spec = PluginSpec::new("smarthost-table", path);
    spec.config = "routes.\"example.com\" = \"relay.example.net:2525\"".parse()?;
    spec.grants.route_hosts = vec!["relay.example.net".parse()?];
    if kind == "reused" {
        spec.instances = Instances {
            reuse: u32::MAX,
            ..Instances::default()
        };
    }
    Ok(host.load(spec).await?)
}

fn request() -> Result<Arc<RouteRequest>, Failure> {
    let recipient: smtp::Mailbox = "a@example.com".parse()?;
    let domain = recipient.domain().clone();
    let recipients = vec![Recipient::from(recipient)];
    Ok(Arc::new(RouteRequest::new(
        "0000000000001",
        domain,
        recipients,
    )))
}

async fn measure(plugin: &Plugin, calls: usize) -> Result<Times, Failure> {
    let request = request()?;
    let environment: Arc<dyn CallEnvironment> = Arc::new(EmptyEnvironment);
    let (mut walls, mut cpus) = (Vec::with_capacity(calls), Vec::with_capacity(calls));
    let begun = Instant::now();
    for _ in 0..calls {
        let started = Instant::now();
        let input = Input::Route(Arc::clone(&request));
        let call = plugin.call(input, Arc::clone(&environment)).await?;
        walls.push(started.elapsed());
        cpus.push(call.stats.cpu);
    }
    let all = begun.elapsed();
    Ok(Times { walls, cpus, all })
}

/// The least that a policy could cost: a call that cannot be taken away.
fn native(calls: usize) -> Times {
    #[inline(never)]
    fn policy(input: &Input) -> Vec<plugin::Verdict> {
        black_box(input);
        Vec::new()
    }
    let input = Input::Message;
    let mut walls = Vec::with_capacity(calls);
    let begun = Instant::now();
    for _ in 0..calls {
        let started = Instant::now();
        black_box(policy(black_box(&input)));
        walls.push(started.elapsed());
    }
    let all = begun.elapsed();
    Times {
        walls,
        cpus: Vec::new(),
        all,
    }
}
