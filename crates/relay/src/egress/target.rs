//! One address of one candidate: a connection for it, from the pool or new, and a transaction.

use std::net::SocketAddr;
use std::sync::Arc;

use mx::{Candidate, TlsPolicy};
use queue::QueuedMessage;
use smtp::{
    Cause, ClientTransaction, ForwardPath, HostFailure, Recipient, Reply, Stage, TransactionOutcome,
};
use spool::SpoolError;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Connection, Terms, failed};
use super::pool::RouteKey;
use super::source::{NotConnected, Source};
use super::tries::SessionFacts;
use crate::content::{self, Content};
use crate::core::{self, Core, Settings};

/// What is to be sent: a message to some of its recipients.
pub(super) struct Parcel<'a> {
    pub(super) message: &'a QueuedMessage,
    /// Places in the message's list of recipients.
    pub(super) recipients: &'a [u32],
}

impl Parcel<'_> {
    /// Made anew for every connection that is tried; nearly always there is one.
    fn transaction(&self, content: &Content) -> ClientTransaction {
        let listed = self.recipients.iter().filter_map(|&position| {
            let recipient = self.message.recipients.get(position as usize)?;
            Some(Recipient {
                path: ForwardPath::Mailbox(recipient.mailbox.clone()),
                parameters: recipient.parameters.clone(),
            })
        });
        ClientTransaction {
            reverse_path: self.message.reverse_path.clone(),
            parameters: self.message.parameters.clone(),
            recipients: listed.collect(),
            size_bytes: content::size_bytes(content),
        }
    }
}

/// Where a transaction goes.
pub(super) struct Target<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) settings: &'a Arc<Settings>,
    pub(super) candidate: &'a Candidate,
    pub(super) address: SocketAddr,
    /// Some plugin is told of the session.
    pub(super) is_heard: bool,
}

/// How a transaction ended, and on what session.
pub(super) struct Exchange {
    pub(super) outcome: TransactionOutcome,
    /// None where nobody is told, or there was no session.
    pub(super) session: Option<SessionFacts>,
}

/// Why a transaction was not begun. No fault of the host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTried {
    /// All outgoing connections are in use, and none became free in time.
    #[error("There is no free outgoing connection")]
    NoFreeConnection,
    /// So much content is being sent that no room for this message became free in time.
    #[error("There is no room for the content of the message")]
    NoRoom,
    /// The spool does not give the content.
    #[error("The message cannot be read from the spool")]
    Unreadable(#[source] SpoolError),
    /// The pool has no address of ours to reach this address of the host from; another of the
    /// host's may do.
    #[error("{0}")]
    NoSource(String),
}

impl NotTried {
    /// What the recipients wait for.
    pub(super) fn reply(&self) -> Reply {
        let detail = match self {
            Self::NoFreeConnection => (4, 3, 2),
            Self::NoRoom => (4, 3, 1),
            Self::Unreadable(_) => (4, 3, 0),
            Self::NoSource(_) => (4, 4, 1),
        };
        Reply::new(451, detail, self.to_string())
    }
}

/// Why there is no connection.
enum NotOpened {
    NoFree,
    /// None of our addresses can be used.
    NoSource(String),
    Host(Cause),
}

/// What a new message may go out on.
enum Place {
    /// Nobody's: a connection can be opened.
    Free(OwnedSemaphorePermit),
    /// With a connection that is open on the same route.
    Open(Box<Connection>),
}

