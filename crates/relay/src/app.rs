//! Where the concrete types meet: starting, reloading and draining a relay.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use queue::Scheduler;
use spool::{FileDisk, SegmentLog, Spool, SpoolError};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, AdminState};
use crate::clock::{self, Clock};
use crate::config::{Config, ConfigErrors};
use crate::content::{Budget, ContentCache};
use crate::core::{Core, Settings};
use crate::dispatch::{Dispatch, Input, Plan};
use crate::door::Door;
use crate::egress::pool::Pool;
use crate::ids::QueueIds;
use crate::listen::{self, ConnectionCounts, Listener};
use crate::policy::chain::{Chain, ChainError};
use crate::policy::host::Host;
use crate::policy::live::Live;
use crate::policy::resources::{Resources, ResourcesError};
use crate::routing::Lanes;
use crate::telemetry::{self, Meters};
use crate::tls::TlsSetupError;
use crate::{egress, setup};

/// Inputs that may wait for the single writer; senders wait beyond it.
const DISPATCH_QUEUE: usize = 8192;

/// Why a relay does not start, or a reload does not take effect.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration, or a file that it names.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// A question to `explain` that has no answer.
    #[error("{0}")]
    Request(String),
    /// A plugin does not load.
    #[error("{0}")]
    Plugins(#[from] ChainError),
    /// A version on trial.
    #[error("the candidate of plugin {plugin}: {error}")]
    Candidate {
        /// The plugin.
        plugin: String,
        /// Why it does not load.
        error: String,
    },
    /// A table or a credential.
    #[error("{0}")]
    Resources(#[from] ResourcesError),
    /// The plugin host does not start.
    #[error("plugin host: {0}")]
    PluginHost(#[from] plugin::HostError),
    /// No resolver.
    #[error("DNS: {0}")]
    Dns(#[from] mx::ResolverSetupError),
    /// Limits of the queue that contradict themselves.
    #[error("queue: {0}")]
    Limits(#[from] queue::LimitsError),
    /// A retry schedule that nobody can follow.
    #[error("queue.retry: {0}")]
    Schedule(#[from] queue::ScheduleError),
    /// Certificate or key.
    #[error("TLS: {0}")]
    Tls(#[from] TlsSetupError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address or path.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The spool's directory cannot be used.
    #[error("spool {directory}: {source}")]
    SpoolDirectory {
        /// Where.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The spool does not open.
    #[error("spool {directory}: {source}")]
    Spool {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: SpoolError,
    },
}

/// A running relay.
pub struct Relay {
    core: Arc<Core>,
    live: Arc<Live>,
    addresses: Vec<(String, SocketAddr)>,
    admin_address: SocketAddr,
    ready: Arc<AtomicBool>,
    /// Ends listeners and sessions.
    stop_intake: CancellationToken,
    /// Ends the dispatcher.
    stop_delivery: CancellationToken,
    /// The dispatcher has ended, wanted or not.
    delivery_ended: CancellationToken,
    /// Ends the admin doors and the sweeps.
    stop_rest: CancellationToken,
    sessions: TaskTracker,
    dispatcher: TaskTracker,
    rest: TaskTracker,
    reload_wanted: Arc<tokio::sync::Notify>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Opens the spool, loads the queue and the plugins, and listens.
    ///
    /// # Errors
    /// See [`StartError`]; nothing listens then.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let handle = telemetry::install();
        raise_descriptor_limit();
        let spool = open_spool(&config).await?;
        let plugin_host = Host::for_mail(&config, &clock)?;
        let (chain, origins) = Chain::load(&plugin_host, &config, None).await?;
        let directory = setup::directory(&config)?;
        let resources = Arc::new(Resources::for_mail(&config, &clock));
        let prepared = resources.prepare(&config, &directory).await?;
        let chain = chain.furnished(&prepared);
        let mut settings = setup::settings(config, chain, directory)?;
        record_decisions(&mut settings, &plugin_host);
        let (limits, schedule) = setup::scheduling(&settings.config)?;
        let scheduler = Scheduler::new(limits, schedule, clock::random_seed())?;
        let (sender, receiver) = mpsc::channel(DISPATCH_QUEUE);
        let core = Arc::new(assemble(settings, clock, spool, sender, resources));
        core.resources.settle(prepared).await;
        let settings = core.settings.load_full();
        setup::announce(&settings, None);

        let mut listeners = Vec::new();
        for listener in &settings.config.listeners {
            let bound = Listener::bind(&listener.name, listener.address);
            listeners.push(bound.map_err(refused(listener.address))?);
        }
        let admin_listen = settings.config.admin.listen;
        let admin = listen::bind(admin_listen).map_err(refused(admin_listen))?;
        let control_at = &settings.config.storage.directory;
        let control = admin::bind_control(control_at)
            .map_err(refused(admin::control_path(control_at).display()))?;

        let relay = Self {
            live: Arc::new(Live::new(plugin_host)),
            addresses: Vec::new(),
            admin_address: admin.local_addr().map_err(refused(admin_listen))?,
            ready: Arc::new(AtomicBool::new(false)),
            stop_intake: CancellationToken::new(),
            stop_delivery: CancellationToken::new(),
            delivery_ended: CancellationToken::new(),
            stop_rest: CancellationToken::new(),
            sessions: TaskTracker::new(),
            dispatcher: TaskTracker::new(),
            rest: TaskTracker::new(),
            reload_wanted: Arc::new(tokio::sync::Notify::new()),
            core,
        };
        relay.live.keep(&settings, origins).await;
        relay.serve_admin(admin, control, handle);
        relay.watch_plugins();
        relay.start_delivery(scheduler, receiver);
        relay.start_intake(listeners)
    }

    /// Where the listeners really listen, by name.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where the admin listener really listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// How long [`Relay::shutdown`] may take at most.
    #[must_use]
    pub fn shutdown_limit(&self) -> Duration {
        self.core.settings.load().config.limits.shutdown_timeout
    }

    /// Resolves when delivery has ended by itself: a fault after which only a restart helps,
    /// and the spool keeps everything.
    pub async fn failed(&self) {
        self.delivery_ended.cancelled().await;
    }

    /// Resolves when a reload was asked for by the control socket.
    pub async fn reload_wanted(&self) {
        self.reload_wanted.notified().await;
    }

    /// Takes a new configuration: plugins, relay control, limits, schedule, smarthosts, DNS,
    /// TLS. What is under way ends under the old one. Addresses of listeners and the spool
    /// change only with a restart, and a warning says so.
    ///
    /// # Errors
    /// Then the old configuration stays as it is.
    pub async fn reload(&self, config: Config) -> Result<(), StartError> {
        let result = self.try_reload(config).await;
        let label = if result.is_ok() { "ok" } else { "failed" };
        telemetry::reloaded(label);
        result
    }

    async fn try_reload(&self, config: Config) -> Result<(), StartError> {
        config.check_files()?;
        let _turn = self.live.turn().await;
        let old = self.core.settings.load_full();
        setup::warn_of_fixed(&old.config, &config);
        let (chain, origins) = Chain::load(self.live.host(), &config, Some(&old.chain)).await?;
        let directory = if old.config.dns == config.dns {
            Arc::clone(&old.directory)
        } else {
            setup::directory(&config)?
        };
        let prepared = self.core.resources.prepare(&config, &directory).await?;
        let chain = chain.furnished(&prepared);
        let mut settings = setup::settings(config, chain, directory)?;
        setup::keep_bound(&mut settings, &old);
        self.core
            .receiving
            .set_limit(settings.config.limits.in_flight_bytes);
        self.core
            .cache
            .set_limit(settings.config.limits.in_flight_bytes);
        let scheduling = Box::new(setup::scheduling(&settings.config)?);
        // Nothing fails from here on: what goes on beside the settings is exchanged as well.
        record_decisions(&mut settings, self.live.host());
        setup::announce(&settings, Some(&old));
        let settings = Arc::new(settings);
        self.core.settings.store(Arc::clone(&settings));
        self.live.keep(&settings, origins).await;
        self.core.resources.settle(prepared).await;
        drop(
            self.core
                .dispatch
                .send(Input::Reconfigure(scheduling))
                .await,
        );
        Ok(())
    }

    /// Takes no more mail, lets what is under way end within `limits.shutdown_timeout`, and
    /// closes the spool. What did not end is in the spool for the next start.
    pub async fn shutdown(self) {
        self.ready.store(false, Ordering::Release);
        let limit = self.core.settings.load().config.limits.shutdown_timeout;
        // Both at once: a client that dawdles must not cost deliveries their time.
        self.core.draining.cancel();
        self.stop_intake.cancel();
        self.stop_delivery.cancel();
        self.sessions.close();
        let drained = futures_util::future::join(self.sessions.wait(), self.dispatcher.wait());
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(
                ?limit,
                "work under way did not end in time; the spool keeps it"
            );
        }
        self.core.cut.cancel();
        egress::close_idle(&self.core).await;
        self.stop_rest.cancel();
        self.core.resources.close().await;
        if let Err(error) = self.core.spool.close().await {
            tracing::error!(%error, "the spool did not close cleanly");
        }
        let directory = self.core.settings.load().config.storage.directory.clone();
        drop(std::fs::remove_file(admin::control_path(&directory)));
    }

    fn serve_admin(
        &self,
        admin: tokio::net::TcpListener,
        control: tokio::net::UnixListener,
        handle: metrics_exporter_prometheus::PrometheusHandle,
    ) {
        let (upkeep, stop) = (telemetry::upkeep(handle.clone()), self.stop_rest.clone());
        self.rest.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = upkeep => {}
            }
        });
        let wanted = Arc::clone(&self.reload_wanted);
        let state = AdminState::new(
            Arc::clone(&self.core),
            handle,
            Arc::clone(&self.ready),
            Arc::new(move || wanted.notify_one()),
            Arc::clone(&self.live),
        );
        let public = axum::serve(Door::new(admin), admin::public(state.clone()));
        let stop = self.stop_rest.clone();
        self.rest.spawn(async move {
            drop(public.with_graceful_shutdown(stop.cancelled_owned()).await);
        });
        let private = axum::serve(control, admin::control(state));
        let stop = self.stop_rest.clone();
        self.rest.spawn(async move {
            drop(private.with_graceful_shutdown(stop.cancelled_owned()).await);
        });
    }

    fn watch_plugins(&self) {
        let (live, core) = (Arc::clone(&self.live), Arc::clone(&self.core));
        let stop = self.stop_rest.clone();
        self.rest.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = live.watch(&core) => {}
            }
        });
    }

    fn start_delivery(&self, scheduler: Scheduler<Plan>, receiver: mpsc::Receiver<Input>) {
        let work = TaskTracker::new();
        let mut dispatch = Dispatch::new(Arc::clone(&self.core), scheduler, receiver, work);
        let recovered = dispatch.recover();
        tracing::info!(messages = recovered, "queue loaded");
        let (stop, ended) = (self.stop_delivery.clone(), self.delivery_ended.clone());
        let ready = Arc::clone(&self.ready);
        self.dispatcher.spawn(async move {
            // Also when it panics.
            let _ended = ended.drop_guard();
            dispatch.run(stop).await;
            ready.store(false, Ordering::Release);
        });
        self.dispatcher.close();
        let (core, stop) = (Arc::clone(&self.core), self.stop_rest.clone());
        self.rest.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = egress::sweep_idle(&core) => {}
            }
        });
        let (resources, stop) = (Arc::clone(&self.core.resources), self.stop_rest.clone());
        self.rest.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = resources.watch() => {}
            }
        });
    }

    fn start_intake(mut self, listeners: Vec<Listener>) -> Result<Self, StartError> {
        for listener in listeners {
            let address = listener.address().map_err(refused(&listener.name))?;
            tracing::info!(listener = listener.name, %address, "listening");
            self.addresses.push((listener.name.clone(), address));
            let (core, stop) = (Arc::clone(&self.core), self.stop_intake.clone());
            let serve = listener.serve(core, stop, self.sessions.clone());
            self.rest.spawn(serve);
        }
        self.ready.store(true, Ordering::Release);
        Ok(self)
    }
}

