//! The way of a message: in, routed, attempted, saved, gone.

use queue::{
    Deferral, Disposition, Event, MessageState, RecipientState, Route, SchedulerLimits, UnixMs,
};
use smtp::{Reply, ReversePath};

use crate::desk::{
    Desk, START, deferred, deliver, delivered, failed, id, message, outcome, small_limits,
};

#[test]
fn delivered_at_the_first_attempt_is_removed_and_nothing_else() {
    let mut desk = Desk::new();
    let out = desk.accept(message(1, &["a@x.example", "b@x.example"]));
    assert_eq!(out, ["route 1 x.example [0, 1] after 0"]);
    assert_eq!(desk.deliver_to("x"), ["attempt 1 x [0, 1] by 7"]);
    let job = desk.job();
    assert_eq!(
        desk.attempted(job, outcome(vec![delivered(); 2])),
        ["remove 1"]
    );
    assert_eq!(desk.scheduler.message_state(id(1)), None);
    assert_eq!(desk.scheduler.next_wake(), None);
}

#[test]
fn recipients_are_routed_by_domain_in_sets() {
    let limits = SchedulerLimits {
        recipients_per_job: 2,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    let recipients = ["a@y.example", "b@x.example", "c@y.example", "d@y.example"];
    let out = desk.accept(message(1, &recipients));
    assert_eq!(
        out,
        [
            "route 1 x.example [1] after 0",
            "route 1 y.example [0, 2] after 0",
            "route 1 y.example [3] after 0"
        ]
    );
}

#[test]
fn each_job_that_changes_something_is_saved_while_others_go_on() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let [(x, _), (y, _)] = &desk.jobs()[..] else {
        panic!("two domains")
    };
    let (x, y) = (*x, *y);
    desk.routed(x, vec![deliver(&[0], "x")]);
    let x = desk.job();
    desk.routed(y, vec![deliver(&[1], "y")]);
    let y = desk.job();
    assert_eq!(
        desk.attempted(x, outcome(vec![delivered()])),
        ["save 1 due +0"]
    );
    assert!(matches!(desk.state(1, 0), RecipientState::Delivered { .. }));
    assert!(matches!(
        desk.state(1, 1),
        RecipientState::Pending { attempts: 0, .. }
    ));
    let out = desk.attempted(y, outcome(vec![deferred()]));
    assert_eq!(out, ["save 1 due +1000", "rest 1 until +1000"]);
}

#[test]
fn only_due_recipients_are_tried_again() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@x.example"]));
    desk.deliver_to("x");
    let job = desk.job();
    desk.attempted(job, outcome(vec![delivered(), deferred()]));
    assert_eq!(desk.scheduler.next_wake(), Some(START.plus_ms(1000)));
    assert_eq!(desk.tick_at(START.plus_ms(999)), [""; 0]);
    assert_eq!(desk.tick_at(START.plus_ms(1000)), ["load 1"]);
    assert_eq!(desk.load(1), ["route 1 x.example [1] after 1"]);
}

#[test]
fn every_disposition_does_what_it_says() {
    let mut desk = Desk::new();
    let recipients = [
        "a@x.example",
        "b@x.example",
        "c@x.example",
        "d@x.example",
        "e@x.example",
    ];
    desk.accept(message(1, &recipients));
    let job = desk.job();
    let routes = vec![
        deliver(&[0], "x"),
        Route::new(
            vec![1],
            Disposition::Defer(Deferral {
                retry_after_ms: Some(5000),
                ..Deferral::local(Reply::new(451, (4, 4, 3), "no dns"))
            }),
        ),
        Route::new(
            vec![2],
            Disposition::Reject(Reply::new(556, (5, 1, 10), "null mx")),
        ),
        Route::new(vec![3], Disposition::Discard("unwanted".to_owned())),
    ];
    let out = desk.routed(job, routes);
    assert_eq!(out, ["attempt 1 x [0] by 7", "save 1 due +0"]);
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![delivered()]));
    // Recipient 4 was left out by routing: our fault, next try by the schedule.
    assert_eq!(
        out,
        [
            "notify 1 Failure [2]",
            "save 1 due +1000",
            "rest 1 until +1000"
        ]
    );
    assert!(matches!(desk.state(1, 0), RecipientState::Delivered { .. }));
    let RecipientState::Pending {
        attempts: 0,
        local_deferrals: 1,
        due_at,
        ..
    } = desk.state(1, 1)
    else {
        panic!("{:?}", desk.state(1, 1))
    };
    assert_eq!(*due_at, START.plus_ms(5000));
    assert!(matches!(
        desk.state(1, 2),
        RecipientState::Failed { notified: true, .. }
    ));
    assert!(matches!(desk.state(1, 3), RecipientState::Discarded { .. }));
    assert!(matches!(
        desk.state(1, 4),
        RecipientState::Pending {
            local_deferrals: 1,
            ..
        }
    ));
    let stages: Vec<&str> = desk
        .on_disk(1)
        .history
        .iter()
        .map(|record| record.stage.as_str())
        .collect();
    assert_eq!(stages, ["route", "route", "route", "route", "data"]);
}

