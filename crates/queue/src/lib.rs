//! When mail goes: messages, recipients, retries and limits as one pure state machine.
//!
//! [`Scheduler::apply`] takes an [`Event`] and the time, and answers with [`Action`]s.
//! It asks no clock, draws chance from a seed, stores nothing and sends nothing: a
//! recorded list of events replays the queue exactly. There is one scheduler and one
//! thread that drives it; operator commands are events like all others, so they cannot
//! race a delivery.
//!
//! # States of a message
//!
//! | state | in memory | leaves it by |
//! |---|---|---|
//! | resting | id and due time | its time comes and there is room → loading; `Remove` → gone |
//! | held | id and release time | released, or a command → loading; `Remove` → gone |
//! | loading | id; a slot of [`SchedulerLimits::active_messages`] | `Loaded` → active; `LoadFailed` → resting, or gone |
//! | active | all metadata; a slot | its last job ends → resting, held, or gone |
//! | gone | nothing | |
//!
//! A new message ([`Event::Accepted`]) starts active where there is room, else resting,
//! or held. One found at start-up ([`Event::Recovered`]) starts resting. `gone` is
//! reached by [`Action::Remove`] alone, when every recipient is final or an operator
//! wants it, except that a message that could not be loaded for good is just forgotten.
//!
//! # States of a job
//!
//! An active message has one job for each set of recipients that go together.
//!
//! | state | what is out | leaves it by |
//! |---|---|---|
//! | routing | [`Action::Route`] | `Routed`: ends, and each `Deliver` opens a job of its own: in flight, ready, or parked at once |
//! | ready | nothing; it is in its destination's queue | its turn comes → in flight; its destination is suspended → parked; its recipients expire, or a command calls it back → ends |
//! | in flight | [`Action::Attempt`] | `Attempted`: ends; where a policy is to be heard about what it left pending → awaiting advice |
//! | awaiting advice | nothing; the outcome is noted and saved | `Advised`: ends, and what is to be tried at once opens jobs of its own |
//! | parked | nothing; the job has ended | its recipients wait for their new due time with their message, nothing counted |
//!
//! A message is saved when it comes to rest with something changed, and already when
//! one job of several has changed something: a crash repeats at most what was in
//! flight. Where the first attempt delivers everything there is no save at all, only
//! `Remove`.
//!
//! # Retries and expiry
//!
//! A deferral of kind [`Remote`](DeferralKind::Remote) counts as an attempt, one of kind
//! [`Local`](DeferralKind::Local) (DNS down, a plugin broken) does not; each count has
//! its own place in the [`RetrySchedule`], and a real try sets the local one back. Waiting
//! for a suspended destination or for room counts nothing.
//!
//! Expiry is looked at when a message is loaded, when a job is routed, while and when it
//! leaves a ready queue, and after each attempt; a resting message is due at its expiry
//! at the latest. What has been tried, or was kept from it by local faults, expires at its
//! time. What never had its turn is kept for as long again: see
//! [`QueuedMessage::expiry_of`]. An attempt under way is never cut off, and held mail
//! does not age.
//!
//! # Fairness
//!
//! A destination is the unit of concurrency. Its window, suspension and the bound of its
//! ready queue see to it that one that is slow or dead holds a bounded part of active
//! memory; mail beyond that rests, on disk, and comes back when the queue has moved.
//! Fresh mail and mail due again each have a part of active memory that the other cannot
//! take.

mod decision;
mod destinations;
mod event;
mod fate;
mod hash;
mod history;
mod job;
mod limits;
mod message;
pub mod notify;
mod random;
mod ready;
mod resting;
mod schedule;
mod scheduler;
mod time;
mod view;
mod window;

pub use decision::PolicyDecision;
pub use event::{
    Action, Advice, Advised, AttemptOutcome, Deferral, DeferralKind, Disposition, Event, JobId,
    OperatorCommand, OperatorEnd, RecipientOutcome, Route,
};
pub use history::{AttemptRecord, History};
pub use limits::{LimitsError, SchedulerLimits};
pub use message::{Hold, LastDeferral, Origin, QueuedMessage, QueuedRecipient, RecipientState};
pub use notify::{Notification, NotificationKind};
pub use schedule::{RetrySchedule, ScheduleError};
pub use scheduler::Scheduler;
pub use time::UnixMs;
pub use view::{Counts, DestinationState, MessageEntry, MessageState};
