//! Advice of policies after an attempt: what it changes, and what it cannot.

use std::sync::Arc;

use queue::{
    Advice, Advised, AttemptOutcome, Event, JobId, OperatorCommand, PolicyDecision, RecipientState,
    SchedulerLimits, UnixMs,
};
use smtp::Reply;

use crate::desk::{
    Desk, START, deferred, deliver, delivered, failed, id, message, outcome, small_limits,
};

fn decision(text: &str) -> PolicyDecision {
    PolicyDecision {
        policy: "adviser".to_owned(),
        result: PolicyDecision::OK.to_owned(),
        text: text.to_owned(),
        ..PolicyDecision::default()
    }
}

fn advised(recipients: &[u32], advice: Advice<u32>) -> Advised<u32> {
    Advised {
        recipients: recipients.to_vec(),
        advice,
        decisions: vec![decision("advice")],
        followed: Some(0),
    }
}

fn awaiting(recipients: Vec<queue::RecipientOutcome>) -> AttemptOutcome {
    AttemptOutcome {
        awaits_advice: true,
        ..outcome(recipients)
    }
}

/// A message whose only attempt was deferred, and about which advice is awaited.
fn deferred_message(desk: &mut Desk) -> JobId {
    let job = desk.launch(1, "a@x.example", "x.example");
    assert_eq!(
        desk.attempted(job, awaiting(vec![deferred()])),
        ["save 1 due +0"],
        "the outcome is saved before anybody is heard"
    );
    job
}

fn advise(desk: &mut Desk, job: JobId, advice: Advice<u32>) -> Vec<String> {
    let advice = vec![advised(&[0], advice)];
    desk.apply(Event::Advised { job, advice })
}

fn due_at(desk: &Desk) -> UnixMs {
    match desk.state(1, 0) {
        RecipientState::Pending { due_at, .. } => *due_at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_usual_is_the_schedule() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    assert_eq!(due_at(&desk), START.plus_ms(1000));
    assert_eq!(
        advise(&mut desk, job, Advice::Usual),
        ["save 1 due +1000", "rest 1 until +1000"]
    );
    let record = &desk.on_disk(1).history[0];
    assert_eq!(record.decisions, [decision("advice")]);
    assert_eq!(
        (record.recipients.as_slice(), record.recipient_count),
        (&[0][..], 1)
    );
}

#[test]
fn no_advice_is_the_schedule_too() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    let advice = Vec::new();
    assert_eq!(
        desk.apply(Event::Advised { job, advice }),
        ["rest 1 until +1000"]
    );
    assert_eq!(
        desk.apply(Event::Advised {
            job,
            advice: Vec::new()
        }),
        [""; 0]
    );
}

#[test]
fn nobody_waits_for_advice_about_what_is_final() {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x.example");
    assert_eq!(
        desk.attempted(job, awaiting(vec![delivered()])),
        ["remove 1"]
    );
    let job = desk.launch(2, "a@x.example", "x.example");
    assert_eq!(
        desk.attempted(job, awaiting(vec![failed()])),
        ["notify 2 Failure [0]", "remove 2"]
    );
}

#[test]
fn another_time_is_taken_within_the_limits() {
    for (advice_ms, due_ms) in [(5000, 5000), (1, 2000), (u64::MAX, 60_000)] {
        let mut desk = Desk::with(SchedulerLimits {
            retry_after_min_ms: 2000,
            retry_after_max_ms: 60_000,
            ..small_limits()
        });
        let job = deferred_message(&mut desk);
        let said = advise(&mut desk, job, Advice::RetryAfter(advice_ms));
        assert_eq!(said[1], format!("rest 1 until +{due_ms}"));
        assert_eq!(due_at(&desk), START.plus_ms(due_ms));
    }
}

#[test]
fn no_advice_outlives_the_message() {
    let mut desk = Desk::new();
    let mut short = message(1, &["a@x.example"]);
    short.expires_at = START.plus_ms(3000);
    desk.accept(short);
    desk.deliver_to("x.example");
    let job = desk.job();
    desk.attempted(job, awaiting(vec![deferred()]));
    let said = advise(&mut desk, job, Advice::RetryAfter(3_600_000));
    assert_eq!(said, ["save 1 due +3000", "rest 1 until +3000"]);
}

#[test]
fn the_next_hop_is_tried_at_once() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    let advice = Advice::Retry {
        destination: Arc::from("y.example"),
        plan: 9,
    };
    assert_eq!(
        advise(&mut desk, job, advice),
        ["attempt 1 y.example [0] by 9", "save 1 due +0"]
    );
    let job = desk.job();
    assert_eq!(
        desk.attempted(job, outcome(vec![delivered()])),
        ["remove 1"]
    );
}

#[test]
fn routing_is_asked_again_at_once() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    assert_eq!(
        advise(&mut desk, job, Advice::Reroute),
        ["route 1 x.example [0] after 1", "save 1 due +0"]
    );
    assert!(desk.on_disk(1).history[0].prompt);
    assert_eq!(
        desk.deliver_to("elsewhere"),
        ["attempt 1 elsewhere [0] by 7"]
    );
}