#[test]
fn one_job_may_be_split_over_destinations() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@x.example", "c@x.example"]));
    let job = desk.job();
    let out = desk.routed(job, vec![deliver(&[2, 0], "x"), deliver(&[1, 2], "y")]);
    assert_eq!(out, ["attempt 1 x [2, 0] by 7", "attempt 1 y [1] by 7"]);
    let [(x, _), (y, _)] = &desk.jobs()[..] else {
        panic!("two jobs")
    };
    let (x, y) = (*x, *y);
    assert_eq!(
        desk.attempted(x, outcome(vec![failed(), delivered()])),
        ["save 1 due +0"]
    );
    assert!(matches!(desk.state(1, 2), RecipientState::Failed { .. }));
    assert!(matches!(desk.state(1, 0), RecipientState::Delivered { .. }));
    let out = desk.attempted(y, outcome(vec![delivered()]));
    assert_eq!(out, ["notify 1 Failure [2]", "remove 1"]);
}

#[test]
fn the_sender_is_told_once_and_before_the_message_goes() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@x.example"]));
    desk.deliver_to("x");
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![failed(), deferred()]));
    assert_eq!(
        out,
        [
            "notify 1 Failure [0]",
            "save 1 due +1000",
            "rest 1 until +1000"
        ]
    );
    desk.tick_at(START.plus_ms(1000));
    desk.load(1);
    desk.deliver_to("x");
    let job = desk.job();
    let out = desk.attempted(job, outcome(vec![failed()]));
    assert_eq!(out, ["notify 1 Failure [1]", "remove 1"]);
}

#[test]
fn the_null_reverse_path_is_never_told() {
    let mut desk = Desk::new();
    let mut bounce = message(1, &["a@x.example"]);
    bounce.reverse_path = ReversePath::Null;
    desk.accept(bounce);
    desk.deliver_to("x");
    let job = desk.job();
    assert_eq!(desk.attempted(job, outcome(vec![failed()])), ["remove 1"]);
}

#[test]
fn a_notification_lost_in_a_crash_is_made_after_it() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let [(x, _), (y, _)] = &desk.jobs()[..] else {
        panic!("two domains")
    };
    let (x, y) = (*x, *y);
    desk.routed(y, vec![deliver(&[1], "y")]);
    let reject = Disposition::Reject(Reply::new(550, (5, 1, 2), "no such domain"));
    assert_eq!(
        desk.routed(x, vec![Route::new(vec![0], reject)]),
        ["save 1 due +0"]
    );
    let saved = desk.on_disk(1).clone();

    let mut after = Desk::new();
    after.apply(Event::Recovered {
        id: id(1),
        due_at: START,
    });
    let out = after.apply(Event::Loaded(std::sync::Arc::new(saved)));
    assert_eq!(out, ["route 1 y.example [1] after 0"]);
    after.deliver_to("y");
    let job = after.job();
    let out = after.attempted(job, outcome(vec![delivered()]));
    assert_eq!(out, ["notify 1 Failure [0]", "remove 1"]);
}

#[test]
fn answers_nobody_asked_for_are_ignored() {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x");
    assert_eq!(desk.routed(job, vec![deliver(&[0], "z")]), [""; 0]);
    let stray = std::sync::Arc::new(message(1, &["a@x.example"]));
    assert_eq!(desk.apply(Event::Loaded(stray.clone())), [""; 0]);
    assert_eq!(desk.apply(Event::Accepted(stray)), [""; 0]);
    assert_eq!(
        desk.apply(Event::LoadFailed {
            id: id(1),
            retry: false
        }),
        [""; 0]
    );
    assert_eq!(
        desk.attempted(queue::JobId(999), outcome(vec![failed()])),
        [""; 0]
    );
    assert_eq!(
        desk.attempted(job, outcome(vec![delivered()])),
        ["remove 1"]
    );
    assert_eq!(desk.attempted(job, outcome(vec![failed()])), [""; 0]);
}

