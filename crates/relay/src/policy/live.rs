//! Changing plugins while mail flows: reload, roll back, watch.
//!
//! A change is a whole new set of [`Settings`] in which one link of the chain is another version.
//! Whoever works has a snapshot and ends with it; whoever begins takes the new one. Nothing is in
//! force in part, and nothing that did not pass every check is in force at all. Changes happen one
//! after the other.

mod promote;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plugin::Digest;
use queue::UnixMs;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

use super::admission::{self, Fetched, Place, Refusal, Stamp};
use super::chain::{Door, Link, Origin};
use super::host::Host;
use super::shelf::{Shelf, Version};
use crate::core::{Core, Settings};
use crate::telemetry;

/// The plugin host, and who may change what it runs.
#[derive(Debug)]
pub(crate) struct Live {
    host: Host,
    changes: Mutex<()>,
}

/// What came of a change of one plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// Name of the plugin.
    pub plugin: String,
    /// `ok`, `unchanged`, `rolled_back` or `promoted` where the file is left alone, or the step that the version
    /// did not pass.
    pub result: String,
    /// Digest of what is in force now.
    pub digest: String,
    /// Version that it gives itself.
    pub version: Option<String>,
    /// Why a version was not taken, or what else there is to know.
    pub text: Option<String>,
}

impl Changed {
    /// Whether a version was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !matches!(
            self.result.as_str(),
            "ok" | "unchanged" | "rolled_back" | "promoted"
        )
    }
}

