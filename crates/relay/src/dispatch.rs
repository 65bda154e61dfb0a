//! The single writer of queue state: events in, the scheduler's actions carried out.
//!
//! One task owns the scheduler. Whatever changes the queue (a new message, the end of an
//! attempt, an operator's command) comes through one channel, so nothing races a delivery.
//! This task never waits for anything but that channel and the time: everything slow runs in
//! tasks of its own and comes back as an event.

mod feedback;
mod save;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use queue::{
    Action, Event, JobId, Notification, OperatorCommand, QueuedMessage, Scheduler, UnixMs,
};
use smtp::QueueId;
use spool::{RecordId, SpoolError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::core::{Core, Snapshot};
use crate::routing;

/// Events taken from the channel at a time.
const BATCH: usize = 256;
/// Longest sleep: a clock that was set is noticed this soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Rest of a message whose bounce cannot be made.
const UNTOLD_REST_MS: u64 = 6 * 60 * 60 * 1000;
/// Messages read from the spool at a time.
const LOADS: usize = 16;

/// The plan as the scheduler carries it.
pub type Plan = Arc<routing::Itinerary>;

/// What the single writer is told.
#[derive(Debug)]
pub enum Input {
    /// A new message that is durable already.
    Accepted(Arc<QueuedMessage>),
    /// A routing job has its answer.
    Routed {
        /// The job.
        job: JobId,
        /// Its message.
        id: QueueId,
        /// One or more routes that cover its recipients.
        routes: Vec<queue::Route<Plan>>,
        /// What plugins want kept with the message; none: removed.
        attributes: routing::Attributes,
    },
    /// A delivery attempt has ended.
    Attempted {
        /// The job.
        job: JobId,
        /// How.
        outcome: queue::AttemptOutcome,
    },
    /// Plugins have been heard about a delivery attempt.
    Advised {
        /// The job.
        job: JobId,
        /// Its message.
        id: QueueId,
        /// What they advise.
        advice: Vec<queue::Advised<Plan>>,
        /// What they want kept with the message; none: removed.
        attributes: routing::Attributes,
    },
    /// A message was read from the spool, or was not.
    Loaded {
        /// Which.
        id: QueueId,
        /// What was read.
        result: Result<Arc<QueuedMessage>, LoadFailure>,
    },
    /// The end of a notification; the message may change on disk again.
    Notified {
        /// What it was about.
        id: QueueId,
        /// The bounce is durable; otherwise it cannot be made at all.
        told: bool,
    },
    /// An operator's command.
    Command(OperatorCommand),
    /// A question about the queue.
    Ask(Question),
    /// New limits and schedule.
    Reconfigure(Box<(queue::SchedulerLimits, queue::RetrySchedule)>),
}

/// Why a message could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFailure {
    /// The disk may answer later.
    Temporary,
    /// It is not there any more.
    Gone,
    /// It cannot be read, or not by this build. It stays where it is.
    Unreadable,
}

/// Questions that only the owner of the queue can answer.
#[derive(Debug)]
pub enum Question {
    /// Numbers for the metrics.
    Counts(oneshot::Sender<QueueNumbers>),
    /// What a message is doing.
    State(QueueId, oneshot::Sender<Option<queue::MessageState>>),
    /// The same, and how the destinations of these names are.
    Story(QueueId, Vec<String>, oneshot::Sender<StoryAnswer>),
}

/// What a message is doing, and how the destinations that were asked about are.
pub type StoryAnswer = (Option<queue::MessageState>, Vec<queue::DestinationState>);

/// What the metrics show of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueNumbers {
    /// By state.
    pub counts: queue::Counts,
    /// How long the most overdue message waits past its due time, in milliseconds.
    pub overdue_ms: u64,
    /// How long the oldest active message has been active, in milliseconds: a job that is
    /// never answered shows here.
    pub active_ms: u64,
    /// Messages found unreadable since the start; they stay in the spool.
    pub unreadable: u64,
}

