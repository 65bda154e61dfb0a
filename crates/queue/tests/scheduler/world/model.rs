//! The model: what the world knows of every message, and what it holds the scheduler to.

mod advised;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use queue::{
    Action, Event, JobId, MessageState, Notification, OperatorCommand, QueuedMessage,
    RecipientState, RetrySchedule, Scheduler, SchedulerLimits, UnixMs,
};
use smtp::{QueueId, Reply, ReversePath};

use super::{Step, answers};
use crate::desk::{START, id, message_at};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Failed,
    Discarded,
}

/// What the world knows of a message that has not been removed.
#[derive(Debug)]
struct Known {
    fates: Vec<Option<Fate>>,
    notified: BTreeSet<u32>,
    expires_at: UnixMs,
    null_path: bool,
    bounced: bool,
    dropped: bool,
    /// A policy has advised to give these up; whether it was heeded is seen later.
    may_fail: BTreeSet<u32>,
}

/// A job that has been handed out and not been answered.
#[derive(Debug)]
struct Open {
    message: QueueId,
    recipients: Vec<u32>,
    /// Where to; `None`: being routed.
    destination: Option<Arc<str>>,
}

pub(crate) struct World {
    scheduler: Scheduler<u32>,
    now: UnixMs,
    next_id: u64,
    known: BTreeMap<QueueId, Known>,
    disk: BTreeMap<QueueId, (Arc<QueuedMessage>, UnixMs)>,
    loads: BTreeSet<QueueId>,
    jobs: BTreeMap<JobId, Open>,
    /// Jobs whose attempt is over and about which advice is awaited.
    advised: BTreeMap<JobId, Open>,
    used: BTreeSet<JobId>,
    retried: bool,
    record: Vec<(Event<u32>, UnixMs, Vec<Action<u32>>)>,
}

const LIFETIME_MS: u64 = 20_000;

fn limits() -> SchedulerLimits {
    SchedulerLimits {
        active_messages: 8,
        reserved_for_fresh: 2,
        reserved_for_due: 2,
        recipients_per_job: 2,
        jobs_per_message: 3,
        ready_per_destination: 2,
        overflow_rest_ms: 200,
        overflow_rest_max_ms: 2000,
        initial_concurrency: 1,
        max_concurrency: 3,
        failures_to_suspend: 2,
        suspend_ms: 1000,
        suspend_max_ms: 4000,
        idle_destinations: 2,
        destination_memory_ms: 10_000,
        retry_after_min_ms: 100,
        retry_after_max_ms: 5000,
        prompt_retries: 2,
        attributes_bytes: 64,
        load_retry_ms: 300,
    }
}

