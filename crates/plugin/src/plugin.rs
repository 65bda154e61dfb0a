//! A loaded plugin: what can be asked of it, and a call from start to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wasmtime::component::InstancePre;

use crate::call::{Call, CallStats, RouteCall};
use crate::check::{Check, rewrites};
use crate::digest::Digest;
use crate::environment::CallEnvironment;
use crate::error::{CallFailure, FailureReason};
use crate::guest::Exports;
use crate::host::HostCore;
use crate::idle::IdleInstances;
use crate::instance::Live;
use crate::meter::{CpuMeter, MemoryMeter};
use crate::phase::{Input, Output, Phase};
use crate::profile::Profile;
use crate::request::RouteRequest;
use crate::run::Run;
use crate::state::{CallState, LogBook};

/// A plugin that is loaded, linked and checked. Clones share everything.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Loaded>);

/// What a plugin consists of.
pub(crate) struct Loaded {
    pub(crate) host: Arc<HostCore>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) exports: Exports,
    /// Those it is asked in.
    pub(crate) phases: Vec<Phase>,
    pub(crate) calls: Semaphore,
    pub(crate) idle: IdleInstances,
    pub(crate) inspection: Inspection,
}

/// How much more CPU time the check of a configuration may take than a call.
const CHECK_FACTOR: u32 = 10;

/// Facts of a loaded plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Name in the configuration.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// Size of the component.
    pub size_bytes: u64,
    /// Digest of the component.
    pub sha256: Digest,
    /// Name and version that the plugin gives itself, if it does.
    pub identity: Option<(String, String)>,
    /// Everything it exports: the phases it takes part in.
    pub exports: Vec<String>,
    /// Everything it imports, used or not.
    pub imports: Vec<String>,
    /// It was not compiled: the code came from the cache, or from a plugin in use
    /// that was made from the same component.
    pub from_cache: bool,
}

impl Plugin {
    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.profile.name
    }

    /// Facts of the component.
    pub fn inspect(&self) -> &Inspection {
        &self.0.inspection
    }

    /// Whether it is asked in a phase: it exports it, and the configuration does
    /// not leave it out.
    pub fn has(&self, phase: Phase) -> bool {
        self.0.phases.contains(&phase)
    }

    /// Asks it. Waits for an instance for at most the wall limit, and then runs for
    /// at most the wall limit. May be dropped at any time.
    ///
    /// # Errors
    /// [`CallFailure`]: there is no answer, and what happens to the mail is the
    /// caller's choice. The next call is not affected.
    pub async fn call(
        &self,
        input: Input,
        environment: Arc<dyn CallEnvironment>,
    ) -> Result<Call, CallFailure> {
        let plugin = &self.0;
        if !self.has(input.phase()) {
            return Err(CallFailure {
                reason: FailureReason::Broken,
                detail: format!("it takes no part in the phase {}", input.phase()),
                stats: CallStats::default(),
            });
        }
        let recipient_count = match &input {
            Input::Route(request) => request.recipients.len(),
            _ => 0,
        };
        let mut turn = plugin.admit().await?;
        let state = plugin.state(Some(plugin.profile.limits.cpu), environment);
        let live = match turn.idle.take() {
            Some(mut live) => {
                live.renew(state);
                live
            }
            None => Live::new(plugin, state),
        };
        let mut run = Run::with(live, plugin, &turn);
        let answer = run.ask(input).await?;
        let state = run.state();
        let check = Check {
            grants: &plugin.profile.grants,
            candidates: state.candidates.as_deref(),
            recipient_count,
        };
        let checked = check.output(answer).and_then(|output| {
            let (input, environment) = (state.input.as_ref(), &*state.environment);
            rewrites::check(check.grants, input, environment, &output).map(|()| output)
        });
        match checked {
            Ok(output) => {
                let call = Call {
                    output,
                    attributes: std::mem::take(&mut state.attributes),
                    stats: run.stats(),
                };
                plugin.park(run.into_live(), turn.place);
                Ok(call)
            }
            Err(fault) => Err(run.fail(FailureReason::InvalidAnswer, &fault.to_string())),
        }
    }

    /// Asks for the next hops of some recipients: [`Plugin::call`] for the routing
    /// phase alone.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn route(
        &self,
        request: Arc<RouteRequest>,
        environment: Arc<dyn CallEnvironment>,
    ) -> Result<RouteCall, CallFailure> {
        let call = self.call(Input::Route(request), environment).await?;
        Ok(RouteCall {
            verdicts: match call.output {
                Output::Route(verdicts) => verdicts,
                // The answer is of the phase that was asked.
                _ => Vec::new(),
            },
            attributes: call.attributes,
            stats: call.stats,
        })
    }

    /// Instances that wait for their next call.
    pub fn idle_instance_count(&self) -> usize {
        self.0.idle.count()
    }

    /// Gives up the instances that wait for their next call: for a plugin that is
    /// no longer in force. It may be called all the same.
    pub fn retire_idle(&self) {
        self.0.idle.retire_all();
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Plugin").field(self.inspect()).finish()
    }
}

