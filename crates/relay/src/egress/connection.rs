//! The driver of the client machine: one outgoing connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mx::{Endpoint, TlsPolicy};
use rustls_pki_types::ServerName;
use smtp::{
    Cause, ClientAction, ClientConfig, ClientPhase, ClientSession, ClientTls, ClientTransaction,
    Domain, DotStuffer, HostFailure, RecipientOutcome, Stage, TransactionOutcome,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::tries::SessionFacts;
use crate::clock::{self, Stopwatch};
use crate::config::DeliveryConfig;
use crate::core::Settings;
use crate::stream::Stream;
use crate::tls;

/// Replies are short; one read nearly always holds a whole group of them.
const READ_BYTES: usize = 4 * 1024;
/// Most pieces handed to one write (the kernel's limit is 1024).
const WRITE_PIECES: usize = 64;
/// What the peer has to take within `delivery.content_timeout`: slower is too slow.
const BLOCK_BYTES: usize = 64 * 1024;
/// What a peer is given to answer QUIT.
const FAREWELL: Duration = Duration::from_secs(5);
/// What it is given to answer RSET, and to take a QUIT when the outcome is known already: only
/// whether the connection can be kept hangs on it, and the outcome waits for it.
const RESET_PATIENCE: Duration = Duration::from_secs(10);
/// What the first reply on a connection from the pool may take. Where a firewall has forgotten
/// the connection nothing ever comes; a host that is really slow is given its time on a new one.
const REUSED_PATIENCE: Duration = Duration::from_secs(30);

/// `delivery.connect_timeout`, for which a place is waited for, is so many turns of a connection.
const TURNS_IN_A_WAIT: u32 = 8;

/// What is fixed for the life of a connection.
#[derive(Debug)]
pub struct Terms {
    /// Our name and the time-outs, as they were when it was made.
    settings: Arc<Settings>,
    /// The hop: SNI and, where verified, the certificate's name.
    host: Endpoint,
    /// What TLS must give.
    tls: TlsPolicy,
    /// Our name in EHLO.
    ehlo: Domain,
    start_tls: ClientTls,
}

impl Terms {
    /// Terms for this hop.
    ///
    /// # Errors
    /// [`Cause::Tls`] for a policy that this build cannot enforce: to go on with less than was
    /// asked for would be a downgrade that nobody sees.
    pub fn new(
        settings: Arc<Settings>,
        host: Endpoint,
        tls: TlsPolicy,
        ehlo: Domain,
    ) -> Result<Self, Cause> {
        let start_tls = match &tls {
            TlsPolicy::Off | TlsPolicy::Implicit => ClientTls::Off,
            TlsPolicy::Opportunistic => ClientTls::IfOffered,
            TlsPolicy::Encrypt | TlsPolicy::Verify(_) => ClientTls::Required,
            TlsPolicy::Dane | TlsPolicy::DaneOnly | TlsPolicy::Destination => {
                let text = format!("TLS with {host}: the policy {tls} is not available");
                return Err(Cause::Tls(text));
            }
        };
        Ok(Self {
            settings,
            host,
            tls,
            ehlo,
            start_tls,
        })
    }

    fn delivery(&self) -> &DeliveryConfig {
        &self.settings.config.delivery
    }

    fn tls_config(&self) -> io::Result<Arc<rustls::ClientConfig>> {
        match &self.tls {
            TlsPolicy::Opportunistic | TlsPolicy::Encrypt => Ok(tls::unauthenticated_client()),
            TlsPolicy::Verify(names) => tls::verifying_client(names),
            TlsPolicy::Implicit => tls::verifying_client(&[]),
            TlsPolicy::Off | TlsPolicy::Dane | TlsPolicy::DaneOnly | TlsPolicy::Destination => Err(
                io::Error::other(format!("no TLS under the policy {}", self.tls)),
            ),
        }
    }

    fn server_name(&self) -> io::Result<ServerName<'static>> {
        let address = |ip: IpAddr| ServerName::IpAddress(ip.into());
        match &self.host {
            Endpoint::Address(ip) => Ok(address(*ip)),
            Endpoint::Host(name) => match name.literal() {
                Some(ip) => Ok(address(ip)),
                None => ServerName::try_from(name.to_string()).map_err(io::Error::other),
            },
            Endpoint::UnixSocket(_) => Err(io::Error::other("a local socket has no name")),
        }
    }
}

