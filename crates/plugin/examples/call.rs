//! What a routing call costs: microseconds and CPU of calls to the sample plugin
//! `smarthost-table`, one after the other, with a new instance each.
//!
//! `cargo xtask plugins && cargo run --release -p waypost-plugin --example call`

#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures on the machine's own clock"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin::{
    Allocation, EmptyEnvironment, HostOptions, Plugin, PluginHost, PluginSpec, Recipient,
    RouteRequest,
};

const CALLS: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<12}{:>8}{:>9}{:>9}{:>9}{:>14}",
        "instances", "table", "p50 µs", "p90 µs", "p99 µs", "CPU p50 µs"
    )?;
    for allocation in [Allocation::Auto, Allocation::OnDemand] {
        let host = PluginHost::new(HostOptions {
            allocation,
            ..HostOptions::new(Arc::new(|| 0), 0)
        })?;
        let kind = match host.allocation() {
            Allocation::Auto => "pooled",
            Allocation::OnDemand => "on demand",
        };
        for entries in [1, 1000] {
            let plugin = host.load(spec(entries)?).await?;
            let (walls, cpus) = measure(&plugin).await?;
            writeln!(
                out,
                "{kind:<12}{entries:>8}{:>9.1}{:>9.1}{:>9.1}{:>14.1}",
                micros(&walls, 50),
                micros(&walls, 90),
                micros(&walls, 99),
                micros(&cpus, 50)
            )?;
        }
    }
    Ok(())
}

/// A percentile of sorted times.
fn micros(sorted: &[Duration], part: usize) -> f64 {
    sorted[(sorted.len() - 1) * part / 100].as_secs_f64() * 1e6
}

/// A table of so many domains, the one asked for among them.
fn spec(entries: usize) -> Result<PluginSpec, Box<dyn std::error::Error>> {
    let mut config = String::from("[routes]\n\"example.com\" = \"relay.example.net:2525\"\n");
    for entry in 1..entries {
        writeln!(config, "\"d{entry}.example\" = \"relay.example.net\"")?;
    }
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/smarthost-table.wasm");
    let mut spec = PluginSpec::new("smarthost-table", path);
    spec.config = config.parse()?;
    spec.grants.route_hosts = vec!["relay.example.net".parse()?];
    // The check of a large table takes its time; the calls do not.
    spec.limits.cpu = Duration::from_millis(200);
    Ok(spec)
}

/// Wall and CPU time of each call, sorted.
async fn measure(
    plugin: &Plugin,
) -> Result<(Vec<Duration>, Vec<Duration>), Box<dyn std::error::Error>> {
    let recipient: smtp::Mailbox = "a@example.com".parse()?;
    let domain = recipient.domain().clone();
    let recipients = vec![Recipient::from(recipient)];
    let request = Arc::new(RouteRequest::new("0000000000001", domain, recipients));
    let environment = Arc::new(EmptyEnvironment);
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let started = Instant::now();
        let call = plugin.route(request.clone(), environment.clone()).await?;
        walls.push(started.elapsed());
        cpus.push(call.stats.cpu);
    }
    walls.sort();
    cpus.sort();
    Ok((walls, cpus))
}
