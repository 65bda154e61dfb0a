//! What goes into the scheduler and what comes out.
//!
//! `P` is the delivery plan: made by whoever routes, handed to whoever delivers,
//! never looked at in between.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smtp::{Domain, QueueId, Reply};

use crate::notify::Notification;
use crate::{AttemptRecord, PolicyDecision, QueuedMessage, UnixMs};

/// One piece of work handed out by [`Action::Route`] or [`Action::Attempt`] and
/// answered once. Never reused within the life of a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // made, moved once and taken apart: a box would cost more
pub enum Event<P> {
    /// A new message; it is durable already. Routed at once where there is room,
    /// else it rests like any other. Ignored when its id is here already.
    Accepted(Arc<QueuedMessage>),
    /// At start-up, once for each message the spool holds.
    Recovered {
        /// Which message.
        id: QueueId,
        /// As last saved.
        due_at: UnixMs,
    },
    /// Answer to [`Action::Load`].
    Loaded(Arc<QueuedMessage>),
    /// The other answer to [`Action::Load`].
    LoadFailed {
        /// Which message.
        id: QueueId,
        /// True: may succeed later, so it rests for
        /// [`load_retry_ms`](crate::SchedulerLimits::load_retry_ms). False: it is
        /// not there (any more) or unreadable; the scheduler forgets it, and no
        /// action follows, except `Remove` where an operator has asked for that.
        retry: bool,
    },
    /// Answer to [`Action::Route`].
    Routed {
        /// The job of that action.
        job: JobId,
        /// Recipients of the job that no route names are deferred as a local
        /// fault; those named twice belong to the first.
        routes: Vec<Route<P>>,
    },
    /// A policy wants annotations kept with an active message; one that is not active
    /// is left as it is. They are stored with the message's next [`Action::Save`]: a
    /// message that is delivered at once needs none. All are refused, and
    /// [counted](crate::Scheduler::refused_annotations), where the message's annotations would
    /// grow beyond [`attributes_bytes`](crate::SchedulerLimits::attributes_bytes).
    Annotated {
        /// Which message.
        id: QueueId,
        /// Name and value; `None` removes. Later entries of a name win.
        attributes: Vec<(String, Option<String>)>,
    },
    /// Answer to [`Action::Attempt`].
    Attempted {
        /// The job of that action.
        job: JobId,
        /// How it went.
        outcome: AttemptOutcome,
    },
    /// What policies advise about recipients that an attempt has left pending; the other
    /// answer to an [`Action::Attempt`] whose outcome said that it
    /// [`awaits_advice`](AttemptOutcome::awaits_advice).
    Advised {
        /// The job of that action.
        job: JobId,
        /// Recipients that nobody advises about, or that are not pending, stay as the
        /// attempt has left them; those named twice belong to the first.
        advice: Vec<Advised<P>>,
    },
    /// An operator's wish.
    Command(OperatorCommand),
    /// Time has passed; see [`Scheduler::next_wake`](crate::Scheduler::next_wake).
    Tick,
}

/// What routing decided for some recipients of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Route<P> {
    /// Positions in the message's recipient list.
    pub recipients: Vec<u32>,
    /// These are given up at this time, if the message itself is not earlier.
    /// `None`: as it was.
    pub expires_at: Option<UnixMs>,
    /// What to do with them.
    pub disposition: Disposition<P>,
    /// Who decided that; kept with the message where it is not delivered now.
    pub decisions: Vec<PolicyDecision>,
}

impl<P> Route<P> {
    /// A route that leaves the expiry alone.
    #[must_use]
    pub const fn new(recipients: Vec<u32>, disposition: Disposition<P>) -> Self {
        Self {
            recipients,
            expires_at: None,
            disposition,
            decisions: Vec::new(),
        }
    }
}

