//! Operator commands, in every state a message can be in; holds.

use queue::{Disposition, Event, MessageState, OperatorCommand, RecipientState, Route, UnixMs};
use smtp::Reply;

use crate::desk::{
    DAY_MS, Desk, MINUTE_MS, START, deferred, delivered, failed, id, message, outcome, unreachable,
};

fn hold(number: u64) -> OperatorCommand {
    OperatorCommand::Hold {
        id: id(number),
        reason: "look at it".to_owned(),
    }
}

fn bounce(number: u64) -> OperatorCommand {
    let reply = Reply::new(554, (5, 7, 1), "not wanted");
    OperatorCommand::Bounce {
        id: id(number),
        reply,
    }
}

/// Message 1 rests until +1000 after one attempt.
fn resting() -> Desk {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x");
    desk.attempted(job, outcome(vec![deferred()]));
    desk
}

#[test]
fn a_resting_message_is_held_and_released() {
    let mut desk = resting();
    assert_eq!(desk.command(hold(1)), ["load 1"]);
    assert_eq!(desk.load(1), ["save 1 due never", "rest 1 until never"]);
    assert_eq!(
        desk.scheduler.message_state(id(1)),
        Some(MessageState::Held { release_at: None })
    );
    assert_eq!(desk.scheduler.next_wake(), None);
    assert_eq!(
        desk.tick_at(START.plus_ms(30 * DAY_MS)),
        [""; 0],
        "held mail does not age"
    );
    assert_eq!(
        desk.command(OperatorCommand::RetryNow { id: id(1) }),
        [""; 0]
    );
    assert_eq!(desk.command(OperatorCommand::RetryAll), [""; 0]);
    assert_eq!(
        desk.command(OperatorCommand::Release { id: id(1) }),
        ["load 1"]
    );
    let due = format!("save 1 due +{}", 30 * DAY_MS);
    assert_eq!(
        desk.load(1),
        ["route 1 x.example [0] after 1".to_owned(), due]
    );
    assert_eq!(desk.on_disk(1).hold, None);
    assert_eq!(desk.on_disk(1).released_at, Some(desk.now));
    assert_eq!(desk.on_disk(1).expires_at, START.plus_ms(35 * DAY_MS));
}

#[test]
fn a_resting_message_is_removed_without_being_read() {
    let mut desk = resting();
    assert_eq!(
        desk.command(OperatorCommand::Remove { id: id(1) }),
        ["remove 1"]
    );
    assert_eq!(desk.scheduler.message_state(id(1)), None);
    assert_eq!(desk.tick_at(START.plus_ms(DAY_MS)), [""; 0]);
}

#[test]
fn a_resting_message_is_bounced() {
    let mut desk = resting();
    assert_eq!(desk.command(bounce(1)), ["load 1"]);
    assert_eq!(
        desk.load(1),
        ["Bounced 1 of 1", "notify 1 Failure [0]", "remove 1"]
    );
}

#[test]
fn a_held_message_is_bounced() {
    let mut desk = resting();
    desk.command(hold(1));
    desk.load(1);
    assert_eq!(desk.command(bounce(1)), ["load 1"]);
    assert_eq!(
        desk.load(1),
        ["Bounced 1 of 1", "notify 1 Failure [0]", "remove 1"]
    );
}

#[test]
fn retry_now_does_not_wait_for_the_schedule() {
    let mut desk = resting();
    assert_eq!(
        desk.command(OperatorCommand::RetryNow { id: id(1) }),
        ["load 1"]
    );
    assert_eq!(desk.load(1), ["route 1 x.example [0] after 1"]);
}

#[test]
fn retry_now_probes_a_suspended_destination() {
    let mut desk = Desk::new();
    for number in 1..=2 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, unreachable(1));
    }
    for number in 1..=2 {
        assert_eq!(
            desk.command(OperatorCommand::RetryNow { id: id(number) })
                .len(),
            1
        );
        desk.load(number);
        desk.deliver_to("x");
    }
    let counts = desk.scheduler.counts(START);
    assert_eq!((counts.in_flight, counts.ready), (1, 1), "one at a time");
}

