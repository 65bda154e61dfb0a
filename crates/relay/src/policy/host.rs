//! The plugin host as the relay runs it, and as commands that only look run it.

use std::path::PathBuf;
use std::sync::Arc;

use plugin::{DiscardMetrics, HostError, HostOptions, PluginHost};
use tokio::sync::Semaphore;

use crate::clock::{self, Clock};
use crate::config::Config;
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
        Ok(Self::new(PluginHost::new(options)?, clock))
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
        }
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
