//! A loaded plugin: what can be asked of it, and a call from start to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wasmtime::component::InstancePre;

use crate::bindings::{lifecycle, routing_phase, types};
use crate::call::{Call, CallStats, RouteCall};
use crate::check::Check;
use crate::digest::Digest;
use crate::environment::CallEnvironment;
use crate::error::{CallFailure, FailureReason};
use crate::host::HostCore;
use crate::meter::{CpuMeter, MemoryMeter};
use crate::phase::{Input, Output, Phase};
use crate::profile::Profile;
use crate::request::RouteRequest;
use crate::run::{Ended, Run};
use crate::state::{CallState, LogBook};

/// A plugin that is loaded, linked and checked. Clones share everything.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Loaded>);

/// What a plugin consists of.
pub(crate) struct Loaded {
    pub(crate) host: Arc<HostCore>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) routing: routing_phase::GuestIndices,
    pub(crate) lifecycle: Option<lifecycle::GuestIndices>,
    pub(crate) calls: Semaphore,
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

    /// Whether it takes part in a phase: it exports it, and the configuration does
    /// not leave it out.
    pub fn has(&self, phase: Phase) -> bool {
        phase == Phase::Routing
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
        match input {
            Input::Route(request) => {
                let call = self.route(request, environment).await?;
                Ok(Call {
                    output: Output::Route(call.verdicts),
                    attributes: call.attributes,
                    stats: call.stats,
                })
            }
            other => Err(CallFailure {
                reason: FailureReason::Broken,
                detail: format!("it takes no part in the phase {}", other.phase()),
                stats: CallStats::default(),
            }),
        }
    }

    /// Asks for the next hops of some recipients, in a new instance. Waits for
    /// an instance for at most the wall limit, and then runs for at most the
    /// wall limit. May be dropped at any time.
    ///
    /// # Errors
    /// [`CallFailure`]: there is no verdict, and what happens to the mail is the
    /// caller's choice. The next call is not affected.
    pub async fn route(
        &self,
        request: Arc<RouteRequest>,
        environment: Arc<dyn CallEnvironment>,
    ) -> Result<RouteCall, CallFailure> {
        let plugin = &*self.0;
        let (_permits, queued) = plugin.admit().await?;
        let input = routing_phase::Request::from(&*request);
        let recipient_count = request.recipients.len();
        let state = plugin.state(Some(request), environment);
        let mut run = Run::new(plugin, state, queued);
        let answer = run
            .with_instance(true, |plugin, store, instance| {
                Box::pin(async move {
                    let guest = plugin.routing.load(&mut *store, &instance)?;
                    store.data_mut().started_route = true;
                    guest.call_route(store, &input).await?.map_err(Ended::from)
                })
            })
            .await?;
        let state = run.state();
        let check = Check {
            grants: &plugin.profile.grants,
            candidates: state.candidates.as_deref(),
            recipient_count,
        };
        match check.verdicts(answer) {
            Ok(verdicts) => Ok(RouteCall {
                verdicts,
                attributes: std::mem::take(&mut state.attributes),
                stats: run.stats(),
            }),
            Err(fault) => Err(run.fail(FailureReason::InvalidAnswer, &fault.to_string())),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Plugin").field(self.inspect()).finish()
    }
}

impl From<types::HookError> for Ended {
    fn from(error: types::HookError) -> Self {
        match error {
            types::HookError::Temporary(words) => Self::Guest(FailureReason::Temporary, words),
            types::HookError::Broken(words) => Self::Guest(FailureReason::Broken, words),
        }
    }
}

impl Loaded {
    /// Waits for a turn: one of this plugin's own, so that a slow plugin cannot
    /// hold every instance, then one of the host's.
    pub(crate) async fn admit(&self) -> Result<([SemaphorePermit<'_>; 2], Duration), CallFailure> {
        let asked = Instant::now();
        let wall = self.profile.limits.wall;
        let turn = async {
            let own = self.calls.acquire().await;
            let shared = self.host.instances.acquire().await;
            [own, shared].map(|permit| permit.expect("the semaphores are never closed"))
        };
        match tokio::time::timeout_at(asked + wall, turn).await {
            Ok(permits) => Ok((permits, asked.elapsed())),
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

    pub(crate) fn state(
        &self,
        request: Option<Arc<RouteRequest>>,
        environment: Arc<dyn CallEnvironment>,
    ) -> CallState {
        let limits = &self.profile.limits;
        let is_call = request.is_some();
        let random = environment.seed().unwrap_or_else(|| self.host.next_seed());
        CallState {
            profile: Arc::clone(&self.profile),
            request,
            environment,
            memory: MemoryMeter::new(limits.memory_bytes, limits.table_elements),
            cpu: Arc::new(CpuMeter::default()),
            // A check of the configuration may look at all of it; a call should
            // look only at what matters.
            cpu_budget: if is_call {
                limits.cpu
            } else {
                limits.cpu * CHECK_FACTOR
            },
            metrics: Arc::clone(&self.host.options.metrics),
            deadline: Instant::now() + limits.wall,
            host_calls: 0,
            candidates: None,
            headers: None,
            attributes: Vec::new(),
            log: LogBook::default(),
            random,
            started_route: false,
        }
    }
}