#[test]
fn retry_all_takes_everything_that_is_not_held() {
    let mut desk = Desk::new();
    for number in 1..=2 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, unreachable(1));
    }
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    desk.command(hold(2));
    desk.load(2);
    assert_eq!(
        desk.command(OperatorCommand::RetryAll),
        ["load 1", "load 3"]
    );
    assert_eq!(desk.load(1), ["route 1 x.example [0] after 1"]);
    assert_eq!(
        desk.deliver_to("x"),
        ["attempt 1 x [0] by 7"],
        "no longer suspended"
    );
    assert_eq!(
        desk.load(3),
        ["route 3 x.example [0] after 0"],
        "it was parked, not tried"
    );
}

#[test]
fn retry_now_reaches_the_idle_recipients_of_a_message_under_way() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let jobs = desk.jobs();
    desk.routed(jobs[0].0, vec![crate::desk::deliver(&[0], "x")]);
    let x = desk.job();
    desk.routed(jobs[1].0, vec![crate::desk::deliver(&[1], "y")]);
    let y = desk.job();
    desk.attempted(x, outcome(vec![deferred()]));
    assert_eq!(
        desk.command(OperatorCommand::RetryNow { id: id(1) }),
        [""; 0]
    );
    let out = desk.attempted(y, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due +0", "rest 1 until +0", "load 1"]);
    assert_eq!(desk.load(1), ["route 1 x.example [0] after 1"]);
}

#[test]
fn retry_all_tries_each_recipient_once() {
    let limits = queue::SchedulerLimits {
        jobs_per_message: 1,
        ready_per_destination: 1,
        active_messages: 4,
        ..crate::desk::small_limits()
    };
    let mut desk = Desk::with(limits);
    desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    desk.apply(Event::Recovered {
        id: id(4),
        due_at: START.plus_ms(9),
    });
    assert_eq!(desk.command(OperatorCommand::RetryAll), ["load 4"]);
    desk.apply(Event::Loaded(
        message(4, &["a@x.example", "b@y.example"]).into(),
    ));
    assert_eq!(desk.deliver_to("x"), ["save 4 due +1", "rest 4 until +1"]);
    assert_eq!(desk.tick_at(START.plus_ms(1)), ["load 4"]);
    assert_eq!(
        desk.load(4),
        ["route 4 y.example [1] after 0"],
        "not x, which is full"
    );
}

#[test]
fn retry_all_outlives_a_load_that_fails() {
    let mut desk = resting();
    assert_eq!(desk.command(OperatorCommand::RetryAll), ["load 1"]);
    desk.apply(Event::LoadFailed {
        id: id(1),
        retry: true,
    });
    desk.now = START.plus_ms(1);
    assert_eq!(desk.tick_at(START.plus_ms(30_000)), ["load 1"]);
    assert_eq!(desk.load(1), ["route 1 x.example [0] after 1"]);
}

#[test]
fn what_waits_for_a_destination_is_called_back_at_once() {
    let mut desk = Desk::new();
    let first = desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    for number in 3..=5 {
        desk.accept(message(number, &["a@x.example"]));
        desk.deliver_to("x");
    }
    assert_eq!(
        desk.command(hold(3)),
        ["save 3 due never", "rest 3 until never"]
    );
    assert_eq!(
        desk.command(OperatorCommand::Remove { id: id(4) }),
        ["Removed 1 of 4", "remove 4"]
    );
    let out = desk.attempted(first, outcome(vec![delivered()]));
    assert_eq!(out, ["remove 1", "attempt 5 x [0] by 7"]);
    assert_eq!(desk.scheduler.next_wake(), None);
}

#[test]
fn what_is_under_way_is_finished_first() {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x");
    assert_eq!(desk.command(hold(1)), [""; 0]);
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due never", "rest 1 until never"]);

    let job = desk.launch(2, "a@x.example", "x");
    assert_eq!(desk.command(bounce(2)), [""; 0]);
    assert_eq!(
        desk.attempted(job, outcome(vec![delivered()])),
        ["remove 2"],
        "it was taken"
    );

    let job = desk.launch(3, "a@x.example", "x");
    assert_eq!(desk.command(bounce(3)), [""; 0]);
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["Bounced 1 of 3", "notify 3 Failure [0]", "remove 3"]);

    let job = desk.launch(4, "a@x.example", "x");
    assert_eq!(desk.command(OperatorCommand::Remove { id: id(4) }), [""; 0]);
    assert_eq!(desk.command(hold(4)), [""; 0], "nothing replaces a removal");
    assert_eq!(
        desk.attempted(job, outcome(vec![failed()])),
        ["Removed 0 of 4", "remove 4"],
        "without a word"
    );
}