/// The single writer.
pub struct Dispatch {
    core: Arc<Core>,
    scheduler: Scheduler<Plan>,
    input: mpsc::Receiver<Input>,
    tasks: TaskTracker,
    actions: Vec<Action<Plan>>,
    /// Taken at the first routing job of what one input brings, for all of them: the domains of
    /// one message are routed by the same plugins, whatever is reloaded meanwhile.
    snapshot: Option<Snapshot>,
    /// Actions of messages whose notification is not durable yet: they would forget the cause
    /// of a bounce that may still be lost.
    waiting: HashMap<QueueId, Waiting>,
    /// Reads from the spool at a time: after a restart a whole backlog may be due.
    loads: Arc<Semaphore>,
    unreadable: u64,
    /// Messages that an operator removes, whose recipients are still to be counted.
    uncounted: HashSet<QueueId>,
    /// The spool takes nothing any more: what is delivered now would be delivered again.
    spool_gone: bool,
    draining: bool,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Waiting {
    notifications: usize,
    /// One of them could not be stored and never will be.
    untold: bool,
    actions: Vec<Action<Plan>>,
}

impl Dispatch {
    /// The writer over `scheduler`; attempts and routing run in `tasks`.
    #[must_use]
    pub fn new(
        core: Arc<Core>,
        scheduler: Scheduler<Plan>,
        input: mpsc::Receiver<Input>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            core,
            scheduler,
            input,
            tasks,
            actions: Vec::new(),
            snapshot: None,
            waiting: HashMap::new(),
            loads: Arc::new(Semaphore::new(LOADS)),
            unreadable: 0,
            uncounted: HashSet::new(),
            spool_gone: false,
            draining: false,
        }
    }

    /// Fills the scheduler from the spool: the queue is as it was.
    pub fn recover(&mut self) -> u64 {
        let now = self.core.now();
        let mut count = 0;
        for record in self.core.spool.live() {
            let id = QueueId::new(record.id.0);
            let due_at = UnixMs(record.due_at_ms);
            self.scheduler
                .apply(Event::Recovered { id, due_at }, now, &mut self.actions);
            count += 1;
        }
        count
    }