/// What to do with the recipients of a [`Route`].
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition<P> {
    /// Deliver, all of them in one attempt.
    Deliver {
        /// The unit of concurrency and of suspension.
        destination: Arc<str>,
        /// For the attempt.
        plan: P,
    },
    /// Not now.
    Defer(Deferral),
    /// Never; the sender is told this.
    Reject(Reply),
    /// Drop without a word, by this reason.
    Discard(String),
    /// Keep the whole message aside. What is under way for other recipients is
    /// finished first.
    Hold {
        /// For the operator to read.
        reason: String,
        /// Goes on by itself then; `None`: when an operator says so.
        release_at: Option<UnixMs>,
    },
}

/// Not delivered this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// What the host said, or a reply of ours that stands for the fault.
    pub reply: Reply,
    /// Advice of a plugin or hop on when to try again, in milliseconds from now.
    /// Overrides the schedule this once, within
    /// [`retry_after_min_ms`](crate::SchedulerLimits::retry_after_min_ms) and
    /// [`retry_after_max_ms`](crate::SchedulerLimits::retry_after_max_ms).
    pub retry_after_ms: Option<u64>,
    /// Whose fault it was.
    pub kind: DeferralKind,
}

impl Deferral {
    /// A host was reached for and did not take the recipient.
    #[must_use]
    pub const fn remote(reply: Reply) -> Self {
        Self {
            reply,
            retry_after_ms: None,
            kind: DeferralKind::Remote,
        }
    }

    /// Our own fault: no host was reached for.
    #[must_use]
    pub const fn local(reply: Reply) -> Self {
        Self {
            reply,
            retry_after_ms: None,
            kind: DeferralKind::Local,
        }
    }
}

/// Whose fault a deferral was. Both back off by the schedule, each by its own
/// count, and both end in expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeferralKind {
    /// A real try: a host was dialled, or its name looked up to dial it. Counts as
    /// an attempt and sets the count of local deferrals back to 0.
    Remote,
    /// Our resolver, a plugin, our disk, a limit of ours: the other side has seen
    /// nothing. Does not count as an attempt.
    Local,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// One for each recipient of the job, in its order. Where there are fewer, the
    /// rest are deferred as a local fault; more are ignored.
    pub recipients: Vec<RecipientOutcome>,
    /// The host that gave the last word.
    pub host: Option<String>,
    /// The destination as a whole does not work: no host could be reached, or all
    /// turned the session away. Closes the concurrency window; a refusal of single
    /// recipients or of one message does not belong here.
    pub destination_failed: bool,
    /// For the message's history. Whom it is about is filled in.
    pub record: AttemptRecord,
    /// [`Event::Advised`] follows: the outcome is noted and saved, and recipients that are
    /// still pending keep the message in memory until then.
    pub awaits_advice: bool,
}

/// What a policy advises after an attempt about some of its recipients.
#[derive(Debug, Clone, PartialEq)]
pub struct Advised<P> {
    /// Positions in the message's recipient list.
    pub recipients: Vec<u32>,
    /// What.
    pub advice: Advice<P>,
    /// What policies said, in the order in which they were asked; kept with the attempt in the
    /// message's history.
    pub decisions: Vec<PolicyDecision>,
    /// Which of them the advice is from; `None`: nobody's.
    pub followed: Option<usize>,
}

/// What to do next about recipients that an attempt has left pending. Nothing here
/// outlives expiry, and an operator who wants the message tried, held, returned or
/// removed comes first.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice<P> {
    /// As it is: by the schedule.
    Usual,
    /// After this time, in milliseconds, within
    /// [`retry_after_min_ms`](crate::SchedulerLimits::retry_after_min_ms) and
    /// [`retry_after_max_ms`](crate::SchedulerLimits::retry_after_max_ms).
    RetryAfter(u64),
    /// At once, by this plan, as far as
    /// [`prompt_retries`](crate::SchedulerLimits::prompt_retries) allows.
    Retry {
        /// The unit of concurrency and of suspension.
        destination: Arc<str>,
        /// For the attempt.
        plan: P,
    },
    /// Routed again and tried at once, as far as
    /// [`prompt_retries`](crate::SchedulerLimits::prompt_retries) allows.
    Reroute,
    /// Never; the sender is told this.
    GiveUp(Reply),
    /// Keep the whole message aside, as [`Disposition::Hold`] does.
    Hold {
        /// For the operator to read.
        reason: String,
    },
}

