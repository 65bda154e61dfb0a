//! A desk to work the scheduler by hand: one event in, a short text of what came out.

use std::sync::Arc;

use queue::{
    Action, AttemptOutcome, AttemptRecord, Deferral, Disposition, Event, History, JobId,
    OperatorCommand, Origin, QueuedMessage, QueuedRecipient, RecipientOutcome, RecipientState,
    RetrySchedule, Route, Scheduler, SchedulerLimits, UnixMs,
};
use smtp::{MailParameters, QueueId, RcptParameters, Reply, ReversePath};

/// Where every test begins.
pub(crate) const START: UnixMs = UnixMs(1_700_000_000_000);
pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const DAY_MS: u64 = 86_400_000;

pub(crate) fn id(number: u64) -> QueueId {
    QueueId::new(number)
}

/// A message received at `at` that lives for five days.
pub(crate) fn message_at(number: u64, recipients: &[&str], at: UnixMs) -> QueuedMessage {
    let recipient = |text: &&str| {
        let mailbox = text.parse().expect("a test writes valid mailboxes");
        QueuedRecipient::new(mailbox, RcptParameters::default(), at)
    };
    QueuedMessage {
        id: id(number),
        received_at: at,
        expires_at: at.plus_ms(5 * DAY_MS),
        size_bytes: 4096,
        origin: Origin::default(),
        reverse_path: ReversePath::Mailbox("sender@home.example".parse().expect("valid")),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(recipient).collect(),
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    }
}

pub(crate) fn message(number: u64, recipients: &[&str]) -> QueuedMessage {
    message_at(number, recipients, START)
}

pub(crate) fn delivered() -> RecipientOutcome {
    RecipientOutcome::Delivered(Reply::new(250, (2, 0, 0), "taken"))
}

pub(crate) fn deferred() -> RecipientOutcome {
    RecipientOutcome::Deferred(Deferral::remote(Reply::new(451, (4, 2, 0), "later")))
}

pub(crate) fn deferred_locally() -> RecipientOutcome {
    RecipientOutcome::Deferred(Deferral::local(Reply::new(451, (4, 3, 0), "our fault")))
}

pub(crate) fn failed() -> RecipientOutcome {
    RecipientOutcome::Failed(Reply::new(550, (5, 1, 1), "nobody"))
}

pub(crate) fn outcome(recipients: Vec<RecipientOutcome>) -> AttemptOutcome {
    AttemptOutcome {
        recipients,
        host: Some("mx.test".to_owned()),
        destination_failed: false,
        record: AttemptRecord {
            stage: "data".to_owned(),
            ..AttemptRecord::default()
        },
        awaits_advice: false,
    }
}

pub(crate) fn unreachable(recipient_count: usize) -> AttemptOutcome {
    AttemptOutcome {
        destination_failed: true,
        ..outcome(vec![deferred(); recipient_count])
    }
}

/// One word for an action, for a test to compare.
fn word(action: &Action<u32>) -> String {
    match action {
        Action::Load { id } => format!("load {}", id.get()),
        Action::Route {
            message,
            domain,
            recipients,
            attempt,
            ..
        } => {
            format!(
                "route {} {domain} {recipients:?} after {attempt}",
                message.id.get()
            )
        }
        Action::Attempt {
            message,
            recipients,
            destination,
            plan,
            ..
        } => {
            format!(
                "attempt {} {destination} {recipients:?} by {plan}",
                message.id.get()
            )
        }
        Action::Save { message, due_at } if *due_at == UnixMs::NEVER => {
            format!("save {} due never", message.id.get())
        }
        Action::Save { message, due_at } => {
            format!("save {} due +{}", message.id.get(), due_at.since_ms(START))
        }
        Action::Rest { id, due_at } if *due_at == UnixMs::NEVER => {
            format!("rest {} until never", id.get())
        }
        Action::Rest { id, due_at } => {
            format!("rest {} until +{}", id.get(), due_at.since_ms(START))
        }
        Action::Ended {
            id,
            recipients,
            how,
        } => format!("{how:?} {recipients} of {}", id.get()),
        Action::Remove { id } => format!("remove {}", id.get()),
        Action::Notify(notification) => format!(
            "notify {} {:?} {:?}",
            notification.message.id.get(),
            notification.kind,
            notification.recipients
        ),
    }
}

/// Limits and a schedule without chance, small enough to be reached by hand.
pub(crate) fn small_limits() -> SchedulerLimits {
    SchedulerLimits {
        active_messages: 100,
        reserved_for_fresh: 0,
        reserved_for_due: 0,
        initial_concurrency: 2,
        max_concurrency: 4,
        failures_to_suspend: 2,
        ..SchedulerLimits::default()
    }
}