    /// Runs until `stop`; then no new work starts, and it ends when the work under way has.
    pub async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        let mut inputs = Vec::with_capacity(BATCH);
        self.carry_out();
        loop {
            if self.draining && self.tasks.is_empty() && self.waiting.is_empty() {
                // Outcomes that were sent before the last task ended are still to be read.
                while let Ok(input) = self.input.try_recv() {
                    self.take(input);
                }
                self.carry_out();
                if self.tasks.is_empty() {
                    return;
                }
            }
            let sleep = tokio::time::sleep(self.time_to_wake());
            tokio::select! {
                () = stop.cancelled(), if !self.draining => {
                    self.draining = true;
                    self.tasks.close();
                }
                () = self.tasks.wait(), if self.draining => {}
                count = self.input.recv_many(&mut inputs, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for input in inputs.drain(..) {
                        self.take(input);
                    }
                }
                () = sleep => {}
            }
            self.tick();
            self.carry_out();
            if self.spool_gone {
                tracing::error!("the spool is closed; delivery ends");
                return;
            }
        }
    }

    fn time_to_wake(&self) -> Duration {
        let now = self.core.now();
        match self.scheduler.next_wake() {
            Some(at) => Duration::from_millis(at.since_ms(now)).min(LONGEST_SLEEP),
            None => LONGEST_SLEEP,
        }
    }

    fn tick(&mut self) {
        let now = self.core.now();
        if self.scheduler.next_wake().is_some_and(|at| at <= now) {
            self.scheduler.apply(Event::Tick, now, &mut self.actions);
        }
    }

    fn take(&mut self, input: Input) {
        let event = match input {
            Input::Accepted(message) => Event::Accepted(message),
            Input::Routed {
                job,
                id,
                routes,
                attributes,
            } => {
                work::report_routes(&self.core.meters, id, &routes);
                self.annotate(id, attributes);
                Event::Routed { job, routes }
            }
            Input::Attempted { job, outcome } => {
                work::count_failures(&self.core.meters, &outcome);
                Event::Attempted { job, outcome }
            }
            Input::Advised {
                job,
                id,
                advice,
                attributes,
            } => {
                work::report_advice(id, &advice);
                self.annotate(id, attributes);
                return self.advised(Event::Advised { job, advice });
            }
            Input::Loaded {
                result: Ok(message),
                ..
            } => Event::Loaded(message),
            Input::Loaded {
                id,
                result: Err(failure),
            } => {
                self.unreadable += u64::from(failure == LoadFailure::Unreadable);
                Event::LoadFailed {
                    id,
                    retry: failure == LoadFailure::Temporary,
                }
            }
            Input::Command(command) => {
                tracing::info!(?command, "operator's command");
                self.note_removal(&command);
                Event::Command(command)
            }
            Input::Notified { id, told } => return self.notified(id, told),
            Input::Ask(question) => return self.answer(question),
            Input::Reconfigure(new) => {
                let (limits, schedule) = *new;
                if let Err(error) = self.scheduler.configure(limits, schedule) {
                    tracing::error!(%error, "the queue keeps its old limits");
                }
                return;
            }
        };
        self.scheduler
            .apply(event, self.core.now(), &mut self.actions);
    }

    /// The scheduler decides whether advice is heeded: only then it gives anybody up.
    fn advised(&mut self, advised: Event<Plan>) {
        let before = self.scheduler.given_up();
        self.scheduler
            .apply(advised, self.core.now(), &mut self.actions);
        let given_up = self.scheduler.given_up() - before;
        self.core.meters.failed.increment(given_up);
    }

    /// Hands the scheduler what plugins want kept with the message. Each answer was measured,
    /// but jobs of one message do not see each other's.
    fn annotate(&mut self, id: QueueId, attributes: routing::Attributes) {
        if attributes.is_empty() {
            return;
        }
        let refused = self.scheduler.refused_annotations();
        let annotated = Event::Annotated { id, attributes };
        self.scheduler
            .apply(annotated, self.core.now(), &mut self.actions);
        if self.scheduler.refused_annotations() != refused {
            tracing::warn!(%id, "what plugins noted is not kept: with that the message would be above limits.attributes");
        }
    }

    /// The scheduler knows the recipients only of what is in memory.
    fn note_removal(&mut self, command: &OperatorCommand) {
        use queue::MessageState::{Held, Resting};
        if let OperatorCommand::Remove { id } = command
            && let Some(Resting { .. } | Held { .. }) = self.scheduler.message_state(*id)
        {
            self.uncounted.insert(*id);
        }
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Counts(reply) => {
                let now = self.core.now();
                let overdue_ms = self
                    .scheduler
                    .oldest_due_at()
                    .map_or(0, |due| now.since_ms(due));
                let numbers = QueueNumbers {
                    counts: self.scheduler.counts(now),
                    overdue_ms,
                    active_ms: self
                        .scheduler
                        .oldest_active_since()
                        .map_or(0, |at| now.since_ms(at)),
                    unreadable: self.unreadable,
                };
                // The metrics' side may have gone.
                let _ = reply.send(numbers);
            }
            Question::State(id, reply) => drop(reply.send(self.scheduler.message_state(id))),
            Question::Story(id, names, reply) => {
                let all = self.scheduler.destinations(self.core.now());
                let asked = all.filter(|one| names.iter().any(|name| **name == *one.name));
                drop(reply.send((self.scheduler.message_state(id), asked.collect())));
            }
        }
    }

    fn carry_out(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
        self.snapshot = None;
    }

    /// Carries an action out, or puts it behind a notification of the same message: a load
    /// would read what a save that waits has not written yet.
    fn perform(&mut self, action: Action<Plan>) {
        match action {
            Action::Notify(notification) => self.notify(notification),
            action => match self.waiting.get_mut(&id_of(&action)) {
                Some(waiting) => waiting.actions.push(action),
                None => self.start(action),
            },
        }
    }

    fn start(&mut self, action: Action<Plan>) {
        let core = || Arc::clone(&self.core);
        match action {
            Action::Load { .. } | Action::Route { .. } | Action::Attempt { .. }
                if self.draining => {}
            Action::Load { id } => {
                let loads = Arc::clone(&self.loads);
                self.tasks.spawn(work::load(core(), loads, id));
            }
            Action::Route {
                job,
                message,
                domain,
                recipients,
                attempt,
            } => {
                let about = (domain, recipients, attempt);
                let take = || Snapshot::take(&self.core);
                let snapshot = self.snapshot.get_or_insert_with(take).clone();
                let work = work::route(core(), snapshot, job, message, about);
                self.tasks.spawn(work);
            }
            Action::Attempt {
                job,
                message,
                recipients,
                plan,
                destination,
            } => {
                let about = (recipients, plan, destination);
                self.tasks.spawn(work::attempt(core(), job, message, about));
            }
            Action::Ended {
                id,
                recipients,
                how,
            } => work::report_end(&self.core.meters, id, recipients, how),
            Action::Remove { id } if self.uncounted.remove(&id) => {
                self.core.cache.remove(id);
                self.tasks.spawn(work::remove_counted(core(), id));
            }
            action => self.write(action),
        }
    }

    /// Changes on disk and in memory that wait for nothing.
    fn write(&mut self, action: Action<Plan>) {
        let (id, result) = match action {
            Action::Save { message, due_at } => {
                (message.id, save::save(&*self.core.spool, &message, due_at))
            }
            Action::Remove { id } => {
                self.core.cache.remove(id);
                (id, self.core.spool.remove(RecordId(id.get())))
            }
            Action::Rest { id, .. } => {
                self.core.cache.remove(id);
                return;
            }
            _ => return,
        };
        if let Err(error) = result {
            self.spool_gone |= error == SpoolError::Closed;
            tracing::error!(%id, %error, "the spool did not take a change; a restart may repeat a delivery");
        }
    }

    fn notify(&mut self, notification: Notification) {
        let id = notification.message.id;
        work::count_expired(&self.core.meters, &notification);
        // What has become of the recipients is on disk before the bounce is: a crash until then
        // may repeat the bounce, and no delivery.
        self.write(Action::Save {
            message: Arc::clone(&notification.message),
            due_at: self.core.now(),
        });
        self.waiting.entry(id).or_default().notifications += 1;
        self.tasks
            .spawn(work::notify(Arc::clone(&self.core), notification));
    }

    /// A notification has come to its end. When it was the last one, the message goes on: as
    /// the scheduler wanted, or, where the sender could not be told, as it is on disk, where the
    /// next load or the next start finds that the sender is still owed the news.
    fn notified(&mut self, id: QueueId, told: bool) {
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        waiting.notifications -= 1;
        waiting.untold |= !told;
        if waiting.notifications > 0 {
            return;
        }
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        let mut rested = false;
        for action in waiting.actions {
            rested |= matches!(action, Action::Rest { .. });
            match action {
                // Behind a rest it is an operator who wants it gone, told or not.
                Action::Remove { id } if waiting.untold && !rested => self.keep_untold(id),
                Action::Save { .. } if waiting.untold && !rested => {}
                action => self.perform(action),
            }
        }
    }

    /// A message that is over, but whose sender could not be told: it stays in the spool, where
    /// an operator can see and remove it, and is tried again much later.
    fn keep_untold(&mut self, id: QueueId) {
        self.core.cache.remove(id);
        let now = self.core.now();
        let due_at = now.plus_ms(UNTOLD_REST_MS);
        let event = Event::Recovered { id, due_at };
        self.scheduler.apply(event, now, &mut self.actions);
    }
}

fn id_of(action: &Action<Plan>) -> QueueId {
    match action {
        Action::Load { id }
        | Action::Rest { id, .. }
        | Action::Remove { id }
        | Action::Ended { id, .. } => *id,
        Action::Route { message, .. }
        | Action::Attempt { message, .. }
        | Action::Save { message, .. } => message.id,
        Action::Notify(notification) => notification.message.id,
    }
}
