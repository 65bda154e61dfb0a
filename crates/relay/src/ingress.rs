//! The driver of the server machine: one task for each incoming connection.
//!
//! The machine speaks SMTP and decides nothing; the answers here are relay control, limits of
//! memory and the spool. Nothing is acknowledged after end of data before `Core::accept` has
//! it on disk.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smtp::{Answer, Question, Reply, ServerAction, ServerPhase, ServerSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::clock::Stopwatch;
use crate::content::Lease;
use crate::core::{Core, Profile, Settings};
use crate::reception;
use crate::stream::Stream;
use crate::telemetry::ListenerMeters;

/// A read asks for this much; content of large messages comes in pieces of this size.
const READ_BYTES: usize = 32 * 1024;
/// With less room than this left in the buffer a new one is taken.
const READ_LEAST_BYTES: usize = 4 * 1024;
/// What a peer is given to take our last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a connection starts with.
#[derive(Debug)]
pub(crate) struct Session {
    /// The relay.
    pub core: Arc<Core>,
    /// Name of the listener.
    pub listener: String,
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
        let Some(profile) = settings.profile(&self.listener).cloned() else {
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
            content: Received::new(self.core.receiving.lease()),
            started: Stopwatch::start(),
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

/// Content as it comes in.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size_bytes: u64,
    lease: Lease,
    since: Stopwatch,
}

impl Received {
    fn new(lease: Lease) -> Self {
        Self {
            pieces: Vec::new(),
            size_bytes: 0,
            lease,
            since: Stopwatch::start(),
        }
    }
}

struct Dialogue {
    session: Session,
    settings: Arc<Settings>,
    profile: Arc<Profile>,
    machine: ServerSession,
    stream: Stream,
    input: BytesMut,
    client: Client,
    content: Received,
    started: Stopwatch,
}

impl Dialogue {
    async fn serve(mut self) -> io::Result<()> {
        let mut stopping = false;
        loop {
            while let Some(action) = self.machine.poll() {
                match action {
                    ServerAction::Send(octets) => self.write(&octets).await?,
                    ServerAction::Ask(question) => self.decide(&question),
                    ServerAction::Content(piece) => self.take_content(piece),
                    ServerAction::DiscardContent => {
                        self.session.meters.message_refused("content");
                        self.forget_content();
                    }
                    ServerAction::Commit => self.commit().await,
                    ServerAction::UpgradeTls => self = self.upgrade().await?,
                    ServerAction::Close(reason) => {
                        tracing::debug!(peer = %self.session.peer, ?reason, "closing");
                        drop(tokio::time::timeout(FAREWELL, self.stream.shutdown()).await);
                        return Ok(());
                    }
                }
            }
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

    /// Writes a reply. A client that does not take it is as silent as one that says nothing.
    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let limit = self.settings.config.limits.command_timeout;
        tokio::time::timeout(limit, self.stream.write_all(octets))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Reads what there is; false at the end of the connection.
    async fn read(&mut self) -> io::Result<bool> {
        let limit = self.patience();
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

    /// How long the client may be silent now.
    fn patience(&self) -> Duration {
        let limits = &self.settings.config.limits;
        match self.machine.phase() {
            ServerPhase::Content => {
                let left = limits
                    .content_timeout
                    .saturating_sub(self.content.since.elapsed());
                limits.content_idle_timeout.min(left)
            }
            _ => limits.command_timeout,
        }
    }

    fn decide(&mut self, question: &Question) {
        let answer = match question {
            Question::Connect => Answer::Accept,
            Question::Ehlo { name, extended } => {
                self.client.helo = name.to_string();
                self.client.extended = *extended;
                Answer::Accept
            }
            Question::Mail { .. } => self.decide_mail(),
            Question::Rcpt { .. } => self.decide_rcpt(),
        };
        self.machine.answer(answer);
    }

    fn decide_mail(&mut self) -> Answer {
        if self.started.elapsed() >= self.settings.config.limits.session_timeout {
            return Answer::Reply(Reply::new(
                421,
                (4, 4, 2),
                "This session has lasted too long",
            ));
        }
        self.forget_content();
        Answer::Accept
    }

    /// Relay control. There is one rule and no exception to it: the client's address lies in
    /// one of the listener's networks, or nothing is taken from it.
    fn decide_rcpt(&self) -> Answer {
        if self.profile.relay_from.contains(self.session.peer.ip()) {
            return Answer::Accept;
        }
        self.session.meters.recipient_refused("relay_denied");
        tracing::info!(peer = %self.session.peer, listener = self.profile.name, "relaying denied");
        Answer::Reply(Reply::new(
            550,
            (5, 7, 1),
            "Relaying denied: your address may not relay through this host",
        ))
    }

    fn take_content(&mut self, piece: Bytes) {
        if self.content.pieces.is_empty() {
            self.content.since = Stopwatch::start();
        }
        let size = piece.len() as u64;
        if self.content.lease.grow(size) {
            self.content.size_bytes += size;
            self.content.pieces.push(piece);
        } else {
            self.session.meters.message_refused("memory");
            let text = "Too much mail at once: try again later";
            self.machine.abort_content(Reply::new(452, (4, 3, 1), text));
        }
    }

    fn forget_content(&mut self) {
        self.content = Received::new(self.session.core.receiving.lease());
    }

    async fn commit(&mut self) {
        let Some(envelope) = self.machine.take_envelope() else {
            return;
        };
        let fresh = Received::new(self.session.core.receiving.lease());
        let content = std::mem::replace(&mut self.content, fresh);
        self.client.tls = self.stream.is_tls();
        let reply = reception::receive(&reception::Arrival {
            session: &self.session,
            settings: &self.settings,
            client: &self.client,
            envelope,
            content,
        })
        .await;
        self.machine.committed(reply);
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
