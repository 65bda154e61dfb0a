//! The life of a message around its jobs: it comes in, becomes active, settles, rests.

use std::sync::Arc;

use smtp::QueueId;

use super::{Active, Scheduler, Slot, Wish};
use crate::job::{Job, JobStage};
use crate::notify::{self, Notification};
use crate::{Action, JobId, OperatorEnd, QueuedMessage, UnixMs, fate};

impl<P> Scheduler<P> {
    pub(super) fn accepted(
        &mut self,
        message: Arc<QueuedMessage>,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        let id = message.id;
        if self.slots.contains_key(&id) || self.resting.contains(id) {
            return;
        }
        // A message without a pending recipient goes through a turn, to be removed.
        let due_at = message.due_at().unwrap_or(now);
        let room = self.slots.len() < self.limits.active_messages
            && self.tally.fresh < self.limits.active_messages - self.limits.reserved_for_due;
        if due_at > now || !room {
            self.rest(id, due_at, message.hold.is_some(), out);
            return;
        }
        self.begin(message, true, false, now, out);
    }

    pub(super) fn recovered(&mut self, id: QueueId, due_at: UnixMs) {
        if !self.slots.contains_key(&id) {
            self.resting.insert(id, due_at, false);
        }
    }

    pub(super) fn loaded(
        &mut self,
        message: Arc<QueuedMessage>,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        let id = message.id;
        let Some(forced) = self.stop_loading(id) else {
            return;
        };
        let forced = forced || matches!(self.wishes.get(&id), Some(Wish::Retry));
        self.begin(message, false, forced, now, out);
    }

    pub(super) fn load_failed(
        &mut self,
        id: QueueId,
        retry: bool,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(forced) = self.stop_loading(id) else {
            return;
        };
        if matches!(self.wishes.get(&id), Some(Wish::Remove)) {
            self.wishes.remove(&id);
            out.push(Action::Remove { id });
        } else if retry {
            if forced {
                self.wishes.entry(id).or_insert(Wish::Retry);
            }
            self.rest(id, now.plus_ms(self.limits.load_retry_ms), false, out);
        } else {
            self.wishes.remove(&id);
        }
    }

    /// Whether the load was forced; `None`: there was none.
    fn stop_loading(&mut self, id: QueueId) -> Option<bool> {
        let Some(&Slot::Loading { forced }) = self.slots.get(&id) else {
            return None;
        };
        self.slots.remove(&id);
        self.tally.loading -= 1;
        Some(forced)
    }

    /// Gives a message its slot and opens a job for each set of due recipients; none
    /// if a command or a hold stands in the way.
    fn begin(
        &mut self,
        mut message: Arc<QueuedMessage>,
        fresh: bool,
        forced: bool,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        let id = message.id;
        let mut dirty = false;
        if let Some(hold) = &message.hold {
            let over = hold.release_at.is_some_and(|at| at <= now);
            if over || matches!(self.wishes.get(&id), Some(Wish::Release)) {
                fate::release(Arc::make_mut(&mut message), now);
                dirty = true;
            }
        }
        if matches!(self.wishes.get(&id), Some(Wish::Release | Wish::Retry)) {
            self.wishes.remove(&id);
        }
        if forced && message.hold.is_none() {
            let all = fate::positions(&message);
            fate::hasten(Arc::make_mut(&mut message), all, now);
        }
        dirty |= expire_over(&mut message, now);
        let groups = if message.hold.is_some() || self.wishes.contains_key(&id) {
            Vec::new()
        } else {
            fate::due_groups(&message, &self.limits, now)
        };
        let mut jobs = Vec::with_capacity(groups.len().min(self.limits.jobs_per_message));
        for (domain, recipients) in groups.into_iter().take(self.limits.jobs_per_message) {
            jobs.push(self.open_routing(&message, domain, recipients, out));
        }
        if dirty || jobs.is_empty() {
            self.touched.push(id);
        }
        self.tally.fresh += usize::from(fresh);
        let active = Active {
            message,
            jobs,
            fresh,
            dirty,
            forced,
            parked_until: None,
            hold: None,
            since: now,
        };
        self.slots.insert(id, Slot::Active(active));
    }

    /// Asks where these recipients of one domain go. The job is to be put on the message's
    /// list.
    pub(super) fn open_routing(
        &mut self,
        message: &Arc<QueuedMessage>,
        domain: smtp::Domain,
        recipients: Vec<u32>,
        out: &mut Vec<Action<P>>,
    ) -> JobId {
        let job = self.new_job_id();
        self.tally.routing += 1;
        let attempt = recipients
            .iter()
            .filter_map(|&position| attempts(message, position));
        out.push(Action::Route {
            job,
            message: Arc::clone(message),
            domain,
            attempt: attempt.max().unwrap_or(0),
            recipients: recipients.clone(),
        });
        self.jobs.insert(
            job,
            Job {
                message: message.id,
                recipients,
                stage: JobStage::Routing,
            },
        );
        job
    }

    /// Ends the turn for every message that something happened to.
    pub(super) fn conclude_touched(&mut self, now: UnixMs, out: &mut Vec<Action<P>>) {
        while let Some(id) = self.touched.pop() {
            let Some(active) = self.active_mut(id) else {
                continue;
            };
            if active.jobs.is_empty() {
                self.settle(id, now, out);
            } else if std::mem::take(&mut active.dirty) {
                // Others of its jobs may take long; what is known must survive a crash,
                // or it would be delivered twice.
                out.push(Action::Save {
                    message: Arc::clone(&active.message),
                    due_at: now,
                });
            }
        }
    }

