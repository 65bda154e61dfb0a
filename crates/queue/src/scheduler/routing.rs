//! What routing answered, and the way into a destination's ready queue.

use std::sync::Arc;

use smtp::{QueueId, Reply};

use super::{RoutedHold, Scheduler, Wish};
use crate::job::{Job, JobStage};
use crate::{
    Action, AttemptRecord, Deferral, Disposition, JobId, PolicyDecision, Route, UnixMs, fate,
};

/// Stage of history records that tell of routing, not of an attempt.
const STAGE: &str = "route";

impl<P> Scheduler<P> {
    pub(super) fn routed(
        &mut self,
        job: JobId,
        routes: Vec<Route<P>>,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        if !matches!(
            self.jobs.get(&job),
            Some(Job {
                stage: JobStage::Routing,
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
        self.tally.routing -= 1;
        self.close_job(job, id);
        let mut open = OpenRecipients::new(recipients);
        for mut route in routes {
            open.claim(&mut route.recipients);
            if !route.recipients.is_empty() {
                self.dispose(id, route, now, out);
            }
        }
        let left = open.left();
        if !left.is_empty() {
            let reply = Reply::new(451, (4, 3, 5), "routing gave no answer for this recipient");
            let disposition = Disposition::Defer(Deferral::local(reply));
            self.dispose(id, Route::new(left, disposition), now, out);
        }
    }

    fn dispose(&mut self, id: QueueId, route: Route<P>, now: UnixMs, out: &mut Vec<Action<P>>) {
        let Route {
            recipients,
            expires_at,
            disposition,
            decisions,
        } = route;
        if expires_at.is_some() {
            self.set_expiry(id, &recipients, expires_at);
        }
        match disposition {
            Disposition::Deliver { destination, plan } => {
                self.enqueue(id, recipients, &destination, plan, now, out);
            }
            Disposition::Defer(deferral) => self.change(id, |message, backoff| {
                note(
                    message,
                    &recipients,
                    deferral.reply.to_string(),
                    decisions,
                    now,
                );
                for position in recipients {
                    fate::defer(message, position, deferral.clone(), None, backoff, now);
                }
            }),
            Disposition::Reject(reply) => self.change(id, |message, _| {
                note(message, &recipients, reply.to_string(), decisions, now);
                for position in recipients {
                    fate::reject(message, position, reply.clone(), now);
                }
            }),
            Disposition::Discard(reason) => self.change(id, |message, _| {
                note(
                    message,
                    &recipients,
                    format!("discarded: {reason}"),
                    decisions,
                    now,
                );
                for position in recipients {
                    fate::discard(message, position, reason.clone(), now);
                }
            }),
            Disposition::Hold { reason, release_at } => {
                if let Some(active) = self.active_mut(id) {
                    // Saved with the hold, when the other jobs have ended.
                    let message = Arc::make_mut(&mut active.message);
                    note(
                        message,
                        &recipients,
                        format!("held: {reason}"),
                        decisions,
                        now,
                    );
                    active.hold.get_or_insert(RoutedHold { reason, release_at });
                }
            }
        }
    }

    fn set_expiry(&mut self, id: QueueId, recipients: &[u32], expires_at: Option<UnixMs>) {
        let Some(active) = self.active_mut(id) else {
            return;
        };
        let recipient = |position: u32| active.message.recipients.get(position as usize);
        let differs = |&position: &u32| {
            recipient(position).is_some_and(|recipient| recipient.expires_at != expires_at)
        };
        if !recipients.iter().any(differs) {
            return;
        }
        let message = Arc::make_mut(&mut active.message);
        for &position in recipients {
            if let Some(recipient) = message.recipients.get_mut(position as usize) {
                recipient.expires_at = expires_at;
            }
        }
        // Not worth a write of its own: routing will say it again after a crash.
    }

    /// Lets recipients be delivered: at once if the destination has room, else they
    /// wait in its ready queue, or rest.
    pub(super) fn enqueue(
        &mut self,
        id: QueueId,
        mut recipients: Vec<u32>,
        name: &Arc<str>,
        plan: P,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        // The command or hold takes effect when the open jobs end; no new one starts.
        let halted = matches!(
            self.wishes.get(&id),
            Some(Wish::Hold { .. } | Wish::Remove | Wish::Bounce(_))
        );
        if halted || !self.shed_over(id, &mut recipients, now) {
            return;
        }
        let forced = self.active(id).is_some_and(|active| active.forced);
        let free = self.limits.active_messages.saturating_sub(self.slots.len());
        let destination = self.destinations.open(name, &self.limits, now);
        let state = self.destinations.get_mut(destination);
        let working = state.window.failures() == 0;
        let share = self
            .limits
            .ready_per_destination
            .max(if working { free } else { 0 });
        if let Some(until) = state.window.suspended_until(now).filter(|_| !forced) {
            let until = self.spread(until, now);
            self.park(id, &recipients, until);
        } else if state.ready.is_empty() && state.has_room() {
            let job = self.new_job_id();
            if let Some(active) = self.active_mut(id) {
                active.jobs.push(job);
            }
            self.launch(job, id, recipients, destination, plan, out);
        } else if state.ready.len() < share {
            self.wait(id, recipients, destination, plan, now);
        } else {
            let until = self.overflow_until(destination, now);
            self.park(id, &recipients, until);
        }
        self.destinations.settle(destination, &self.limits, now);
    }

    /// Puts a job at the end of its destination's ready queue.
    fn wait(
        &mut self,
        id: QueueId,
        recipients: Vec<u32>,
        destination: crate::destinations::DestinationId,
        plan: P,
        now: UnixMs,
    ) {
        let job = self.new_job_id();
        let deadline = self.deadline_of(id, &recipients);
        let Some(active) = self.active_mut(id) else {
            return;
        };
        active.jobs.push(job);
        self.destinations.get_mut(destination).ready.push(job);
        self.deadlines.insert((deadline, job));
        self.tally.ready += 1;
        let stage = JobStage::Ready {
            destination,
            plan,
            queued_at: now,
            deadline,
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

    /// How long an overflowing job rests: as long as jobs wait in that queue, for then
    /// there is room again.
    fn overflow_until(
        &mut self,
        destination: crate::destinations::DestinationId,
        now: UnixMs,
    ) -> UnixMs {
        let state = self.destinations.get_mut(destination);
        let working = state.window.failures() == 0;
        let head = state
            .ready
            .peek()
            .and_then(|job| match self.jobs.get(&job)?.stage {
                JobStage::Ready { queued_at, .. } => Some(now.since_ms(queued_at)),
                _ => None,
            });
        let wait_ms = state.recent_wait_ms.max(head.unwrap_or(0));
        let limits = &self.limits;
        let rest_ms = wait_ms.clamp(limits.overflow_rest_ms, limits.overflow_rest_max_ms);
        // While a destination is on probation its backlog must not be read again and
        // again just to find that it still is.
        let rest_ms = if working {
            rest_ms
        } else {
            rest_ms.max(limits.suspend_ms)
        };
        now.plus_ms(rest_ms).plus_ms(self.random.up_to(rest_ms / 2))
    }

    /// The end of a suspension, plus up to a quarter of what is left of it by chance: a
    /// large backlog must not be read all at once to make one probe.
    pub(super) fn spread(&mut self, until: UnixMs, now: UnixMs) -> UnixMs {
        until.plus_ms(self.random.up_to(until.since_ms(now) / 4))
    }

    /// Lets recipients rest until then. Nothing is counted, and in most cases nothing
    /// needs saving.
    pub(super) fn park(&mut self, id: QueueId, recipients: &[u32], until: UnixMs) {
        let Some(active) = self.active_mut(id) else {
            return;
        };
        let earliest = active.parked_until.map_or(until, |at| at.min(until));
        active.parked_until = Some(earliest);
        let message = Arc::make_mut(&mut active.message);
        for &position in recipients {
            fate::park(message, position, until);
        }
    }

    /// Gives up those of `recipients` whose time is over and takes them off the list;
    /// false when none is left.
    pub(super) fn shed_over(
        &mut self,
        id: QueueId,
        recipients: &mut Vec<u32>,
        now: UnixMs,
    ) -> bool {
        let Some(active) = self.active_mut(id) else {
            return false;
        };
        let Some(first) = recipients
            .iter()
            .position(|&position| fate::is_over(&active.message, position, now))
        else {
            return true;
        };
        let message = Arc::make_mut(&mut active.message);
        for &position in &recipients[first..] {
            if fate::is_over(message, position, now) {
                fate::expire(message, position, now);
            }
        }
        active.dirty = true;
        recipients.retain(|&position| message.expiry_of(position).is_some());
        !recipients.is_empty()
    }

    /// When the first of these recipients expires.
    pub(super) fn deadline_of(&self, id: QueueId, recipients: &[u32]) -> UnixMs {
        let Some(active) = self.active(id) else {
            return UnixMs::NEVER;
        };
        let expiries = recipients
            .iter()
            .filter_map(|&position| active.message.expiry_of(position));
        expiries.min().unwrap_or(UnixMs::NEVER)
    }
}

fn domain_of(message: &crate::QueuedMessage, recipients: &[u32]) -> String {
    let first = recipients
        .first()
        .and_then(|&at| message.recipients.get(at as usize));
    first
        .map(|recipient| recipient.mailbox.domain().to_string())
        .unwrap_or_default()
}

/// Notes in the message's history what routing decided in place of an attempt.
fn note(
    message: &mut crate::QueuedMessage,
    recipients: &[u32],
    outcome: String,
    decisions: Vec<PolicyDecision>,
    now: UnixMs,
) {
    let mut record = AttemptRecord {
        at: now,
        destination: domain_of(message, recipients),
        stage: STAGE.to_owned(),
        outcome,
        ..AttemptRecord::default()
    };
    record.about(recipients);
    record.decided(decisions);
    message.history.push(record);
}

/// The recipients of a job that no route has named yet. Sorted, as they were made.
pub(super) struct OpenRecipients {
    recipients: Vec<u32>,
    /// Empty until the first partial claim: most routes name all.
    claimed: Vec<bool>,
}

impl OpenRecipients {
    pub(super) const fn new(recipients: Vec<u32>) -> Self {
        Self {
            recipients,
            claimed: Vec::new(),
        }
    }

    /// Leaves in `wanted` only what is open, and closes that.
    pub(super) fn claim(&mut self, wanted: &mut Vec<u32>) {
        if self.claimed.is_empty() {
            if *wanted == self.recipients {
                self.recipients.clear();
                return;
            }
            self.claimed = vec![false; self.recipients.len()];
        }
        wanted.retain(|position| match self.recipients.binary_search(position) {
            Ok(at) => !std::mem::replace(&mut self.claimed[at], true),
            Err(_) => false,
        });
    }

    fn left(self) -> Vec<u32> {
        if self.claimed.is_empty() {
            return self.recipients;
        }
        let pairs = self.recipients.into_iter().zip(self.claimed);
        pairs
            .filter(|&(_, claimed)| !claimed)
            .map(|(position, _)| position)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::OpenRecipients;

    #[test]
    fn each_recipient_is_claimed_once() {
        let mut open = OpenRecipients::new(vec![2, 4, 6, 8]);
        let mut wanted = vec![6, 3, 2, 6];
        open.claim(&mut wanted);
        assert_eq!(wanted, [6, 2]);
        let mut wanted = vec![2, 8];
        open.claim(&mut wanted);
        assert_eq!(wanted, [8]);
        assert_eq!(open.left(), [4]);
    }

    #[test]
    fn a_claim_of_all_leaves_none() {
        let mut open = OpenRecipients::new(vec![0, 1]);
        open.claim(&mut vec![0, 1]);
        let mut wanted = vec![0, 1];
        open.claim(&mut wanted);
        assert!(wanted.is_empty());
        assert!(open.left().is_empty());
    }
}