#[test]
fn a_command_during_routing_stops_what_routing_opens() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example"]));
    let job = desk.job();
    assert_eq!(desk.command(hold(1)), [""; 0]);
    let out = desk.routed(job, vec![crate::desk::deliver(&[0], "x")]);
    assert_eq!(out, ["save 1 due never", "rest 1 until never"]);
}

#[test]
fn a_release_takes_back_a_hold_that_has_not_begun() {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x");
    desk.command(hold(1));
    desk.command(OperatorCommand::Release { id: id(1) });
    let out = desk.attempted(job, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due +1000", "rest 1 until +1000"]);
}

#[test]
fn commands_meet_a_message_that_is_being_loaded() {
    let mut desk = resting();
    desk.tick_at(START.plus_ms(1000));
    assert_eq!(desk.command(OperatorCommand::Remove { id: id(1) }), [""; 0]);
    let mut other = resting();
    other.tick_at(START.plus_ms(1000));
    assert_eq!(other.command(hold(1)), [""; 0]);
    assert_eq!(desk.load(1), ["Removed 1 of 1", "remove 1"]);
    assert_eq!(other.load(1), ["save 1 due never", "rest 1 until never"]);

    let mut desk = resting();
    desk.tick_at(START.plus_ms(1000));
    desk.command(OperatorCommand::Remove { id: id(1) });
    assert_eq!(
        desk.apply(Event::LoadFailed {
            id: id(1),
            retry: true
        }),
        ["remove 1"]
    );
}

#[test]
fn unknown_messages_are_not_looked_for() {
    let mut desk = Desk::new();
    for command in [hold(9), bounce(9), OperatorCommand::Remove { id: id(9) }] {
        assert_eq!(desk.command(command), [""; 0]);
    }
}

#[test]
fn routing_holds_when_the_other_jobs_have_ended() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let jobs = desk.jobs();
    let until = START.plus_ms(10 * MINUTE_MS);
    let keep = Disposition::Hold {
        reason: "odd".to_owned(),
        release_at: Some(until),
    };
    assert_eq!(
        desk.routed(jobs[0].0, vec![Route::new(vec![0], keep)]),
        [""; 0]
    );
    desk.routed(jobs[1].0, vec![crate::desk::deliver(&[1], "y")]);
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![delivered()]));
    assert_eq!(out, ["save 1 due +600000", "rest 1 until +600000"]);
    assert_eq!(
        desk.scheduler.message_state(id(1)),
        Some(MessageState::Held {
            release_at: Some(until)
        })
    );
    assert_eq!(desk.tick_at(until), ["load 1"]);
    let out = desk.load(1);
    assert_eq!(out, ["route 1 x.example [0] after 0", "save 1 due +600000"]);
    assert!(matches!(desk.state(1, 1), RecipientState::Delivered { .. }));
}

#[test]
fn a_hold_until_now_does_not_spin() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example"]));
    let job = desk.job();
    let keep = Disposition::Hold {
        reason: "odd".to_owned(),
        release_at: Some(UnixMs(0)),
    };
    let out = desk.routed(job, vec![Route::new(vec![0], keep)]);
    assert_eq!(out, ["save 1 due +1000", "rest 1 until +1000"]);
}

#[test]
fn a_message_accepted_on_hold_is_not_routed() {
    let mut desk = Desk::new();
    let mut kept = message(1, &["a@x.example"]);
    kept.hold = Some(queue::Hold {
        reason: "quarantine".to_owned(),
        held_at: START,
        release_at: None,
    });
    assert_eq!(desk.accept(kept), ["rest 1 until never"]);
    assert_eq!(
        desk.command(OperatorCommand::Release { id: id(1) }),
        ["load 1"]
    );
    assert_eq!(desk.load(1)[0], "route 1 x.example [0] after 0");
}