/// Why nothing could be tried.
#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    /// There is no such plugin in force.
    #[error("there is no plugin {name}; there are: {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// No version before the one in force was kept.
    #[error("plugin {0} has no version to go back to")]
    NothingBefore(String),
    /// The configuration says which component it has to be.
    #[error("plugin {name}: the configuration pins sha256 {pin}; going back would be to {to}")]
    Pinned {
        /// The plugin.
        name: String,
        /// As configured.
        pin: Digest,
        /// What is kept.
        to: Digest,
    },
    /// What was kept cannot be read.
    #[error("plugin {name}: the list of kept versions cannot be read: {source}")]
    Kept {
        /// The plugin.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Leave to change what is in force; others wait for it to be dropped.
pub(crate) type Turn<'a> = MutexGuard<'a, ()>;

impl Live {
    /// With this host, which lives as long.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            changes: Mutex::new(()),
        }
    }

    /// Runs the plugins.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Waits for a turn at changing the settings.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.changes.lock().await
    }

    /// Takes the component that is in the configured file now, if it passes every check.
    ///
    /// # Errors
    /// When there is no such plugin. A version that is refused is no error here: the answer says
    /// so, and the one in force stays.
    pub(crate) async fn reload(
        &self,
        core: &Core,
        name: &str,
        door: Door,
    ) -> Result<Changed, ChangeError> {
        let turn = self.turn().await;
        let settings = core.settings.load_full();
        let link = find(&settings, name)?;
        let place = Place::configured(&link.config);
        let fetched = match self.fetch(&settings, link, place).await {
            Ok(fetched) => fetched,
            Err(refusal) => return Ok(self.refused(link, &refusal)),
        };
        if door == Door::Watch && is_settled(&settings, link, fetched.digest).await {
            link.ledger.set_tried(fetched.stamp);
            return Ok(changed(link, "unchanged"));
        }
        Ok(self
            .take(core, &settings, (link, door), fetched, &turn)
            .await)
    }

    /// Takes what is in all configured files; plugins that were rolled back, or whose candidate was
    /// promoted, are left alone.
    pub(crate) async fn reload_all(&self, core: &Core) -> Vec<Changed> {
        let mut all = Vec::new();
        let settings = core.settings.load_full();
        for link in settings.chain.links() {
            let left_alone = match link.door {
                Door::Rollback => Some(("rolled_back", "it was rolled back")),
                Door::Promotion => Some(("promoted", "its candidate was promoted")),
                Door::Configuration | Door::Reload | Door::Watch => None,
            };
            if let Some((result, why)) = left_alone {
                all.push(Changed {
                    text: Some(format!("{why}; name it to take its configured file")),
                    ..changed(link, result)
                });
                continue;
            }
            // Gone meanwhile, with another configuration: nothing to reload.
            all.extend(self.reload(core, &link.config.name, Door::Reload).await);
        }
        all
    }

    /// Puts the version before the one in force back in force.
    ///
    /// # Errors
    /// When there is nothing to go back to. A version that is refused is no error here.
    pub(crate) async fn roll_back(&self, core: &Core, name: &str) -> Result<Changed, ChangeError> {
        let turn = self.turn().await;
        let settings = core.settings.load_full();
        let link = find(&settings, name)?;
        let shelf = shelf(&settings, link);
        let records = shelf
            .clone()
            .read()
            .await
            .map_err(|source| ChangeError::Kept {
                name: name.to_owned(),
                source,
            })?;
        let now = link.plugin.inspect().sha256;
        let mut versions = records.versions.iter().map(|version| version.digest);
        let to = versions
            .find(|digest| *digest != now)
            .ok_or_else(|| ChangeError::NothingBefore(name.to_owned()))?;
        if let Some(pin) = link.config.sha256 {
            let name = name.to_owned();
            return Err(ChangeError::Pinned { name, pin, to });
        }
        let place = Place {
            component: shelf.component(to),
            signature: shelf.signature(to),
        };
        let rules = &settings.config.plugin_rules;
        let fetched = match admission::fetch(place, Some(to), rules).await {
            Ok(fetched) => fetched,
            Err(refusal) => return Ok(self.refused(link, &refusal)),
        };
        let result = self
            .take(core, &settings, (link, Door::Rollback), fetched, &turn)
            .await;
        Ok(result)
    }

    /// Looks after the files of plugins with `watch`, for ever.
    pub(crate) async fn watch(&self, core: &Core) {
        // Seen once: it may still be being written.
        let mut fresh: HashMap<String, Stamp> = HashMap::new();
        loop {
            let settings = core.settings.load_full();
            for link in settings
                .chain
                .links()
                .iter()
                .filter(|l| l.config.live.watch)
            {
                let name = &link.config.name;
                let place = Place::configured(&link.config);
                let Some(stamp) = admission::stamp(&place).await else {
                    continue;
                };
                if link.ledger.tried() == Some(stamp) {
                    fresh.remove(name);
                } else if fresh.insert(name.clone(), stamp) == Some(stamp)
                    && let Err(error) = self.reload(core, name, Door::Watch).await
                {
                    tracing::debug!(%error, "a watched plugin is gone");
                }
            }
            let pause: Duration = settings.config.plugin_rules.watch_interval;
            drop(settings);
            tokio::time::sleep(pause).await;
        }
    }

    /// Notes what a chain was made from that is in force now: on the shelf, and for who looks after
    /// the files.
    pub(crate) async fn keep(&self, settings: &Settings, origins: Vec<Origin>) {
        for origin in origins {
            let Some(link) = settings.chain.link(&origin.plugin) else {
                continue;
            };
            link.ledger.set_tried(origin.stamp);
            if origin.is_kept {
                continue;
            }
            // The file is good by now.
            link.ledger.set_refused(None);
            if let Err(text) = keep(settings, link, origin.fetched).await {
                tracing::warn!(plugin = origin.plugin, "{text}");
            }
        }
    }

    async fn fetch(
        &self,
        settings: &Settings,
        link: &Link,
        place: Place,
    ) -> Result<Fetched, Refusal> {
        let stamp = admission::stamp(&place).await;
        let rules = &settings.config.plugin_rules;
        let fetched = admission::fetch(place, link.config.sha256, rules).await;
        if fetched.is_err() {
            link.ledger.set_tried(stamp);
        }
        fetched
    }

    /// Checks what was read and exchanges the link; the version in force stays where it is
    /// refused.
    async fn take(
        &self,
        core: &Core,
        settings: &Settings,
        (link, door): (&Link, Door),
        fetched: Fetched,
        _turn: &Turn<'_>,
    ) -> Changed {
        if door != Door::Rollback {
            link.ledger.set_tried(fetched.stamp);
        }
        let plugin = match admission::admit(&self.host, &link.config, &fetched).await {
            Ok(plugin) => plugin,
            Err(refusal) => return self.refused(link, &refusal),
        };
        let new = link.renewed(plugin, door, &self.host);
        let name = &link.config.name;
        core.settings.store(Arc::new(Settings {
            chain: settings.chain.with(&new),
            ..settings.clone()
        }));
        if door != Door::Promotion
            && let Some(candidate) = &new.candidate
        {
            candidate.stop_unless_fit(&new.plugin);
        }
        new.ledger.set_refused(None);
        telemetry::plugin_info(link.plugin.inspect(), false);
        telemetry::plugin_info(new.plugin.inspect(), true);
        telemetry::plugin_reloaded(name, "ok");
        tracing::info!(
            plugin = name,
            by = door.as_str(),
            version = new.version(),
            digest = new.short_digest(),
            before = link.short_digest(),
            "plugin changed"
        );
        let kept = if door == Door::Rollback {
            went_back(settings, link, &new).await
        } else {
            keep(settings, &new, fetched).await
        };
        if let Err(text) = &kept {
            tracing::error!(plugin = name, "{text}");
        }
        Changed {
            text: kept.err(),
            ..changed(&new, "ok")
        }
    }

    fn refused(&self, link: &Link, refusal: &Refusal) -> Changed {
        let name = &link.config.name;
        link.refuse(self.host.clock().now(), refusal);
        telemetry::plugin_reloaded(name, refusal.as_str());
        tracing::error!(
            plugin = name,
            result = refusal.as_str(),
            error = %one_line(&refusal.to_string()),
            in_force = link.short_digest(),
            "a new version of a plugin is refused; the one in force stays"
        );
        Changed {
            text: Some(refusal.to_string()),
            ..changed(link, refusal.as_str())
        }
    }
}