/// How an attempt went for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// The host has taken responsibility.
    Delivered(Reply),
    /// To be tried again.
    Deferred(Deferral),
    /// Never to be tried again.
    Failed(Reply),
}

/// An operator's wish. Unknown ids are ignored; ask
/// [`message_state`](crate::Scheduler::message_state) first.
///
/// What has not been handed out yet (jobs in a ready queue) is called back at once.
/// What is under way is not torn down: the command takes effect when it ends. A
/// later command replaces an earlier one that still waits, except that nothing
/// replaces `Remove`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorCommand {
    /// Keep aside until released.
    Hold {
        /// Which message.
        id: QueueId,
        /// For whoever looks at the queue.
        reason: String,
    },
    /// End a hold; the message is due at once.
    Release {
        /// Which message.
        id: QueueId,
    },
    /// Drop without telling the sender.
    Remove {
        /// Which message.
        id: QueueId,
    },
    /// Make it due now, and try even a suspended destination. Held messages stay
    /// held.
    RetryNow {
        /// Which message.
        id: QueueId,
    },
    /// `RetryNow` for every message that is not held; ends every suspension.
    RetryAll,
    /// Give up all that is pending, and tell the sender.
    Bounce {
        /// Which message.
        id: QueueId,
        /// What the sender reads.
        reply: Reply,
    },
}

/// How an operator brings recipients to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorEnd {
    /// Returned to the sender.
    Bounced,
    /// Dropped.
    Removed,
}

/// Something to be done. Actions of one message must be carried out in their
/// order.
///
/// A driver that shuts down may drop `Load`, `Route` and `Attempt` that have not
/// begun; everything they stand for is on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<P> {
    /// Read a message's metadata; answer with [`Event::Loaded`] or
    /// [`Event::LoadFailed`].
    Load {
        /// Which message.
        id: QueueId,
    },
    /// Find out where these go; answer with [`Event::Routed`].
    Route {
        /// To be named in the answer.
        job: JobId,
        /// The message.
        message: Arc<QueuedMessage>,
        /// The domain of these recipients.
        domain: Domain,
        /// Positions in the message's recipient list.
        recipients: Vec<u32>,
        /// The largest number of attempts made for any of them; 0: none yet.
        attempt: u32,
    },
    /// Deliver; answer with [`Event::Attempted`].
    Attempt {
        /// To be named in the answer.
        job: JobId,
        /// The message.
        message: Arc<QueuedMessage>,
        /// Positions in the message's recipient list.
        recipients: Vec<u32>,
        /// As given by the route.
        destination: Arc<str>,
        /// As given by the route.
        plan: P,
    },
    /// Write the metadata.
    Save {
        /// The message as it is now.
        message: Arc<QueuedMessage>,
        /// When a restart would have to look at it. Never before now.
        due_at: UnixMs,
    },
    /// The message has left the scheduler's memory and rests: whatever the driver
    /// keeps for it (a body) can go. It will be loaded when due.
    Rest {
        /// Which message.
        id: QueueId,
        /// When it is due; differs from the saved time where it waits only for
        /// room or for a suspended destination.
        due_at: UnixMs,
    },
    /// An operator has brought recipients that were pending to an end: for whoever counts.
    /// The `Notify`, `Save` or `Remove` that carries it out follows. Not given where a message
    /// is removed that is not in memory: nobody here knows its recipients.
    Ended {
        /// Which message.
        id: QueueId,
        /// How many.
        recipients: u32,
        /// In what way.
        how: OperatorEnd,
    },
    /// The message is done with; forget it.
    Remove {
        /// Which message.
        id: QueueId,
    },
    /// Tell the sender. Comes before the `Save` or `Remove` of the same message,
    /// which must not be carried out when the notification could not be stored:
    /// the message is then found un-notified after a restart.
    Notify(Notification),
}