/// Opens the decision log of these settings, or goes on with the one that is open.
fn record_decisions(settings: &mut Settings, host: &Host) {
    let decisions = host.decisions(&settings.config.decision_log);
    settings.chain = settings.chain.recorded(decisions.as_ref());
}

/// Connections and segments each need a descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn refused(address: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    let address = address.to_string();
    move |source| StartError::Listen { address, source }
}

fn assemble(
    settings: Settings,
    clock: Clock,
    spool: Arc<dyn Spool>,
    dispatch: mpsc::Sender<Input>,
    resources: Arc<Resources>,
) -> Core {
    let in_flight = settings.config.limits.in_flight_bytes;
    let outgoing = settings.config.delivery.connections_count;
    let feedback = settings.config.delivery.feedback_calls_count;
    let mut greatest = 0;
    spool.for_each_live(&mut |record| greatest = greatest.max(record.id.0));
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    Core {
        settings,
        clock,
        spool,
        cache: ContentCache::new(in_flight),
        receiving: Budget::new(in_flight),
        ids: QueueIds::above(greatest),
        meters: Meters::new(),
        resources,
        lanes: Lanes::default(),
        connections: Arc::new(ConnectionCounts::default()),
        pool: Pool::default(),
        outgoing: Arc::new(Semaphore::new(outgoing)),
        feedback: Arc::new(Semaphore::new(feedback)),
        outgoing_open: Arc::new(AtomicUsize::new(0)),
        dispatch,
        draining: CancellationToken::new(),
        cut: CancellationToken::new(),
    }
}

