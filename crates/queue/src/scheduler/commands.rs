//! What operators ask for.

use std::sync::Arc;

use smtp::{QueueId, Reply};

use super::{Active, Scheduler, Slot};
use crate::job::JobStage;
use crate::{Action, OperatorCommand, UnixMs, fate};

/// A command that waits for its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Hold { reason: String },
    Release,
    Remove,
    Retry,
    Bounce(Reply),
}

impl<P> Scheduler<P> {
    pub(super) fn command(
        &mut self,
        command: OperatorCommand,
        now: UnixMs,
        out: &mut Vec<Action<P>>,
    ) {
        match command {
            OperatorCommand::Hold { id, reason } => self.wish(id, Wish::Hold { reason }, now, out),
            OperatorCommand::Release { id } => self.wish(id, Wish::Release, now, out),
            OperatorCommand::Remove { id } => self.wish(id, Wish::Remove, now, out),
            OperatorCommand::RetryNow { id } => self.wish(id, Wish::Retry, now, out),
            OperatorCommand::Bounce { id, reply } => self.wish(id, Wish::Bounce(reply), now, out),
            OperatorCommand::RetryAll => self.retry_all(now),
        }
    }

    fn wish(&mut self, id: QueueId, wish: Wish, now: UnixMs, out: &mut Vec<Action<P>>) {
        match self.slots.get(&id) {
            Some(Slot::Active(_)) => self.wish_of_active(id, wish, now),
            Some(Slot::Loading { .. }) => self.note_wish(id, wish),
            None if !self.resting.contains(id) => {}
            None if wish == Wish::Remove => {
                self.resting.remove(id);
                self.wishes.remove(&id);
                out.push(Action::Remove { id });
            }
            None if wish == Wish::Retry && self.resting.is_held(id) => {}
            None => {
                self.note_wish(id, wish);
                self.resting.hurry(id);
            }
        }
    }

    fn note_wish(&mut self, id: QueueId, wish: Wish) {
        if self.wishes.get(&id) != Some(&Wish::Remove) {
            self.wishes.insert(id, wish);
        }
    }

    fn wish_of_active(&mut self, id: QueueId, wish: Wish, now: UnixMs) {
        match wish {
            Wish::Retry => {
                if !self.wishes.contains_key(&id) {
                    self.hasten_idle(id, now);
                }
            }
            Wish::Release => {
                if matches!(self.wishes.get(&id), Some(Wish::Hold { .. })) {
                    self.wishes.remove(&id);
                }
                if let Some(active) = self.active_mut(id) {
                    active.hold = None;
                }
            }
            halting => {
                self.note_wish(id, halting);
                let jobs = self.active(id).map(|active| active.jobs.clone());
                for job in jobs.unwrap_or_default() {
                    self.recall(job, now);
                }
                self.touched.push(id);
            }
        }
    }

    /// Makes those recipients of an active message due that have no open job; those
    /// that have one are being tried anyway.
    fn hasten_idle(&mut self, id: QueueId, now: UnixMs) {
        let Some(Active { message, jobs, .. }) = self.active(id) else {
            return;
        };
        let mut busy = vec![false; message.recipients.len()];
        let open = jobs.iter().filter_map(|job| self.jobs.get(job));
        // Those about whom advice is awaited are tried no more than those that rest.
        for job in open.filter(|job| !matches!(job.stage, JobStage::Advised)) {
            for &position in &job.recipients {
                busy[position as usize] = true; // Jobs are made of the message's positions.
            }
        }
        let Some(active) = self.active_mut(id) else {
            return;
        };
        active.forced = true;
        let idle = fate::positions(&active.message).filter(|&at| !busy[at as usize]);
        fate::hasten(Arc::make_mut(&mut active.message), idle, now);
        // It will be loaded again for them, and must then find them due.
        active.dirty = true;
    }

    fn retry_all(&mut self, now: UnixMs) {
        for destination in self.destinations.iter_mut() {
            destination.window.resume();
        }
        self.resting.all_due(now);
        self.retried_all_at = Some(now);
        let mut in_memory: Vec<QueueId> = self.slots.keys().copied().collect();
        // Nothing may depend on the order of a hash map, or a replay would not be exact.
        in_memory.sort_unstable();
        for id in in_memory {
            match self.slots.get_mut(&id) {
                Some(Slot::Loading { forced }) => *forced = true,
                _ => self.wish_of_active(id, Wish::Retry, now),
            }
        }
    }
}
