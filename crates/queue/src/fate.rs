//! The moves a recipient can make, as functions on the message that holds it.
//!
//! A recipient that is final never moves again; every function here skips it.

use std::collections::BTreeMap;

use smtp::{Domain, Reply};

use crate::random::SplitMix64;
use crate::{
    Deferral, DeferralKind, Hold, LastDeferral, QueuedMessage, RecipientOutcome, RecipientState,
    RetrySchedule, SchedulerLimits, UnixMs,
};

/// Works out when deferred recipients are tried again. One for each job: recipients
/// that were deferred together come back together, in one transaction.
pub(crate) struct Backoff<'a> {
    pub(crate) limits: &'a SchedulerLimits,
    pub(crate) schedule: &'a RetrySchedule,
    pub(crate) random: &'a mut SplitMix64,
    last: Option<(u32, u64)>,
}

impl<'a> Backoff<'a> {
    pub(crate) const fn new(
        limits: &'a SchedulerLimits,
        schedule: &'a RetrySchedule,
        random: &'a mut SplitMix64,
    ) -> Self {
        Self {
            limits,
            schedule,
            random,
            last: None,
        }
    }

    fn pause_ms(&mut self, deferrals: u32, advice_ms: Option<u64>) -> u64 {
        if let Some(advice_ms) = advice_ms {
            let limits = self.limits;
            return advice_ms.clamp(limits.retry_after_min_ms, limits.retry_after_max_ms);
        }
        match self.last {
            Some((same, pause_ms)) if same == deferrals => pause_ms,
            _ => {
                let pause_ms = self.schedule.interval_ms(deferrals, self.random);
                self.last = Some((deferrals, pause_ms));
                pause_ms
            }
        }
    }
}

/// The state of a recipient that is still pending.
fn pending(message: &mut QueuedMessage, position: u32) -> Option<&mut RecipientState> {
    let state = &mut message.recipients.get_mut(position as usize)?.state;
    (!state.is_final()).then_some(state)
}

const fn attempts_of(state: &RecipientState) -> u32 {
    match state {
        RecipientState::Pending { attempts, .. } => *attempts,
        _ => 0,
    }
}

/// Notes what an attempt did for one recipient.
pub(crate) fn conclude(
    message: &mut QueuedMessage,
    position: u32,
    outcome: RecipientOutcome,
    host: Option<&str>,
    backoff: &mut Backoff<'_>,
    now: UnixMs,
) {
    let host = host.map(str::to_owned);
    let Some(state) = pending(message, position) else {
        return;
    };
    match outcome {
        RecipientOutcome::Delivered(reply) => {
            *state = RecipientState::Delivered {
                at: now,
                reply,
                host,
            };
        }
        RecipientOutcome::Failed(reply) => {
            let attempts = attempts_of(state).saturating_add(1);
            *state = RecipientState::Failed {
                at: now,
                reply,
                host,
                attempts,
                notified: false,
            };
        }
        RecipientOutcome::Deferred(deferral) => {
            defer(message, position, deferral, host, backoff, now);
        }
    }
}

/// Puts a recipient off by the schedule, or by the deferral's advice.
pub(crate) fn defer(
    message: &mut QueuedMessage,
    position: u32,
    deferral: Deferral,
    host: Option<String>,
    backoff: &mut Backoff<'_>,
    now: UnixMs,
) {
    let Some(RecipientState::Pending {
        attempts,
        local_deferrals,
        due_at,
        last,
    }) = pending(message, position)
    else {
        return;
    };
    let deferrals = match deferral.kind {
        DeferralKind::Remote => {
            *attempts = attempts.saturating_add(1);
            *local_deferrals = 0;
            *attempts
        }
        DeferralKind::Local => {
            *local_deferrals = local_deferrals.saturating_add(1);
            *local_deferrals
        }
    };
    *due_at = now.plus_ms(backoff.pause_ms(deferrals, deferral.retry_after_ms));
    *last = Some(LastDeferral::new(deferral, host, now));
}

/// Gives a recipient up by our own decision.
pub(crate) fn reject(message: &mut QueuedMessage, position: u32, reply: Reply, now: UnixMs) {
    let Some(state) = pending(message, position) else {
        return;
    };
    let attempts = attempts_of(state);
    *state = RecipientState::Failed {
        at: now,
        reply,
        host: None,
        attempts,
        notified: false,
    };
}

