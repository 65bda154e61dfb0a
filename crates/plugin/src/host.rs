//! The host: one WebAssembly engine, its pool of instances, its ticker thread.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::cache::Cache;
use crate::digest::Digest;
use crate::error::{HostError, LoadError};
use crate::grants::Grants;
use crate::imports;
use crate::limits::{Instances, Limits};
use crate::load::load;
use crate::meter::PARTS_MAX;
use crate::phase::Phase;
use crate::plugin::{Loaded, Plugin};
use crate::state::CallState;
use crate::ticker::Ticker;

/// What a host is made of. The clock and the seed come from outside so that a
/// test or a replay can fix them.
#[derive(Clone)]
pub struct HostOptions {
    /// Instances that may exist at once, over all plugins; further calls wait.
    pub instance_count: u32,
    /// The most memory that any plugin's limit may allow.
    pub memory_bytes_max: usize,
    /// Memory that each pool slot keeps between calls: speed for
    /// `instance_count` times this much resident memory at worst. At most
    /// 256 KiB where the kernel cannot say which pages a call has written
    /// (before Linux 6.7): there they are all cleared.
    pub keep_resident_bytes: usize,
    /// How instances get their memory.
    pub allocation: Allocation,
    /// How often a running guest is looked at. Only a guest that computes
    /// notices.
    pub tick: Duration,
    /// Where compiled code is kept between starts, readable by the relay alone;
    /// `None`: compiled at each load.
    pub cache_directory: Option<PathBuf>,
    /// The time, in milliseconds since the Unix epoch.
    pub clock: Clock,
    /// Seed of what `ambient.random` gives.
    pub seed: u64,
    /// Receives the plugins' own metrics.
    pub metrics: Arc<dyn MetricSink>,
}

/// A function that tells the time, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allocation {
    /// From a pool where the address space allows it, otherwise on demand.
    #[default]
    Auto,
    /// On demand: slower by some 35 µs a call, with no address space reserved.
    OnDemand,
}

impl HostOptions {
    /// The defaults with this clock and seed: 256 instances of at most 64 MiB,
    /// 1 MiB kept resident in each, a tick of 5 ms, no cache, metrics
    /// discarded.
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self {
            instance_count: 256,
            memory_bytes_max: 64 << 20,
            keep_resident_bytes: 1 << 20,
            allocation: Allocation::Auto,
            tick: Duration::from_millis(5),
            cache_directory: None,
            clock,
            seed,
            metrics: Arc::new(DiscardMetrics),
        }
    }
}

impl fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostOptions")
            .field("instance_count", &self.instance_count)
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("allocation", &self.allocation)
            .field("tick", &self.tick)
            .field("cache_directory", &self.cache_directory)
            .finish_non_exhaustive()
    }
}

/// Receives the metrics that plugins count themselves. Names and labels are
/// valid for Prometheus, and the number of series is bounded by the host.
pub trait MetricSink: Send + Sync {
    /// Adds to a counter.
    fn count(&self, plugin: &str, name: &str, by: u64, labels: &[(String, String)]);
    /// Puts a value into a histogram.
    fn observe(&self, plugin: &str, name: &str, value: f64, labels: &[(String, String)]);
}

/// Forgets every metric.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardMetrics;

impl MetricSink for DiscardMetrics {
    fn count(&self, _plugin: &str, _name: &str, _by: u64, _labels: &[(String, String)]) {}
    fn observe(&self, _plugin: &str, _name: &str, _value: f64, _labels: &[(String, String)]) {}
}

/// A plugin as configured.
#[derive(Debug, Clone)]
pub struct PluginSpec {
    /// Its name in the configuration: in logs, metrics and `explain`.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// What the component must be.
    pub sha256: Option<Digest>,
    /// What it reads through `config`.
    pub config: toml::Table,
    /// How much it may use.
    pub limits: Limits,
    /// What it may do.
    pub grants: Grants,
    /// How its instances live.
    pub instances: Instances,
    /// The phases it is asked in; `None`: every one it exports.
    pub phases: Option<Vec<Phase>>,
}

impl PluginSpec {
    /// A plugin with no configuration, no grants and the default limits.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            sha256: None,
            config: toml::Table::new(),
            limits: Limits::default(),
            grants: Grants::default(),
            instances: Instances::default(),
            phases: None,
        }
    }
}

/// Runs plugins. Cheap to clone; ends with its last clone and last plugin.
#[derive(Clone)]
pub struct PluginHost {
    core: Arc<HostCore>,
}

/// What all plugins of a host share.
pub(crate) struct HostCore {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<CallState>,
    pub(crate) ticker: Ticker,
    pub(crate) options: HostOptions,
    pub(crate) cache: Option<Cache>,
    /// One permit per instance: a full pool is a queue, not an error.
    pub(crate) instances: Arc<Semaphore>,
    /// Calls that wait for an instance of the pool: as long as there are some, none
    /// is kept idle.
    pub(crate) waiting: AtomicUsize,
    allocation: Allocation,
    calls: AtomicU64,
    /// Those that are still in use: a reload of the same component with another
    /// configuration does not compile it again.
    loaded: Mutex<Vec<Weak<Loaded>>>,
}

