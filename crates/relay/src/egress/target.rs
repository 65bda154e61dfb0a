//! One address of one candidate: a connection for it, from the pool or new, and a transaction.

use std::net::SocketAddr;
use std::sync::Arc;

use mx::{Candidate, TlsPolicy};
use queue::QueuedMessage;
use smtp::{
    Cause, ClientTransaction, ForwardPath, HostFailure, Recipient, Stage, TransactionOutcome,
};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Connection, Terms, failed};
use super::pool::RouteKey;
use crate::content::{self, Content};
use crate::core::{Core, Settings};

/// What is to be sent: a message to some of its recipients.
pub(super) struct Parcel<'a> {
    pub(super) message: &'a QueuedMessage,
    /// Places in the message's list of recipients.
    pub(super) recipients: &'a [u32],
    pub(super) content: &'a Content,
}

impl Parcel<'_> {
    /// Made anew for every connection that is tried; nearly always there is one.
    fn transaction(&self) -> ClientTransaction {
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
            size_bytes: content::size_bytes(self.content),
        }
    }
}

/// Where a transaction goes.
pub(super) struct Target<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) settings: &'a Arc<Settings>,
    pub(super) candidate: &'a Candidate,
    pub(super) address: SocketAddr,
}

/// All outgoing connections are in use, and none became free in time. No fault of the host's.
#[derive(Debug)]
pub(super) struct NoFreeConnection;

/// Why there is no connection.
enum NotOpened {
    NoFree,
    Host(Cause),
}

impl Target<'_> {
    /// Sends the message there.
    pub(super) async fn deliver(
        &self,
        parcel: &Parcel<'_>,
    ) -> Result<TransactionOutcome, NoFreeConnection> {
        let outcome = self.deliver_with(&self.candidate.tls, parcel).await?;
        // RFC 7435: opportunistic TLS that does not come about is no reason not to deliver. The
        // broken connection is of no use any more; a new one goes without.
        let broken = matches!(
            &outcome.host_failure,
            Some(HostFailure::Disconnected(Cause::Tls(_)))
        );
        if broken && self.candidate.tls == TlsPolicy::Opportunistic {
            tracing::info!(address = %self.address, "TLS failed; going on in the clear");
            return self.deliver_with(&TlsPolicy::Off, parcel).await;
        }
        Ok(outcome)
    }

    async fn deliver_with(
        &self,
        tls: &TlsPolicy,
        parcel: &Parcel<'_>,
    ) -> Result<TransactionOutcome, NoFreeConnection> {
        let key = self.key(tls);
        if let Some(mut connection) = self.core.pool.take(&key) {
            let transaction = parcel.transaction();
            let outcome = connection.deliver(transaction, parcel.content).await;
            if !was_stale(&outcome) {
                self.core.meters.out_reused.increment(1);
                self.keep(key, connection, &outcome);
                return Ok(outcome);
            }
            // The server had closed it, or was about to: that is no failure of the host, and
            // nothing of the message has been sent.
        }
        match self.open(tls).await {
            Ok(mut connection) => {
                self.core.meters.out_opened.increment(1);
                let transaction = parcel.transaction();
                let outcome = connection.deliver(transaction, parcel.content).await;
                self.keep(key, connection, &outcome);
                Ok(outcome)
            }
            Err(NotOpened::NoFree) => Err(NoFreeConnection),
            Err(NotOpened::Host(cause)) => {
                self.core.meters.out_failed.increment(1);
                Ok(failed(cause, parcel.recipients.len()))
            }
        }
    }

    async fn open(&self, tls: &TlsPolicy) -> Result<Box<Connection>, NotOpened> {
        let endpoint = self.candidate.endpoint.clone();
        let terms = Terms::new(Arc::clone(self.settings), endpoint, tls.clone());
        let terms = terms.map_err(NotOpened::Host)?;
        let permit = self.permit().await?;
        let limit = self.settings.config.delivery.connect_timeout;
        let not_connected = |why: &dyn std::fmt::Display| {
            let text = format!("connect to {}: {why}", self.address);
            NotOpened::Host(Cause::DialFailed(text))
        };
        let stream = tokio::time::timeout(limit, TcpStream::connect(self.address))
            .await
            .map_err(|_| not_connected(&"no answer in time"))?
            .map_err(|error| not_connected(&error))?;
        let open = Arc::clone(&self.core.outgoing_open);
        let connection = Connection::new(stream, terms, permit, open).await;
        connection.map(Box::new).map_err(NotOpened::Host)
    }

    /// A place among the outgoing connections; an idle one has to go where there is none.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, NotOpened> {
        let outgoing = Arc::clone(&self.core.outgoing);
        if let Ok(permit) = Arc::clone(&outgoing).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiter = self.core.pool.wait();
        if let Some(idle) = self.core.pool.evict() {
            part_with(idle);
        }
        let limit = self.settings.config.delivery.connect_timeout;
        match tokio::time::timeout(limit, outgoing.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
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

    fn key(&self, tls: &TlsPolicy) -> RouteKey {
        RouteKey {
            address: self.address,
            host: self.candidate.endpoint.clone(),
            protocol: self.candidate.protocol,
            tls: tls.clone(),
            auth: self.candidate.auth.clone(),
            source_pool: self.candidate.source_pool.clone(),
            ehlo: self.settings.config.delivery.ehlo.clone(),
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