/// A scheduler, the time, what it said last and what it last saved of each message.
pub(crate) struct Desk {
    pub(crate) scheduler: Scheduler<u32>,
    pub(crate) now: UnixMs,
    pub(crate) last: Vec<Action<u32>>,
    disk: std::collections::BTreeMap<QueueId, Arc<QueuedMessage>>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(small_limits())
    }

    pub(crate) fn with(limits: SchedulerLimits) -> Self {
        let schedule = RetrySchedule::new(vec![1000, 2000, 4000], 0).expect("valid");
        let scheduler = Scheduler::new(limits, schedule, 1).expect("valid");
        Self {
            scheduler,
            now: START,
            last: Vec::new(),
            disk: Default::default(),
        }
    }

    /// Applies an event and returns the words of what is to be done.
    pub(crate) fn apply(&mut self, event: Event<u32>) -> Vec<String> {
        if let Event::Accepted(message) = &event {
            self.disk.insert(message.id, Arc::clone(message));
        }
        self.last.clear();
        self.scheduler.apply(event, self.now, &mut self.last);
        for action in &self.last {
            match action {
                Action::Save { message, .. } => {
                    self.disk.insert(message.id, Arc::clone(message));
                }
                Action::Remove { id } => {
                    self.disk.remove(id);
                }
                _ => {}
            }
        }
        self.last.iter().map(word).collect()
    }

    pub(crate) fn accept(&mut self, message: QueuedMessage) -> Vec<String> {
        self.apply(Event::Accepted(Arc::new(message)))
    }

    pub(crate) fn command(&mut self, command: OperatorCommand) -> Vec<String> {
        self.apply(Event::Command(command))
    }

    /// Lets time pass.
    pub(crate) fn tick_at(&mut self, now: UnixMs) -> Vec<String> {
        self.now = now;
        self.apply(Event::Tick)
    }

    /// Answers a load with what was saved last.
    pub(crate) fn load(&mut self, number: u64) -> Vec<String> {
        let message = Arc::clone(&self.disk[&id(number)]);
        self.apply(Event::Loaded(message))
    }

    /// The message as a restart would find it.
    pub(crate) fn on_disk(&self, number: u64) -> &QueuedMessage {
        &self.disk[&id(number)]
    }

    pub(crate) fn state(&self, number: u64, recipient: usize) -> &RecipientState {
        &self.on_disk(number).recipients[recipient].state
    }

    /// The jobs handed out by the last event, with their recipients.
    pub(crate) fn jobs(&self) -> Vec<(JobId, Vec<u32>)> {
        let job = |action: &Action<u32>| match action {
            Action::Route {
                job, recipients, ..
            }
            | Action::Attempt {
                job, recipients, ..
            } => Some((*job, recipients.clone())),
            _ => None,
        };
        self.last.iter().filter_map(job).collect()
    }

    /// The only job handed out by the last event.
    pub(crate) fn job(&self) -> JobId {
        let jobs = self.jobs();
        assert_eq!(jobs.len(), 1, "{:?}", self.last);
        jobs[0].0
    }

    pub(crate) fn routed(&mut self, job: JobId, routes: Vec<Route<u32>>) -> Vec<String> {
        self.apply(Event::Routed { job, routes })
    }

    /// Answers the only routing job of the last event: deliver all of it there.
    pub(crate) fn deliver_to(&mut self, destination: &str) -> Vec<String> {
        let [(job, recipients)] = &self.jobs()[..] else {
            panic!("{:?}", self.last)
        };
        let (job, recipients) = (*job, recipients.clone());
        self.routed(job, vec![deliver(&recipients, destination)])
    }

    pub(crate) fn attempted(&mut self, job: JobId, outcome: AttemptOutcome) -> Vec<String> {
        self.apply(Event::Attempted { job, outcome })
    }

    /// Accepts a message for one recipient and lets it reach its attempt.
    pub(crate) fn launch(&mut self, number: u64, recipient: &str, destination: &str) -> JobId {
        self.accept(message(number, &[recipient]));
        self.deliver_to(destination);
        self.job()
    }
}

pub(crate) fn deliver(recipients: &[u32], destination: &str) -> Route<u32> {
    let disposition = Disposition::Deliver {
        destination: Arc::from(destination),
        plan: 7,
    };
    Route::new(recipients.to_vec(), disposition)
}
