//! What policies advise after an attempt, and what comes of it.
//!
//! The outcome of the attempt is noted and saved before anybody is heard, so advice can only
//! change what happens next: a plugin that takes its time, or a crash meanwhile, loses nothing.

use smtp::QueueId;

use super::routing::OpenRecipients;
use super::{RoutedHold, Scheduler, Wish};
use crate::job::{Job, JobStage};
use crate::{Action, Advice, Advised, JobId, PolicyDecision, RecipientState, UnixMs, fate};

impl<P> Scheduler<P> {
    /// The attempt of a job is noted. With somebody to be heard about what it left pending the
    /// job goes on, else it ends.
    pub(super) fn end_or_await_advice(
        &mut self,
        job: JobId,
        id: QueueId,
        mut recipients: Vec<u32>,
        awaits_advice: bool,
    ) {
        if awaits_advice && let Some(active) = self.active(id) {
            recipients.retain(|&position| is_pending(&active.message, position));
        } else {
            recipients.clear();
        }
        if recipients.is_empty() {
            self.close_job(job, id);
            return;
        }
        self.tally.advised += 1;
        let stage = JobStage::Advised;
        self.jobs.insert(
            job,
            Job {
                message: id,
                recipients,
                stage,
            },
        );
        // The job is still open, but what is noted must be saved.
        self.touched.push(id);
    }

    pub(super) fn advised(
        &mut self,
        job: JobId,
        advice: Vec<Advised<P>>,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        if !matches!(
            self.jobs.get(&job),
            Some(Job {
                stage: JobStage::Advised,
                ..
            })
        ) {
            return;
        }
        let Some(Job {
            message: id,
            recipients,
            ..
        }) = self.jobs.remove(&job)
        else {
            return;
        };
        self.tally.advised -= 1;
        self.close_job(job, id);
        let mut open = OpenRecipients::new(recipients);
        for mut one in advice {
            open.claim(&mut one.recipients);
            if !one.recipients.is_empty() {
                self.heed(id, one, now, out);
            }
        }
    }

    fn heed(&mut self, id: QueueId, advised: Advised<P>, now: UnixMs, out: &mut Vec<Action<P>>) {
        let Advised {
            recipients,
            advice,
            mut decisions,
            followed,
        } = advised;
        let is_prompt = matches!(advice, Advice::Retry { .. } | Advice::Reroute);
        let obstacle = self.obstacle(id, is_prompt);
        if let Some(why) = &obstacle
            && !matches!(advice, Advice::Usual)
            && let Some(decision) = followed.and_then(|at| decisions.get_mut(at))
        {
            decision.consequence = Some(format!("not carried out: {why}"));
        }
        let is_heeded = obstacle.is_none();
        self.note_advice(id, &recipients, decisions, is_prompt && is_heeded);
        if !is_heeded {
            return;
        }
        match advice {
            Advice::Usual => {}
            Advice::RetryAfter(pause_ms) => self.change(id, |message, backoff| {
                let limits = backoff.limits;
                let pause_ms = pause_ms.clamp(limits.retry_after_min_ms, limits.retry_after_max_ms);
                for position in recipients {
                    fate::park(message, position, now.plus_ms(pause_ms));
                }
            }),
            Advice::Retry { destination, plan } => {
                self.change(id, |message, _| {
                    fate::hasten(message, recipients.iter().copied(), now);
                });
                self.enqueue(id, recipients, &destination, plan, now, out);
            }
            Advice::Reroute => self.reroute(id, recipients, now, out),
            Advice::GiveUp(reply) => {
                let mut count = 0;
                self.change(id, |message, _| {
                    for position in recipients {
                        count += u64::from(is_pending(message, position));
                        fate::reject(message, position, reply.clone(), now);
                    }
                });
                self.given_up += count;
            }
            Advice::Hold { reason } => {
                if let Some(active) = self.active_mut(id) {
                    let release_at = None;
                    active.hold.get_or_insert(RoutedHold { reason, release_at });
                }
            }
        }
    }

    /// What stands in the way of any advice about this message.
    fn obstacle(&self, id: QueueId, is_prompt: bool) -> Option<String> {
        match self.wishes.get(&id) {
            Some(Wish::Hold { .. } | Wish::Remove | Wish::Bounce(_)) => {
                return Some("an operator has said what happens".to_owned());
            }
            Some(Wish::Release | Wish::Retry) | None => {}
        }
        let active = self.active(id)?;
        if active.forced {
            return Some("an operator wants it tried now".to_owned());
        }
        let limit = self.limits.prompt_retries;
        (is_prompt && active.message.history.prompt_count() >= limit)
            .then(|| format!("{limit} of its last attempts were followed by another at once"))
    }

    fn note_advice(
        &mut self,
        id: QueueId,
        recipients: &[u32],
        decisions: Vec<PolicyDecision>,
        is_prompt: bool,
    ) {
        self.change(id, |message, _| {
            let Some(&first) = recipients.first() else {
                return;
            };
            if let Some(record) = message.history.newest_about(first) {
                record.prompt |= is_prompt;
                record.decided(decisions);
            }
        });
    }

    /// Asks where these go now, without a rest in between.
    fn reroute(
        &mut self,
        id: QueueId,
        mut recipients: Vec<u32>,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        if !self.shed_over(id, &mut recipients, now) {
            return;
        }
        self.change(id, |message, _| {
            fate::hasten(message, recipients.iter().copied(), now);
        });
        let Some(active) = self.active(id) else {
            return;
        };
        let message = std::sync::Arc::clone(&active.message);
        // The recipients of a job are of one domain.
        let first = recipients
            .first()
            .and_then(|&position| message.recipients.get(position as usize));
        let Some(domain) = first.map(|first| first.mailbox.domain().clone()) else {
            return;
        };
        let job = self.open_routing(&message, domain, recipients, out);
        if let Some(active) = self.active_mut(id) {
            active.jobs.push(job);
        }
    }
}

fn is_pending(message: &crate::QueuedMessage, position: u32) -> bool {
    let recipient = message.recipients.get(position as usize);
    recipient.is_some_and(|one| matches!(one.state, RecipientState::Pending { .. }))
}
