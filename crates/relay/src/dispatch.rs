//! The single writer of queue state: events in, the scheduler's actions carried out.
//!
//! One task owns the scheduler. Whatever changes the queue (a new message, the end of an
//! attempt, an operator's command) comes through one channel, so nothing races a delivery.
//! This task never waits for anything but that channel and the time: everything slow runs in
//! tasks of its own and comes back as an event.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mx::DeliveryPlan;
use queue::{
    Action, AttemptOutcome, AttemptRecord, Event, JobId, Notification, OperatorCommand,
    QueuedMessage, Scheduler, UnixMs,
};
use smtp::{Domain, QueueId};
use spool::{RecordId, SpoolError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::core::Core;
use crate::{bounce, egress, routing, store};

/// Events taken from the channel at a time.
const BATCH: usize = 256;
/// Longest sleep: the overdue gauge and parked jobs are looked at this often at least.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Pause before a bounce that could not be stored is tried again.
const BOUNCE_RETRY: Duration = Duration::from_secs(5);

/// The plan as the scheduler carries it.
pub type Plan = Arc<DeliveryPlan>;

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
    /// A message was read from the spool, or was not.
    Loaded {
        /// Which.
        id: QueueId,
        /// What was read.
        result: Result<Arc<QueuedMessage>, LoadFailure>,
    },
    /// What the sender was owed is durable; `id` may change on disk again.
    Notified(QueueId),
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
    /// It is not there, or it cannot be read by this build.
    Unreadable,
}

/// Questions that only the owner of the queue can answer.
#[derive(Debug)]
pub enum Question {
    /// Numbers for the metrics.
    Counts(oneshot::Sender<QueueNumbers>),
    /// What a message is doing.
    State(QueueId, oneshot::Sender<Option<queue::MessageState>>),
}

/// What the metrics show of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueNumbers {
    /// By state.
    pub counts: queue::Counts,
    /// How long the most overdue message waits past its due time, in milliseconds.
    pub overdue_ms: u64,
}

