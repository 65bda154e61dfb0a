//! Attempts: started within the window, answered once, and what follows from it.

use std::sync::Arc;

use smtp::{QueueId, Reply};

use super::{Active, Scheduler};
use crate::destinations::DestinationId;
use crate::job::{Job, JobStage};
use crate::{
    Action, AttemptOutcome, Deferral, DeferralKind, JobId, RecipientOutcome, UnixMs, fate, notify,
};

impl<P> Scheduler<P> {
    /// Starts the attempt of a job that is on its message's list already.
    pub(super) fn launch(
        &mut self,
        job: JobId,
        id: QueueId,
        recipients: Vec<u32>,
        destination: DestinationId,
        plan: P,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(active) = self.active(id) else {
            return;
        };
        let message = Arc::clone(&active.message);
        let started = self.next_attempt;
        self.next_attempt += 1;
        let state = self.destinations.get_mut(destination);
        state.in_flight += 1;
        self.tally.in_flight += 1;
        out.push(Action::Attempt {
            job,
            message,
            recipients: recipients.clone(),
            destination: Arc::clone(&state.name),
            plan,
        });
        let stage = JobStage::InFlight {
            destination,
            started,
        };
        self.jobs.insert(
            job,
            Job {
                message: id,
                recipients,
                stage,
            },
        );
    }

    /// Starts as many of a destination's waiting jobs as its window lets out.
    fn pump(&mut self, destination: DestinationId, now: UnixMs, out: &mut Vec<Action<P>>) {
        loop {
            let state = self.destinations.get_mut(destination);
            if !state.has_room() {
                return;
            }
            let Some(job) = state.ready.pop() else { return };
            let Some(Job {
                message: id,
                mut recipients,
                stage,
            }) = self.jobs.remove(&job)
            else {
                continue;
            };
            let JobStage::Ready {
                plan,
                queued_at,
                deadline,
                ..
            } = stage
            else {
                continue;
            };
            state.recent_wait_ms = now.since_ms(queued_at);
            self.deadlines.remove(&(deadline, job));
            self.tally.ready -= 1;
            if self.shed_over(id, &mut recipients, now) {
                self.launch(job, id, recipients, destination, plan, out);
            } else {
                self.close_job(job, id);
            }
        }
    }

    pub(super) fn attempted(
        &mut self,
        job: JobId,
        outcome: AttemptOutcome,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(Job {
            stage:
                JobStage::InFlight {
                    destination,
                    started,
                },
            ..
        }) = self.jobs.get(&job)
        else {
            return;
        };
        let (destination, started) = (*destination, *started);
        let Some(Job {
            message: id,
            recipients,
            ..
        }) = self.jobs.remove(&job)
        else {
            return;
        };
        self.tally.in_flight -= 1;
        let state = self.destinations.get_mut(destination);
        state.in_flight -= 1;
        if outcome.destination_failed {
            state
                .window
                .failed(&self.limits, started, self.next_attempt, now);
            if let Some(until) = state.window.suspended_until(now) {
                self.park_waiting(destination, until, now);
            }
        } else if outcome.recipients.iter().any(is_answer) {
            state.window.succeeded(&self.limits);
        }
        if self.is_done_with(id, job, &recipients, &outcome) {
            self.vacate(id);
            self.wishes.remove(&id);
            out.push(Action::Remove { id });
        } else {
            let awaits_advice = outcome.awaits_advice;
            self.note_outcome(id, &recipients, outcome, now);
            self.end_or_await_advice(job, id, recipients, awaits_advice);
        }
        self.pump(destination, now, out);
        self.destinations.settle(destination, &self.limits, now);
    }