/// Sets and removes annotations, in order. False: with these changes the message's annotations
/// would grow beyond the limit, and all stay as they are.
#[must_use]
pub(crate) fn annotate(
    message: &mut QueuedMessage,
    attributes: Vec<(String, Option<String>)>,
    limits: &SchedulerLimits,
) -> bool {
    let mut all = message.attributes.clone();
    for (name, value) in attributes {
        all.retain(|(known, _)| *known != name);
        all.extend(value.map(|value| (name, value)));
    }
    let new_bytes = attributes_bytes(&all);
    let has_room =
        new_bytes <= limits.attributes_bytes || new_bytes <= attributes_bytes(&message.attributes);
    if has_room {
        message.attributes = all;
    }
    has_room
}

/// Octets of names and values.
fn attributes_bytes(attributes: &[(String, String)]) -> u64 {
    let sizes = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len());
    sizes.sum::<usize>() as u64
}

/// Drops a recipient.
pub(crate) fn discard(message: &mut QueuedMessage, position: u32, reason: String, now: UnixMs) {
    if let Some(state) = pending(message, position) {
        *state = RecipientState::Discarded { at: now, reason };
    }
}

/// Lets a recipient wait without counting anything.
pub(crate) fn park(message: &mut QueuedMessage, position: u32, until: UnixMs) {
    if let Some(RecipientState::Pending { due_at, .. }) = pending(message, position) {
        *due_at = until;
    }
}

/// Makes recipients due at `now` that would be later. True if any was.
pub(crate) fn hasten(
    message: &mut QueuedMessage,
    positions: impl Iterator<Item = u32>,
    now: UnixMs,
) {
    for position in positions {
        if let Some(RecipientState::Pending { due_at, .. }) = pending(message, position) {
            *due_at = now.min(*due_at);
        }
    }
}

/// True when the time of a pending recipient is over.
pub(crate) fn is_over(message: &QueuedMessage, position: u32, now: UnixMs) -> bool {
    message
        .expiry_of(position)
        .is_some_and(|expiry| expiry <= now)
}

/// Gives a recipient up because its time is over.
pub(crate) fn expire(message: &mut QueuedMessage, position: u32, now: UnixMs) {
    let Some(state) = pending(message, position) else {
        return;
    };
    if let RecipientState::Pending { attempts, last, .. } = state {
        let (attempts, last) = (*attempts, last.take());
        *state = RecipientState::Expired {
            at: now,
            last,
            attempts,
            notified: false,
        };
    }
}

/// Ends a hold. The time it took is added to the life of the message, so that what
/// is released is also tried.
pub(crate) fn release(message: &mut QueuedMessage, now: UnixMs) {
    let Some(hold) = message.hold.take() else {
        return;
    };
    let held_ms = now.since_ms(hold.held_at);
    message.released_at = Some(now);
    message.expires_at = message.expires_at.plus_ms(held_ms);
    for recipient in &mut message.recipients {
        recipient.expires_at = recipient.expires_at.map(|at| at.plus_ms(held_ms));
        if let RecipientState::Pending { due_at, .. } = &mut recipient.state {
            *due_at = now.min(*due_at);
        }
    }
}

/// Keeps a message aside from `now` on.
pub(crate) fn hold(
    message: &mut QueuedMessage,
    reason: String,
    release_at: Option<UnixMs>,
    now: UnixMs,
) {
    message.hold = Some(Hold {
        reason,
        held_at: now,
        release_at,
    });
}

/// All positions of a message's recipients.
pub(crate) fn positions(message: &QueuedMessage) -> std::ops::Range<u32> {
    0..u32::try_from(message.recipients.len()).unwrap_or(u32::MAX)
}

/// The recipients due at `now`, those of one domain together, in sets of at most
/// [`SchedulerLimits::recipients_per_job`].
pub(crate) fn due_groups(
    message: &QueuedMessage,
    limits: &SchedulerLimits,
    now: UnixMs,
) -> Vec<(Domain, Vec<u32>)> {
    let due = || {
        (0_u32..).zip(&message.recipients).filter(|(_, recipient)| {
            matches!(recipient.state, RecipientState::Pending { due_at, .. } if due_at <= now)
        })
    };
    let Some((_, first)) = due().next() else {
        return Vec::new();
    };
    let first = first.mailbox.domain();
    let mut groups = Vec::new();
    let mut add = |domain: &Domain, positions: &[u32]| {
        for set in positions.chunks(limits.recipients_per_job) {
            groups.push((domain.clone(), set.to_vec()));
        }
    };
    if due().all(|(_, recipient)| recipient.mailbox.domain() == first) {
        let positions: Vec<u32> = due().map(|(position, _)| position).collect();
        add(first, &positions);
        return groups;
    }
    let mut by_domain: BTreeMap<&Domain, Vec<u32>> = BTreeMap::new();
    for (position, recipient) in due() {
        by_domain
            .entry(recipient.mailbox.domain())
            .or_default()
            .push(position);
    }
    for (domain, positions) in by_domain {
        add(domain, &positions);
    }
    groups
}