/// A call's turn, from when it comes until the call ends.
pub(crate) struct Turn<'a> {
    _own: SemaphorePermit<'a>,
    /// One instance of the host's pool.
    pub(crate) place: OwnedSemaphorePermit,
    /// An instance in that place, to be used again.
    pub(crate) idle: Option<Live>,
    pub(crate) came_at: Instant,
    pub(crate) queued: Duration,
}

const NEVER_CLOSED: &str = "the semaphores are never closed";

impl Loaded {
    /// Waits for a turn: one of this plugin's own, so that a slow plugin cannot
    /// hold every instance, then one of the host's.
    pub(crate) async fn admit(&self) -> Result<Turn<'_>, CallFailure> {
        let asked = Instant::now();
        if let Ok(own) = self.calls.try_acquire()
            && let Some((place, idle)) = self.free_place()
        {
            return Ok(Turn {
                _own: own,
                place,
                idle,
                came_at: asked,
                queued: Duration::ZERO,
            });
        }
        let wall = self.profile.limits.wall;
        let turn = async {
            let own = self.calls.acquire().await.expect(NEVER_CLOSED);
            match self.free_place() {
                Some((place, idle)) => (own, place, idle),
                None => (own, self.host.place().await, None),
            }
        };
        match tokio::time::timeout_at(asked + wall, turn).await {
            Ok((own, place, idle)) => {
                let came_at = Instant::now();
                Ok(Turn {
                    _own: own,
                    place,
                    idle,
                    came_at,
                    queued: came_at.duration_since(asked),
                })
            }
            Err(_elapsed) => Err(CallFailure {
                reason: FailureReason::Busy,
                detail: format!("no instance came free within {wall:?}"),
                stats: CallStats {
                    queued: asked.elapsed(),
                    ..CallStats::default()
                },
            }),
        }
    }

    /// A place in the pool that can be had without waiting, if possible with an
    /// instance in it.
    fn free_place(&self) -> Option<(OwnedSemaphorePermit, Option<Live>)> {
        if let Some((live, place)) = self.idle.take() {
            return Some((place, Some(live)));
        }
        let place = Arc::clone(&self.host.instances).try_acquire_owned().ok()?;
        Some((place, None))
    }

    /// The state of a new call, with nothing in it of any other. `cpu`: what it may
    /// use; `None`: what starting it and checking its configuration may.
    pub(crate) fn state(
        &self,
        cpu: Option<Duration>,
        environment: Arc<dyn CallEnvironment>,
    ) -> CallState {
        let limits = &self.profile.limits;
        let seed = environment.seed().unwrap_or_else(|| self.host.next_seed());
        CallState {
            profile: Arc::clone(&self.profile),
            input: None,
            environment,
            memory: MemoryMeter::new(limits.memory_bytes, limits.table_elements),
            cpu: Arc::new(CpuMeter::default()),
            // A check of the configuration may look at all of it; a call should
            // look only at what matters.
            cpu_budget: cpu.unwrap_or(limits.cpu * CHECK_FACTOR),
            metrics: Arc::clone(&self.host.options.metrics),
            deadline: Instant::now() + limits.wall,
            host_calls: 0,
            candidates: None,
            headers: None,
            attributes: Vec::new(),
            open_tables: crate::imports::OpenTables::default(),
            shared_state: None,
            log: LogBook::default(),
            seed,
            random: !seed,
            asked: false,
        }
    }
}

impl HostCore {
    /// Waits for an instance of the pool, at the cost of one that is idle.
    async fn place(&self) -> OwnedSemaphorePermit {
        let _waiting = Waiting::new(&self.waiting);
        self.retire_one_idle();
        let place = Arc::clone(&self.instances).acquire_owned().await;
        place.expect(NEVER_CLOSED)
    }
}

/// Counts a call among those that wait, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
