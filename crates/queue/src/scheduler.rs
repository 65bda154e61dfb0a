//! The scheduler: its state, and the turn every event takes.

mod advice;
mod attempts;
mod commands;
mod questions;
mod routing;
mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;

use smtp::QueueId;

use crate::destinations::Destinations;
use crate::fate::Backoff;
use crate::hash::IdMap;
use crate::job::Job;
use crate::random::SplitMix64;
use crate::resting::Resting;
use crate::{
    Action, Event, JobId, LimitsError, QueuedMessage, RetrySchedule, SchedulerLimits, UnixMs,
};
use commands::Wish;

/// Decides when what is done. See the [crate documentation](crate) for the states and
/// moves, [`Event`] and [`Action`] for the conversation.
#[derive(Debug)]
pub struct Scheduler<P> {
    limits: SchedulerLimits,
    schedule: RetrySchedule,
    random: SplitMix64,
    resting: Resting,
    /// Messages in memory; at most `limits.active_messages`.
    slots: IdMap<QueueId, Slot>,
    /// Commands that wait for their message to be loaded or to settle.
    wishes: IdMap<QueueId, Wish>,
    /// When an operator last wanted everything tried. Whatever rests since before that
    /// has a due time no later, so that this says it of all of them.
    retried_all_at: Option<UnixMs>,
    jobs: IdMap<JobId, Job<P>>,
    /// When jobs in ready queues expire.
    deadlines: BTreeSet<(UnixMs, JobId)>,
    destinations: Destinations,
    next_job: u64,
    next_attempt: u64,
    tally: Tally,
    /// Messages this turn has changed; empty between events.
    touched: Vec<QueueId>,
    /// Recipients given up by advice since the start.
    given_up: u64,
    /// Sets of annotations that were refused since the start.
    refused_annotations: u64,
}

/// Numbers kept as we go, so that nobody has to count.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    loading: usize,
    /// Slots taken by messages that came from `Event::Accepted`.
    fresh: usize,
    routing: usize,
    ready: usize,
    in_flight: usize,
    advised: usize,
}

/// A place in active memory.
#[derive(Debug)]
enum Slot {
    /// `Action::Load` is out.
    Loading {
        /// See [`Active::forced`].
        forced: bool,
    },
    Active(Active),
}

/// A message in memory.
#[derive(Debug)]
struct Active {
    message: Arc<QueuedMessage>,
    /// Its open jobs. Those of its recipients that have none wait for the next turn.
    jobs: Vec<JobId>,
    /// Came in while there was room; never rested.
    fresh: bool,
    /// Changed since it was last saved.
    dirty: bool,
    /// An operator wants it tried now: suspension does not stop it.
    forced: bool,
    /// The earliest time until which some of its recipients were parked in this turn.
    parked_until: Option<UnixMs>,
    /// What routing asked for, to begin when the jobs have ended.
    hold: Option<RoutedHold>,
    since: UnixMs,
}

/// A hold that routing asked for.
#[derive(Debug)]
struct RoutedHold {
    reason: String,
    release_at: Option<UnixMs>,
}

impl<P> Scheduler<P> {
    /// An empty scheduler. `seed` feeds the jitter and nothing else.
    ///
    /// # Errors
    /// The limits contradict themselves.
    pub fn new(
        limits: SchedulerLimits,
        schedule: RetrySchedule,
        seed: u64,
    ) -> Result<Self, LimitsError> {
        limits.check()?;
        Ok(Self {
            limits,
            schedule,
            random: SplitMix64::new(seed),
            resting: Resting::default(),
            slots: IdMap::default(),
            wishes: IdMap::default(),
            retried_all_at: None,
            jobs: IdMap::default(),
            deadlines: BTreeSet::new(),
            destinations: Destinations::default(),
            next_job: 1,
            next_attempt: 1,
            tally: Tally::default(),
            touched: Vec::new(),
            given_up: 0,
            refused_annotations: 0,
        })
    }

    /// Takes new limits and a new schedule. What is in memory beyond a smaller limit
    /// is finished; due times already given stay.
    ///
    /// # Errors
    /// The limits contradict themselves; nothing has changed then.
    pub fn configure(
        &mut self,
        limits: SchedulerLimits,
        schedule: RetrySchedule,
    ) -> Result<(), LimitsError> {
        limits.check()?;
        for destination in self.destinations.iter_mut() {
            destination.window.fit(&limits);
        }
        self.limits = limits;
        self.schedule = schedule;
        Ok(())
    }

    /// Takes one event, and appends what is to be done because of it to `out`.
    ///
    /// An answer to a job or load that is not open is ignored: nothing a driver says
    /// can make the scheduler lose a message.
    pub fn apply(&mut self, event: Event<P>, now: UnixMs, out: &mut Vec<Action<P>>) {
        match event {
            Event::Accepted(message) => self.accepted(message, now, out),
            Event::Recovered { id, due_at } => self.recovered(id, due_at),
            Event::Loaded(message) => self.loaded(message, now, out),
            Event::LoadFailed { id, retry } => self.load_failed(id, retry, now, out),
            Event::Routed { job, routes } => self.routed(job, routes, now, out),
            Event::Annotated { id, attributes } => {
                let mut is_kept = true;
                self.change(id, |message, backoff| {
                    is_kept = crate::fate::annotate(message, attributes, backoff.limits);
                });
                self.refused_annotations += u64::from(!is_kept);
            }
            Event::Attempted { job, outcome } => self.attempted(job, outcome, now, out),
            Event::Advised { job, advice } => self.advised(job, advice, now, out),
            Event::Command(command) => self.command(command, now, out),
            Event::Tick => {}
        }
        self.expire_waiting(now);
        self.conclude_touched(now, out);
        self.admit(now, out);
    }

    fn active(&self, id: QueueId) -> Option<&Active> {
        match self.slots.get(&id)? {
            Slot::Active(active) => Some(active),
            Slot::Loading { .. } => None,
        }
    }

    fn active_mut(&mut self, id: QueueId) -> Option<&mut Active> {
        match self.slots.get_mut(&id)? {
            Slot::Active(active) => Some(active),
            Slot::Loading { .. } => None,
        }
    }

    fn new_job_id(&mut self) -> JobId {
        let job = JobId(self.next_job);
        self.next_job += 1;
        job
    }

    /// Takes a job off its message. The message is looked at when the turn ends.
    fn close_job(&mut self, job: JobId, id: QueueId) {
        if let Some(active) = self.active_mut(id) {
            active.jobs.retain(|&open| open != job);
        }
        self.touched.push(id);
    }

    /// Changes an active message and notes that it has to be saved.
    fn change(&mut self, id: QueueId, change: impl FnOnce(&mut QueuedMessage, &mut Backoff<'_>)) {
        let Some(Slot::Active(active)) = self.slots.get_mut(&id) else {
            return;
        };
        let mut backoff = Backoff::new(&self.limits, &self.schedule, &mut self.random);
        change(Arc::make_mut(&mut active.message), &mut backoff);
        active.dirty = true;
    }
}
