//! The driver of the client machine: one outgoing connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mx::TlsPolicy;
use rustls_pki_types::ServerName;
use smtp::{
    Cause, ClientAction, ClientConfig, ClientPhase, ClientSession, ClientTls, ClientTransaction,
    DotStuffer, TransactionOutcome,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsConnector;

use crate::config::DeliveryConfig;
use crate::stream::Stream;
use crate::tls;

/// Replies are short; one read nearly always holds a whole group of them.
const READ_BYTES: usize = 4 * 1024;
/// Most pieces handed to one write (the kernel's limit is 1024).
const WRITE_PIECES: usize = 64;
/// What a peer is given to answer QUIT.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is fixed for the life of a connection.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Our name.
    pub ehlo: smtp::Domain,
    /// Name of the hop: SNI and, where verified, the certificate's name.
    pub host: String,
    /// What TLS must give.
    pub tls: TlsPolicy,
}

/// One connection to a next hop.
#[derive(Debug)]
pub struct Connection {
    session: ClientSession,
    stream: Stream,
    input: BytesMut,
    terms: Terms,
    delivery: DeliveryConfig,
    /// Messages carried so far.
    pub message_count: u32,
    open: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
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
        delivery: DeliveryConfig,
        permit: OwnedSemaphorePermit,
        open: Arc<AtomicUsize>,
    ) -> Result<Self, Cause> {
        drop(stream.set_nodelay(true));
        let implicit = terms.tls == TlsPolicy::Implicit;
        let stream = if implicit {
            handshake(stream, &terms, delivery.command_timeout).await?
        } else {
            Stream::Tcp(stream)
        };
        let config = ClientConfig {
            tls: match terms.tls {
                TlsPolicy::Off | TlsPolicy::Implicit => ClientTls::Off,
                TlsPolicy::Opportunistic => ClientTls::IfOffered,
                _ => ClientTls::Required,
            },
            is_tls: implicit,
            ..ClientConfig::new(terms.ehlo.clone())
        };
        open.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            session: ClientSession::new(config),
            stream,
            input: BytesMut::new(),
            terms,
            delivery,
            message_count: 0,
            open,
            _permit: permit,
        })
    }

    /// Whether another message may follow at all.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.message_count >= self.delivery.messages_per_connection_count
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

    /// Sends one message. When the outcome is `reusable` the connection waits for the next one.
    pub async fn deliver(
        &mut self,
        transaction: ClientTransaction,
        content: &[Bytes],
    ) -> TransactionOutcome {
        self.message_count += 1;
        self.session.start(transaction);
        let mut outcome = None;
        loop {
            while let Some(action) = self.session.poll() {
                let done = match action {
                    ClientAction::Send(octets) => self.send(&octets).await,
                    ClientAction::SendContent => self.send_content(content).await,
                    ClientAction::UpgradeTls => self.upgrade().await,
                    ClientAction::Outcome(ended) => {
                        outcome = Some(ended);
                        Ok(())
                    }
                    ClientAction::Ready | ClientAction::Close => {
                        if let Some(outcome) = outcome {
                            return outcome;
                        }
                        Ok(())
                    }
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

    /// Says QUIT and closes; not waited for longer than a few seconds.
    pub async fn quit(mut self) {
        self.session.quit();
        let farewell = async {
            loop {
                while let Some(action) = self.session.poll() {
                    match action {
                        ClientAction::Send(octets) => self.send(&octets).await?,
                        ClientAction::Close => return Ok::<_, Cause>(()),
                        _ => {}
                    }
                }
                self.receive().await?;
            }
        };
        drop(tokio::time::timeout(FAREWELL, farewell).await);
    }

    async fn send(&mut self, octets: &[u8]) -> Result<(), Cause> {
        let limit = self.delivery.command_timeout;
        timed(limit, self.stream.write_all(octets)).await
    }

    async fn receive(&mut self) -> Result<(), Cause> {
        let limit = self.patience();
        self.input.clear();
        self.input.reserve(READ_BYTES);
        let count = timed(limit, self.stream.read_buf(&mut self.input)).await?;
        if count == 0 {
            return Err(Cause::Closed);
        }
        self.session.receive(&self.input);
        Ok(())
    }

    /// RFC 5321 section 4.5.3.2, by what is waited for.
    fn patience(&self) -> Duration {
        let delivery = &self.delivery;
        match self.session.phase() {
            ClientPhase::Greeting => delivery.greeting_timeout,
            ClientPhase::Data => delivery.data_timeout,
            ClientPhase::Content => delivery.content_timeout,
            ClientPhase::EndOfData => delivery.end_of_content_timeout,
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
        let mut rest = pieces.as_mut_slice();
        while !rest.is_empty() {
            let limit = self.delivery.content_timeout;
            let batch = &rest[..rest.len().min(WRITE_PIECES)];
            let progress = timed(
                limit,
                write_or_read(&mut self.stream, batch, &mut self.input),
            );
            match progress.await? {
                Progress::Wrote(0) => return Err(Cause::Network("nothing was written".into())),
                Progress::Wrote(count) => IoSlice::advance_slices(&mut rest, count),
                Progress::Closed => return Err(Cause::Closed),
                Progress::Read => {
                    self.session.receive(&self.input);
                    return Ok(());
                }
            }
        }
        timed(self.delivery.content_timeout, self.stream.flush()).await?;
        self.session.content_sent();
        Ok(())
    }

    async fn upgrade(&mut self) -> Result<(), Cause> {
        let Stream::Tcp(_) = &self.stream else {
            return Err(Cause::Tls("TLS is up already".into()));
        };
        let placeholder = Stream::Gone;
        let Stream::Tcp(stream) = std::mem::replace(&mut self.stream, placeholder) else {
            return Err(Cause::Tls("TLS is up already".into()));
        };
        self.stream = handshake(stream, &self.terms, self.delivery.command_timeout).await?;
        self.session.tls_started();
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn timed<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, Cause> {
    match tokio::time::timeout(limit, work).await {
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

async fn handshake(stream: TcpStream, terms: &Terms, limit: Duration) -> Result<Stream, Cause> {
    let failed = |error: io::Error| Cause::Tls(format!("TLS with {}: {error}", terms.host));
    let config = match &terms.tls {
        TlsPolicy::Verify(names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            tls::verifying_client(&names).map_err(failed)?
        }
        TlsPolicy::Implicit => tls::verifying_client(&[]).map_err(failed)?,
        _ => tls::unauthenticated_client(),
    };
    let bare = terms
        .host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(bare).map_err(|error| failed(io::Error::other(error)))?;
    match tokio::time::timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Cause::Tls(format!(
            "TLS with {}: no answer in time",
            terms.host
        ))),
    }
}