    /// The common case: everything delivered, nothing else open, nobody to be told.
    /// The message is removed, so its last state need not be written, nor even noted.
    fn is_done_with(
        &self,
        id: QueueId,
        job: JobId,
        recipients: &[u32],
        outcome: &AttemptOutcome,
    ) -> bool {
        let Some(Active { message, jobs, .. }) = self.active(id) else {
            return false;
        };
        let delivered = outcome.recipients.len() >= recipients.len()
            && outcome
                .recipients
                .iter()
                .take(recipients.len())
                .all(|outcome| matches!(outcome, RecipientOutcome::Delivered(_)));
        // Recipients of a job are pending and named once, so all others are final
        // when the numbers agree.
        let pending = message
            .recipients
            .iter()
            .filter(|one| !one.state.is_final())
            .count();
        delivered
            && *jobs == [job]
            && pending == recipients.len()
            && notify::owed(message).is_empty()
    }

    fn note_outcome(
        &mut self,
        id: QueueId,
        recipients: &[u32],
        outcome: AttemptOutcome,
        now: UnixMs,
    ) {
        let AttemptOutcome {
            recipients: outcomes,
            host,
            mut record,
            ..
        } = outcome;
        record.about(recipients);
        // The driver's own list may be long.
        let decisions = std::mem::take(&mut record.decisions);
        record.decided(decisions);
        self.change(id, |message, backoff| {
            message.history.push(record);
            let mut outcomes = outcomes.into_iter();
            for &position in recipients {
                let outcome = outcomes.next().unwrap_or_else(unanswered);
                fate::conclude(message, position, outcome, host.as_deref(), backoff, now);
            }
        });
    }

    /// The destination was suspended: what waits for it rests until that ends.
    fn park_waiting(&mut self, destination: DestinationId, until: UnixMs, now: UnixMs) {
        for job in self.destinations.get_mut(destination).ready.drain() {
            let Some(Job {
                message: id,
                recipients,
                stage,
            }) = self.jobs.remove(&job)
            else {
                continue;
            };
            if let JobStage::Ready { deadline, .. } = stage {
                self.deadlines.remove(&(deadline, job));
            }
            self.tally.ready -= 1;
            let until = self.spread(until, now);
            self.park(id, &recipients, until);
            self.close_job(job, id);
        }
    }

    /// Calls a waiting job back; its recipients stay as they are. False: it does not
    /// wait in a ready queue.
    pub(super) fn recall(&mut self, job: JobId, now: UnixMs) -> bool {
        let Some(Job {
            stage:
                JobStage::Ready {
                    destination,
                    deadline,
                    ..
                },
            message,
            ..
        }) = self.jobs.get(&job)
        else {
            return false;
        };
        let (destination, deadline, id) = (*destination, *deadline, *message);
        self.jobs.remove(&job);
        self.deadlines.remove(&(deadline, job));
        self.tally.ready -= 1;
        self.destinations.get_mut(destination).ready.remove(job);
        self.destinations.settle(destination, &self.limits, now);
        self.close_job(job, id);
        true
    }

    /// Gives up recipients whose time ran out while they waited for a destination.
    pub(super) fn expire_waiting(&mut self, now: UnixMs) {
        while let Some(&(deadline, job)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(waiting) = self.jobs.get_mut(&job) else {
                continue;
            };
            let id = waiting.message;
            let mut recipients = std::mem::take(&mut waiting.recipients);
            if self.shed_over(id, &mut recipients, now) {
                let next = self.deadline_of(id, &recipients);
                self.deadlines.insert((next, job));
                if let Some(waiting) = self.jobs.get_mut(&job) {
                    waiting.recipients = recipients;
                    if let JobStage::Ready { deadline, .. } = &mut waiting.stage {
                        *deadline = next;
                    }
                }
                self.touched.push(id);
            } else {
                self.recall(job, now);
            }
        }
    }
}

/// True when the destination has said something; a fault of ours tells nothing of it.
const fn is_answer(outcome: &RecipientOutcome) -> bool {
    !matches!(
        outcome,
        RecipientOutcome::Deferred(Deferral {
            kind: DeferralKind::Local,
            ..
        })
    )
}

/// Stands for an outcome that the driver did not give.
fn unanswered() -> RecipientOutcome {
    let reply = Reply::new(451, (4, 3, 0), "the attempt ended without an answer");
    RecipientOutcome::Deferred(Deferral::local(reply))
}
