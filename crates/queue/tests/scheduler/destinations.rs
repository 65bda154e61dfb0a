//! Concurrency, suspension and overflow of destinations.

use queue::{MessageState, RecipientState, SchedulerLimits};

use crate::desk::{
    Desk, MINUTE_MS, START, deferred_locally, deliver, delivered, id, message, outcome,
    small_limits, unreachable,
};

#[test]
fn the_window_lets_out_as_many_as_it_is_wide_first_come_first_served() {
    let mut desk = Desk::new();
    let first = desk.launch(1, "a@x.example", "x");
    let second = desk.launch(2, "a@x.example", "x");
    for number in 3..=6 {
        desk.accept(message(number, &["a@x.example"]));
        assert_eq!(desk.deliver_to("x"), [""; 0]);
    }
    let out = desk.attempted(first, outcome(vec![delivered()]));
    assert_eq!(out, ["remove 1", "attempt 3 x [0] by 7"]);
    // The second success fills the window of two: it opens to three.
    let out = desk.attempted(second, outcome(vec![delivered()]));
    assert_eq!(
        out,
        ["remove 2", "attempt 4 x [0] by 7", "attempt 5 x [0] by 7"]
    );
}

#[test]
fn destinations_do_not_wait_for_each_other() {
    let mut desk = Desk::new();
    desk.launch(1, "a@x.example", "x");
    desk.launch(2, "a@x.example", "x");
    desk.accept(message(3, &["a@y.example"]));
    assert_eq!(desk.deliver_to("y"), ["attempt 3 y [0] by 7"]);
}

#[test]
fn our_own_faults_say_nothing_about_a_destination() {
    let mut desk = Desk::new();
    for number in 1..=20 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, outcome(vec![deferred_locally()]));
    }
    assert_eq!(
        desk.scheduler.counts(START).destinations,
        0,
        "nothing learnt, nothing kept"
    );
}

#[test]
fn a_suspended_destination_parks_its_mail_and_counts_nothing() {
    let mut desk = Desk::new();
    let first = desk.launch(1, "a@x.example", "x");
    let second = desk.launch(2, "a@x.example", "x");
    desk.accept(message(3, &["a@x.example"]));
    desk.deliver_to("x");
    desk.attempted(first, unreachable(1));
    let out = desk.attempted(second, unreachable(1));
    assert!(
        out.iter().any(|word| word.starts_with("rest 3 until")),
        "{out:?}"
    );
    assert!(
        !out.iter().any(|word| word.starts_with("save 3")),
        "nothing to save: {out:?}"
    );
    let Some(MessageState::Resting { due_at }) = desk.scheduler.message_state(id(3)) else {
        panic!("it rests")
    };
    let rested_ms = due_at.since_ms(START);
    assert!(
        (MINUTE_MS..=MINUTE_MS * 5 / 4).contains(&rested_ms),
        "{rested_ms}"
    );
    assert!(matches!(
        desk.state(3, 0),
        RecipientState::Pending { attempts: 0, .. }
    ));

    desk.accept(message(4, &["a@x.example"]));
    let out = desk.deliver_to("x");
    assert!(out[0].starts_with("rest 4 until"), "{out:?}");
    assert_eq!(desk.scheduler.counts(START).suspended, 1);
}

#[test]
fn after_a_suspension_one_probe_decides() {
    let mut desk = Desk::new();
    for number in 1..=2 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, unreachable(1));
    }
    desk.now = START.plus_ms(MINUTE_MS);
    assert_eq!(desk.scheduler.counts(desk.now).suspended, 0);
    let probe = desk.launch(3, "a@x.example", "x");
    for number in 4..=5 {
        desk.accept(message(number, &["a@x.example"]));
        assert_eq!(desk.deliver_to("x"), [""; 0], "only the probe is out");
    }
    let out = desk.attempted(probe, unreachable(1));
    assert!(out.iter().any(|word| word.starts_with("rest 4")), "{out:?}");
    let state = desk
        .scheduler
        .destinations(desk.now)
        .next()
        .expect("remembered");
    assert_eq!(state.suspended_until, Some(desk.now.plus_ms(2 * MINUTE_MS)));

    desk.now = desk.now.plus_ms(2 * MINUTE_MS);
    let probe = desk.launch(6, "a@x.example", "x");
    desk.accept(message(7, &["a@x.example"]));
    desk.deliver_to("x");
    desk.accept(message(8, &["a@x.example"]));
    desk.deliver_to("x");
    let out = desk.attempted(probe, outcome(vec![delivered()]));
    let started = out
        .iter()
        .filter(|word| word.starts_with("attempt"))
        .count();
    assert_eq!(started, 2, "opened by one: {out:?}");
}

