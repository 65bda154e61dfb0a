//! Answers for metrics, the operator and the watchdog. Nothing here changes anything.

use std::sync::Arc;

use smtp::QueueId;

use super::{Scheduler, Slot};
use crate::job::JobStage;
use crate::view::MessageEntry;
use crate::{Counts, DestinationState, MessageState, QueuedMessage, UnixMs};

impl<P> Scheduler<P> {
    /// When [`Event::Tick`](crate::Event::Tick) has to come at the latest; `None`: no
    /// need before the next event.
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMs> {
        let expiry = self
            .deadlines
            .first()
            .map(|&(at, _)| at)
            .filter(|&at| at != UnixMs::NEVER);
        // Without room, the event that makes room is the one that loads.
        let due = self
            .resting
            .first_due_at()
            .filter(|_| self.has_room_for_due());
        match (expiry, due) {
            (Some(expiry), Some(due)) => Some(expiry.min(due)),
            (expiry, due) => expiry.or(due),
        }
    }

    /// How many recipients were given up by advice since the start. Advice that is not heeded
    /// gives up nobody.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many sets of annotations were refused since the start, for lack of room in their
    /// message.
    #[must_use]
    pub fn refused_annotations(&self) -> u64 {
        self.refused_annotations
    }

    /// How much there is of everything. Looks at every destination remembered.
    #[must_use]
    pub fn counts(&self, now: UnixMs) -> Counts {
        let suspended = self
            .destinations
            .iter()
            .filter(|destination| destination.window.suspended_until(now).is_some());
        let held = self.resting.held_count();
        Counts {
            resting: self.resting.len() - held,
            held,
            active: self.slots.len(),
            loading: self.tally.loading,
            routing: self.tally.routing,
            ready: self.tally.ready,
            in_flight: self.tally.in_flight,
            advised: self.tally.advised,
            destinations: self.destinations.len(),
            suspended: suspended.count(),
        }
    }

    /// When the first resting message is (or was) due. Long past: mail waits for room.
    #[must_use]
    pub fn oldest_due_at(&self) -> Option<UnixMs> {
        self.resting.first_due_at()
    }

    /// Since when the message that has been in memory the longest is there. Long past:
    /// somebody owes an answer, or a destination is slow. Looks at every active message.
    #[must_use]
    pub fn oldest_active_since(&self) -> Option<UnixMs> {
        let active = self.slots.values().filter_map(|slot| match slot {
            Slot::Active(active) => Some(active.since),
            Slot::Loading { .. } => None,
        });
        active.min()
    }

    /// Where a message is; `None`: not here.
    #[must_use]
    pub fn message_state(&self, id: QueueId) -> Option<MessageState> {
        match self.slots.get(&id) {
            Some(Slot::Loading { .. }) => Some(MessageState::Loading),
            Some(Slot::Active(active)) => {
                let (mut routing, mut ready, mut in_flight, mut advised) = (0, 0, 0, 0);
                for job in active.jobs.iter().filter_map(|job| self.jobs.get(job)) {
                    match job.stage {
                        JobStage::Routing => routing += 1,
                        JobStage::Ready { .. } => ready += 1,
                        JobStage::InFlight { .. } => in_flight += 1,
                        JobStage::Advised => advised += 1,
                    }
                }
                Some(MessageState::Active {
                    routing,
                    ready,
                    in_flight,
                    advised,
                })
            }
            None => self
                .resting
                .due_at(id)
                .map(|due_at| self.resting_state(id, due_at)),
        }
    }

    fn resting_state(&self, id: QueueId, due_at: UnixMs) -> MessageState {
        if self.resting.is_held(id) {
            let release_at = Some(due_at).filter(|&at| at != UnixMs::NEVER);
            return MessageState::Held { release_at };
        }
        MessageState::Resting { due_at }
    }

    /// The message, if it is in memory; others have to be read from the spool.
    #[must_use]
    pub fn message(&self, id: QueueId) -> Option<&Arc<QueuedMessage>> {
        self.active(id).map(|active| &active.message)
    }

    /// Every message: first those in memory in no order, then those that rest in the
    /// order they are due.
    pub fn messages(&self) -> impl Iterator<Item = MessageEntry> + '_ {
        let in_memory = self
            .slots
            .keys()
            .filter_map(|&id| self.message_state(id).map(|state| (id, state)));
        let resting = self
            .resting
            .iter()
            .map(|(id, due_at)| (id, self.resting_state(id, due_at)));
        in_memory.chain(resting)
    }

    /// Every destination that has work or is remembered.
    pub fn destinations(&self, now: UnixMs) -> impl Iterator<Item = DestinationState> + '_ {
        self.destinations
            .iter()
            .map(move |destination| DestinationState {
                name: Arc::clone(&destination.name),
                concurrency: destination.window.limit(),
                in_flight: destination.in_flight,
                ready: destination.ready.len(),
                failures: destination.window.failures(),
                suspended_until: destination.window.suspended_until(now),
            })
    }
}
