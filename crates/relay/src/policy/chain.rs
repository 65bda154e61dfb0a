//! The routing plugins, in the order of the configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin::{Digest, Plugin, PluginSpec};
use queue::{QueuedMessage, UnixMs};
use smtp::{Domain, QueueId};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{self, Fetched, Place, Refusal, Stamp};
use super::candidate::{Candidate, is_in_share};
use super::decision_log::DecisionLog;
use super::guard::Guard;
use super::host::Host;
use super::meters::CallMeters;
use super::resources::{PluginResources, Prepared};
use super::shelf::Shelf;
use crate::clock::Clock;
use crate::config::{Config, OnError, PluginConfig};

/// How long a call may wait for its turn. A burst of mail is over by then; a plugin that is
/// still behind cannot keep up, and mail that waits for it should not fill the queue's memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// The plugins that are asked, in order.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    links: Arc<[Link]>,
}

/// The plugins at one moment: which messages a candidate decides about stays as it was then.
///
/// Whoever asks more than once about a message takes this beside its snapshot of the settings, so
/// that another share, or a candidate that is taken out, changes nothing in the middle.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    links: Arc<[Link]>,
    /// Of each link's canary, out of a million; 0: there is none.
    shares: Arc<[u32]>,
}

impl Versions {
    /// The versions that decide about this message, in order: those in force, or their candidates.
    pub(crate) fn of(&self, id: QueueId) -> impl Iterator<Item = &Link> {
        let links = self.links.iter().zip(&*self.shares);
        links.map(move |(link, share)| match &link.canary {
            Some(canary) if is_in_share(&link.config.name, id, *share) => canary,
            _ => link,
        })
    }
}

/// One version of a plugin in force, with what the operator said about it. Another version is
/// another link: who took a snapshot of the chain goes on with the one that it began with.
#[derive(Debug, Clone)]
pub struct Link {
    /// The loaded component.
    pub plugin: Plugin,
    /// As configured.
    pub config: PluginConfig,
    /// Since when, in milliseconds since 1970.
    pub(crate) since: UnixMs,
    /// By which door it came.
    pub(crate) door: Door,
    /// Counters of its calls, over all versions.
    pub(crate) meters: Arc<CallMeters>,
    /// Whether it is called, after what this version did so far.
    pub(crate) guard: Arc<Guard>,
    /// What was tried and did not come in force, over all versions.
    pub(crate) ledger: Arc<Ledger>,
    /// Its tables, state and HTTP, over all versions.
    pub(crate) resources: Arc<PluginResources>,
    /// A version on trial beside it.
    pub(crate) candidate: Option<Arc<Candidate>>,
    /// The same with the candidate in force: for the messages that it decides.
    canary: Option<Arc<Link>>,
    /// In such a link, the candidate.
    pub(crate) trial: Option<Arc<Candidate>>,
    /// Where its decisions are kept.
    pub(crate) decisions: Option<DecisionLog>,
    /// The time of what is kept.
    pub(crate) clock: Clock,
    /// One permit for each call that the configuration allows at a time. Waited for here, since
    /// the plugin's own waiting is bounded by the time of one call.
    turns: Arc<Semaphore>,
    /// One permit for each instance of the host.
    instances: Arc<Semaphore>,
}

/// How a version came in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The relay started, or took another configuration.
    Configuration,
    /// By `waypost plugin reload`.
    Reload,
    /// The file changed.
    Watch,
    /// By `waypost plugin rollback`, now or before a restart.
    Rollback,
    /// By `waypost plugin promote`: it was the candidate.
    Promotion,
}

impl Door {
    /// For people and programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Reload => "reload",
            Self::Watch => "watch",
            Self::Rollback => "rollback",
            Self::Promotion => "promotion",
        }
    }
}

/// What was tried last.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    refused: Mutex<Option<Refused>>,
    tried: Mutex<Option<Stamp>>,
}

/// A version that was not taken.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// When.
    pub(crate) at: UnixMs,
    /// Label of the step that it did not pass.
    pub(crate) result: &'static str,
    /// Why, for the operator.
    pub(crate) text: String,
}