/// One connection to a next hop.
#[derive(Debug)]
pub struct Connection {
    session: ClientSession,
    stream: Stream,
    input: BytesMut,
    terms: Terms,
    /// Messages carried so far.
    pub message_count: u32,
    opened: Stopwatch,
    /// What is waited for, and until when.
    awaited: Option<Awaited>,
    open: Arc<AtomicUsize>,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Awaited {
    phase: ClientPhase,
    /// Replies that had come when the wait began.
    reply_count: u64,
    until: Instant,
}

impl Connection {
    /// Takes over a connection that was just made. Nothing has been said yet; with implicit TLS
    /// the handshake is done here.
    ///
    /// # Errors
    /// Why TLS from the first octet did not come about.
    pub async fn new(
        stream: TcpStream,
        terms: Terms,
        permit: OwnedSemaphorePermit,
        open: Arc<AtomicUsize>,
    ) -> Result<Self, Cause> {
        drop(stream.set_nodelay(true));
        let implicit = terms.tls == TlsPolicy::Implicit;
        let stream = if implicit {
            handshake(stream, &terms).await?
        } else {
            Stream::Tcp(stream)
        };
        let config = ClientConfig {
            tls: terms.start_tls,
            is_tls: implicit,
            ..ClientConfig::new(terms.ehlo.clone())
        };
        open.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            session: ClientSession::new(config),
            stream,
            input: BytesMut::new(),
            terms,
            message_count: 0,
            opened: Stopwatch::start(),
            awaited: None,
            open,
            permit: Some(permit),
        })
    }

    /// Whether another message may follow at all.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.message_count >= self.terms.delivery().messages_per_connection_count
    }

    /// It has been open for so long that it makes way for another route, if somebody waits for
    /// one: several such turns pass before he gives up, and a turn is worth a handshake.
    #[must_use]
    pub fn has_had_its_turn(&self) -> bool {
        self.opened.elapsed() >= self.terms.delivery().connect_timeout / TURNS_IN_A_WAIT
    }

    /// The peer has closed, or has sent something unasked.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stream.is_stale()
    }

    /// Whether TLS is up.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// What a plugin may want to know of it.
    pub(super) fn facts(&self) -> SessionFacts {
        let sni = match &self.terms.host {
            Endpoint::Host(name) if !name.is_literal() => Some(name.to_string()),
            _ => None,
        };
        SessionFacts {
            source: self.stream.local_ip(),
            tls: self.stream.tls_facts(sni),
        }
    }

    /// Sends one message. When the outcome is `reusable` the connection waits for the next one.
    pub async fn deliver(
        &mut self,
        transaction: ClientTransaction,
        content: &[Bytes],
    ) -> TransactionOutcome {
        self.message_count += 1;
        self.awaited = None;
        let recipient_count = transaction.recipients.len();
        self.session.start(transaction);
        let mut outcome: Option<TransactionOutcome> = None;
        loop {
            while let Some(action) = self.session.poll() {
                let done = match action {
                    ClientAction::Send(octets) => self.send(&octets, outcome.is_some()).await,
                    ClientAction::SendContent => self.send_content(content).await,
                    ClientAction::UpgradeTls => self.upgrade().await,
                    ClientAction::Outcome(ended) => {
                        outcome = Some(ended);
                        Ok(())
                    }
                    ClientAction::Ready => match outcome {
                        Some(outcome) => return outcome,
                        None => Ok(()),
                    },
                    ClientAction::Close => return closed(outcome, recipient_count),
                };
                if let Err(cause) = done {
                    self.session.disconnected(cause);
                }
            }
            if let Some(outcome) = outcome.take_if(|outcome| !outcome.reusable) {
                return outcome;
            }
            if let Err(cause) = self.receive().await {
                self.session.disconnected(cause);
            }
        }
    }

    /// Makes room for another connection before this one has said goodbye.
    pub fn give_up_place(&mut self) {
        self.permit = None;
    }

    /// Says QUIT and closes; not waited for longer than a few seconds. The place among the
    /// outgoing connections is free at once.
    pub async fn quit(mut self) {
        self.give_up_place();
        self.session.quit();
        let farewell = async {
            loop {
                while let Some(action) = self.session.poll() {
                    match action {
                        ClientAction::Send(octets) => self.send(&octets, true).await?,
                        ClientAction::Close => return Ok::<_, Cause>(()),
                        _ => {}
                    }
                }
                self.receive().await?;
            }
        };
        drop(tokio::time::timeout(FAREWELL, farewell).await);
    }

    async fn send(&mut self, octets: &[u8], is_decided: bool) -> Result<(), Cause> {
        let limit = if is_decided {
            RESET_PATIENCE
        } else {
            self.terms.delivery().command_timeout
        };
        let stream = &mut self.stream;
        timed(clock::after(limit), async {
            stream.write_all(octets).await?;
            // TLS may hold back what it has taken.
            stream.flush().await
        })
        .await
    }

    async fn receive(&mut self) -> Result<(), Cause> {
        let until = self.deadline();
        self.input.clear();
        self.input.reserve(READ_BYTES);
        let count = timed(until, self.stream.read_buf(&mut self.input)).await?;
        if count == 0 {
            return Err(Cause::Closed);
        }
        self.session.receive(&self.input);
        Ok(())
    }

    /// Until when the peer has to answer. It moves with the phase and with every whole reply,
    /// never with a part of one: an octet now and then keeps nothing alive.
    fn deadline(&mut self) -> Instant {
        let (phase, reply_count) = (self.session.phase(), self.session.reply_count());
        match &self.awaited {
            Some(awaited) if awaited.phase == phase && awaited.reply_count == reply_count => {
                awaited.until
            }
            _ => {
                let until = clock::after(self.patience(phase));
                self.awaited = Some(Awaited {
                    phase,
                    reply_count,
                    until,
                });
                until
            }
        }
    }

    /// RFC 5321 section 4.5.3.2, by what is waited for.
    fn patience(&self, phase: ClientPhase) -> Duration {
        let delivery = self.terms.delivery();
        match phase {
            ClientPhase::Greeting => delivery.greeting_timeout,
            ClientPhase::Mail if self.message_count > 1 => {
                delivery.command_timeout.min(REUSED_PATIENCE)
            }
            ClientPhase::Data => delivery.data_timeout,
            ClientPhase::Content => delivery.content_timeout,
            ClientPhase::EndOfData => delivery.end_of_content_timeout,
            ClientPhase::Reset => delivery.command_timeout.min(RESET_PATIENCE),
            _ => delivery.command_timeout,
        }
    }

    /// Writes the content, stuffed, without copying it. A reply that comes meanwhile ends it:
    /// the server has made up its mind.
    async fn send_content(&mut self, content: &[Bytes]) -> Result<(), Cause> {
        let mut stuffer = DotStuffer::new();
        let mut pieces: Vec<IoSlice<'_>> = Vec::with_capacity(content.len() + 2);
        for chunk in content {
            pieces.extend(stuffer.stuff(chunk).map(IoSlice::new));
        }
        pieces.push(IoSlice::new(stuffer.terminator()));
        let limit = self.terms.delivery().content_timeout;
        let mut rest = pieces.as_mut_slice();
        let mut block_bytes = 0;
        let mut until = clock::after(limit);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(WRITE_PIECES)];
            let progress = timed(
                until,
                write_or_read(&mut self.stream, batch, &mut self.input),
            );
            match progress.await? {
                Progress::Wrote(0) => return Err(Cause::Network("nothing was written".into())),
                Progress::Wrote(count) => {
                    IoSlice::advance_slices(&mut rest, count);
                    block_bytes += count;
                    if block_bytes >= BLOCK_BYTES {
                        block_bytes = 0;
                        until = clock::after(limit);
                    }
                }
                Progress::Closed => return Err(Cause::Closed),
                Progress::Read => {
                    self.session.receive(&self.input);
                    return Ok(());
                }
            }
        }
        timed(until, self.stream.flush()).await?;
        self.session.content_sent();
        Ok(())
    }

    async fn upgrade(&mut self) -> Result<(), Cause> {
        let Stream::Tcp(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(Cause::Tls("TLS is up already".into()));
        };
        self.stream = handshake(stream, &self.terms).await?;
        self.session.tls_started();
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The outcome of a session that has closed, whatever it hoped for before.
fn closed(outcome: Option<TransactionOutcome>, recipient_count: usize) -> TransactionOutcome {
    match outcome {
        Some(outcome) => TransactionOutcome {
            reusable: false,
            ..outcome
        },
        None => failed(Cause::Closed, recipient_count),
    }
}

/// The outcome of a connection that did not come about.
pub(super) fn failed(cause: Cause, recipient_count: usize) -> TransactionOutcome {
    let stage = match cause {
        Cause::Tls(_) => Stage::Tls,
        _ => Stage::Greeting,
    };
    let failure = HostFailure::Disconnected(cause);
    TransactionOutcome {
        recipients: vec![RecipientOutcome::Deferred(failure.reply()); recipient_count],
        try_next_host: true,
        reusable: false,
        stage,
        host_failure: Some(failure),
    }
}

async fn timed<T>(until: Instant, work: impl Future<Output = io::Result<T>>) -> Result<T, Cause> {
    match tokio::time::timeout_at(until, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Cause::Network(error.to_string())),
        Err(_) => Err(Cause::TimedOut),
    }
}

