//! One address of one candidate: a connection for it, from the pool or new, and a transaction.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use mx::{Candidate, Endpoint, TlsPolicy};
use smtp::{Cause, ClientTransaction, HostFailure, RecipientOutcome, Stage, TransactionOutcome};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Connection, Terms};
use super::pool::RouteKey;
use crate::core::{Core, Settings};

/// Where a transaction goes.
pub(super) struct Target<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) settings: &'a Arc<Settings>,
    pub(super) candidate: &'a Candidate,
    pub(super) address: SocketAddr,
}

impl Target<'_> {
    /// Sends the message there.
    pub(super) async fn deliver(
        &self,
        transaction: &ClientTransaction,
        content: &[Bytes],
    ) -> TransactionOutcome {
        let outcome = self
            .deliver_with(&self.candidate.tls, transaction, content)
            .await;
        // RFC 7435: opportunistic TLS that does not come about is no reason not to deliver. The
        // broken connection is of no use any more; a new one goes without.
        let broken = matches!(
            &outcome.host_failure,
            Some(HostFailure::Disconnected(Cause::Tls(_)))
        );
        if broken && self.candidate.tls == TlsPolicy::Opportunistic {
            tracing::info!(address = %self.address, "TLS failed; going on in the clear");
            return self
                .deliver_with(&TlsPolicy::Off, transaction, content)
                .await;
        }
        outcome
    }

    async fn deliver_with(
        &self,
        tls: &TlsPolicy,
        transaction: &ClientTransaction,
        content: &[Bytes],
    ) -> TransactionOutcome {
        let key = self.key(tls);
        if let Some(mut connection) = self.core.pool.take(&key) {
            let outcome = connection.deliver(transaction.clone(), content).await;
            if !was_stale(&outcome) {
                self.core.meters.out_reused.increment(1);
                self.keep(key, connection, &outcome);
                return outcome;
            }
            // The server had closed it, or was about to: that is no failure of the host, and
            // nothing of the message has been sent.
        }
        match self.open(tls).await {
            Ok(mut connection) => {
                self.core.meters.out_opened.increment(1);
                let outcome = connection.deliver(transaction.clone(), content).await;
                self.keep(key, connection, &outcome);
                outcome
            }
            Err(cause) => {
                self.core.meters.out_failed.increment(1);
                failed(cause, transaction.recipients.len())
            }
        }
    }

    async fn open(&self, tls: &TlsPolicy) -> Result<Box<Connection>, Cause> {
        let delivery = self.settings.config.delivery.clone();
        let permit = self.permit().await?;
        let dial = TcpStream::connect(self.address);
        let stream = match tokio::time::timeout(delivery.connect_timeout, dial).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(Cause::DialFailed(format!(
                    "connect to {}: {error}",
                    self.address
                )));
            }
            Err(_) => {
                let text = format!("connect to {}: no answer in time", self.address);
                return Err(Cause::DialFailed(text));
            }
        };
        let terms = Terms {
            ehlo: delivery.ehlo.clone(),
            host: self.host_name(),
            tls: tls.clone(),
        };
        let open = Arc::clone(&self.core.outgoing_open);
        Connection::new(stream, terms, delivery, permit, open)
            .await
            .map(Box::new)
    }

    /// A place among the outgoing connections; an idle one has to go where there is none.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, Cause> {
        let outgoing = Arc::clone(&self.core.outgoing);
        if let Ok(permit) = Arc::clone(&outgoing).try_acquire_owned() {
            return Ok(permit);
        }
        if let Some(idle) = self.core.pool.evict() {
            tokio::spawn(idle.quit());
        }
        let closed = |_| Cause::DialFailed("shutting down".to_owned());
        outgoing.acquire_owned().await.map_err(closed)
    }

    fn keep(&self, key: RouteKey, connection: Box<Connection>, outcome: &TransactionOutcome) {
        if !outcome.reusable {
            return;
        }
        let surplus = if connection.is_spent() {
            Some(connection)
        } else {
            self.core.pool.put(
                key,
                connection,
                self.settings.config.delivery.connections_count,
            )
        };
        if let Some(surplus) = surplus {
            tokio::spawn(surplus.quit());
        }
    }

    fn key(&self, tls: &TlsPolicy) -> RouteKey {
        RouteKey {
            address: self.address,
            host: self.host_name(),
            protocol: self.candidate.protocol,
            tls: tls.clone(),
            auth: self.candidate.auth.clone(),
            source_pool: self.candidate.source_pool.clone(),
            ehlo: self.settings.config.delivery.ehlo.to_string(),
        }
    }

    fn host_name(&self) -> String {
        match &self.candidate.endpoint {
            Endpoint::Host(name) => name.to_string(),
            Endpoint::Address(IpAddr::V4(address)) => address.to_string(),
            Endpoint::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Endpoint::UnixSocket(path) => path.display().to_string(),
        }
    }
}

/// A connection from the pool that broke before it said anything about this message.
fn was_stale(outcome: &TransactionOutcome) -> bool {
    let gone = match &outcome.host_failure {
        Some(HostFailure::Disconnected(Cause::Closed | Cause::Network(_))) => true,
        // Many servers announce an idle time-out with 421 and close.
        Some(HostFailure::Refused(reply)) => reply.code == 421,
        _ => false,
    };
    gone && outcome.stage <= Stage::Mail
}

fn failed(cause: Cause, recipient_count: usize) -> TransactionOutcome {
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