async fn open_spool(config: &Config) -> Result<Arc<dyn Spool>, StartError> {
    let storage = config.storage.clone();
    let directory = || config.storage.directory.clone();
    let fault = |source| StartError::Spool {
        directory: directory(),
        source,
    };
    let disk = FileDisk::new(&storage.directory).map_err(|source| StartError::SpoolDirectory {
        directory: directory(),
        source,
    })?;
    let meters = Meters::new();
    let observer = move |commit: &spool::Commit| {
        meters.spool_seconds.record(commit.duration.as_secs_f64());
    };
    let opened = tokio::task::spawn_blocking(move || {
        let options = spool::Options {
            segment_bytes: storage.segment_size_bytes,
            batch_count: storage.batch_count,
            batch_bytes: storage.batch_size_bytes,
            spare_count: storage.spare_segments_count,
            max_bytes: storage.max_size_bytes,
            observer: Some(Arc::new(observer)),
            ..spool::Options::default()
        };
        SegmentLog::open(Arc::new(disk), options)
    });
    let log = opened
        .await
        .unwrap_or(Err(SpoolError::Closed))
        .map_err(fault)?;
    Ok(Arc::new(log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_delivery_does_not_go_unnoticed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = "hostname = \"relay.test\"\nlisten = [\"127.0.0.1:0\"]\n\
            smarthost = \"127.0.0.1:9\"\nspool = \"spool\"\n\
            [storage]\nsegment_size = \"1MiB\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
            [dns]\nservers = [\"127.0.0.1:9\"]\n";
        let config = Config::parse(text, directory.path().join("waypost.toml"));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let relay = Relay::start(config, Clock::system())
            .await
            .expect("it starts");
        assert!(relay.ready.load(Ordering::Acquire));
        // As when the dispatcher ends by itself.
        relay.stop_delivery.cancel();
        let noticed = tokio::time::timeout(Duration::from_secs(30), relay.failed()).await;
        assert!(noticed.is_ok());
        relay.shutdown().await;
    }
}