    /// Frees the slot of a message, without any action.
    pub(super) fn vacate(&mut self, id: QueueId) -> Option<Active> {
        let Some(Slot::Active(active)) = self.slots.remove(&id) else {
            return None;
        };
        self.tally.fresh -= usize::from(active.fresh);
        Some(active)
    }

    /// No job of the message is open: it goes, or rests until it is due again.
    fn settle(&mut self, id: QueueId, now: UnixMs, out: &mut Vec<Action<P>>) {
        let Some(mut active) = self.vacate(id) else {
            return;
        };
        let wish = self.wishes.remove(&id);
        let end = match wish {
            Some(Wish::Remove) => Some(OperatorEnd::Removed),
            Some(Wish::Bounce(_)) => Some(OperatorEnd::Bounced),
            _ => None,
        };
        if let Some(how) = end {
            let recipients = pending_count(&active.message);
            out.push(Action::Ended {
                id,
                recipients,
                how,
            });
        }
        if matches!(wish, Some(Wish::Remove)) {
            out.push(Action::Remove { id });
            return;
        }
        let release_min_at = now.plus_ms(self.limits.retry_after_min_ms);
        apply_wish(&mut active, wish, release_min_at, now);
        active.dirty |= expire_over(&mut active.message, now);
        let owed = notify::owed(&active.message);
        let gone = active.message.is_final();
        // The state in which the sender has not been told: what a driver may store while
        // the notification is not safe yet.
        let untold = Arc::clone(&active.message);
        if !owed.is_empty() && !gone {
            let message = Arc::make_mut(&mut active.message);
            for (_, recipients) in &owed {
                notify::mark(message, recipients);
            }
            active.dirty = true;
        }
        let message = active.message;
        for (kind, recipients) in owed {
            let message = Arc::clone(&untold);
            out.push(Action::Notify(Notification {
                message,
                recipients,
                kind,
            }));
        }
        let Some(mut due_at) = message.due_at() else {
            out.push(Action::Remove { id });
            return;
        };
        if let Some(at) = self.retried_all_at.filter(|_| active.forced) {
            // It has been retried; what is left must not look like it had not.
            due_at = due_at.max(at.plus_ms(1));
        }
        let held = message.hold.is_some();
        // Parking need not outlive a crash, but the next load must know of it when it
        // comes earlier: it would find those recipients due, and park them, for ever.
        let loaded_early = active
            .parked_until
            .is_some_and(|until| active.forced || due_at < until);
        if active.dirty || loaded_early {
            out.push(Action::Save {
                message,
                due_at: due_at.max(now),
            });
        }
        self.rest(id, due_at, held, out);
    }

    fn rest(&mut self, id: QueueId, due_at: UnixMs, held: bool, out: &mut Vec<Action<P>>) {
        self.resting.insert(id, due_at, held);
        out.push(Action::Rest { id, due_at });
    }

    /// True when a resting message may take a slot.
    pub(super) fn has_room_for_due(&self) -> bool {
        let loaded = self.slots.len() - self.tally.fresh;
        self.slots.len() < self.limits.active_messages
            && loaded < self.limits.active_messages - self.limits.reserved_for_fresh
    }

    /// Loads what is due, as far as there is room.
    pub(super) fn admit(&mut self, now: UnixMs, out: &mut Vec<Action<P>>) {
        while self.has_room_for_due() {
            let Some((id, due_at)) = self.resting.take_due(now) else {
                return;
            };
            let forced = self.retried_all_at.is_some_and(|at| due_at <= at);
            self.slots.insert(id, Slot::Loading { forced });
            self.tally.loading += 1;
            out.push(Action::Load { id });
        }
    }
}

/// What an operator or routing asked for while jobs were open.
fn apply_wish(active: &mut Active, wish: Option<Wish>, release_min_at: UnixMs, now: UnixMs) {
    if active.message.is_final() {
        return;
    }
    match wish {
        Some(Wish::Hold { reason }) if active.message.hold.is_none() => {
            fate::hold(Arc::make_mut(&mut active.message), reason, None, now);
        }
        Some(Wish::Bounce(reply)) => {
            let message = Arc::make_mut(&mut active.message);
            message.hold = None;
            for position in fate::positions(message) {
                fate::reject(message, position, reply.clone(), now);
            }
        }
        _ => {
            let Some(hold) = active.hold.take() else {
                return;
            };
            let message = Arc::make_mut(&mut active.message);
            // A policy that holds until now would be asked again at once, and again.
            let release_at = hold.release_at.map(|at| at.max(release_min_at));
            fate::hold(message, hold.reason, release_at, now);
        }
    }
    active.dirty = true;
}

/// Gives up the recipients whose time is over; true if there were any. Held mail does
/// not age.
fn expire_over(message: &mut Arc<QueuedMessage>, now: UnixMs) -> bool {
    // The cheap test first: most mail is looked at long before its time.
    if message.hold.is_some() || !has_expiry_by(message, now) {
        return false;
    }
    let mut any = false;
    for position in fate::positions(message) {
        if fate::is_over(message, position, now) {
            fate::expire(Arc::make_mut(message), position, now);
            any = true;
        }
    }
    any
}

fn has_expiry_by(message: &QueuedMessage, now: UnixMs) -> bool {
    message.expires_at <= now
        || message
            .recipients
            .iter()
            .any(|recipient| recipient.expires_at.is_some())
}

fn pending_count(message: &QueuedMessage) -> u32 {
    let pending = message.recipients.iter();
    let count = pending.filter(|one| !one.state.is_final()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn attempts(message: &QueuedMessage, position: u32) -> Option<u32> {
    match message.recipients.get(position as usize)?.state {
        crate::RecipientState::Pending { attempts, .. } => Some(attempts),
        _ => None,
    }
}
