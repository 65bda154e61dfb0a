//! `waypost sink`: a test destination that shows or counts what arrives.
//!
//! It accepts everything, keeps nothing, and answers as [`script`] says. It is made for trying a
//! configuration out and for measuring; it is no mail server.

mod arrivals;
mod script;
mod session;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use smtp::{Domain, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use arrivals::{Arrivals, Display, highest_number, show};
use script::{Script, parse_duration};

/// Options of `waypost sink`.
#[derive(Debug, clap::Args)]
pub(crate) struct SinkArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:2526", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Show one line a second with count and rate, instead of each message.
    #[arg(long)]
    count: bool,
    /// Show nothing until the end.
    #[arg(long, conflicts_with = "count")]
    quiet: bool,
    /// Wait this long before the reply to each message, as in 200ms, 3s, 1m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// What to answer, as in 'rcpt:*@bad.example=550 5.1.1 no such user'; --help has it all.
    #[arg(long = "rule", value_name = "RULE", long_help = RULE_HELP)]
    rules: Vec<String>,
    /// Read more rules from a TOML file: tables `rule` with at, match, reply, times, every, delay.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Write each message, its envelope before it, to a file of its own in this directory; the
    /// numbers go on behind the highest that is there.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// End after this many messages.
    #[arg(long, value_name = "COUNT")]
    exit_after: Option<u64>,
    /// The name in the greeting.
    #[arg(long, default_value = "sink.localhost", value_name = "NAME")]
    hostname: Domain,
}

const RULE_HELP: &str = "\
What to answer: PHASE[:PATTERN]=ACTION[;times=N][;every=N][;delay=TIME]

PHASE is connect, ehlo, mail, rcpt, content (its first octets) or data (its end). In PATTERN * \
stands for anything. ACTION is a reply, accept, or drop (close without a word). The first rule \
that applies decides; what no rule decides is accepted.

  --rule 'rcpt:*@bad.example=550 5.1.1 no such user'
  --rule 'data=451 4.3.0 later;times=2'
  --rule 'mail:<>=accept;delay=3s'
  --rule 'content=drop;every=10'";

/// What all sessions share.
#[derive(Debug)]
struct Sink {
    config: Arc<ServerConfig>,
    script: Script,
    arrivals: Arrivals,
    /// Before the reply to each message.
    delay: Option<Duration>,
    exit_after: Option<u64>,
    /// Told when `exit_after` is reached.
    enough: Notify,
}

/// Listens until Ctrl-C, SIGTERM or `--exit-after`.
///
/// # Errors
/// When a rule cannot be read, the address is taken, or the directory cannot be made.
pub(crate) async fn run(args: SinkArgs) -> anyhow::Result<()> {
    let listen = args.listen;
    let sink = Arc::new(prepare(args)?);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    show(&format!("sink listens on {}\n", listener.local_addr()?));

    let mut terminate = signal(SignalKind::terminate())?;
    let counting = Arc::clone(&sink);
    let counts = tokio::spawn(async move { counting.arrivals.tell_counts().await });
    if !sink.arrivals.shows_counts() {
        counts.abort();
    }
    tokio::select! {
        () = accept(&listener, &sink) => {}
        () = sink.enough.notified() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    counts.abort();
    show(&sink.arrivals.summary());
    Ok(())
}

fn prepare(args: SinkArgs) -> anyhow::Result<Sink> {
    let mut script = Script::default();
    for rule in &args.rules {
        script.add(rule)?;
    }
    if let Some(path) = &args.script {
        let named = || format!("the script {}", path.display());
        let text = std::fs::read_to_string(path).with_context(named)?;
        script.add_file(&text).with_context(named)?;
    }
    let mut last_number = 0;
    if let Some(directory) = &args.write {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        last_number = highest_number(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
    }
    let display = match (args.count, args.quiet) {
        (true, _) => Display::Counts,
        (false, true) => Display::Quiet,
        (false, false) => Display::Messages,
    };
    let mut config = ServerConfig::new(args.hostname);
    config.greeting = "ESMTP sink".into();
    config.max_message_bytes = None;
    config.max_recipient_count = usize::MAX;
    config.max_message_count = u32::MAX;
    Ok(Sink {
        config: Arc::new(config),
        script,
        arrivals: Arrivals::new(display, args.write, last_number),
        delay: args.delay,
        exit_after: args.exit_after,
        enough: Notify::new(),
    })
}

/// Takes connections for ever.
async fn accept(listener: &TcpListener, sink: &Arc<Sink>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => serve(stream, client, Arc::clone(sink)),
            Err(error) => {
                // Out of descriptors, most likely: others have to close first.
                show(&format!("cannot accept: {error}\n"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn serve(stream: TcpStream, client: SocketAddr, sink: Arc<Sink>) {
    tokio::spawn(async move {
        // A client that hangs up is its own affair.
        drop(session::drive(stream, client, &sink).await);
    });
}