fn new_scheduler() -> Scheduler<u32> {
    let schedule = RetrySchedule::new(vec![500, 1500, 3000], 20).expect("valid");
    Scheduler::new(limits(), schedule, 42).expect("valid")
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            scheduler: new_scheduler(),
            now: START,
            next_id: 1,
            known: BTreeMap::new(),
            disk: BTreeMap::new(),
            loads: BTreeSet::new(),
            jobs: BTreeMap::new(),
            advised: BTreeMap::new(),
            used: BTreeSet::new(),
            retried: false,
            record: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, (kind, a, b): Step, crashes: bool) {
        match kind % 20 {
            0..=2 => self.accept(a, b),
            3..=5 => self.answer_load(a, b),
            6..=9 => self.answer_route(a, b),
            10..=14 => self.answer_attempt(a, b),
            15 => self.command(a, b),
            16 => self.answer_advice(a, b),
            17..=18 => {
                self.now = self.now.plus_ms(u64::from(a % 2500));
                self.apply(Event::Tick);
            }
            _ if crashes && a.is_multiple_of(4) => self.crash(),
            _ => self.stray(a),
        }
    }

    fn accept(&mut self, a: u16, b: u16) {
        const MAILBOXES: [&str; 6] = [
            "a@x.example",
            "b@x.example",
            "c@x.example",
            "d@y.example",
            "e@z.example",
            "f@y.example",
        ];
        let count = 1 + usize::from(a % 6);
        let mut message = message_at(self.next_id, &MAILBOXES[..count], self.now);
        self.next_id += 1;
        message.expires_at = self.now.plus_ms(LIFETIME_MS / (1 + u64::from(b % 3)));
        if b.is_multiple_of(7) {
            message.reverse_path = ReversePath::Null;
        }
        let known = Known {
            fates: vec![None; count],
            notified: BTreeSet::new(),
            expires_at: message.expires_at,
            null_path: message.reverse_path == ReversePath::Null,
            bounced: false,
            dropped: false,
            may_fail: BTreeSet::new(),
        };
        self.known.insert(message.id, known);
        let due_at = message.due_at().expect("it has a recipient");
        let message = Arc::new(message);
        self.disk.insert(message.id, (Arc::clone(&message), due_at));
        self.apply(Event::Accepted(message));
    }

    fn answer_load(&mut self, a: u16, b: u16) {
        let Some(&id) = pick(&self.loads, a) else {
            return;
        };
        self.loads.remove(&id);
        if b.is_multiple_of(9) {
            self.apply(Event::LoadFailed { id, retry: true });
        } else if b.is_multiple_of(31) {
            // Where an operator wants it removed, that still follows.
            if !self.known[&id].dropped {
                self.known.remove(&id);
                self.disk.remove(&id);
            }
            self.apply(Event::LoadFailed { id, retry: false });
        } else {
            let message = Arc::clone(&self.disk[&id].0);
            self.apply(Event::Loaded(message));
        }
    }

    fn open_job(&self, routing: bool, a: u16) -> Option<JobId> {
        let jobs: BTreeSet<JobId> = self
            .jobs
            .iter()
            .filter(|(_, open)| open.destination.is_none() == routing)
            .map(|(&job, _)| job)
            .collect();
        pick(&jobs, a).copied()
    }

    fn answer_route(&mut self, a: u16, b: u16) {
        let Some(job) = self.open_job(true, a) else {
            return;
        };
        let open = self.jobs.remove(&job).expect("just picked");
        let routes = answers::routes(&open.recipients, a, b, self.now);
        let known = self
            .known
            .get_mut(&open.message)
            .expect("jobs are of living messages");
        for route in &routes {
            if let Some(at) = route.expires_at {
                known.expires_at = known.expires_at.min(at);
            }
        }
        for (position, fate) in answers::fates_of_routes(&open.recipients, &routes) {
            known.fates[position as usize] = Some(fate);
        }
        self.apply(Event::Routed { job, routes });
    }

    fn answer_attempt(&mut self, a: u16, b: u16) {
        let Some(job) = self.open_job(false, a) else {
            return;
        };
        let open = self.jobs.remove(&job).expect("just picked");
        let mut outcome = answers::attempt(&open.recipients, a, b);
        outcome.awaits_advice = b % 4 == 3;
        let known = self
            .known
            .get_mut(&open.message)
            .expect("jobs are of living messages");
        for (position, fate) in answers::fates_of_attempt(&open.recipients, &outcome) {
            known.fates[position as usize] = Some(fate);
        }
        let fates = &known.fates;
        let mut waits = open.recipients.clone();
        waits.retain(|&position| fates[position as usize].is_none());
        if outcome.awaits_advice && !waits.is_empty() {
            let open = Open {
                recipients: waits,
                ..open
            };
            self.advised.insert(job, open);
        }
        self.apply(Event::Attempted { job, outcome });
    }

    fn command(&mut self, a: u16, b: u16) {
        let ids: BTreeSet<QueueId> = self.known.keys().copied().collect();
        let Some(&id) = pick(&ids, a) else { return };
        let known = self.known.get_mut(&id).expect("just picked");
        let command = match b % 16 {
            0..=1 => OperatorCommand::Hold {
                id,
                reason: "chance".to_owned(),
            },
            2..=6 => OperatorCommand::Release { id },
            7 => {
                known.dropped = true;
                OperatorCommand::Remove { id }
            }
            8 => {
                known.bounced = true;
                OperatorCommand::Bounce {
                    id,
                    reply: Reply::new(554, (5, 7, 1), "chance"),
                }
            }
            9..=10 => {
                self.retried = true;
                OperatorCommand::RetryNow { id }
            }
            11 => {
                self.retried = true;
                OperatorCommand::RetryAll
            }
            _ => return,
        };
        self.apply(Event::Command(command));
    }

    /// Everything in memory is lost; the disk is as last written.
    fn crash(&mut self) {
        self.replay();
        self.scheduler = new_scheduler();
        self.record.clear();
        self.loads.clear();
        self.jobs.clear();
        self.advised.clear();
        self.used.clear();
        for known in self.known.values_mut() {
            (known.bounced, known.dropped) = (false, false);
        }
        let found: Vec<(QueueId, UnixMs)> = self
            .disk
            .iter()
            .map(|(&id, &(_, due_at))| (id, due_at))
            .collect();
        let mut out = Vec::new();
        for (id, due_at) in found {
            let event = Event::Recovered { id, due_at };
            self.scheduler.apply(event.clone(), self.now, &mut out);
            self.record.push((event, self.now, out.clone()));
            out.drain(..).for_each(|action| self.observe(action));
        }
        self.check(&[]);
    }

    /// Answers that belong to nothing change nothing.
    fn stray(&mut self, a: u16) {
        let job = JobId(1_000_000 + u64::from(a));
        let before = self.scheduler.counts(self.now);
        let mut out = Vec::new();
        self.scheduler.apply(
            Event::Routed {
                job,
                routes: Vec::new(),
            },
            self.now,
            &mut out,
        );
        let outcome = answers::attempt(&[0], a, a);
        self.scheduler
            .apply(Event::Attempted { job, outcome }, self.now, &mut out);
        let advice = answers::advice(&[0], a, a);
        self.scheduler
            .apply(Event::Advised { job, advice }, self.now, &mut out);
        let nobody = id(1_000_000);
        self.scheduler.apply(
            Event::LoadFailed {
                id: nobody,
                retry: true,
            },
            self.now,
            &mut out,
        );
        assert_eq!(out, []);
        assert_eq!(self.scheduler.counts(self.now), before);
    }

    fn apply(&mut self, event: Event<u32>) {
        let mut out = Vec::new();
        self.scheduler.apply(event.clone(), self.now, &mut out);
        self.record.push((event, self.now, out.clone()));
        let started: Vec<Arc<str>> = out
            .iter()
            .filter_map(|action| match action {
                Action::Attempt { destination, .. } => Some(Arc::clone(destination)),
                _ => None,
            })
            .collect();
        for action in out {
            self.observe(action);
        }
        self.check(&started);
    }

    fn observe(&mut self, action: Action<u32>) {
        match action {
            Action::Load { id } => {
                assert!(self.known.contains_key(&id), "{id} is gone");
                assert!(self.loads.insert(id), "{id} is being loaded already");
                assert!(!self.has_jobs(id), "{id} is in memory");
            }
            Action::Route {
                job,
                message,
                domain,
                recipients,
                ..
            } => {
                for &position in &recipients {
                    let recipient = &message.recipients[position as usize];
                    assert_eq!(recipient.mailbox.domain(), &domain);
                }
                self.open(job, message.id, recipients, None);
            }
            Action::Attempt {
                job,
                message,
                recipients,
                destination,
                ..
            } => {
                self.open(job, message.id, recipients, Some(destination));
            }
            Action::Save { message, due_at } => {
                assert!(self.known.contains_key(&message.id));
                assert!(due_at >= self.now, "saved for the past");
                self.disk.insert(message.id, (message, due_at));
            }
            Action::Rest { id, .. } => {
                assert!(self.known.contains_key(&id));
                assert!(!self.has_jobs(id), "{id} has jobs");
            }
            Action::Ended { .. } => {}
            Action::Remove { id } => self.removed(id),
            Action::Notify(notification) => self.notified(&notification),
        }
    }

    fn open(
        &mut self,
        job: JobId,
        message: QueueId,
        recipients: Vec<u32>,
        destination: Option<Arc<str>>,
    ) {
        assert!(self.used.insert(job), "{job} was used before");
        assert!(!recipients.is_empty() && recipients.len() <= limits().recipients_per_job);
        let known = &self.known[&message];
        assert!(!known.dropped, "{message} is not wanted any more");
        for position in &recipients {
            assert_eq!(
                known.fates[*position as usize], None,
                "{message} {position} is final"
            );
            assert!(
                !known.notified.contains(position),
                "{message} {position} was given up"
            );
            let elsewhere =
                |open: &Open| open.message == message && open.recipients.contains(position);
            let mut all = self.jobs.values().chain(self.advised.values());
            assert!(!all.any(elsewhere), "{message} {position} is in two jobs");
        }
        self.jobs.insert(
            job,
            Open {
                message,
                recipients,
                destination,
            },
        );
    }

    fn removed(&mut self, id: QueueId) {
        let known = self.known.remove(&id).expect("removed once");
        self.disk.remove(&id);
        assert!(!self.has_jobs(id), "{id} has jobs");
        if known.dropped {
            return;
        }
        for (position, fate) in (0_u32..).zip(&known.fates) {
            let given_up = fate.is_none();
            let may_be_given_up =
                known.bounced || known.may_fail.contains(&position) || known.expires_at <= self.now;
            assert!(!given_up || may_be_given_up, "{id} {position} was lost");
            let owed = !known.null_path && (given_up || *fate == Some(Fate::Failed));
            assert_eq!(
                known.notified.contains(&position),
                owed,
                "{id} {position} {fate:?}"
            );
        }
    }

    fn notified(&mut self, notification: &Notification) {
        let message = &notification.message;
        let known = self
            .known
            .get_mut(&message.id)
            .expect("notified before it is removed");
        assert!(!known.null_path && !notification.recipients.is_empty());
        for &position in &notification.recipients {
            assert!(known.notified.insert(position), "told twice");
            let fate = known.fates[position as usize];
            match message.recipients[position as usize].state {
                RecipientState::Failed { .. } => {
                    let given_up = known.bounced || known.may_fail.contains(&position);
                    assert!(fate == Some(Fate::Failed) || (fate.is_none() && given_up));
                }
                RecipientState::Expired { .. } => {
                    assert!(fate.is_none() && known.expires_at <= self.now);
                }
                ref other => panic!("notified about {other:?}"),
            }
        }
    }

    fn check(&self, started: &[Arc<str>]) {
        let limits = limits();
        let counts = self.scheduler.counts(self.now);
        assert!(counts.active <= limits.active_messages);
        assert_eq!(counts.loading, self.loads.len());
        let routing = self
            .jobs
            .values()
            .filter(|open| open.destination.is_none())
            .count();
        assert_eq!(
            (counts.routing, counts.in_flight),
            (routing, self.jobs.len() - routing)
        );
        assert_eq!(counts.advised, self.advised.len());
        assert_eq!(
            counts.resting + counts.held + counts.active,
            self.known.len()
        );
        for id in self.known.keys() {
            assert!(self.scheduler.message_state(*id).is_some(), "{id} is lost");
        }
        if let Some(wake) = self.scheduler.next_wake() {
            assert!(wake > self.now, "it would spin");
        }
        let mut busy = 0;
        let mut ready = 0;
        for destination in self.scheduler.destinations(self.now) {
            let mine = |open: &&Open| open.destination.as_ref() == Some(&destination.name);
            let in_flight = self.jobs.values().filter(mine).count() as u32;
            assert_eq!(destination.in_flight, in_flight);
            assert!(in_flight <= limits.max_concurrency);
            // A window that has closed may be exceeded by what was under way before, but
            // nothing starts then.
            if started.contains(&destination.name) {
                assert!(in_flight <= destination.concurrency);
            }
            assert!(
                destination.ready == 0 || in_flight >= destination.concurrency,
                "jobs wait though there is room"
            );
            if destination.suspended_until.is_some() && !self.retried {
                assert_eq!(
                    destination.ready, 0,
                    "jobs wait for a suspended destination"
                );
            }
            busy += usize::from(destination.in_flight > 0 || destination.ready > 0);
            ready += destination.ready;
        }
        assert_eq!(counts.ready, ready);
        assert!(counts.destinations <= busy + limits.idle_destinations);
    }

    /// From here on everything works; all mail must be gone in the end.
    pub(crate) fn finish(&mut self) {
        for _ in 0..2_000 + 200 * self.known.len() {
            if self.known.is_empty() {
                let counts = self.scheduler.counts(self.now);
                let nothing = queue::Counts {
                    destinations: counts.destinations,
                    ..Default::default()
                };
                assert_eq!(
                    queue::Counts {
                        suspended: 0,
                        ..counts
                    },
                    nothing
                );
                return;
            }
            self.release_all();
            if let Some(&id) = self.loads.first() {
                self.loads.remove(&id);
                let message = Arc::clone(&self.disk[&id].0);
                self.apply(Event::Loaded(message));
            } else if self.open_job(true, 0).is_some() {
                self.answer_route(3, 6); // One route, deliver.
            } else if self.open_job(false, 0).is_some() {
                self.answer_attempt(3, 1); // Delivered.
            } else if !self.advised.is_empty() {
                self.answer_advice(0, 0); // As usual.
            } else {
                self.now = self.scheduler.next_wake().expect("mail waits for nothing");
                self.apply(Event::Tick);
            }
        }
        panic!("mail is left: {:?}", self.known);
    }

    fn release_all(&mut self) {
        let held: Vec<QueueId> = self
            .scheduler
            .messages()
            .filter(|(_, state)| matches!(state, MessageState::Held { release_at: None }))
            .map(|(id, _)| id)
            .collect();
        for id in held {
            self.apply(Event::Command(OperatorCommand::Release { id }));
        }
    }

    /// The same events give the same actions.
    pub(crate) fn replay(&self) {
        let mut scheduler = new_scheduler();
        for (event, now, expected) in &self.record {
            let mut out = Vec::new();
            scheduler.apply(event.clone(), *now, &mut out);
            assert_eq!(&out, expected);
        }
    }
}

fn pick<T: Ord>(from: &BTreeSet<T>, choice: u16) -> Option<&T> {
    from.iter().nth(usize::from(choice) % from.len().max(1))
}