fn find<'s>(settings: &'s Settings, name: &str) -> Result<&'s Link, ChangeError> {
    settings.chain.link(name).ok_or_else(|| {
        let links = settings.chain.links().iter();
        let known: Vec<&str> = links.map(|link| link.config.name.as_str()).collect();
        ChangeError::Unknown {
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        }
    })
}

/// Where the versions of a plugin are kept.
pub(crate) fn shelf(settings: &Settings, link: &Link) -> Shelf {
    let config = &settings.config;
    Shelf::of(
        &config.storage.directory,
        &link.config.name,
        config.plugin_rules.keep_versions_count,
    )
}

/// For the log, where a line is a record.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join("; ")
}

/// Nothing to do for a watcher: this is in force, or the operator went back from it.
async fn is_settled(settings: &Settings, link: &Link, digest: Digest) -> bool {
    if link.plugin.inspect().sha256 == digest {
        return true;
    }
    let records = shelf(settings, link).read().await.unwrap_or_default();
    records.held_back.contains(&digest)
}

fn changed(link: &Link, result: &str) -> Changed {
    Changed {
        plugin: link.config.name.clone(),
        result: result.to_owned(),
        digest: link.plugin.inspect().sha256.to_string(),
        version: link.version().map(ToOwned::to_owned),
        text: None,
    }
}

/// Puts a version on the shelf; an error is a text for the operator.
async fn keep(settings: &Settings, link: &Link, fetched: Fetched) -> Result<(), String> {
    let shelf = shelf(settings, link);
    let version = Version {
        digest: fetched.digest,
        version: link.version().map(ToOwned::to_owned),
        since_ms: link.since.0,
    };
    let noted = tokio::task::spawn_blocking(move || {
        shelf.took(version, &fetched.octets, fetched.signature.as_deref())
    });
    let noted = noted
        .await
        .unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
    noted.map_err(|error| {
        format!("the version in force could not be kept for going back to it: {error}")
    })
}

/// Notes a rollback, so that a restart keeps to it; an error is a text for the operator.
async fn went_back(settings: &Settings, old: &Link, new: &Link) -> Result<(), String> {
    let mut held_back = vec![old.plugin.inspect().sha256];
    let in_file = admission::digest(&old.config.path).await;
    held_back.extend(in_file.filter(|digest| !held_back.contains(digest)));
    let shelf = shelf(settings, new);
    let (to, UnixMs(since_ms)) = (new.plugin.inspect().sha256, new.since);
    let noted = tokio::task::spawn_blocking(move || shelf.went_back(to, since_ms, held_back));
    let noted = noted
        .await
        .unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
    noted.map_err(|error| {
        format!(
            "the plugin was rolled back, but that could not be noted: a restart would take the \
             configured file again: {error}"
        )
    })
}
