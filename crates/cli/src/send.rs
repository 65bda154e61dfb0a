//! `waypost send`: sends one message, to see that the way is open.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use relay::Clock;
use smtp::{
    BodyType, Cause, ClientAction, ClientConfig, ClientSession, ClientTls, ClientTransaction,
    Domain, DotStuffer, ForwardPath, MailParameters, RcptParameters, Recipient, RecipientOutcome,
    ReversePath, TransactionOutcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Options of `waypost send`.
#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// Where to send it to: host or address, and port.
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "HOST:PORT")]
    server: String,
    /// Sender, in the envelope and in the From field; <> is the null reverse-path.
    #[arg(long, value_name = "ADDRESS")]
    from: ReversePath,
    /// Recipient; may be given more than once.
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<ForwardPath>,
    /// The Subject field.
    #[arg(long, default_value = "A message from waypost send")]
    subject: String,
    /// The text; - reads it from standard input.
    #[arg(long, default_value = "It works.")]
    body: String,
    /// The name in EHLO.
    #[arg(long, default_value = "localhost", value_name = "NAME")]
    helo: Domain,
    /// How long to wait for each answer, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout_s: u64,
}

/// Sends the message and shows the answer for each recipient, which has the queue id.
///
/// # Errors
/// When the server cannot be reached or a recipient did not get it.
pub(crate) async fn run(args: SendArgs) -> anyhow::Result<()> {
    let body = if args.body == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        args.body.clone()
    };
    let content = compose(&args, &body, &Clock::system());
    let wait = Duration::from_secs(args.timeout_s.max(1));
    let stream = tokio::time::timeout(wait, TcpStream::connect(&args.server))
        .await
        .map_err(|_| anyhow::anyhow!("no connection within {} s", wait.as_secs()))
        .and_then(|connected| Ok(connected?))
        .with_context(|| format!("cannot connect to {}", args.server))?;
    let peer = stream.peer_addr()?;
    let outcome = deliver(stream, &args, &content, wait).await?;
    report(&args, peer, &outcome)
}

/// Drives one transaction to its end.
async fn deliver(
    mut stream: TcpStream,
    args: &SendArgs,
    content: &str,
    wait: Duration,
) -> anyhow::Result<TransactionOutcome> {
    let mut config = ClientConfig::new(args.helo.clone());
    config.tls = ClientTls::Off;
    let mut session = ClientSession::new(config);
    session.start(transaction(args, content));
    let mut outcome = None;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while let Some(action) = session.poll() {
            match action {
                ClientAction::Send(octets) => {
                    if let Err(cause) = write(&mut stream, &octets, wait).await {
                        session.disconnected(cause);
                    }
                }
                ClientAction::SendContent => {
                    let mut stuffer = DotStuffer::new();
                    let mut wire = Vec::with_capacity(content.len() + 3);
                    for piece in stuffer.stuff(content.as_bytes()) {
                        wire.extend_from_slice(piece);
                    }
                    wire.extend_from_slice(stuffer.terminator());
                    match write(&mut stream, &wire, wait).await {
                        Ok(()) => session.content_sent(),
                        Err(cause) => session.disconnected(cause),
                    }
                }
                ClientAction::Outcome(ended) => {
                    outcome = Some(ended);
                    session.quit();
                }
                ClientAction::Ready => session.quit(),
                // TLS is off in the configuration of this session.
                ClientAction::UpgradeTls | ClientAction::Close => {
                    return outcome.context("the connection ended before the message was sent");
                }
            }
        }
        match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => session.disconnected(Cause::Closed),
            Ok(Ok(length)) => session.receive(&buffer[..length]),
            Ok(Err(error)) => session.disconnected(Cause::Network(error.to_string())),
            Err(_) => session.disconnected(Cause::TimedOut),
        }
    }
}

/// Writes piece by piece: the peer has `wait` for each, so that a long message may take long.
async fn write(stream: &mut TcpStream, octets: &[u8], wait: Duration) -> Result<(), Cause> {
    for piece in octets.chunks(PIECE_BYTES) {
        match tokio::time::timeout(wait, stream.write_all(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Cause::Network(error.to_string())),
            Err(_) => return Err(Cause::TimedOut),
        }
    }
    Ok(())
}

fn transaction(args: &SendArgs, content: &str) -> ClientTransaction {
    let body = if content.is_ascii() {
        BodyType::SevenBit
    } else {
        BodyType::EightBitMime
    };
    let recipients = args.to.iter().map(|path| Recipient {
        path: path.clone(),
        parameters: RcptParameters::default(),
    });
    ClientTransaction {
        reverse_path: args.from.clone(),
        parameters: MailParameters {
            body,
            ..MailParameters::default()
        },
        recipients: recipients.collect(),
        size_bytes: content.len() as u64,
    }
}

/// Shows what became of each recipient.
///
/// # Errors
/// When one of them did not get the message.
#[allow(clippy::print_stdout)] // the command's output
fn report(args: &SendArgs, peer: SocketAddr, outcome: &TransactionOutcome) -> anyhow::Result<()> {
    let mut refused_count = 0;
    for (path, outcome) in args.to.iter().zip(&outcome.recipients) {
        let word = match outcome {
            RecipientOutcome::Delivered(_) => "taken",
            RecipientOutcome::Deferred(_) => "deferred",
            RecipientOutcome::Failed(_) => "refused",
        };
        refused_count += usize::from(word != "taken");
        println!("{path} {word} by {peer}: {}", outcome.reply());
    }
    if refused_count > 0 {
        bail!(
            "{refused_count} of {} recipients did not get it",
            args.to.len()
        );
    }
    Ok(())
}

/// The message, each line with CRLF. What would end a header field early is a space.
fn compose(args: &SendArgs, body: &str, clock: &Clock) -> String {
    let now = clock.now();
    let mut content = String::new();
    let to: Vec<String> = args.to.iter().map(address).collect();
    let from = args.from.mailbox().map_or_else(
        || format!("postmaster@{}", args.helo),
        |mailbox| mailbox.to_string(),
    );
    let subject = args
        .subject
        .replace(|letter: char| letter.is_control(), " ");
    let fields = [
        ("Date", relay::trace::date(now)),
        ("From", from),
        ("To", to.join(", ")),
        ("Subject", subject),
        (
            "Message-ID",
            format!("<{:016x}@{}>", relay::clock::random_seed(), args.helo),
        ),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
    ];
    for (name, value) in fields {
        // Writing to a String does not fail.
        let _ = write!(content, "{name}: {value}\r\n");
    }
    content.push_str("\r\n");
    for line in body.lines() {
        content.push_str(&line.replace('\r', " "));
        content.push_str("\r\n");
    }
    content
}

/// As it stands in a header field.
fn address(path: &ForwardPath) -> String {
    path.mailbox()
        .map_or_else(|| "postmaster:;".to_owned(), ToString::to_string)
}