#[test]
fn recipients_without_an_outcome_are_deferred_as_our_fault() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@x.example"]));
    desk.deliver_to("x");
    let job = desk.job();
    desk.attempted(job, outcome(vec![delivered()]));
    let state = desk.state(1, 1);
    assert!(matches!(
        state,
        RecipientState::Pending {
            attempts: 0,
            local_deferrals: 1,
            ..
        }
    ));
}

#[test]
fn what_has_no_room_rests_and_is_loaded_when_there_is() {
    let limits = SchedulerLimits {
        active_messages: 1,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    let job = desk.launch(1, "a@x.example", "x");
    assert_eq!(
        desk.accept(message(2, &["a@x.example"])),
        ["rest 2 until +0"]
    );
    assert_eq!(
        desk.scheduler.next_wake(),
        None,
        "only room is missing, not time"
    );
    assert_eq!(desk.tick_at(START.plus_ms(5)), [""; 0]);
    let out = desk.attempted(job, outcome(vec![delivered()]));
    assert_eq!(out, ["remove 1", "load 2"]);
    assert_eq!(
        desk.scheduler.message_state(id(2)),
        Some(MessageState::Loading)
    );
    assert_eq!(desk.load(2), ["route 2 x.example [0] after 0"]);
}

#[test]
fn fresh_and_due_mail_leave_room_for_each_other() {
    let limits = SchedulerLimits {
        active_messages: 4,
        reserved_for_fresh: 1,
        reserved_for_due: 2,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    for number in 1..=5 {
        desk.apply(Event::Recovered {
            id: id(number),
            due_at: START,
        });
    }
    assert_eq!(desk.scheduler.counts(START).loading, 3);
    assert_eq!(desk.accept(message(10, &["a@x.example"])).len(), 1);
    assert_eq!(
        desk.accept(message(11, &["a@x.example"])),
        ["rest 11 until +0"]
    );

    let mut desk = Desk::with(SchedulerLimits {
        active_messages: 4,
        ..limits_of_two()
    });
    for number in 1..=2 {
        assert_eq!(desk.accept(message(number, &["a@x.example"])).len(), 1);
    }
    let out = desk.accept(message(3, &["a@x.example"]));
    assert_eq!(
        out,
        ["rest 3 until +0", "load 3"],
        "by way of the disk, but not starved"
    );
}

fn limits_of_two() -> SchedulerLimits {
    SchedulerLimits {
        reserved_for_fresh: 1,
        reserved_for_due: 2,
        ..small_limits()
    }
}

#[test]
fn a_load_that_fails_is_repeated_or_forgotten() {
    let mut desk = Desk::new();
    desk.apply(Event::Recovered {
        id: id(1),
        due_at: START,
    });
    desk.apply(Event::Recovered {
        id: id(2),
        due_at: START,
    });
    let out = desk.apply(Event::LoadFailed {
        id: id(1),
        retry: true,
    });
    assert_eq!(out, ["rest 1 until +30000"]);
    assert_eq!(
        desk.apply(Event::LoadFailed {
            id: id(2),
            retry: false
        }),
        [""; 0]
    );
    assert_eq!(desk.scheduler.message_state(id(2)), None);
    assert_eq!(desk.tick_at(START.plus_ms(30_000)), ["load 1"]);
}

#[test]
fn a_message_without_pending_recipients_is_removed() {
    let mut desk = Desk::new();
    assert_eq!(desk.accept(message(1, &[])), ["remove 1"]);
}

#[test]
fn a_message_that_is_not_due_yet_rests() {
    let mut desk = Desk::new();
    let mut later = message(1, &["a@x.example"]);
    if let RecipientState::Pending { due_at, .. } = &mut later.recipients[0].state {
        *due_at = START.plus_ms(500);
    }
    assert_eq!(desk.accept(later), ["rest 1 until +500"]);
}

#[test]
fn jobs_of_one_message_are_bounded_and_the_rest_follows() {
    let limits = SchedulerLimits {
        jobs_per_message: 2,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    let out = desk.accept(message(1, &["a@x.example", "b@y.example", "c@z.example"]));
    assert_eq!(out.len(), 2);
    for (job, recipients) in desk.jobs() {
        let destination = format!("d{}", recipients[0]);
        desk.routed(job, vec![deliver(&recipients, &destination)]);
        let job = desk.job();
        desk.attempted(job, outcome(vec![delivered()]));
    }
    assert_eq!(
        desk.scheduler.message_state(id(1)),
        Some(MessageState::Loading)
    );
    assert_eq!(desk.load(1), ["route 1 z.example [2] after 0"]);
}

#[test]
fn the_recipients_that_follow_do_not_bring_back_the_parked_ones() {
    let limits = SchedulerLimits {
        jobs_per_message: 1,
        ready_per_destination: 1,
        ..small_limits()
    };
    let mut desk = Desk::with(SchedulerLimits {
        active_messages: 4,
        ..limits
    });
    desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    desk.accept(message(4, &["a@x.example", "b@y.example"]));
    let out = desk.deliver_to("x");
    assert_eq!(
        out,
        ["save 4 due +0", "rest 4 until +0", "load 4"],
        "x is full"
    );
    assert_eq!(desk.load(4), ["route 4 y.example [1] after 0"]);
}

#[test]
fn the_numbers_agree_with_the_states() {
    let mut desk = Desk::new();
    desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    desk.accept(message(4, &["a@x.example"]));
    desk.apply(Event::Recovered {
        id: id(5),
        due_at: START.plus_ms(9),
    });
    desk.apply(Event::Recovered {
        id: id(6),
        due_at: UnixMs::NEVER,
    });
    let counts = desk.scheduler.counts(START);
    let expected = queue::Counts {
        resting: 1,
        held: 1,
        active: 4,
        loading: 0,
        routing: 1,
        ready: 1,
        in_flight: 2,
        advised: 0,
        destinations: 1,
        suspended: 0,
    };
    assert_eq!(counts, expected);
    assert_eq!(desk.scheduler.messages().count(), 6);
    assert_eq!(
        desk.scheduler.message_state(id(3)),
        Some(MessageState::Active {
            routing: 0,
            ready: 1,
            in_flight: 0,
            advised: 0
        })
    );
    assert_eq!(
        desk.scheduler.message_state(id(6)),
        Some(MessageState::Held { release_at: None })
    );
    let destination = desk
        .scheduler
        .destinations(START)
        .next()
        .expect("one is there");
    assert_eq!((destination.in_flight, destination.ready), (2, 1));
    assert_eq!(desk.scheduler.oldest_due_at(), Some(START.plus_ms(9)));
    assert_eq!(desk.scheduler.oldest_active_since(), Some(START));
}

#[test]
fn annotations_are_kept_with_a_message_that_waits() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@one.test"]));
    let job = desk.job();
    let attributes = vec![
        ("class".to_owned(), Some("bulk".to_owned())),
        ("seen".to_owned(), Some("yes".to_owned())),
        ("class".to_owned(), Some("urgent".to_owned())),
        ("seen".to_owned(), None),
    ];
    let id = id(1);
    assert_eq!(desk.apply(Event::Annotated { id, attributes }), [""; 0]);
    let deferral = Deferral::local(Reply::new(451, (4, 3, 0), "later"));
    desk.routed(job, vec![Route::new(vec![0], Disposition::Defer(deferral))]);
    assert_eq!(
        desk.on_disk(1).attributes,
        [("class".to_owned(), "urgent".to_owned())]
    );
}

#[test]
fn annotations_do_not_grow_beyond_their_limit() {
    let mut desk = Desk::with(SchedulerLimits {
        attributes_bytes: 20,
        ..small_limits()
    });
    desk.accept(message(1, &["a@one.test"]));
    let job = desk.job();
    let mut annotate = |changes: &[(&str, Option<&str>)]| {
        let changes = changes.iter();
        let attributes = changes
            .map(|(name, value)| ((*name).to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        let id = id(1);
        desk.apply(Event::Annotated { id, attributes });
        desk.scheduler.refused_annotations()
    };
    assert_eq!(
        annotate(&[("one", Some("123456")), ("two", Some("12345678"))]),
        0
    );
    // One octet too many: nothing of it is kept.
    assert_eq!(
        annotate(&[("one", Some("1")), ("two", Some("12345678901234"))]),
        1
    );
    // What makes room first has it.
    assert_eq!(
        annotate(&[("one", None), ("two", Some("12345678901234567"))]),
        1
    );
    let deferral = Deferral::local(Reply::new(451, (4, 3, 0), "later"));
    desk.routed(job, vec![Route::new(vec![0], Disposition::Defer(deferral))]);
    let kept = [("two".to_owned(), "12345678901234567".to_owned())];
    assert_eq!(desk.on_disk(1).attributes, kept);
}