/// The single writer.
pub struct Dispatch {
    core: Arc<Core>,
    scheduler: Scheduler<Plan>,
    input: mpsc::Receiver<Input>,
    tasks: TaskTracker,
    actions: Vec<Action<Plan>>,
    /// Actions of messages whose notification is not durable yet: they would forget the cause
    /// of a bounce that may still be lost.
    waiting: HashMap<QueueId, Waiting>,
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
            waiting: HashMap::new(),
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
                if !attributes.is_empty() {
                    let annotated = Event::Annotated { id, attributes };
                    self.scheduler
                        .apply(annotated, self.core.now(), &mut self.actions);
                }
                Event::Routed { job, routes }
            }
            Input::Attempted { job, outcome } => Event::Attempted { job, outcome },
            Input::Loaded {
                result: Ok(message),
                ..
            } => Event::Loaded(message),
            Input::Loaded {
                id,
                result: Err(failure),
            } => Event::LoadFailed {
                id,
                retry: failure == LoadFailure::Temporary,
            },
            Input::Command(command) => Event::Command(command),
            Input::Notified(id) => return self.notified(id),
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
                };
                // The metrics' side may have gone.
                let _ = reply.send(numbers);
            }
            Question::State(id, reply) => drop(reply.send(self.scheduler.message_state(id))),
        }
    }

    fn carry_out(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action<Plan>) {
        match action {
            Action::Load { id } => self.load(id),
            Action::Route {
                job,
                message,
                domain,
                recipients,
                attempt,
            } => {
                if !self.draining {
                    self.tasks.spawn(route(
                        Arc::clone(&self.core),
                        job,
                        message,
                        (domain, recipients, attempt),
                    ));
                }
            }
            Action::Attempt {
                job,
                message,
                recipients,
                plan,
                destination,
            } => {
                if !self.draining {
                    self.tasks.spawn(attempt(
                        Arc::clone(&self.core),
                        job,
                        message,
                        (recipients, plan, destination),
                    ));
                }
            }
            Action::Notify(notification) => self.notify(notification),
            other => match self.waiting.get_mut(&id_of(&other)) {
                Some(waiting) => waiting.actions.push(other),
                None => self.write(other),
            },
        }
    }

    /// Changes on disk and in memory that wait for nothing.
    fn write(&self, action: Action<Plan>) {
        let (id, result) = match action {
            Action::Save { message, due_at } => {
                let id = message.id;
                match store::encode(&message) {
                    Ok(record) => (
                        id,
                        self.core.spool.update(RecordId(id.get()), due_at.0, record),
                    ),
                    Err(error) => {
                        tracing::error!(%id, %error, "cannot encode a message; the spool keeps its last state");
                        return;
                    }
                }
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
            tracing::error!(%id, %error, "the spool did not take a change; a restart may repeat a delivery");
        }
    }

    fn load(&self, id: QueueId) {
        if self.draining {
            return;
        }
        let core = Arc::clone(&self.core);
        self.tasks.spawn(async move {
            let spool = Arc::clone(&core.spool);
            let read = tokio::task::spawn_blocking(move || spool.read_meta(RecordId(id.get())));
            let stored = read.await.unwrap_or(Err(SpoolError::Closed));
            let result = match stored {
                Ok(stored) => store::decode(&stored.meta).map(Arc::new).map_err(|error| {
                    tracing::error!(%id, %error, "cannot read a message's record; it stays in the spool");
                    LoadFailure::Unreadable
                }),
                Err(error) if error.may_pass() || error == SpoolError::Closed => {
                    tracing::warn!(%id, %error, "cannot load a message now");
                    Err(LoadFailure::Temporary)
                }
                Err(SpoolError::NotFound(_)) => Err(LoadFailure::Unreadable),
                Err(error) => {
                    tracing::error!(%id, %error, "cannot load a message; it stays in the spool");
                    Err(LoadFailure::Unreadable)
                }
            };
            drop(core.dispatch.send(Input::Loaded { id, result }).await);
        });
    }

    fn notify(&mut self, notification: Notification) {
        let id = notification.message.id;
        bounce::count(&self.core.meters, &notification);
        self.waiting.entry(id).or_default().notifications += 1;
        let core = Arc::clone(&self.core);
        self.tasks.spawn(async move {
            while let Err(error) = bounce::store(&core, &notification).await {
                tracing::warn!(%id, %error, "cannot store a bounce; trying again");
                tokio::time::sleep(BOUNCE_RETRY).await;
            }
            drop(core.dispatch.send(Input::Notified(id)).await);
        });
    }

    fn notified(&mut self, id: QueueId) {
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        waiting.notifications -= 1;
        if waiting.notifications == 0 {
            let actions = self.waiting.remove(&id).map(|waiting| waiting.actions);
            for action in actions.unwrap_or_default() {
                self.write(action);
            }
        }
    }
}

/// Routes a job and answers it, whatever happens: a job without an answer would wait for ever.
async fn route(
    core: Arc<Core>,
    job: JobId,
    message: Arc<QueuedMessage>,
    (domain, recipients, attempt): (Domain, Vec<u32>, u32),
) {
    let id = message.id;
    let work = routing::route_job(&core, message, domain, recipients, attempt);
    let (routes, attributes) = AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!(%id, "routing panicked; the message waits");
            // Recipients that no route names are deferred as a local fault.
            (Vec::new(), Vec::new())
        });
    drop(
        core.dispatch
            .send(Input::Routed {
                job,
                id,
                routes,
                attributes,
            })
            .await,
    );
}

/// Makes a delivery attempt and answers its job, whatever happens.
async fn attempt(
    core: Arc<Core>,
    job: JobId,
    message: Arc<QueuedMessage>,
    (recipients, plan, destination): (Vec<u32>, Plan, Arc<str>),
) {
    let work = egress::attempt(&core, &message, &recipients, &destination, &plan);
    let outcome = AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!(id = %message.id, "a delivery panicked; the message waits");
            // Recipients without an outcome are deferred as a local fault.
            AttemptOutcome {
                recipients: Vec::new(),
                host: None,
                destination_failed: false,
                record: AttemptRecord::default(),
            }
        });
    drop(core.dispatch.send(Input::Attempted { job, outcome }).await);
}

fn id_of(action: &Action<Plan>) -> QueueId {
    match action {
        Action::Load { id } | Action::Rest { id, .. } | Action::Remove { id } => *id,
        Action::Route { message, .. }
        | Action::Attempt { message, .. }
        | Action::Save { message, .. } => message.id,
        Action::Notify(notification) => notification.message.id,
    }
}