enum Progress {
    Wrote(usize),
    Read,
    Closed,
}

/// Writes, and where that has to wait, reads.
async fn write_or_read(
    stream: &mut Stream,
    pieces: &[IoSlice<'_>],
    input: &mut BytesMut,
) -> io::Result<Progress> {
    input.clear();
    input.resize(READ_BYTES, 0);
    let progress = poll_fn(|cx| {
        if let Poll::Ready(written) = Pin::new(&mut *stream).poll_write_vectored(cx, pieces) {
            return Poll::Ready(written.map(|count| (Progress::Wrote(count), 0)));
        }
        let mut buffer = ReadBuf::new(input);
        match tokio::io::AsyncRead::poll_read(Pin::new(&mut *stream), cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                let progress = if count == 0 {
                    Progress::Closed
                } else {
                    Progress::Read
                };
                Poll::Ready(Ok((progress, count)))
            }
        }
    });
    let (progress, count) = progress.await?;
    input.truncate(count);
    Ok(progress)
}

async fn handshake(stream: TcpStream, terms: &Terms) -> Result<Stream, Cause> {
    let failed = |error: io::Error| Cause::Tls(format!("TLS with {}: {error}", terms.host));
    let config = terms.tls_config().map_err(failed)?;
    let name = terms.server_name().map_err(failed)?;
    let limit = terms.delivery().command_timeout;
    match tokio::time::timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Cause::Tls(format!(
            "TLS with {}: no answer in time",
            terms.host
        ))),
    }
}
