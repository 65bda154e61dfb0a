//! The destinations we have work for, and for a while those we had.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ready::ReadyQueue;
use crate::window::Window;
use crate::{SchedulerLimits, UnixMs};

/// Short name of an interned destination; valid while it has work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DestinationId(u32);

/// One destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) name: Arc<str>,
    pub(crate) window: Window,
    pub(crate) in_flight: u32,
    pub(crate) ready: ReadyQueue,
    /// How long the last job to leave the ready queue had waited, in milliseconds.
    pub(crate) recent_wait_ms: u64,
    idle_since: Option<UnixMs>,
    /// Used since the sweep passed.
    used: bool,
}

impl Destination {
    fn new(name: Arc<str>, limits: &SchedulerLimits) -> Self {
        Self {
            name,
            window: Window::new(limits),
            in_flight: 0,
            ready: ReadyQueue::default(),
            recent_wait_ms: 0,
            idle_since: None,
            used: true,
        }
    }

    /// Another attempt may start.
    pub(crate) const fn has_room(&self) -> bool {
        self.in_flight < self.window.limit()
    }

    fn has_work(&self) -> bool {
        self.in_flight > 0 || !self.ready.is_empty()
    }
}

/// All destinations, interned. Bounded by those with work plus
/// [`SchedulerLimits::idle_destinations`].
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    slots: Vec<Option<Destination>>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, DestinationId>,
    idle_count: usize,
    sweep: usize,
}

impl Destinations {
    /// The destination of this name, about to get work. [`Destinations::settle`]
    /// must follow, whether it got any or not.
    pub(crate) fn open(
        &mut self,
        name: &Arc<str>,
        limits: &SchedulerLimits,
        now: UnixMs,
    ) -> DestinationId {
        if let Some(&id) = self.by_name.get(name) {
            let destination = self.get_mut(id);
            destination.used = true;
            if let Some(since) = destination.idle_since.take() {
                if now.since_ms(since) > limits.destination_memory_ms {
                    destination.window = Window::new(limits);
                }
                self.idle_count -= 1;
            }
            return id;
        }
        let destination = Some(Destination::new(Arc::clone(name), limits));
        let id = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = destination;
            DestinationId(slot)
        } else {
            self.slots.push(destination);
            DestinationId(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 jobs"))
        };
        self.by_name.insert(Arc::clone(name), id);
        id
    }

    pub(crate) fn get_mut(&mut self, id: DestinationId) -> &mut Destination {
        self.slots[id.0 as usize]
            .as_mut()
            .expect("an id is held by jobs only, and work keeps it")
    }

    /// To be called when work may have gone: forgets the destination, or keeps what
    /// it has learnt as idle.
    pub(crate) fn settle(&mut self, id: DestinationId, limits: &SchedulerLimits, now: UnixMs) {
        let destination = self.get_mut(id);
        if destination.has_work() || destination.idle_since.is_some() {
            return;
        }
        if destination.window.is_pristine(limits) {
            self.forget(id);
            return;
        }
        destination.idle_since = Some(now);
        self.idle_count += 1;
        while self.idle_count > limits.idle_destinations {
            self.forget_one_idle();
        }
    }

    fn forget(&mut self, id: DestinationId) {
        let slot = self.slots[id.0 as usize].take();
        let destination = slot.expect("called with a living id");
        if destination.idle_since.is_some() {
            self.idle_count -= 1;
        }
        self.by_name.remove(&destination.name);
        self.free.push(id.0);
    }

    /// The clock algorithm: the first idle one not used since the sweep last passed.
    /// Terminates because some destination is idle and one pass clears its mark.
    fn forget_one_idle(&mut self) {
        loop {
            let slot = self.sweep;
            self.sweep = (self.sweep + 1) % self.slots.len();
            let Some(destination) = &mut self.slots[slot] else {
                continue;
            };
            if destination.idle_since.is_none() || std::mem::take(&mut destination.used) {
                continue;
            }
            self.forget(DestinationId(
                u32::try_from(slot).expect("slots are numbered by u32"),
            ));
            return;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.slots.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Destination> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn visit(destinations: &mut Destinations, name: &str, limits: &SchedulerLimits) {
        let id = destinations.open(&Arc::from(name), limits, NOW);
        destinations.get_mut(id).window.succeeded(limits);
        destinations.settle(id, limits, NOW);
    }

    #[test]
    fn what_has_learnt_nothing_is_forgotten_at_once() {
        let limits = SchedulerLimits::default();
        let mut destinations = Destinations::default();
        let id = destinations.open(&Arc::from("a"), &limits, NOW);
        destinations.settle(id, &limits, NOW);
        assert_eq!(destinations.len(), 0);
        visit(&mut destinations, "b", &limits);
        assert_eq!(destinations.len(), 1);
    }

    #[test]
    fn idle_ones_are_bounded_and_the_used_ones_stay() {
        let limits = SchedulerLimits {
            idle_destinations: 10,
            ..SchedulerLimits::default()
        };
        let mut destinations = Destinations::default();
        for number in 0..1000 {
            visit(&mut destinations, &format!("once-{number}"), &limits);
            visit(&mut destinations, "often", &limits);
            assert!(destinations.len() <= 10);
        }
        assert!(destinations.by_name.contains_key("often"));
        assert!(destinations.slots.len() <= 12);
    }

    #[test]
    fn those_with_work_are_never_forgotten() {
        let limits = SchedulerLimits {
            idle_destinations: 1,
            ..SchedulerLimits::default()
        };
        let mut destinations = Destinations::default();
        let busy = destinations.open(&Arc::from("busy"), &limits, NOW);
        destinations.get_mut(busy).in_flight = 1;
        for number in 0..100 {
            visit(&mut destinations, &format!("once-{number}"), &limits);
        }
        assert_eq!(destinations.len(), 2);
        assert_eq!(&*destinations.get_mut(busy).name, "busy");
    }

    #[test]
    fn after_a_long_silence_it_is_as_good_as_unknown() {
        let limits = SchedulerLimits::default();
        let mut destinations = Destinations::default();
        let name: Arc<str> = Arc::from("a");
        let id = destinations.open(&name, &limits, NOW);
        destinations.get_mut(id).window.failed(&limits, 0, 1, NOW);
        destinations.settle(id, &limits, NOW);
        let soon = NOW.plus_ms(limits.destination_memory_ms);
        let id = destinations.open(&name, &limits, soon);
        assert_eq!(destinations.get_mut(id).window.failures(), 1);
        destinations.settle(id, &limits, soon);
        let late = soon.plus_ms(limits.destination_memory_ms + 1);
        let id = destinations.open(&name, &limits, late);
        assert_eq!(destinations.get_mut(id).window.failures(), 0);
    }
}