impl Target<'_> {
    /// Sends the message there.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<Exchange, NotTried> {
        let exchange = self.deliver_with(&self.candidate.tls, parcel).await?;
        // RFC 7435: opportunistic TLS that does not come about is no reason not to deliver. The
        // broken connection is of no use any more; a new one goes without.
        let broken = matches!(
            &exchange.outcome.host_failure,
            Some(HostFailure::Disconnected(Cause::Tls(_)))
        );
        if broken && self.candidate.tls == TlsPolicy::Opportunistic {
            tracing::info!(address = %self.address, "TLS failed; going on in the clear");
            return self.deliver_with(&TlsPolicy::Off, parcel).await;
        }
        Ok(exchange)
    }

    async fn deliver_with(
        &self,
        tls: &TlsPolicy,
        parcel: &Parcel<'_>,
    ) -> Result<Exchange, NotTried> {
        let source = self.source(parcel).map_err(NotTried::NoSource)?;
        let key = self.key(tls, &source);
        let mut idle = self.core.pool.take(&key);
        loop {
            let connection = match idle.take() {
                Some(connection) => Ok(connection),
                None => self.open(tls, &key, &source).await,
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(NotOpened::NoFree) => return Err(NotTried::NoFreeConnection),
                Err(NotOpened::NoSource(why)) => return Err(NotTried::NoSource(why)),
                Err(NotOpened::Host(cause)) => {
                    self.core.meters.out_failed.increment(1);
                    let outcome = failed(cause, parcel.recipients.len());
                    let session = None;
                    return Ok(Exchange { outcome, session });
                }
            };
            // Not before: who is still being dialled would take the room from those who answer.
            let (content, room) = match self.content(parcel.message).await {
                Ok(content) => content,
                Err(why) => {
                    part_with(connection);
                    return Err(why);
                }
            };
            let is_reused = connection.message_count > 0;
            let transaction = parcel.transaction(&content);
            let outcome = connection.deliver(transaction, &content).await;
            drop((content, room));
            if is_reused && was_stale(&outcome) {
                // The server had closed it, or was about to: that is no failure of the host, and
                // nothing of the message has been sent. It ends: each time one connection less
                // is left of those that others have opened.
                continue;
            }
            if is_reused {
                self.core.meters.out_reused.increment(1);
            }
            let session = self.is_heard.then(|| connection.facts());
            self.keep(key, connection, &outcome);
            return Ok(Exchange { outcome, session });
        }
    }

    /// The content, and the room that it takes where it comes from the spool.
    async fn content(
        &self,
        message: &QueuedMessage,
    ) -> Result<(Content, Option<OwnedSemaphorePermit>), NotTried> {
        let cache = &self.core.cache;
        if let Some(content) = cache.get(message.id) {
            return Ok((content, None));
        }
        let limit = self.settings.config.delivery.connect_timeout;
        let room = tokio::time::timeout(limit, cache.reading.take(message.size_bytes)).await;
        let room = room.map_err(|_| NotTried::NoRoom)?;
        match core::read_content(&self.core.spool, message.id).await {
            Ok(content) => Ok((content, room)),
            Err(error) => {
                tracing::error!(id = %message.id, %error, "cannot read a message's content");
                Err(NotTried::Unreadable(error))
            }
        }
    }

    /// A connection: new, or one that became free while there was no place for a new one.
    async fn open(
        &self,
        tls: &TlsPolicy,
        key: &RouteKey,
        source: &Source,
    ) -> Result<Box<Connection>, NotOpened> {
        let endpoint = self.candidate.endpoint.clone();
        let terms = Terms::new(
            Arc::clone(self.settings),
            endpoint,
            tls.clone(),
            source.ehlo.clone(),
        );
        let terms = terms.map_err(NotOpened::Host)?;
        let permit = match self.place(key).await? {
            Place::Free(permit) => permit,
            Place::Open(connection) => return Ok(connection),
        };
        let limit = self.settings.config.delivery.connect_timeout;
        let text = |why: &dyn std::fmt::Display| format!("connect to {}: {why}", self.address);
        let stream = tokio::time::timeout(limit, source.connect(self.address))
            .await
            .unwrap_or_else(|_| {
                let late = std::io::Error::other("no answer in time");
                Err(NotConnected::Theirs(late))
            })
            .map_err(|error| match error {
                NotConnected::Ours(error) => NotOpened::NoSource(text(&error)),
                NotConnected::Theirs(error) => NotOpened::Host(Cause::DialFailed(text(&error))),
            })?;
        let open = Arc::clone(&self.core.outgoing_open);
        let connection = Connection::new(stream, terms, permit, open).await;
        let connection = connection.map(Box::new).map_err(NotOpened::Host)?;
        self.core.meters.out_opened.increment(1);
        Ok(connection)
    }

    /// A place among the outgoing connections. Where there is none an idle one has to go, unless
    /// it is of use itself.
    async fn place(&self, key: &RouteKey) -> Result<Place, NotOpened> {
        let outgoing = Arc::clone(&self.core.outgoing);
        if let Ok(permit) = Arc::clone(&outgoing).try_acquire_owned() {
            return Ok(Place::Free(permit));
        }
        let mut waiter = match self.core.pool.take_or_wait(key) {
            Ok(connection) => return Ok(Place::Open(connection)),
            Err(waiter) => waiter,
        };
        if let Some(idle) = self.core.pool.evict() {
            part_with(idle);
        }
        let limit = self.settings.config.delivery.connect_timeout;
        let permit = tokio::select! {
            biased;
            connection = waiter.handed() => return Ok(Place::Open(connection)),
            permit = tokio::time::timeout(limit, outgoing.acquire_owned()) => permit,
        };
        // Both may have come at once; the place is then for the next.
        if let Some(connection) = waiter.leave() {
            return Ok(Place::Open(connection));
        }
        match permit {
            Ok(Ok(permit)) => Ok(Place::Free(permit)),
            Ok(Err(_)) | Err(_) => Err(NotOpened::NoFree),
        }
    }

    fn keep(&self, key: RouteKey, connection: Box<Connection>, outcome: &TransactionOutcome) {
        if !outcome.reusable {
            return;
        }
        if connection.is_spent() {
            part_with(connection);
            return;
        }
        let limit = self.settings.config.delivery.connections_count;
        if let Some(surplus) = self.core.pool.put(key, connection, limit) {
            part_with(surplus);
        }
    }

    /// Our side of the connection.
    fn source(&self, parcel: &Parcel<'_>) -> Result<Source, String> {
        let pool = self.candidate.source_pool.as_deref();
        let config = &self.settings.config;
        Source::choose(config, pool, parcel.message.id, self.address.ip())
    }

    fn key(&self, tls: &TlsPolicy, source: &Source) -> RouteKey {
        RouteKey {
            address: self.address,
            host: self.candidate.endpoint.clone(),
            protocol: self.candidate.protocol,
            tls: tls.clone(),
            auth: self.candidate.auth.clone(),
            source: source.address,
            ehlo: source.ehlo.clone(),
        }
    }
}

/// Says goodbye in the background; the place is free at once.
fn part_with(mut connection: Box<Connection>) {
    connection.give_up_place();
    tokio::spawn(connection.quit());
}

/// A connection from the pool that was of no use any more: nothing was said about this message.
fn was_stale(outcome: &TransactionOutcome) -> bool {
    let gone = match &outcome.host_failure {
        Some(HostFailure::Disconnected(Cause::Closed | Cause::Network(_) | Cause::TimedOut)) => {
            true
        }
        // Many servers announce an idle time-out with 421 and close.
        Some(HostFailure::Refused(reply)) => reply.code == 421,
        _ => false,
    };
    gone && outcome.stage <= Stage::Mail
}
