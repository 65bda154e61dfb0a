//! Expiry holds in every state.

use queue::{Event, QueuedMessage, RecipientState, Route, SchedulerLimits, UnixMs};

use crate::desk::{
    Desk, START, deferred, deferred_locally, deliver, id, message, outcome, small_limits,
    unreachable,
};

/// Expires one second after it came.
fn short(number: u64) -> QueuedMessage {
    let mut message = message(number, &["a@x.example"]);
    message.expires_at = START.plus_ms(1000);
    message
}

fn tried(mut message: QueuedMessage) -> QueuedMessage {
    for recipient in &mut message.recipients {
        let RecipientState::Pending { attempts, .. } = &mut recipient.state else {
            continue;
        };
        *attempts = 1;
    }
    message
}

#[test]
fn after_an_attempt_that_came_too_late() {
    let mut desk = Desk::new();
    desk.accept(short(1));
    desk.deliver_to("x");
    let job = desk.job();
    desk.now = START.plus_ms(1500);
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["notify 1 Expired [0]", "remove 1"]);
    let Some(queue::Action::Notify(notification)) = desk.last.first() else {
        panic!("no notice")
    };
    let RecipientState::Expired {
        last: Some(last),
        attempts: 1,
        ..
    } = &notification.message.recipients[0].state
    else {
        panic!("the last reply is kept")
    };
    assert_eq!(last.reply.text, "later");
}

#[test]
fn while_resting_at_once_and_not_at_the_next_retry() {
    let mut desk = Desk::new();
    let mut message = short(1);
    message.expires_at = START.plus_ms(700);
    desk.accept(message);
    desk.deliver_to("x");
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due +700", "rest 1 until +700"]);
    desk.tick_at(START.plus_ms(700));
    assert_eq!(desk.load(1), ["notify 1 Expired [0]", "remove 1"]);
}

#[test]
fn local_faults_alone_expire_too() {
    let mut desk = Desk::new();
    desk.accept(short(1));
    desk.deliver_to("x");
    let job = desk.job();
    desk.attempted(job, outcome(vec![deferred_locally()]));
    desk.tick_at(START.plus_ms(1000));
    assert_eq!(desk.load(1), ["notify 1 Expired [0]", "remove 1"]);
}

#[test]
fn what_never_had_its_turn_gets_one_after_its_time_but_not_long_after() {
    let mut desk = Desk::new();
    desk.now = START.plus_ms(1999);
    assert_eq!(desk.accept(short(1)), ["route 1 x.example [0] after 0"]);
    assert_eq!(desk.deliver_to("x"), ["attempt 1 x [0] by 7"]);
    let job = desk.job();
    assert_eq!(
        desk.attempted(job, outcome(vec![deferred()])),
        ["notify 1 Expired [0]", "remove 1"]
    );
    desk.now = START.plus_ms(2000);
    assert_eq!(desk.accept(short(2)), ["notify 2 Expired [0]", "remove 2"]);
}

#[test]
fn when_routing_took_too_long() {
    let mut desk = Desk::new();
    desk.accept(tried(short(1)));
    desk.now = START.plus_ms(1000);
    assert_eq!(desk.deliver_to("x"), ["notify 1 Expired [0]", "remove 1"]);
}

#[test]
fn in_a_ready_queue_that_does_not_move() {
    let mut desk = Desk::new();
    desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    desk.accept(tried(short(3)));
    assert_eq!(desk.deliver_to("x"), [""; 0]);
    assert_eq!(desk.scheduler.next_wake(), Some(START.plus_ms(1000)));
    let out = desk.tick_at(START.plus_ms(1000));
    assert_eq!(out, ["notify 3 Expired [0]", "remove 3"]);
    assert_eq!(desk.scheduler.counts(desk.now).ready, 0);
    assert_eq!(desk.scheduler.next_wake(), None);
}

#[test]
fn one_recipient_of_a_waiting_job_without_the_others() {
    let mut desk = Desk::new();
    let first = desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    let mut message = tried(message(3, &["a@x.example", "b@x.example"]));
    message.recipients[0].expires_at = Some(START.plus_ms(1000));
    desk.accept(message);
    assert_eq!(desk.deliver_to("x"), [""; 0]);
    assert_eq!(desk.tick_at(START.plus_ms(1000)), ["save 3 due +1000"]);
    assert!(matches!(
        desk.state(3, 0),
        RecipientState::Expired {
            notified: false,
            ..
        }
    ));
    let out = desk.attempted(first, outcome(vec![crate::desk::delivered()]));
    assert_eq!(out, ["remove 1", "attempt 3 x [1] by 7"]);
}

#[test]
fn behind_a_suspended_destination() {
    let mut desk = Desk::new();
    for number in 1..=2 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, unreachable(1));
    }
    desk.accept(short(3));
    let out = desk.deliver_to("x");
    assert_eq!(
        out,
        ["save 3 due +2000", "rest 3 until +2000"],
        "never tried: twice its time"
    );
    desk.now = START.plus_ms(2000);
    desk.apply(Event::Tick);
    assert_eq!(desk.load(3), ["notify 3 Expired [0]", "remove 3"]);
}

#[test]
fn a_route_may_shorten_the_time_and_never_lengthen_it() {
    let mut desk = Desk::new();
    desk.accept(tried(message(1, &["a@x.example"])));
    let job = desk.job();
    let route = Route {
        expires_at: Some(START.plus_ms(300)),
        ..deliver(&[0], "x")
    };
    desk.routed(job, vec![route]);
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due +300", "rest 1 until +300"]);

    let mut message = short(2);
    message.recipients[0].expires_at = Some(START.plus_ms(1_000_000));
    assert_eq!(tried(message).expiry_of(0), Some(START.plus_ms(1000)));
}

#[test]
fn when_its_turn_comes_too_late() {
    let limits = SchedulerLimits {
        initial_concurrency: 1,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    let first = desk.launch(1, "a@x.example", "x");
    desk.accept(tried(short(2)));
    desk.deliver_to("x");
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    // No tick in between: the same event that frees the window finds it expired.
    desk.now = UnixMs(START.get() + 1000);
    let out = desk.attempted(first, outcome(vec![crate::desk::delivered()]));
    assert_eq!(
        out,
        [
            "remove 1",
            "attempt 3 x [0] by 7",
            "notify 2 Expired [0]",
            "remove 2"
        ]
    );
    assert_eq!(desk.scheduler.message_state(id(2)), None);
}