#[test]
fn a_full_ready_queue_lets_the_surplus_rest() {
    let limits = SchedulerLimits {
        active_messages: 12,
        initial_concurrency: 1,
        ready_per_destination: 2,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    let first = desk.launch(1, "a@x.example", "x");
    let mut rested = 0;
    for number in 2..=11 {
        desk.accept(message(number, &["a@x.example"]));
        rested += desk.deliver_to("x").len();
    }
    // As many wait as slots are free: 1 under way, 5 waiting, the next takes one of the
    // 6 left while it asks.
    let counts = desk.scheduler.counts(START);
    assert_eq!((counts.ready, counts.active, rested), (5, 6, 5));
    let Some(MessageState::Resting { due_at }) = desk.scheduler.message_state(id(11)) else {
        panic!("it rests")
    };
    assert!((1000..=1500).contains(&due_at.since_ms(START)), "{due_at}");
    assert!(matches!(
        desk.state(11, 0),
        RecipientState::Pending { attempts: 0, .. }
    ));

    // The queue moves slowly: those that come now rest as long as it takes.
    desk.now = START.plus_ms(60_000);
    desk.attempted(first, outcome(vec![delivered()]));
    let waiting: Vec<u64> = (2..=11)
        .filter(|&number| {
            matches!(
                desk.scheduler.message_state(id(number)),
                Some(MessageState::Loading)
            )
        })
        .collect();
    assert_eq!(waiting.len(), 5, "they came back by themselves");
    let mut rests_ms = Vec::new();
    for number in waiting {
        desk.load(number);
        desk.deliver_to("x");
        if let Some(MessageState::Resting { due_at }) = desk.scheduler.message_state(id(number)) {
            rests_ms.push(due_at.since_ms(desk.now));
        }
    }
    assert!(!rests_ms.is_empty(), "there is not room for all of them");
    assert!(
        rests_ms.iter().all(|&ms| (60_000..=90_000).contains(&ms)),
        "{rests_ms:?}"
    );
}

#[test]
fn a_destination_on_probation_gets_no_share_of_free_slots() {
    let limits = SchedulerLimits {
        ready_per_destination: 2,
        ..small_limits()
    };
    let mut desk = Desk::with(limits);
    for number in 1..=2 {
        let job = desk.launch(number, "a@x.example", "x");
        desk.attempted(job, unreachable(1));
    }
    desk.now = START.plus_ms(MINUTE_MS);
    desk.launch(3, "a@x.example", "x");
    for number in 4..=9 {
        desk.accept(message(number, &["a@x.example"]));
        desk.deliver_to("x");
    }
    assert_eq!(desk.scheduler.counts(desk.now).ready, 2);
    let Some(MessageState::Resting { due_at }) = desk.scheduler.message_state(id(9)) else {
        panic!("it rests")
    };
    assert!(
        due_at.since_ms(desk.now) >= MINUTE_MS,
        "not read again and again"
    );
}

#[test]
fn two_jobs_of_one_message_at_one_destination() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let jobs = desk.jobs();
    for (job, recipients) in jobs {
        desk.routed(job, vec![deliver(&recipients, "smarthost")]);
    }
    let state = desk.scheduler.destinations(START).next().expect("one");
    assert_eq!(state.in_flight, 2);
    assert_eq!(desk.scheduler.counts(START).destinations, 1);
}
