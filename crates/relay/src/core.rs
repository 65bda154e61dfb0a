//! What every task of a running relay shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use bytes::Bytes;
use queue::{QueuedMessage, UnixMs};
use smtp::QueueId;
use spool::{RecordId, Spool, SpoolError};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, ListenerConfig};
use crate::content::{Budget, Content, ContentCache};
use crate::dispatch::Input;
use crate::egress::pool::Pool;
use crate::ids::QueueIds;
use crate::listen::ConnectionCounts;
use crate::policy::chain::{Chain, Versions};
use crate::policy::resources::Resources;
use crate::store;
use crate::telemetry::Meters;

/// What a reload exchanges as a whole. A task takes one snapshot and keeps to it.
#[derive(Clone)]
pub struct Settings {
    /// The checked configuration.
    pub config: Config,
    /// The routing plugins, in order.
    pub chain: Chain,
    /// DNS and its cache; kept over a reload that does not change `[dns]`.
    pub directory: Arc<mx::Directory>,
    /// Which addresses are not dialled: our own among them.
    pub address_rules: mx::AddressRules,
    /// The listeners' certificate, where STARTTLS is offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The server machine's view of the configuration, by listener.
    pub profiles: Vec<Arc<Profile>>,
}

/// The settings, and which versions of plugins decide, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What was in force.
    pub settings: Arc<Settings>,
    /// Of the plugins in it.
    pub versions: Versions,
}

impl Snapshot {
    /// Of these settings, now.
    #[must_use]
    pub fn of(settings: Arc<Settings>) -> Self {
        Self {
            versions: settings.chain.versions(),
            settings,
        }
    }

    /// Of what is in force now.
    #[must_use]
    pub fn take(core: &Core) -> Self {
        Self::of(core.settings.load_full())
    }
}

/// One listener as its sessions see it.
#[derive(Debug)]
pub struct Profile {
    /// Its name, the address it was configured with, and who may relay.
    pub listener: ListenerConfig,
    /// For the machine.
    pub server: Arc<smtp::ServerConfig>,
    /// A socket of this process takes connections for it. A listener that came with a reload
    /// has none before the restart.
    pub is_bound: bool,
    /// No mail is taken until the restart: a reload took the listener's name away, and plugins
    /// that are asked by the name of the listener would be passed by.
    pub is_closed: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The profile of the listener `name` that was configured with `address`.
    ///
    /// The name alone would not do: a reload may give it to another address, and the socket that
    /// is bound must not take over the relay control of one that is not.
    #[must_use]
    pub fn profile(&self, name: &str, address: SocketAddr) -> Option<&Arc<Profile>> {
        self.profiles
            .iter()
            .find(|profile| profile.listener.name == name && profile.listener.address == address)
    }
}

/// The shared parts of a running relay.
pub struct Core {
    /// Exchanged by a reload.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The time.
    pub clock: Clock,
    /// Messages on disk.
    pub spool: Arc<dyn Spool>,
    /// Content of messages that wait for their first attempt.
    pub cache: ContentCache,
    /// Content that is being received.
    pub receiving: Arc<Budget>,
    /// New identities.
    pub ids: QueueIds,
    /// Metrics of the delivery side.
    pub meters: Meters,
    /// Tables, state and HTTP of plugins.
    pub(crate) resources: Arc<Resources>,
    /// Turns of routing jobs at looking things up.
    pub lanes: crate::routing::Lanes,
    /// Incoming connections.
    pub connections: Arc<ConnectionCounts>,
    /// Idle outgoing connections.
    pub pool: Pool,
    /// Outgoing connections: one permit each.
    pub outgoing: Arc<Semaphore>,
    /// Attempts about which plugins are told: one permit each.
    pub feedback: Arc<Semaphore>,
    /// Outgoing connections open now, idle ones included.
    pub outgoing_open: Arc<AtomicUsize>,
    /// The way to the single writer of queue state.
    pub dispatch: mpsc::Sender<Input>,
    /// Cancelled when the relay begins to stop: what is received now is for the next start.
    pub draining: CancellationToken,
    /// Cancelled when the spool is about to close: work that could not be recorded ends.
    pub cut: CancellationToken,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Core")
    }
}

impl Core {
    /// Our own name.
    #[must_use]
    pub fn hostname(&self) -> smtp::Domain {
        self.settings.load().config.hostname.clone()
    }

    /// Takes responsibility for a message: durable in the spool, then known to the queue.
    ///
    /// `content` is the whole message as it will be sent.
    ///
    /// # Errors
    /// When the spool cannot take it; then the message is not there and nobody may be told
    /// otherwise.
    pub async fn accept(&self, message: QueuedMessage, content: Content) -> Result<(), SpoolError> {
        let id = message.id;
        // Delivery has ended by itself: nobody would deliver it before somebody notices. In a
        // drain the dispatcher may end first, and the message waits for the next start.
        if self.dispatch.is_closed() && !self.draining.is_cancelled() {
            return Err(SpoolError::Closed);
        }
        let due_at = message.due_at().unwrap_or(message.received_at);
        let record = store::encode(&message).map_err(|error| {
            tracing::error!(%id, %error, "cannot encode a message");
            SpoolError::TooLarge { size_bytes: 0 }
        })?;
        let body: Vec<Bytes> = content.to_vec();
        self.spool
            .accept(RecordId(id.get()), due_at.0, record, body)
            .await?;
        self.cache.insert(id, content);
        self.tell(Input::Accepted(Arc::new(message))).await;
        Ok(())
    }

    /// Tells the single writer. Where it has ended, what it would have been told is in the
    /// spool for the next start, as far as it matters.
    pub async fn tell(&self, input: Input) {
        if self.dispatch.send(input).await.is_err() {
            tracing::debug!("the dispatcher has ended");
        }
    }

    /// A message's content, from memory or from the spool.
    ///
    /// # Errors
    /// When the spool cannot give it.
    pub async fn content(&self, id: QueueId) -> Result<Content, SpoolError> {
        match self.cache.get(id) {
            Some(content) => Ok(content),
            None => read_content(&self.spool, id).await,
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }
}

/// Reads a message's content on a thread where blocking is allowed.
///
/// # Errors
/// When the spool cannot give it.
pub async fn read_content(spool: &Arc<dyn Spool>, id: QueueId) -> Result<Content, SpoolError> {
    let spool = Arc::clone(spool);
    let read = tokio::task::spawn_blocking(move || spool.read_body(RecordId(id.get())));
    let body = read.await.unwrap_or(Err(SpoolError::Closed))?;
    Ok(body.into())
}