#[test]
fn two_policies_cannot_send_a_message_to_and_fro_for_ever() {
    let mut desk = Desk::with(SchedulerLimits {
        prompt_retries: 3,
        ..small_limits()
    });
    let mut job = deferred_message(&mut desk);
    for _ in 0..3 {
        let said = advise(&mut desk, job, Advice::Reroute);
        assert_eq!(said.len(), 2, "{said:?}");
        desk.deliver_to("x.example");
        job = desk.job();
        desk.attempted(job, awaiting(vec![deferred()]));
    }
    let said = advise(&mut desk, job, Advice::Reroute);
    assert_eq!(said, ["save 1 due +4000", "rest 1 until +4000"]);
    let last = desk.on_disk(1).history.last().expect("there were attempts");
    assert!(!last.prompt);
    assert_eq!(
        last.decisions[0].consequence.as_deref(),
        Some("not carried out: 3 of its last attempts were followed by another at once")
    );
}

#[test]
fn what_is_given_up_is_returned() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    let reply = Reply::new(550, (5, 4, 7), "hopeless");
    assert_eq!(
        advise(&mut desk, job, Advice::GiveUp(reply)),
        ["notify 1 Failure [0]", "remove 1"]
    );
}

#[test]
fn the_whole_message_is_held() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    let advice = Advice::Hold {
        reason: "look at it".to_owned(),
    };
    assert_eq!(
        advise(&mut desk, job, advice),
        ["save 1 due never", "rest 1 until never"]
    );
    let hold = desk.on_disk(1).hold.as_ref().expect("it is held");
    assert_eq!(hold.reason, "look at it");
}

#[test]
fn each_recipient_has_its_own_advice() {
    let mut desk = Desk::new();
    desk.accept(message(
        1,
        &["a@x.example", "b@x.example", "c@x.example", "d@x.example"],
    ));
    desk.deliver_to("x.example");
    let job = desk.job();
    let results = vec![deferred(), delivered(), deferred(), deferred()];
    assert_eq!(desk.attempted(job, awaiting(results)), ["save 1 due +0"]);
    let give_up = Advice::GiveUp(Reply::new(550, (5, 4, 7), "hopeless"));
    // The second is delivered, and the third is named twice: the first word counts.
    let advice = vec![
        advised(&[1, 2], Advice::RetryAfter(9000)),
        advised(&[0, 2, 77], give_up),
    ];
    let said = desk.apply(Event::Advised { job, advice });
    assert_eq!(
        said,
        [
            "notify 1 Failure [0]",
            "save 1 due +1000",
            "rest 1 until +1000"
        ]
    );
    let state = |at| desk.state(1, at);
    assert!(matches!(state(0), RecipientState::Failed { .. }));
    assert_eq!(desk.scheduler.given_up(), 1);
    assert!(matches!(state(1), RecipientState::Delivered { .. }));
    let due = |at| match state(at) {
        RecipientState::Pending { due_at, .. } => due_at.since_ms(START),
        other => panic!("{other:?}"),
    };
    assert_eq!((due(2), due(3)), (9000, 1000));
}

#[test]
fn an_operator_comes_first() {
    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    assert_eq!(
        desk.command(OperatorCommand::Remove { id: id(1) }),
        [""; 0],
        "it takes effect when the job ends"
    );
    assert_eq!(
        advise(&mut desk, job, Advice::Reroute),
        ["Removed 1 of 1", "remove 1"]
    );

    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    desk.command(OperatorCommand::RetryNow { id: id(1) });
    assert_eq!(
        advise(&mut desk, job, Advice::RetryAfter(9000)),
        ["save 1 due +0", "rest 1 until +0", "load 1"]
    );

    let mut desk = Desk::new();
    let job = deferred_message(&mut desk);
    desk.command(OperatorCommand::RetryNow { id: id(1) });
    let give_up = Advice::GiveUp(Reply::new(550, (5, 4, 7), "hopeless"));
    advise(&mut desk, job, give_up);
    assert_eq!(desk.scheduler.given_up(), 0, "nobody is, so nobody counts");
}

#[test]
fn a_crash_meanwhile_finds_the_attempt_noted() {
    let mut desk = Desk::new();
    deferred_message(&mut desk);
    let found = Arc::new(desk.on_disk(1).clone());
    let mut desk = Desk::new();
    desk.accept((*found).clone());
    assert!(matches!(
        desk.state(1, 0),
        RecipientState::Pending { attempts: 1, .. }
    ));
    // Not before its time.
    assert_eq!(desk.tick_at(START), [""; 0]);
}

#[test]
fn others_of_the_message_are_not_kept_waiting() {
    let mut desk = Desk::new();
    desk.accept(message(1, &["a@x.example", "b@y.example"]));
    let jobs = desk.jobs();
    desk.routed(jobs[0].0, vec![deliver(&[0], "x.example")]);
    let first = desk.job();
    desk.routed(jobs[1].0, vec![deliver(&[1], "y.example")]);
    let second = desk.job();
    desk.attempted(first, awaiting(vec![deferred()]));
    assert_eq!(
        desk.attempted(second, outcome(vec![delivered()])),
        ["save 1 due +0"]
    );
    assert_eq!(
        advise(&mut desk, first, Advice::Reroute),
        ["route 1 x.example [0] after 1", "save 1 due +0"]
    );
}

#[test]
fn operators_ends_are_told_for_counting() {
    let mut desk = Desk::new();
    let job = desk.launch(1, "a@x.example", "x.example");
    let reply = Reply::new(554, (5, 0, 0), "by the operator");
    desk.command(OperatorCommand::Bounce { id: id(1), reply });
    assert_eq!(
        desk.attempted(job, outcome(vec![deferred()])),
        ["Bounced 1 of 1", "notify 1 Failure [0]", "remove 1"]
    );
}
