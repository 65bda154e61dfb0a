//! The plugin host as the relay runs it, and as commands that only look run it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use plugin::{DiscardMetrics, HostError, HostOptions, Plugin, PluginHost};
use tokio::sync::Semaphore;

use super::candidate::Candidate;
use super::decision_log::DecisionLog;
use crate::clock::{self, Clock};
use crate::config::{Config, DecisionLogConfig, PluginConfig, PluginsConfig};
use crate::telemetry;

/// Instances over all plugins: the host's own default, written here because the turns that
/// calls wait for have to be as many.
const INSTANCES: u32 = 256;

/// Runs plugins; it has to live as long as they are called.
#[derive(Debug)]
pub(crate) struct Host {
    plugins: PluginHost,
    instances: Arc<Semaphore>,
    clock: Clock,
    /// Of a relay that handles mail.
    decisions: Option<Mutex<Option<DecisionLog>>>,
}

impl Host {
    /// For a relay that handles mail.
    ///
    /// # Errors
    /// When the engine does not start or the cache of compiled code cannot be used.
    pub(crate) fn for_mail(config: &Config, clock: &Clock) -> Result<Self, HostError> {
        let options = HostOptions {
            cache_directory: Some(cache_directory(config)),
            metrics: Arc::new(telemetry::PluginMetrics),
            ..options(config, clock)
        };
        Ok(Self {
            decisions: Some(Mutex::default()),
            ..Self::new(PluginHost::new(options)?, clock)
        })
    }

    /// For commands that change nothing: compiled code is taken from the relay's cache where
    /// there is one that may be used, and nothing is counted.
    ///
    /// # Errors
    /// When the engine does not start.
    pub(crate) fn for_looking(config: &Config, clock: &Clock) -> Result<Self, HostError> {
        let options = options(config, clock);
        let cache = cache_directory(config);
        if cache.is_dir() {
            let with_cache = HostOptions {
                cache_directory: Some(cache),
                ..options.clone()
            };
            match PluginHost::new(with_cache) {
                // It belongs to the relay's user, and somebody else is looking.
                Err(HostError::Cache { .. }) => {}
                made => return Ok(Self::new(made?, clock)),
            }
        }
        Ok(Self::new(PluginHost::new(options)?, clock))
    }

    fn new(plugins: PluginHost, clock: &Clock) -> Self {
        Self {
            plugins,
            instances: Arc::new(Semaphore::new(INSTANCES as usize)),
            clock: clock.clone(),
            decisions: None,
        }
    }

    /// The candidate of a plugin, where mail is handled: nothing else is a trial.
    pub(crate) async fn candidate(
        &self,
        rules: &PluginsConfig,
        entry: &PluginConfig,
        active: &Plugin,
    ) -> Option<Arc<Candidate>> {
        self.decisions.as_ref()?;
        Candidate::load(self, rules, entry, active).await
    }

    /// The decision log as configured: the one that is open, or another one.
    pub(crate) fn decisions(&self, config: &DecisionLogConfig) -> Option<DecisionLog> {
        let open = self.decisions.as_ref()?;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| open.config() != config) {
            *open = DecisionLog::open(config, &self.clock);
        }
        open.clone()
    }

    /// Where plugins are loaded.
    pub(crate) fn plugins(&self) -> &PluginHost {
        &self.plugins
    }

    /// The relay's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// One permit for each instance that may run.
    pub(crate) fn instances(&self) -> &Arc<Semaphore> {
        &self.instances
    }
}

/// What holds for every host: a plugin that loads in one loads in the other.
fn options(config: &Config, clock: &Clock) -> HostOptions {
    let clock = clock.clone();
    let mut options = HostOptions::new(Arc::new(move || clock.now().0), clock::random_seed());
    let wanted = config
        .plugins
        .iter()
        .map(|plugin| plugin.limits.memory_bytes);
    options.memory_bytes_max = wanted.fold(options.memory_bytes_max, usize::max);
    options.instance_count = INSTANCES;
    options.metrics = Arc::new(DiscardMetrics);
    options
}

fn cache_directory(config: &Config) -> PathBuf {
    config.storage.directory.join("plugin-cache")
}
