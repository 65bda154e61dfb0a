//! One instance at work: what it is asked, within its limits, and the name of what
//! stopped it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::ask::{Answer, ask};
use crate::call::CallStats;
use crate::error::{CallFailure, FailureReason};
use crate::failure;
use crate::instance::Live;
use crate::phase::Input;
use crate::plugin::{Loaded, Turn};
use crate::state::CallState;
use crate::text::one_line;
use crate::ticker::CallGuard;

/// Characters of [`CallFailure::detail`].
const DETAIL_CHARACTERS: usize = 500;

/// A call under way. Dropping it ends the guest, wherever it is.
pub(crate) struct Run<'a> {
    live: Live,
    plugin: &'a Loaded,
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
    /// With a new instance.
    pub(crate) fn new(plugin: &'a Loaded, state: CallState, turn: &Turn<'_>) -> Self {
        Self::with(Live::new(plugin, state), plugin, turn)
    }

    /// With an instance that may be there already, made ready for this call.
    pub(crate) fn with(live: Live, plugin: &'a Loaded, turn: &Turn<'_>) -> Self {
        Self {
            live,
            plugin,
            started: turn.came_at,
            queued: turn.queued,
            _ticking: plugin.host.ticker.call(),
        }
    }

    /// Does `work` within the limits of the plugin.
    pub(crate) async fn within_limits<T: Send>(
        &mut self,
        work: impl for<'s> FnOnce(&'s mut Self) -> Work<'s, T> + Send,
    ) -> Result<T, CallFailure> {
        let state = self.live.store.data();
        let (deadline, cpu) = (state.deadline, Arc::clone(&state.cpu));
        let ended = tokio::time::timeout_at(deadline, cpu.measure(work(self))).await;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Ended::Engine(error))) => {
                let limits = &self.plugin.profile.limits;
                let (reason, detail) = failure::name(&error, self.live.store.data(), limits);
                Err(self.fail(reason, &detail))
            }
            Ok(Err(Ended::Guest(reason, words))) => Err(self.fail(reason, &words)),
            Err(_elapsed) => {
                let wall = self.plugin.profile.limits.wall;
                Err(self.fail(
                    FailureReason::WallLimit,
                    &format!("no answer within {wall:?}"),
                ))
            }
        }
    }

    /// Makes the instance, unless it is there.
    pub(crate) async fn instantiate(&mut self) -> Result<(), Ended> {
        if self.live.instance.is_none() {
            let store = &mut self.live.store;
            self.live.instance = Some(self.plugin.pre.instantiate_async(store).await?);
        }
        Ok(())
    }

    /// Store and instance; the latter has been made.
    pub(crate) fn parts(&mut self) -> (&mut Store<CallState>, Instance) {
        let instance = self.live.instance.expect("it is made first");
        (&mut self.live.store, instance)
    }

    /// Puts a question to the guest, which is started first where it is new.
    pub(crate) async fn ask(&mut self, input: Input) -> Result<Answer, CallFailure> {
        self.within_limits(|run| {
            Box::pin(async move {
                if run.live.instance.is_none() {
                    run.instantiate().await?;
                    run.initialise().await?;
                }
                run.begin(input.clone());
                let instance = run.live.instance.expect("it is made first");
                let Live { store, guest, .. } = &mut run.live;
                ask(&run.plugin.exports, guest, store, &instance, &input).await
            })
        })
        .await
    }

    /// From here on there is a message. What `init` drew of chance has no part in
    /// it: a call is the same in a new instance and in one that was there.
    fn begin(&mut self, input: Input) {
        let state = self.live.store.data_mut();
        state.input = Some(input);
        state.random = state.seed;
    }

    async fn initialise(&mut self) -> Result<(), Ended> {
        let Some(lifecycle) = &self.plugin.exports.lifecycle else {
            return Ok(());
        };
        let (store, instance) = self.parts();
        let guest = lifecycle.load(&mut *store, &instance)?;
        match guest.call_init(store).await? {
            Ok(()) => Ok(()),
            Err(words) => Err(Ended::Guest(
                FailureReason::Broken,
                format!("init: {words}"),
            )),
        }
    }

    pub(crate) fn state(&mut self) -> &mut CallState {
        self.live.store.data_mut()
    }

    /// The instance, for the next call.
    pub(crate) fn into_live(self) -> Live {
        self.live
    }

    /// What the run cost so far.
    pub(crate) fn stats(&mut self) -> CallStats {
        CallStats {
            wall: self.started.elapsed(),
            queued: self.queued,
            ..self.live.store.data_mut().take_stats()
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
}
