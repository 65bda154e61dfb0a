//! The routing plugins, in the order of the configuration.

use std::sync::Arc;
use std::time::Duration;

use plugin::{LoadError, Plugin, PluginSpec};
use queue::QueuedMessage;
use smtp::Domain;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guard::Guard;
use super::host::Host;
use super::meters::CallMeters;
use crate::config::{Config, OnError, PluginConfig};

/// How long a call may wait for its turn. A burst of mail is over by then; a plugin that is
/// still behind cannot keep up, and mail that waits for it should not fill the queue's memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// The plugins that are asked, in order.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    links: Arc<[Link]>,
}

/// One plugin with what the operator said about it.
#[derive(Debug, Clone)]
pub struct Link {
    /// The loaded component.
    pub plugin: Plugin,
    /// As configured.
    pub config: PluginConfig,
    /// Counters of its calls.
    pub(crate) meters: Arc<CallMeters>,
    /// Whether it is called, after what it did so far.
    pub(crate) guard: Arc<Guard>,
    /// One permit for each call that the configuration allows at a time. Waited for here, since
    /// the plugin's own waiting is bounded by the time of one call.
    turns: Arc<Semaphore>,
    /// One permit for each instance of the host.
    instances: Arc<Semaphore>,
}

/// Why the chain cannot be built: each plugin that failed, with the reason.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(|(name, error)| format!("plugin {name}: {error}").replace(&format!("plugin {name}: plugin {name} "), &format!("plugin {name} "))).collect::<Vec<_>>().join("\n"))]
pub struct ChainError(pub Vec<(String, LoadError)>);

impl Chain {
    /// Loads every enabled plugin of the configuration.
    ///
    /// # Errors
    /// Every plugin that cannot be loaded; one is enough for no chain, because a chain with a
    /// hole sends mail where it should not go.
    pub(crate) async fn load(host: &Host, config: &Config) -> Result<Self, ChainError> {
        let mut links = Vec::new();
        let mut faults = Vec::new();
        for entry in config.plugins.iter().filter(|entry| entry.enabled) {
            match host.plugins().load(spec(entry)).await {
                Ok(plugin) => links.push(Link {
                    plugin,
                    config: entry.clone(),
                    meters: Arc::new(CallMeters::new(&entry.name)),
                    guard: Arc::new(Guard::new(
                        &entry.name,
                        entry.live.breaker,
                        host.clock().clone(),
                    )),
                    turns: Arc::new(Semaphore::new(entry.limits.concurrency)),
                    instances: Arc::clone(host.instances()),
                }),
                Err(error) => faults.push((entry.name.clone(), error)),
            }
        }
        if faults.is_empty() {
            Ok(Self {
                links: links.into(),
            })
        } else {
            Err(ChainError(faults))
        }
    }

    /// The plugins, in order.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }
}

impl Link {
    /// Whether this mail is the plugin's business.
    #[must_use]
    pub fn matches(&self, message: &QueuedMessage, domain: &Domain) -> bool {
        let filter = &self.config.filter;
        let listener = &message.origin.listener;
        (filter.listeners.is_empty() || filter.listeners.iter().any(|name| name == listener))
            && (filter.domains.is_empty() || filter.domains.iter().any(|p| p.matches(domain)))
            && (filter.senders.is_empty()
                || filter
                    .senders
                    .iter()
                    .any(|p| p.matches(&message.reverse_path)))
    }

    /// Waits for a turn: one of the plugin's own, so that a slow plugin cannot hold every
    /// instance, then one of the host's.
    ///
    /// # Errors
    /// How long was waited in vain.
    pub(crate) async fn turn(&self) -> Result<[OwnedSemaphorePermit; 2], Duration> {
        let turn = async {
            let own = Arc::clone(&self.turns).acquire_owned().await;
            let shared = Arc::clone(&self.instances).acquire_owned().await;
            [own, shared].map(|permit| permit.expect("nobody closes these semaphores"))
        };
        tokio::time::timeout(PATIENCE, turn)
            .await
            .map_err(|_elapsed| PATIENCE)
    }

    /// Version that the plugin gives itself, if it does.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let identity = self.plugin.inspect().identity.as_ref();
        identity.map(|(_, version)| version.as_str())
    }

    /// The first digits of the component's digest: enough to tell versions apart.
    #[must_use]
    pub fn short_digest(&self) -> String {
        let digest = self.plugin.inspect().sha256.to_string();
        digest.chars().take(12).collect()
    }

    /// What a failed call means.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.config.on_error
    }
}

fn spec(config: &PluginConfig) -> PluginSpec {
    PluginSpec {
        sha256: config.sha256,
        config: config.config.clone(),
        limits: config.limits.clone(),
        grants: config.grants.clone(),
        ..PluginSpec::new(config.name.clone(), config.path.clone())
    }
}