impl PluginHost {
    /// Starts the engine and the ticker thread.
    ///
    /// # Errors
    /// [`HostError`] when the engine refuses to start, or the cache directory
    /// belongs to somebody else or may be written by others.
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        let (engine, allocation) = engine(&options)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let cache = match &options.cache_directory {
            Some(path) => Some(
                Cache::open(path, &engine).map_err(|source| HostError::Cache {
                    path: path.clone(),
                    source,
                })?,
            ),
            None => None,
        };
        let ticker = Ticker::start(engine.clone(), options.tick).map_err(HostError::Ticker)?;
        Ok(Self {
            core: Arc::new(HostCore {
                instances: Arc::new(Semaphore::new(options.instance_count as usize)),
                waiting: AtomicUsize::new(0),
                engine,
                linker,
                ticker,
                options,
                cache,
                allocation,
                calls: AtomicU64::new(0),
                loaded: Mutex::default(),
            }),
        })
    }

    /// Reads, compiles, links, starts and checks a plugin. Compiling is done on
    /// a blocking thread; nothing is changed when it fails.
    ///
    /// # Errors
    /// [`LoadError`], which says what the administrator or the author has to
    /// change.
    pub async fn load(&self, spec: PluginSpec) -> Result<Plugin, LoadError> {
        load(&self.core, spec, true).await
    }

    /// Looks at a component as [`PluginHost::load`] does, without a configuration and
    /// without asking the plugin about one.
    ///
    /// # Errors
    /// As [`PluginHost::load`], but never for the configuration.
    pub async fn inspect(&self, path: &Path) -> Result<Plugin, LoadError> {
        load(&self.core, PluginSpec::new("inspected", path), false).await
    }

    /// How instances get their memory: the pool may not have been to be had.
    pub fn allocation(&self) -> Allocation {
        self.core.allocation
    }

    /// Loaded plugins that somebody still has: those in force, and others until the last call
    /// that began with them has ended.
    pub fn loaded_count(&self) -> usize {
        let loaded = self.core.loaded.lock();
        let loaded = loaded.unwrap_or_else(PoisonError::into_inner);
        loaded.iter().filter(|each| each.strong_count() > 0).count()
    }

    /// Instances that could be started at once, now.
    pub fn free_instance_count(&self) -> usize {
        self.core.instances.available_permits()
    }
}

impl fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginHost")
            .field("options", &self.core.options)
            .field("allocation", &self.core.allocation)
            .finish_non_exhaustive()
    }
}

impl HostCore {
    /// A seed for the next call: no two calls get the same.
    pub(crate) fn next_seed(&self) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        // An odd factor makes the numbers of the calls distinct and far apart.
        self.options.seed ^ call.wrapping_mul(0xD1B5_4A32_D192_ED03)
    }
}

impl HostCore {
    /// The code of a component that some plugin in use was made from.
    pub(crate) fn component_in_use(&self, sha256: Digest) -> Option<Component> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_use = loaded.iter().filter_map(Weak::upgrade);
        let same = in_use.find(|plugin| plugin.inspection.sha256 == sha256)?;
        Some(same.pre.component().clone())
    }

    /// Gives up one idle instance, of whatever plugin.
    pub(crate) fn retire_one_idle(&self) -> bool {
        let plugins: Vec<_> = {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.iter().filter_map(Weak::upgrade).collect()
        };
        plugins.iter().any(|plugin| plugin.idle.retire_oldest())
    }

    pub(crate) fn remember(&self, plugin: &Arc<Loaded>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|each| each.strong_count() > 0);
        loaded.push(Arc::downgrade(plugin));
    }
}

/// Innermost frames of a trap that are looked up: each costs a reading of the
/// guest's debug information, which is as large as the guest likes.
const BACKTRACE_FRAMES: usize = 16;

/// Elements of one table in the pool.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The engine with a pool, or without where the address space does not allow
/// one.
fn engine(options: &HostOptions) -> Result<(Engine, Allocation), HostError> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Where a guest carries debug information a trap names the line.
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        // The same input gives the same answer on every machine: see `replay`.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    if options.allocation == Allocation::Auto {
        // The best first; the engine refuses what the kernel cannot do.
        for pool in [scanned_pool(options), pool(options)] {
            let mut pooled = config.clone();
            pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            match Engine::new(&pooled) {
                Ok(engine) => return Ok((engine, Allocation::Auto)),
                Err(error) => tracing::debug!(error = %format!("{error:#}"), "no such pool"),
            }
        }
        tracing::warn!(
            "no pool for plugin instances, for want of address space: each call allocates its own"
        );
    }
    let engine = Engine::new(&config).map_err(|error| HostError::Engine(format!("{error:#}")))?;
    Ok((engine, Allocation::OnDemand))
}

/// A pool that clears only the pages that a call has written.
fn scanned_pool(options: &HostOptions) -> PoolingAllocationConfig {
    let mut pool = pool(options);
    pool.pagemap_scan(Enabled::Yes)
        .linear_memory_keep_resident(options.keep_resident_bytes);
    pool
}

/// What is kept resident without knowing which pages were written.
const BLIND_KEEP_RESIDENT_BYTES: usize = 256 << 10;

fn pool(options: &HostOptions) -> PoolingAllocationConfig {
    let count = options.instance_count;
    let mut pool = PoolingAllocationConfig::default();
    // Address space is reserved per memory, table and stack; the other counts
    // are bounds only. Components have one memory, seldom two.
    pool.total_component_instances(count)
        .total_stacks(count)
        .total_memories(count.saturating_mul(2))
        .total_tables(count.saturating_mul(4))
        .total_core_instances(count.saturating_mul(PARTS_MAX))
        .max_memories_per_component(PARTS_MAX)
        .max_tables_per_component(PARTS_MAX)
        .max_core_instances_per_component(PARTS_MAX)
        .max_tables_per_module(PARTS_MAX)
        .max_memory_size(options.memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Interpreters need more than the default of 1 MiB.
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .linear_memory_keep_resident(options.keep_resident_bytes.min(BLIND_KEEP_RESIDENT_BYTES))
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10);
    pool
}
