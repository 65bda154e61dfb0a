//! What stands beside a call: the tape that is made of it, for the candidate in its shadow and for
//! the decision log. Where there is neither, nothing.

use std::sync::Arc;

use plugin::record::{
    Ending, FORMAT, Live, Record, Recorder, Replay, Tape, config_digest, differences,
};
use plugin::{Call, CallEnvironment, CallFailure, FailureReason, Input, Plugin};

use super::candidate::Candidate;
use super::chain::Link;
use super::decision_log::Entry;
use super::gate::About;
use crate::clock;

/// One call, watched.
pub(crate) struct Witness<'l> {
    link: &'l Link,
    about: &'l About,
    environment: Arc<dyn CallEnvironment>,
    tape: Option<(Arc<Recorder>, Input)>,
    at_ms: u64,
    is_logged: bool,
    shadow: Option<&'l Plugin>,
}

impl<'l> Witness<'l> {
    /// Before the call.
    pub(crate) fn new(
        link: &'l Link,
        about: &'l About,
        input: &Input,
        environment: Arc<dyn CallEnvironment>,
    ) -> Self {
        let candidate = link.candidate.as_deref();
        let shadow = candidate.and_then(|it| it.shadows(about.id, input.phase()));
        let log = link.decisions.as_ref();
        let is_logged = log.is_some_and(|log| log.has(about.id));
        let is_wanted = shadow.is_some() || is_logged;
        let clock = link.clock.clone();
        let tape = is_wanted.then(|| {
            let inner = Arc::clone(&environment);
            let now = clock.clone();
            let now = Arc::new(move || now.now().0);
            let recorder = Recorder::new(inner, now, clock::random_seed());
            (Arc::new(recorder), input.clone())
        });
        Self {
            link,
            about,
            environment,
            tape,
            at_ms: if is_logged { clock.now().0 } else { 0 },
            is_logged,
            shadow,
        }
    }

    /// What the call is to be made with.
    pub(crate) fn environment(&self) -> Arc<dyn CallEnvironment> {
        match &self.tape {
            Some((recorder, _)) => Arc::clone(recorder) as Arc<dyn CallEnvironment>,
            None => Arc::clone(&self.environment),
        }
    }

    /// After the call. Takes no time: what is to be done is done by others.
    pub(crate) fn ended(self, outcome: &Result<Call, CallFailure>) {
        let Some((recorder, input)) = &self.tape else {
            return;
        };
        let (ending, tape) = (Ending::of(outcome), recorder.tape());
        if let Some(shadow) = self.shadow
            && let Some(candidate) = &self.link.candidate
        {
            let is_busy = matches!(outcome, Err(failure) if failure.reason == FailureReason::Busy);
            if is_busy {
                candidate.skipped(input.phase(), "busy");
            } else {
                self.shadow(candidate, shadow, input, &tape, &ending);
            }
        }
        if self.is_logged {
            self.log(input.clone(), tape, ending);
        }
    }

    fn log(&self, input: Input, tape: Tape, ending: Ending) {
        let Some(log) = &self.link.decisions else {
            return;
        };
        let config = &self.link.config;
        let candidate = config.candidate.as_ref();
        // A candidate may have a section of its own.
        let own = candidate.and_then(|candidate| candidate.config.as_ref());
        let own = own.filter(|_| self.link.trial.is_some());
        let section = own.unwrap_or(&config.config);
        let inspection = self.link.plugin.inspect();
        log.offer(Entry {
            plugin: self.link.plugin.clone(),
            route_headers: config.route_headers.clone(),
            record: Record {
                format: FORMAT,
                at_ms: self.at_ms,
                message: self.about.id.to_string(),
                plugin: config.name.clone(),
                phase: input.phase(),
                digest: inspection.sha256,
                config_digest: config_digest(section),
                privacy: plugin::record::Privacy::Full,
                unlike: None,
                input,
                tape,
                ending,
            },
        });
    }

    /// Lets the candidate answer the same question with the same answers, beside the mail.
    fn shadow(
        &self,
        candidate: &Arc<Candidate>,
        plugin: &Plugin,
        input: &Input,
        tape: &Tape,
        ending: &Ending,
    ) {
        let phase = input.phase();
        let Some(turn) = candidate.turn() else {
            return candidate.skipped(phase, "concurrency");
        };
        let Some(instance) = self.link.spare_instance() else {
            return candidate.skipped(phase, "no_instance");
        };
        let live = Live {
            environment: (self.link.resources).around_trial(Arc::clone(&self.environment)),
            scratch: candidate.scratch(),
        };
        let world = Arc::new(Replay::over(tape, live));
        let candidate = Arc::clone(candidate);
        let plugin = plugin.clone();
        let (input, ending) = (input.clone(), ending.clone());
        let (id, unread) = (self.about.id, Arc::clone(&self.about.unread));
        tokio::spawn(async move {
            let _turns = (turn, instance);
            let result = plugin.call(input.clone(), world).await;
            if unread.get().is_some() {
                return candidate.skipped(phase, "content_unavailable");
            }
            match &result {
                Err(failure) if !matches!(ending, Ending::Failed { reason, .. } if reason == failure.reason) =>
                {
                    candidate.shadow_failed(id, phase, failure);
                }
                _ => {
                    let list = differences(&input, &ending, &Ending::of(&result));
                    candidate.compared(id, phase, list);
                }
            }
        });
    }
}
