//! Connections to origins, kept for the next request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mx::Directory;
use plugin::{HttpFailure, Origin};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::addresses;
use crate::clock::Stopwatch;
use crate::stream::Stream;
use crate::tls;

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Connections without work to one origin.
const IDLE_MAX: usize = 16;

/// Octets of the head of a response, at most.
const HEAD_BYTES: usize = 64 << 10;

/// The way to one connection.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// What connections have in common.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) origin: Origin,
    /// Whether the address was not checked: such a connection is for none but those who may.
    pub(super) may_be_private: bool,
}

impl Key {
    fn text(&self) -> String {
        format!("{} {}", self.origin, self.may_be_private)
    }
}

struct Idle {
    sender: Sender,
    since: Stopwatch,
}

/// Connections that wait for work.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<BTreeMap<String, Vec<Idle>>>,
}

impl Pool {
    /// Sends on a connection that is open, or on a new one.
    pub(super) async fn send(
        &self,
        key: &Key,
        directory: &Arc<Directory>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), HttpFailure> {
        while let Some(mut sender) = self.take(key) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                // The server closed it before it saw anything of the request.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(HttpFailure::Connect(error.into_error().to_string())),
                },
            }
        }
        let mut sender = connect(key, directory).await?;
        let response = sender.send_request(request).await.map_err(|error| {
            if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
                HttpFailure::Protocol(error.to_string())
            } else {
                HttpFailure::Connect(error.to_string())
            }
        })?;
        Ok((response, sender))
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn put_back(&self, key: &Key, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(|_, connections| {
            connections.retain(is_good);
            !connections.is_empty()
        });
        let connections = idle.entry(key.text()).or_default();
        if !sender.is_closed() && connections.len() < IDLE_MAX {
            connections.push(Idle {
                sender,
                since: Stopwatch::start(),
            });
        }
    }

    fn take(&self, key: &Key) -> Option<Sender> {
        let mut idle = self.idle();
        let connections = idle.get_mut(&key.text())?;
        // The last one used is the one that the server closes last.
        while let Some(connection) = connections.pop() {
            if is_good(&connection) {
                return Some(connection.sender);
            }
        }
        None
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_good(connection: &Idle) -> bool {
    !connection.sender.is_closed() && connection.since.elapsed() < IDLE
}

async fn connect(key: &Key, directory: &Directory) -> Result<Sender, HttpFailure> {
    let origin = &key.origin;
    let failed = |why: String| HttpFailure::Connect(format!("{origin}: {why}"));
    let mut last = None;
    for address in addresses::of(origin, key.may_be_private, directory).await? {
        match stream_to(origin, address).await {
            Ok(stream) => {
                let (sender, connection) = http1::Builder::new()
                    .max_buf_size(HEAD_BYTES)
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| failed(error.to_string()))?;
                // Ends when the sender is dropped or the server closes.
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a plugin's HTTP connection ended");
                    }
                });
                return Ok(sender);
            }
            Err(error) => last = Some(format!("{address}: {error}")),
        }
    }
    Err(failed(last.unwrap_or_else(|| "no address".to_owned())))
}

async fn stream_to(origin: &Origin, address: SocketAddr) -> std::io::Result<Stream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    if !origin.secure {
        return Ok(Stream::Tcp(tcp));
    }
    let name = match addresses::literal(origin) {
        Some(address) => ServerName::from(address),
        None => ServerName::try_from(origin.host.clone()).map_err(std::io::Error::other)?,
    };
    let connector = TlsConnector::from(tls::verifying_client(&[])?);
    let stream = connector.connect(name, tcp).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}
