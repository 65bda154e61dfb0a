//! How long the scheduler takes for a message that is delivered at the first attempt:
//! `cargo run --release -p waypost-queue --example apply_cost`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement needs a clock and says what it found"
)]

use std::sync::Arc;
use std::time::Instant;

use queue::{
    Action, AttemptOutcome, AttemptRecord, Disposition, Event, History, Origin, QueuedMessage,
    QueuedRecipient, RecipientOutcome, RetrySchedule, Route, Scheduler, SchedulerLimits, UnixMs,
};
use smtp::{MailParameters, QueueId, RcptParameters, Reply, ReversePath};

const MESSAGES: u64 = 1_000_000;
const RESTING: u64 = 1_000_000;

fn message(id: u64, now: UnixMs) -> Result<Arc<QueuedMessage>, smtp::AddressError> {
    Ok(Arc::new(QueuedMessage {
        id: QueueId::new(id),
        received_at: now,
        expires_at: now.plus_ms(432_000_000),
        size_bytes: 4096,
        origin: Origin::default(),
        reverse_path: ReversePath::Mailbox("sender@home.example".parse()?),
        parameters: MailParameters::default(),
        recipients: vec![QueuedRecipient::new(
            "someone@away.example".parse()?,
            RcptParameters::default(),
            now,
        )],
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    }))
}

/// Nanoseconds for each message, on average, with the making of messages and answers
/// left out.
fn measure(scheduler: &mut Scheduler<u32>, first_id: u64) -> Result<u64, smtp::AddressError> {
    let now = UnixMs(1_700_000_000_000);
    let destination: Arc<str> = Arc::from("away.example");
    let mut out = Vec::new();
    let mut spent_ns = 0_u128;
    for number in 0..MESSAGES {
        let fresh = message(first_id + number, now)?;
        let mut timed = |event, out: &mut Vec<Action<u32>>| {
            let begun = Instant::now();
            scheduler.apply(event, now, out);
            spent_ns += begun.elapsed().as_nanos();
        };
        timed(Event::Accepted(fresh), &mut out);
        let Some(Action::Route {
            job, recipients, ..
        }) = out.pop()
        else {
            continue;
        };
        let deliver = Disposition::Deliver {
            destination: Arc::clone(&destination),
            plan: 0,
        };
        timed(
            Event::Routed {
                job,
                routes: vec![Route::new(recipients, deliver)],
            },
            &mut out,
        );
        let Some(Action::Attempt { job, .. }) = out.pop() else {
            continue;
        };
        let outcome = AttemptOutcome {
            recipients: vec![RecipientOutcome::Delivered(Reply::new(
                250,
                (2, 0, 0),
                "ok",
            ))],
            host: None,
            destination_failed: false,
            record: AttemptRecord::default(),
            awaits_advice: false,
        };
        timed(Event::Attempted { job, outcome }, &mut out);
        assert!(matches!(out.pop(), Some(Action::Remove { .. })));
    }
    Ok(u64::try_from(spent_ns).unwrap_or(u64::MAX) / MESSAGES)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = SchedulerLimits::default();
    let mut scheduler = Scheduler::new(limits, RetrySchedule::default(), 1)?;
    println!(
        "{} ns a message, three events each",
        measure(&mut scheduler, 1)?
    );

    let begun = Instant::now();
    let mut out = Vec::new();
    for id in 0..RESTING {
        let due_at = UnixMs(1_800_000_000_000 + id % 14_400_000);
        let id = QueueId::new((1 << 40) + id);
        scheduler.apply(
            Event::Recovered { id, due_at },
            UnixMs(1_700_000_000_000),
            &mut out,
        );
    }
    println!(
        "{RESTING} resting, taken in in {} ms",
        begun.elapsed().as_millis()
    );
    println!(
        "{} ns a message beside them",
        measure(&mut scheduler, 1 << 32)?
    );
    Ok(())
}
