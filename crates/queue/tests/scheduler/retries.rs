//! The retry schedule at work, and what counts as an attempt.

use queue::{Deferral, RecipientOutcome, RecipientState, UnixMs};
use smtp::Reply;

use crate::desk::{Desk, START, deferred, deferred_locally, message, outcome};

/// Tries message 1 again when it is due, with this outcome; the pause that follows.
fn try_again(desk: &mut Desk, result: RecipientOutcome) -> u64 {
    if let Some(wake) = desk.scheduler.next_wake() {
        desk.tick_at(wake);
        desk.load(1);
    }
    desk.deliver_to("x");
    let job = desk.job();
    desk.attempted(job, outcome(vec![result]));
    let due_at = desk.scheduler.next_wake().expect("it rests");
    due_at.since_ms(desk.now)
}

#[test]
fn each_deferral_takes_the_next_interval_and_is_persisted() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example"]));
    let pauses: Vec<u64> = (0..5).map(|_| try_again(&mut desk, deferred())).collect();
    assert_eq!(pauses, [1000, 2000, 4000, 4000, 4000]);
    let RecipientState::Pending {
        attempts: 5,
        last: Some(last),
        ..
    } = desk.state(1, 0)
    else {
        panic!("{:?}", desk.state(1, 0))
    };
    assert_eq!(last.reply.code, 451);
    assert_eq!(last.host.as_deref(), Some("mx.test"));
    assert_eq!(desk.on_disk(1).history.len(), 5);
}

#[test]
fn our_own_faults_back_off_by_themselves_and_count_no_attempt() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example"]));
    let pauses: Vec<u64> = (0..3)
        .map(|_| try_again(&mut desk, deferred_locally()))
        .collect();
    assert_eq!(pauses, [1000, 2000, 4000]);
    let state = desk.state(1, 0);
    assert!(matches!(
        state,
        RecipientState::Pending {
            attempts: 0,
            local_deferrals: 3,
            ..
        }
    ));
    assert_eq!(try_again(&mut desk, deferred()), 1000);
    let state = desk.state(1, 0);
    assert!(matches!(
        state,
        RecipientState::Pending {
            attempts: 1,
            local_deferrals: 0,
            ..
        }
    ));
    assert_eq!(try_again(&mut desk, deferred_locally()), 1000);
}

#[test]
fn advice_overrides_the_schedule_once_and_within_bounds() {
    let advice = |ms| {
        let reply = Reply::new(450, (4, 7, 1), "greylisted");
        RecipientOutcome::Deferred(Deferral {
            retry_after_ms: Some(ms),
            ..Deferral::remote(reply)
        })
    };
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example"]));
    assert_eq!(try_again(&mut desk, advice(777_000)), 777_000);
    assert_eq!(try_again(&mut desk, deferred()), 2000);
    assert_eq!(try_again(&mut desk, advice(0)), 1000);
    assert_eq!(try_again(&mut desk, advice(u64::MAX)), 86_400_000);
}

#[test]
fn what_was_deferred_together_comes_back_together() {
    let schedule = queue::RetrySchedule::new(vec![100_000], 50).expect("valid");
    let mut desk = Desk::new();
    desk.scheduler
        .configure(crate::desk::small_limits(), schedule)
        .expect("valid");
    desk.accept(message(1, &["a@x.example", "b@x.example", "c@x.example"]));
    desk.deliver_to("x");
    let job = desk.job();
    desk.attempted(job, outcome(vec![deferred(); 3]));
    let due: Vec<UnixMs> = (0..3)
        .map(|recipient| match desk.state(1, recipient) {
            RecipientState::Pending { due_at, .. } => *due_at,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(due.iter().all(|&at| at == due[0]), "{due:?}");
    assert_ne!(due[0], START.plus_ms(100_000), "jittered");
}
