//! One instance at work: its store, its limits, and the name of what stopped it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::bindings::lifecycle;
use crate::call::CallStats;
use crate::error::{CallFailure, FailureReason};
use crate::meter::CpuMeter;
use crate::plugin::Loaded;
use crate::state::{CallState, Stop};
use crate::text::one_line;
use crate::ticker::CallGuard;

/// Characters of [`CallFailure::detail`].
const DETAIL_CHARACTERS: usize = 500;

/// A new instance with its limits; everything of it goes when this is dropped.
pub(crate) struct Run<'a> {
    store: Store<CallState>,
    plugin: &'a Loaded,
    cpu: Arc<CpuMeter>,
    started: Instant,
    queued: Duration,
    _ticking: CallGuard<'a>,
}

/// What is done with an instance.
pub(crate) type Work<'s, T> = BoxFuture<'s, Result<T, Ended>>;

/// What ended a step of a run.
pub(crate) enum Ended {
    /// The engine or one of our limits.
    Engine(wasmtime::Error),
    /// The guest, in its own words.
    Guest(FailureReason, String),
}

impl From<wasmtime::Error> for Ended {
    fn from(error: wasmtime::Error) -> Self {
        Self::Engine(error)
    }
}

impl<'a> Run<'a> {
    /// `queued`: how long the call waited for this.
    pub(crate) fn new(plugin: &'a Loaded, state: CallState, queued: Duration) -> Self {
        let limits = &plugin.profile.limits;
        let cpu = Arc::clone(&state.cpu);
        let mut store = Store::new(&plugin.host.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.data_bytes);
        store.set_epoch_deadline(1);
        let meter = Arc::clone(&cpu);
        let budget = store.data().cpu_budget;
        store.epoch_deadline_callback(move |_| {
            if meter.spent() > budget {
                return Err(Stop::Cpu.into());
            }
            // Other tasks of this thread get their turn at every tick.
            Ok(UpdateDeadline::Yield(1))
        });
        Self {
            store,
            plugin,
            cpu,
            started: Instant::now(),
            queued,
            _ticking: plugin.host.ticker.call(),
        }
    }

    /// Instantiates, calls the guest's `init` if asked to, then does `work`, all
    /// within the limits.
    pub(crate) async fn with_instance<T: Send>(
        &mut self,
        init: bool,
        work: impl for<'s> FnOnce(&'s Loaded, &'s mut Store<CallState>, Instance) -> Work<'s, T> + Send,
    ) -> Result<T, CallFailure> {
        let plugin = self.plugin;
        let deadline = self.store.data().deadline;
        let store = &mut self.store;
        let steps = async move {
            let instance = plugin.pre.instantiate_async(&mut *store).await?;
            if init && let Some(lifecycle) = &plugin.lifecycle {
                initialise(store, &instance, lifecycle).await?;
            }
            work(plugin, store, instance).await
        };
        let ended = tokio::time::timeout_at(deadline, self.cpu.measure(steps)).await;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Ended::Engine(error))) => {
                let (reason, detail) = self.name(&error);
                Err(self.fail(reason, &detail))
            }
            Ok(Err(Ended::Guest(reason, words))) => Err(self.fail(reason, &words)),
            Err(_elapsed) => {
                let wall = plugin.profile.limits.wall;
                Err(self.fail(
                    FailureReason::WallLimit,
                    &format!("no answer within {wall:?}"),
                ))
            }
        }
    }

    pub(crate) fn state(&mut self) -> &mut CallState {
        self.store.data_mut()
    }

    /// What the run cost so far.
    pub(crate) fn stats(&mut self) -> CallStats {
        CallStats {
            wall: self.started.elapsed(),
            queued: self.queued,
            ..self.store.data_mut().take_stats()
        }
    }

    /// A failure with what the run cost.
    pub(crate) fn fail(&mut self, reason: FailureReason, detail: &str) -> CallFailure {
        CallFailure {
            reason,
            detail: one_line(detail, DETAIL_CHARACTERS),
            stats: self.stats(),
        }
    }

    fn name(&self, error: &wasmtime::Error) -> (FailureReason, String) {
        let state = self.store.data();
        let limits = &self.plugin.profile.limits;
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return match stop {
                Stop::Cpu => (
                    FailureReason::CpuLimit,
                    format!("used more than {:?} of CPU time", state.cpu_budget),
                ),
                Stop::HostCalls => (
                    FailureReason::HostCallLimit,
                    format!("made more than {} host calls", limits.host_calls),
                ),
            };
        }
        let cause = error.root_cause().to_string();
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return (FailureReason::Busy, cause);
        }
        if state.memory.refused() {
            let detail = format!(
                "wanted more than {} octets of memory or {} table elements: {cause}",
                limits.memory_bytes, limits.table_elements
            );
            return (FailureReason::MemoryLimit, detail);
        }
        // The engine has no public type for this one.
        if cause.contains("fuel allocated for hostcalls") {
            let detail = format!("passed more than {} octets in one step", limits.data_bytes);
            return (FailureReason::DataLimit, detail);
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let trap = error.downcast_ref::<Trap>();
        // Neither a trap nor inside the guest: the engine could not read what
        // the guest returned.
        if backtrace.is_none() && trap.is_none() && state.started_route {
            return (FailureReason::InvalidAnswer, cause);
        }
        let place = backtrace
            .and_then(|backtrace| backtrace.frames().first())
            .and_then(|frame| frame.func_name())
            .map_or_else(String::new, |name| format!(" in {name}"));
        let said = state
            .log
            .last_error
            .as_ref()
            .map_or_else(String::new, |line| format!("; it logged: {line}"));
        (FailureReason::Trap, format!("{cause}{place}{said}"))
    }
}

async fn initialise(
    store: &mut Store<CallState>,
    instance: &Instance,
    lifecycle: &lifecycle::GuestIndices,
) -> Result<(), Ended> {
    let guest = lifecycle.load(&mut *store, instance)?;
    match guest.call_init(store).await? {
        Ok(()) => Ok(()),
        Err(words) => Err(Ended::Guest(
            FailureReason::Broken,
            format!("init: {words}"),
        )),
    }
}
