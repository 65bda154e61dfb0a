//! The driver of the server machine: one task for each incoming connection.
//!
//! The machine speaks SMTP and decides nothing; the answers here are relay control, limits of
//! memory, plugins and the spool. Nothing is acknowledged after end of data before
//! `Core::accept` has it on disk.

mod answers;
mod content;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use smtp::{QueueId, ServerAction, ServerPhase, ServerSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use self::content::Received;
use crate::clock::Stopwatch;
use crate::core::{Core, Profile, Settings};
use crate::policy::dialogue::Transaction;
use crate::stream::Stream;
use crate::telemetry::ListenerMeters;

/// A read asks for this much; content of large messages comes in pieces of this size.
const READ_BYTES: usize = 32 * 1024;
/// With less room than this left in the buffer a new one is taken.
const READ_LEAST_BYTES: usize = 4 * 1024;
/// What a peer is given to take our last words, and a plugin to say its own.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a connection starts with.
#[derive(Debug)]
pub(crate) struct Session {
    /// The relay.
    pub core: Arc<Core>,
    /// Name of the listener.
    pub listener: String,
    /// The address that the listener was configured with.
    pub configured: SocketAddr,
    /// Its metrics.
    pub meters: Arc<ListenerMeters>,
    /// The client, IPv4 as such even on an IPv6 socket.
    pub peer: SocketAddr,
    /// Ends the session at the next pause.
    pub stop: CancellationToken,
}

impl Session {
    /// Serves the connection to its end.
    pub(crate) async fn run(self, stream: TcpStream) {
        let settings = self.core.settings.load_full();
        let profile = settings.profile(&self.listener, self.configured).cloned();
        let Some(profile) = profile else {
            // A reload keeps the profile of every bound socket.
            tracing::error!(listener = self.listener, "a bound listener has no profile");
            return;
        };
        let dialogue = Dialogue {
            machine: ServerSession::new(Arc::clone(&profile.server)),
            stream: Stream::Tcp(stream),
            input: BytesMut::new(),
            client: Client {
                helo: String::new(),
                extended: false,
                tls: false,
            },
            id: QueueId::new(0),
            transaction: None,
            content: Received::new(&self),
            content_since: None,
            started: Stopwatch::start(),
            waited: Duration::ZERO,
            command_since: Stopwatch::start(),
            refused_count: 0,
            session: self,
            settings,
            profile,
        };
        let peer = dialogue.session.peer;
        if let Err(error) = dialogue.serve().await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

/// How the client presented itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) helo: String,
    pub(crate) extended: bool,
    pub(crate) tls: bool,
}

struct Dialogue {
    session: Session,
    settings: Arc<Settings>,
    profile: Arc<Profile>,
    machine: ServerSession,
    stream: Stream,
    input: BytesMut,
    client: Client,
    /// Identity of the message under way, drawn at MAIL.
    id: QueueId,
    /// Where plugins take part in the mail transaction under way.
    transaction: Option<Box<Transaction>>,
    content: Received,
    /// Since the client was told to go ahead, while it sends content.
    content_since: Option<Stopwatch>,
    started: Stopwatch,
    /// How long the client has waited for plugins, which is not its fault.
    waited: Duration,
    /// Since a command is due. A part of one does not count, or an octet a minute would hold
    /// the connection for ever.
    command_since: Stopwatch,
    /// Recipients refused by relay control.
    refused_count: u32,
}

impl Dialogue {
    async fn serve(mut self) -> io::Result<()> {
        let mut stopping = false;
        loop {
            let mut acted = false;
            while let Some(action) = self.machine.poll() {
                acted = true;
                match action {
                    ServerAction::Send(octets) => self.write(&octets).await?,
                    ServerAction::Ask(question) => self.decide(question).await?,
                    ServerAction::Content(piece) => self.take_content(piece),
                    ServerAction::DiscardContent => self.discard_content(),
                    ServerAction::Commit => self.commit().await?,
                    ServerAction::UpgradeTls => self = self.upgrade().await?,
                    ServerAction::Close(reason) => {
                        tracing::debug!(peer = %self.session.peer, ?reason, "closing");
                        drop(tokio::time::timeout(FAREWELL, self.stream.shutdown()).await);
                        return Ok(());
                    }
                }
            }
            if acted {
                self.command_since = Stopwatch::start();
                self.forget_transaction();
            }
            self.time_content();
            let stop = self.session.stop.clone();
            tokio::select! {
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.machine.shutdown();
                }
                read = self.read() => if !read? {
                    return Ok(());
                }
            }
        }
    }

    /// Writes a reply, through the buffer of TLS to the socket. A client that does not take it
    /// is as silent as one that says nothing, and does not hold up a relay that stops.
    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let limit = self.settings.config.limits.command_timeout;
        let stop = self.session.stop.clone();
        let stream = &mut self.stream;
        let writing = async {
            stream.write_all(octets).await?;
            stream.flush().await
        };
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            biased;
            written = tokio::time::timeout(limit, writing) => match written {
                Ok(result) => result,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
            () = stopped => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads what there is; false at the end of the connection.
    async fn read(&mut self) -> io::Result<bool> {
        let limit = self.patience();
        if limit.is_zero() {
            // Not even what has come already counts: it might be a part of a command again.
            self.machine.time_out();
            return Ok(true);
        }
        if self.input.capacity() - self.input.len() < READ_LEAST_BYTES {
            self.input.reserve(READ_BYTES);
        }
        match tokio::time::timeout(limit, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => return Ok(false),
            Ok(Ok(_)) => self.machine.receive(self.input.split().freeze()),
            Ok(Err(error)) => return Err(error),
            Err(_) => self.machine.time_out(),
        }
        Ok(true)
    }

    /// How long the client may be silent now. The end of the session does not cut a message
    /// off that keeps to the limits of its own.
    fn patience(&self) -> Duration {
        let limits = &self.settings.config.limits;
        let left = |limit: Duration, since: &Stopwatch| limit.saturating_sub(since.elapsed());
        match &self.content_since {
            Some(since) => limits
                .content_idle_timeout
                .min(left(limits.content_timeout, since)),
            None => left(limits.command_timeout, &self.command_since)
                .min(limits.session_timeout.saturating_sub(self.age())),
        }
    }

    /// How long the session has lasted, without the client's waits for plugins.
    fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }

    /// Starts the time of the content when 354 has been sent, and ends it with the content.
    fn time_content(&mut self) {
        if self.machine.phase() == ServerPhase::Content {
            self.content_since.get_or_insert_with(Stopwatch::start);
        } else {
            self.content_since = None;
        }
    }

    /// Puts TLS on the connection. What came in clear is gone.
    async fn upgrade(mut self) -> io::Result<Self> {
        self.input = BytesMut::new();
        let (Stream::Tcp(stream), Some(config)) = (self.stream, self.settings.tls.clone()) else {
            return Err(io::Error::other("STARTTLS without a certificate"));
        };
        let limit = self.settings.config.limits.command_timeout;
        let accepted = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream));
        let stream = accepted.await.map_err(|_| io::ErrorKind::TimedOut)??;
        self.stream = Stream::Tls(Box::new(stream.into()));
        self.machine.tls_started();
        Ok(self)
    }
}