impl Ledger {
    pub(crate) fn refused(&self) -> Option<Refused> {
        let refused = self.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_refused(&self, refused: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// How the file looked when it was last read, whatever came of it.
    pub(crate) fn tried(&self) -> Option<Stamp> {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_tried(&self, stamp: Option<Stamp>) {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }
}

/// Why the chain cannot be built: each plugin that failed, with the reason.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(|(name, error)| format!("plugin {name}: {error}").replace(&format!("plugin {name}: plugin {name} "), &format!("plugin {name} "))).collect::<Vec<_>>().join("\n"))]
pub struct ChainError(pub Vec<(String, Refusal)>);

/// A component that a link was made from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Name of the plugin.
    pub(crate) plugin: String,
    /// What was read.
    pub(crate) fetched: Fetched,
    /// It came from the shelf, because the configured file is held back.
    pub(crate) is_kept: bool,
    /// How the configured file looked before.
    pub(crate) stamp: Option<Stamp>,
}

impl Chain {
    /// Loads every enabled plugin of the configuration. `old`: the chain that it takes the place
    /// of.
    ///
    /// # Errors
    /// Every plugin that cannot be loaded; one is enough for no chain, because a chain with a
    /// hole sends mail where it should not go.
    pub(crate) async fn load(
        host: &Host,
        config: &Config,
        old: Option<&Self>,
    ) -> Result<(Self, Vec<Origin>), ChainError> {
        let (mut links, mut origins, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for entry in config.plugins.iter().filter(|entry| entry.enabled) {
            let before = old.and_then(|old| old.link(&entry.name));
            match load_link(host, config, entry, before).await {
                Ok((link, origin)) => {
                    links.push(link);
                    origins.push(origin);
                }
                Err(refusal) => {
                    if let Some(before) = before {
                        before.refuse(host.clock().now(), &refusal);
                    }
                    faults.push((entry.name.clone(), refusal));
                }
            }
        }
        if faults.is_empty() {
            let links = links.into();
            Ok((Self { links }, origins))
        } else {
            Err(ChainError(faults))
        }
    }

    /// The plugin of this name.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.config.name == name)
    }

    /// This chain with another version of one plugin.
    pub(crate) fn with(&self, link: &Link) -> Self {
        let name = &link.config.name;
        let links = self.links.iter().map(|old| {
            let is_it = old.config.name == *name;
            Link::clone(if is_it { link } else { old })
        });
        Self {
            links: links.collect(),
        }
    }

    /// The same plugins, each with its part of what was made ready for the configuration.
    pub(crate) fn furnished(&self, prepared: &Prepared) -> Self {
        self.each(|link| Link {
            resources: prepared.of(&link.config.name),
            ..link.clone()
        })
    }

    /// The same plugins, whose decisions are kept in this log.
    pub(crate) fn recorded(&self, decisions: Option<&DecisionLog>) -> Self {
        self.each(|link| Link {
            decisions: decisions.cloned(),
            ..link.clone()
        })
    }

    /// The same plugins and candidates, changed.
    fn each(&self, change: impl Fn(&Link) -> Link) -> Self {
        let links = self.links.iter().map(|link| Link {
            canary: link.canary.as_deref().map(&change).map(Arc::new),
            ..change(link)
        });
        Self {
            links: links.collect(),
        }
    }

    /// The plugins with the shares that their candidates have now.
    pub(crate) fn versions(&self) -> Versions {
        let candidates = self.links.iter().map(|link| link.candidate.as_deref());
        let shares = candidates.map(|one| one.map_or(0, Candidate::canary_share));
        Versions {
            links: Arc::clone(&self.links),
            shares: shares.collect(),
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

    /// With a candidate beside it.
    fn on_trial(mut self, candidate: Option<Arc<Candidate>>, host: &Host) -> Self {
        let plugin = candidate.as_ref().and_then(|candidate| candidate.plugin());
        if let (Some(candidate), Some(plugin)) = (&candidate, plugin) {
            let breaker = self.config.live.breaker;
            let name = plugin.name();
            self.canary = Some(Arc::new(Self {
                plugin: plugin.clone(),
                candidate: None,
                guard: Arc::new(Guard::new(name, breaker, host.clock().clone())),
                trial: Some(Arc::clone(candidate)),
                ..self.clone()
            }));
        }
        self.candidate = candidate;
        self
    }

    /// The same without a candidate.
    pub(crate) fn without_candidate(&self) -> Self {
        Self {
            candidate: None,
            canary: None,
            ..self.clone()
        }
    }

    /// An instance that no mail waits for, where there is one.
    pub(crate) fn spare_instance(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.instances).try_acquire_owned().ok()
    }

    /// Another version of this plugin: what outlives versions goes on. A candidate that leaves out
    /// a phase of it decides nothing beside it.
    pub(crate) fn renewed(&self, plugin: Plugin, door: Door, host: &Host) -> Self {
        let breaker = self.config.live.breaker;
        let link = Self {
            plugin,
            since: host.clock().now(),
            door,
            guard: Arc::new(Guard::new(&self.config.name, breaker, host.clock().clone())),
            ..self.clone()
        };
        let candidate = self.candidate.as_deref();
        match candidate.map(|candidate| candidate.fits(&link.plugin)) {
            Some(Err(_)) => Self {
                canary: None,
                ..link
            },
            // It did not fit the version before.
            Some(Ok(())) if link.canary.is_none() => link.on_trial(self.candidate.clone(), host),
            _ => link,
        }
    }

    /// Keeps why a version was not taken, for `waypost plugin ls`.
    pub(crate) fn refuse(&self, at: UnixMs, refusal: &Refusal) {
        self.ledger.set_refused(Some(Refused {
            at,
            result: refusal.as_str(),
            text: refusal.to_string(),
        }));
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

/// What the host is told of a plugin.
pub(crate) fn spec(config: &PluginConfig) -> PluginSpec {
    PluginSpec {
        sha256: config.sha256,
        config: config.config.clone(),
        limits: config.limits.clone(),
        grants: config.grants.clone(),
        phases: config.phases.clone(),
        instances: config.instances,
        ..PluginSpec::new(config.name.clone(), config.path.clone())
    }
}

/// The version that belongs in force: that of the configured file, or, where the operator went
/// back from that one, the one that was gone back to.
async fn load_link(
    host: &Host,
    config: &Config,
    entry: &PluginConfig,
    before: Option<&Link>,
) -> Result<(Link, Origin), Refusal> {
    let rules = &config.plugin_rules;
    let place = Place::configured(entry);
    let stamp = admission::stamp(&place).await;
    let kept = kept_instead(config, entry).await?;
    let is_kept = kept.is_some();
    let (place, pin) = match kept {
        Some((place, digest)) => (place, Some(digest)),
        None => (place, entry.sha256),
    };
    let fetched = admission::fetch(place, pin, rules).await?;
    let plugin = admission::admit(host, entry, &fetched).await?;
    let digest = fetched.digest;
    let same =
        before.filter(|before| before.config == *entry && before.plugin.inspect().sha256 == digest);
    let candidate = host.candidate(rules, entry, &plugin).await;
    if candidate.is_none()
        && let Some(gone) = before.and_then(|before| before.candidate.as_ref())
    {
        gone.hide_share();
    }
    let name = &entry.name;
    let fresh_guard = || Guard::new(name, entry.live.breaker, host.clock().clone());
    let link = Link {
        plugin,
        config: entry.clone(),
        since: same.map_or_else(|| host.clock().now(), |same| same.since),
        door: match same {
            Some(same) => same.door,
            None if is_kept => Door::Rollback,
            None => Door::Configuration,
        },
        meters: before.map_or_else(
            || Arc::new(CallMeters::new(name)),
            |before| Arc::clone(&before.meters),
        ),
        // A reload for another reason does not make a failing plugin good.
        guard: same.map_or_else(|| Arc::new(fresh_guard()), |same| Arc::clone(&same.guard)),
        ledger: before.map_or_else(Arc::default, |before| Arc::clone(&before.ledger)),
        resources: Arc::default(),
        candidate: None,
        canary: None,
        trial: None,
        decisions: None,
        clock: host.clock().clone(),
        turns: Arc::new(Semaphore::new(entry.limits.concurrency)),
        instances: Arc::clone(host.instances()),
    };
    let link = link.on_trial(candidate, host);
    let origin = Origin {
        plugin: name.clone(),
        fetched,
        is_kept,
        stamp,
    };
    Ok((link, origin))
}

/// The kept version that stands in for the configured file, where the operator went back from
/// what is in the file.
async fn kept_instead(
    config: &Config,
    entry: &PluginConfig,
) -> Result<Option<(Place, Digest)>, Refusal> {
    let keep_count = config.plugin_rules.keep_versions_count;
    let shelf = Shelf::of(&config.storage.directory, &entry.name, keep_count);
    let records = match shelf.clone().read().await {
        Ok(records) => records,
        // Somebody who only looks, and may not look there.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(source) => {
            let path = shelf.directory().to_owned();
            return Err(Refusal::Kept { path, source });
        }
    };
    // A pin says which component is meant; it is the newer word.
    if entry.sha256.is_some() || records.held_back.is_empty() {
        return Ok(None);
    }
    let in_file = admission::digest(&entry.path).await;
    let version = records.versions.first();
    let (Some(in_file), Some(version)) = (in_file, version) else {
        return Ok(None);
    };
    if !records.held_back.contains(&in_file) {
        return Ok(None);
    }
    tracing::warn!(
        plugin = entry.name,
        digest = %version.digest,
        held_back = %in_file,
        "plugin was rolled back or its candidate promoted: its configured file is not taken before \
         `waypost plugin reload` names it"
    );
    let place = Place {
        component: shelf.component(version.digest),
        signature: shelf.signature(version.digest),
    };
    Ok(Some((place, version.digest)))
}
