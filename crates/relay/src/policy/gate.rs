//! The one door through which plugins are called, in every phase.
//!
//! Breaker, turns, counting, log lines and the version that is asked are settled here and nowhere
//! else. A caller prepares the input and the environment, and carries out what comes back; where
//! there is no answer, [`Failure::on_error`] says what the operator wants done.

use std::sync::{Arc, OnceLock};

use plugin::{Call, CallEnvironment, CallStats, FailureReason, Input, Phase};
use smtp::QueueId;
use spool::SpoolError;

use super::call::{Failure, NoAnswer, Reason, Unread};
use super::chain::Link;
use super::guard::{Fault, Permit};
use super::witness::Witness;

/// Which message a call is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Drawn at MAIL FROM: all phases of one message have the same.
    pub(crate) id: QueueId,
    /// Set by the environment when the spool does not give what the plugin asked for: the plugin
    /// was shown less than there is, and what it makes of that is not used.
    pub(crate) unread: Arc<OnceLock<SpoolError>>,
}

impl About {
    /// A call about this message; a new one for each call.
    pub(crate) fn new(id: QueueId) -> Self {
        Self {
            id,
            unread: Arc::default(),
        }
    }
}

/// An answer that its caller can carry out, or finds impossible.
///
/// Counted when the caller says which; dropped without a word it counts as nothing.
#[derive(Debug)]
#[must_use = "say whether it can be used"]
pub(crate) struct Answer<'l> {
    call: Call,
    asked: Asked<'l>,
}

impl Answer<'_> {
    /// What the plugin said.
    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    /// It can be carried out.
    pub(crate) fn used(self) -> Call {
        let Self { call, asked } = self;
        asked.link.meters.ok(asked.phase, &call.stats);
        asked.permit.answered();
        if let Some(trial) = &asked.link.trial {
            trial.answered(asked.phase);
        }
        call
    }

    /// It cannot: the plugin named what there is not, and that is its fault.
    pub(crate) fn refused(self, detail: String) -> Failure {
        let reason = FailureReason::InvalidAnswer;
        self.asked.failed(reason, detail, self.call.stats)
    }
}

/// Calls the plugin when its turn has come, with an input that is made then. The answer may turn
/// out impossible to carry out.
///
/// # Errors
/// There is no answer; it has been counted and logged.
pub(crate) async fn ask<'l>(
    link: &'l Link,
    about: &About,
    phase: Phase,
    input: impl Future<Output = Result<Input, SpoolError>>,
    environment: Arc<dyn CallEnvironment>,
) -> Result<Answer<'l>, NoAnswer> {
    let id = about.id;
    let Some(permit) = link.guard.admit() else {
        return Err(NoAnswer::Failed(not_called(link, id, phase)));
    };
    let asked = Asked {
        link,
        id,
        phase,
        permit,
    };
    let _turn = match link.turn().await {
        Ok(turn) => turn,
        Err(waited) => {
            let detail = format!("no turn came within {waited:?}");
            return Err(asked.busy(detail, CallStats::default()));
        }
    };
    let input = match input.await {
        Ok(input) => input,
        Err(error) => return Err(asked.unreadable(&error, CallStats::default())),
    };
    let environment = link.resources.around(environment);
    // The input and the environment are all that a call depends on: here it is decided which
    // version is asked, and watched what it is told.
    let witness = Witness::new(link, about, &input, environment);
    let outcome = link.plugin.call(input, witness.environment()).await;
    if let Some(error) = about.unread.get() {
        let stats = match outcome {
            Ok(call) => call.stats,
            Err(failure) => failure.stats,
        };
        return Err(asked.unreadable(error, stats));
    }
    witness.ended(&outcome);
    match outcome {
        Ok(call) => Ok(Answer { call, asked }),
        Err(failure) if failure.reason == FailureReason::Busy => {
            Err(asked.busy(failure.detail, failure.stats))
        }
        Err(failure) => {
            let failure = asked.failed(failure.reason, failure.detail, failure.stats);
            Err(NoAnswer::Failed(failure))
        }
    }
}

/// The breaker is open. That was said loudly when it opened; not again for each message.
fn not_called(link: &Link, id: QueueId, phase: Phase) -> Failure {
    link.meters.not_called(phase, Reason::BreakerOpen.as_str());
    let plugin = link.config.name.as_str();
    tracing::debug!(%id, plugin, phase = phase.as_str(), "plugin not called: breaker open");
    Failure {
        reason: Reason::BreakerOpen,
        detail: "it keeps failing and is not called for now".to_owned(),
        stats: CallStats::default(),
    }
}

/// A call under way.
#[derive(Debug)]
struct Asked<'l> {
    link: &'l Link,
    id: QueueId,
    phase: Phase,
    permit: Permit,
}

impl Asked<'_> {
    /// The plugin failed, by its own fault.
    fn failed(self, reason: FailureReason, detail: String, stats: CallStats) -> Failure {
        let link = self.link;
        link.meters.failed(self.phase, reason.as_str(), &stats);
        let failure = Failure {
            reason: Reason::Plugin(reason),
            detail,
            stats,
        };
        self.log(&failure);
        if let Some(trial) = &link.trial {
            trial.failed(self.id, self.phase, reason.as_str(), &failure.detail);
        }
        self.permit.failed(Fault {
            id: self.id.to_string(),
            phase: self.phase.as_str(),
            reason: reason.as_str(),
            detail: failure.detail.clone(),
        });
        failure
    }

    /// No turn came, or no instance.
    fn busy(self, detail: String, stats: CallStats) -> NoAnswer {
        let reason = FailureReason::Busy;
        let link = self.link;
        link.meters.failed(self.phase, reason.as_str(), &stats);
        let failure = Failure {
            reason: Reason::Plugin(reason),
            detail,
            stats,
        };
        self.log(&failure);
        NoAnswer::Failed(failure)
    }

    fn unreadable(self, error: &SpoolError, stats: CallStats) -> NoAnswer {
        self.link.meters.unreadable(self.phase);
        tracing::error!(
            id = %self.id,
            plugin = self.link.config.name,
            phase = self.phase.as_str(),
            %error,
            "cannot show a plugin a message's content; the message waits"
        );
        NoAnswer::Unreadable(Unread {
            error: error.clone(),
            stats,
        })
    }

    fn log(&self, failure: &Failure) {
        tracing::warn!(
            id = %self.id,
            plugin = self.link.config.name,
            version = self.link.version(),
            digest = self.link.short_digest(),
            candidate = self.link.trial.is_some(),
            phase = self.phase.as_str(),
            reason = failure.reason.as_str(),
            detail = failure.detail,
            "plugin call failed"
        );
    }
}
