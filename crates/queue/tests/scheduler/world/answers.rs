//! What routing and hosts of the random world say, chosen by a number.

use std::sync::Arc;

use queue::{
    Advice, Advised, AttemptOutcome, Deferral, Disposition, PolicyDecision, RecipientOutcome,
    Route, UnixMs,
};
use smtp::Reply;

use super::model::Fate;
use crate::desk::{deferred, deferred_locally, delivered, failed, outcome};

fn reply() -> Reply {
    Reply::new(451, (4, 4, 3), "chance")
}

fn deliver(choice: u16) -> Disposition<u32> {
    Disposition::Deliver {
        destination: Arc::from(format!("d{}", choice % 5)),
        plan: 0,
    }
}

fn disposition(choice: u16, now: UnixMs) -> Disposition<u32> {
    match choice % 11 {
        0 => Disposition::Defer(Deferral::local(reply())),
        1 => Disposition::Defer(Deferral {
            retry_after_ms: Some(u64::from(choice)),
            ..Deferral::remote(reply())
        }),
        2 => Disposition::Reject(Reply::new(550, (5, 1, 2), "chance")),
        3 => Disposition::Discard("chance".to_owned()),
        4 => Disposition::Hold {
            reason: "chance".to_owned(),
            release_at: (!choice.is_multiple_of(3)).then(|| now.plus_ms(u64::from(choice % 4000))),
        },
        _ => deliver(choice),
    }
}

/// Routes for the recipients of a job: all in one, or split with one left out and one
/// named twice, or with positions nobody asked about.
pub(crate) fn routes(recipients: &[u32], choice: u16, other: u16, now: UnixMs) -> Vec<Route<u32>> {
    let expires_at = other
        .is_multiple_of(17)
        .then(|| now.plus_ms(u64::from(other % 3000)));
    match choice % 5 {
        0 => {
            let (left, right) = recipients.split_at(recipients.len() / 2);
            let mut left = left.to_vec();
            left.push(4_000_000);
            let mut right = right.to_vec();
            right.extend(recipients.first());
            vec![
                Route::new(left, disposition(choice / 5, now)),
                Route {
                    expires_at,
                    ..Route::new(right, disposition(other, now))
                },
            ]
        }
        1 => {
            let some = recipients.iter().skip(1).copied().collect();
            vec![Route::new(some, disposition(other, now))]
        }
        2 if other.is_multiple_of(4) => Vec::new(),
        _ => vec![Route {
            expires_at,
            ..Route::new(recipients.to_vec(), disposition(other, now))
        }],
    }
}

/// What those routes decide at once.
pub(crate) fn fates_of_routes(recipients: &[u32], routes: &[Route<u32>]) -> Vec<(u32, Fate)> {
    let mut fates = Vec::new();
    let mut claimed: Vec<u32> = Vec::new();
    for route in routes {
        for &position in &route.recipients {
            if !recipients.contains(&position) || claimed.contains(&position) {
                continue;
            }
            claimed.push(position);
            match route.disposition {
                Disposition::Reject(_) => fates.push((position, Fate::Failed)),
                Disposition::Discard(_) => fates.push((position, Fate::Discarded)),
                _ => {}
            }
        }
    }
    fates
}

/// How an attempt went: well, badly, mixed, or with answers missing.
pub(crate) fn attempt(recipients: &[u32], choice: u16, other: u16) -> AttemptOutcome {
    let one = |number: u16| match number % 8 {
        0 => deferred(),
        1 => failed(),
        2 => deferred_locally(),
        _ => delivered(),
    };
    let count = recipients.len();
    match choice % 6 {
        0 => AttemptOutcome {
            destination_failed: true,
            ..outcome(vec![deferred(); count])
        },
        1 => outcome(
            (0..count as u16)
                .map(|at| one(other.wrapping_add(at)))
                .collect(),
        ),
        2 if other.is_multiple_of(5) => outcome(vec![delivered(); count / 2]),
        _ => outcome(vec![delivered(); count]),
    }
}

/// What that outcome decides.
pub(crate) fn fates_of_attempt(recipients: &[u32], outcome: &AttemptOutcome) -> Vec<(u32, Fate)> {
    let pairs = recipients.iter().zip(&outcome.recipients);
    let fate = |(&position, outcome): (&u32, &RecipientOutcome)| match outcome {
        RecipientOutcome::Delivered(_) => Some((position, Fate::Delivered)),
        RecipientOutcome::Failed(_) => Some((position, Fate::Failed)),
        RecipientOutcome::Deferred(_) => None,
    };
    pairs.filter_map(fate).collect()
}

/// What policies advise about the recipients of a job: about all of them, or about some, with
/// one named twice and positions nobody asked about.
pub(crate) fn advice(recipients: &[u32], choice: u16, other: u16) -> Vec<Advised<u32>> {
    let one = |recipients: Vec<u32>, number: u16| Advised {
        recipients,
        advice: match number % 8 {
            1 => Advice::RetryAfter(u64::from(choice) * 100),
            2 | 3 => Advice::Retry {
                destination: Arc::from(format!("d{}", choice % 5)),
                plan: 1,
            },
            4 | 5 => Advice::Reroute,
            6 => Advice::GiveUp(Reply::new(550, (5, 4, 7), "chance")),
            7 => Advice::Hold {
                reason: "chance".to_owned(),
            },
            _ => Advice::Usual,
        },
        decisions: vec![PolicyDecision::default()],
        followed: Some(0),
    };
    match choice % 3 {
        0 => vec![one(recipients.to_vec(), other)],
        1 => {
            let mut first = vec![4_000_000];
            first.extend(recipients.first());
            vec![one(first, other), one(recipients.to_vec(), other / 8)]
        }
        _ => Vec::new(),
    }
}
