//! `cargo xtask run`: from a fresh clone to a running relay, and the line that sends a message.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::process::{Service, Stop, demand_free, wait_ready};
use crate::steps::{Steps, cargo, succeed};
use crate::{plugins, target_dir};

/// Addresses of config/quickstart.toml.
const SMTP: &str = "127.0.0.1:2525";
const ADMIN: &str = "127.0.0.1:9925";
const SINK: &str = "127.0.0.1:2526";
const CONFIG: &str = "config/quickstart.toml";
/// Both addresses are in the printed line, and the sink shows them.
const SENDER: &str = "me@example.org";
const RECIPIENT: &str = "you@example.com";

const READY_LIMIT: Duration = Duration::from_secs(60);
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// Options of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Do not start a sink: you have something listening on 127.0.0.1:2526.
    #[arg(long)]
    no_sink: bool,
    /// Send one message with the printed line, wait until the sink shows it, and end.
    #[arg(long, conflicts_with = "no_sink")]
    smoke: bool,
}

/// Builds what is missing, starts sink and relay, and stays until Ctrl-C.
///
/// # Errors
/// When a build fails, an address is taken, or one of the programs ends by itself.
pub(crate) fn run(root: &Path, args: &RunArgs) -> anyhow::Result<()> {
    for (address, what) in [
        (SMTP, "SMTP"),
        (ADMIN, "admin and metrics"),
        (SINK, "the sink"),
    ] {
        if !(args.no_sink && address == SINK) {
            demand_free(parse(address), what)?;
        }
    }
    let mut steps = Steps::new(if args.no_sink { 3 } else { 4 });
    let waypost = build(root, &mut steps)?;

    let stop = Stop::listen()?;
    let mut sink = None;
    if !args.no_sink {
        steps.begin(&format!(
            "a sink on {SINK}, which shows each message that reaches it"
        ));
        let mut command = Command::new(&waypost);
        command
            .args(["sink", "--listen", SINK])
            .current_dir(root)
            .stdout(Stdio::piped());
        sink = Some(Service::start("the sink", &mut command)?);
    }
    let arrivals = sink.as_mut().map(Service::lines);
    steps.begin(&format!("the relay on {SMTP}, configured by {CONFIG}"));
    let mut command = Command::new(&waypost);
    command.args(["run", "--config", CONFIG]).current_dir(root);
    let mut relay = Service::start("the relay", &mut command)?;

    let mut services: Vec<&mut Service> = sink.iter_mut().chain([&mut relay]).collect();
    wait_ready(parse(ADMIN), &mut services, READY_LIMIT, Some(&stop))?;
    let lines = Lines::new(root, &waypost);
    lines.print(args.no_sink);
    let outcome = if let (true, Some(arrivals)) = (args.smoke, &arrivals) {
        smoke(root, &lines, arrivals)
    } else {
        stay(&mut services, &stop)
    };

    println!("stopping the relay, then the sink");
    let status = relay.stop()?;
    if let Some(sink) = sink {
        sink.stop()?;
    }
    outcome?;
    if !status.success() {
        bail!("the relay ended with {status}");
    }
    Ok(())
}

/// The first two steps; the path of the `waypost` that was built.
fn build(root: &Path, steps: &mut Steps) -> anyhow::Result<PathBuf> {
    steps.begin(
        "the sample plugins, to WebAssembly components (fetches the target if it is missing)",
    );
    let components = plugins::build_plugins(root)?;
    println!("      {} components built", components.len());
    steps.begin("the relay as a release build; the first one takes some minutes");
    succeed(cargo(root).args(["build", "--release", "--package", "waypost-cli"]))?;
    Ok(target_dir(root).join("release/waypost"))
}

/// Waits for the user to end it, or for a service that ends by itself.
fn stay(services: &mut [&mut Service], stop: &Stop) -> anyhow::Result<()> {
    while !stop.wanted() {
        for service in services.iter_mut() {
            if let Some(status) = service.ended()? {
                bail!("{} ended by itself with {status}", service.name());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The lines that we print for the user to type; `--smoke` runs the very same ones.
struct Lines {
    send: String,
    explain: String,
}

impl Lines {
    fn new(root: &Path, waypost: &Path) -> Self {
        // From the root of the clone the short form works; it is what people will see.
        let shown = waypost.strip_prefix(root).unwrap_or(waypost).display();
        Self {
            send: format!("{shown} send --server {SMTP} --from {SENDER} --to {RECIPIENT}"),
            explain: format!("{shown} explain --config {CONFIG} --from {SENDER} --to {RECIPIENT}"),
        }
    }

    fn print(&self, no_sink: bool) {
        println!();
        println!("Ready. Send a message from another terminal, in this directory:");
        println!();
        println!("    {}", self.send);
        println!();
        println!("  or with any client:  swaks --server {SMTP} -f {SENDER} -t {RECIPIENT}");
        if !no_sink {
            println!("  and it is shown here, by the sink behind the relay.");
        }
        println!();
        println!("Where it goes and why:");
        println!();
        println!("    {}", self.explain);
        println!();
        println!("Metrics: http://{ADMIN}/metrics   Queue and bodies: ./var   End: Ctrl-C");
        println!();
    }
}

/// Types the printed lines for the user and waits until the sink has shown the message.
fn smoke(root: &Path, lines: &Lines, arrivals: &Receiver<String>) -> anyhow::Result<()> {
    let token = format!("smoke-{}", std::process::id());
    let send = format!("{} --subject {token}", lines.send);
    println!("$ {send}");
    succeed(Command::new("sh").args(["-c", &send]).current_dir(root))?;
    let sent_at = Instant::now();
    let mut recipient_seen = false;
    loop {
        let left = ARRIVAL_LIMIT.saturating_sub(sent_at.elapsed());
        let line = match arrivals.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the sink did not show the message within {} s",
                    ARRIVAL_LIMIT.as_secs()
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the sink has ended"),
        };
        recipient_seen |= line.contains(RECIPIENT);
        if line.contains(&token) {
            break;
        }
    }
    if !recipient_seen {
        bail!("the sink showed the message, but not for {RECIPIENT}");
    }
    println!("$ {}", lines.explain);
    let explained = Command::new("sh")
        .args(["-c", &lines.explain])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("could not start explain")?;
    let text = String::from_utf8_lossy(&explained.stdout);
    println!("{text}");
    if !explained.status.success() || !text.contains(SINK) {
        bail!(
            "explain ({}) does not name {SINK}, where the message went",
            explained.status
        );
    }
    println!("smoke: the message went in, through the plugin, and was seen at the sink");
    Ok(())
}

/// Our own constants.
fn parse(address: &str) -> SocketAddr {
    address
        .parse()
        .expect("the constants above are socket addresses")
}
