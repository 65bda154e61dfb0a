//! Recording and replaying without a component: tapes in JSON, state on trial, differences.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use plugin::record::{
    Asked, DifferenceKind, Ending, Live, Recorder, Replay, ScratchOverlay, Tape, differences,
};
use plugin::{
    CallEnvironment, Decision, EmptyEnvironment, FailureReason, Flow, HttpFailure, HttpMethod,
    HttpRequest, Input, Output, Question, RouteRequest, StateEntry, StateFailure, StateStore,
    Verdict,
};

/// A store that is only read: whoever writes to it fails the test.
struct Real;

impl StateStore for Real {
    fn get(&self, key: &str, _now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        let value = match key {
            "text" => b"real".to_vec(),
            "count" => b"41".to_vec(),
            _ => return Ok(None),
        };
        Ok(Some(StateEntry { value, version: 7 }))
    }

    fn put(&self, _: &str, _: &[u8], _: Option<u64>, _: u64) -> Result<u64, StateFailure> {
        panic!("a trial wrote")
    }

    fn put_if(
        &self,
        _: &str,
        _: &[u8],
        _: u64,
        _: Option<u64>,
        _: u64,
    ) -> Result<Option<u64>, StateFailure> {
        panic!("a trial wrote")
    }

    fn remove(&self, _: &str, _: u64) -> Result<bool, StateFailure> {
        panic!("a trial removed")
    }

    fn add(&self, _: &str, _: i64, _: Option<u64>, _: u64) -> Result<i64, StateFailure> {
        panic!("a trial counted")
    }

    fn take(&self, _: &str, _: u32, _: f64, _: u32, _: u64) -> Result<bool, StateFailure> {
        panic!("a trial took")
    }
}

struct World;

impl CallEnvironment for World {
    fn state(&self) -> Option<Arc<dyn StateStore>> {
        Some(Arc::new(Real))
    }
}

fn value(store: &dyn StateStore, key: &str) -> Option<Vec<u8>> {
    store.get(key, 0).unwrap().map(|entry| entry.value)
}

#[test]
fn a_trial_sees_its_own_writes_and_nobody_else_does() {
    let scratch = ScratchOverlay::default();
    let trial = scratch.over(Some(Arc::new(Real)));
    assert_eq!(value(&*trial, "text"), Some(b"real".to_vec()));
    let version = trial.put("text", b"mine", None, 0).unwrap();
    assert!(version > 7, "versions go up");
    assert_eq!(value(&*trial, "text"), Some(b"mine".to_vec()));
    assert_eq!(trial.put_if("text", b"no", 7, None, 0), Ok(None));
    assert!(
        trial
            .put_if("text", b"yes", version, None, 0)
            .unwrap()
            .is_some()
    );
    assert_eq!(trial.add("count", 1, None, 0), Ok(42));
    assert_eq!(trial.remove("text", 0), Ok(true));
    assert_eq!(value(&*trial, "text"), None);
    trial.put("short", b"x", Some(10), 100).unwrap();
    assert!(trial.get("short", 109).unwrap().is_some());
    assert!(trial.get("short", 110).unwrap().is_none());
    // The next call of the same candidate goes on from there.
    assert_eq!(value(&*scratch.over(None), "count"), Some(b"42".to_vec()));
    let taken = [0, 0, 0, 1000].map(|now_ms| trial.take("bucket", 1, 1.0, 2, now_ms).unwrap());
    assert_eq!(taken, [true, true, false, true]);
    let large = vec![0; 9 << 20];
    assert_eq!(
        trial.put("large", &large, None, 0),
        Err(StateFailure::Quota)
    );
}

#[tokio::test]
async fn a_shadow_looks_and_does_not_touch() {
    let live = Live {
        environment: Arc::new(World),
        scratch: ScratchOverlay::default(),
    };
    let shadow = Replay::over(&Tape::default(), live);
    let store = shadow.state().unwrap();
    assert_eq!(store.add("count", 1, None, 0), Ok(42));
    assert_eq!(store.remove("text", 0), Ok(true));
    let post = HttpRequest {
        method: HttpMethod::Post,
        url: "https://policy.example/".to_owned(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        auth: None,
        timeout_ms: None,
    };
    let refused = shadow.http(post).await;
    assert!(
        matches!(refused, Err(HttpFailure::Denied(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_tape_answers_in_order_and_says_what_it_does_not_know() {
    let times = Arc::new(std::sync::atomic::AtomicU64::new(100));
    let clock = move || times.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let recorder = Recorder::new(Arc::new(EmptyEnvironment), Arc::new(clock), 9);
    let told = [recorder.now_ms(), recorder.now_ms()];
    let question = Question::Mx("dest.example".parse().unwrap());
    let answer = recorder.lookup(question.clone()).await;
    // As it is written and read.
    let text = serde_json::to_string(&recorder.tape()).unwrap();
    let tape: Tape = serde_json::from_str(&text).unwrap();
    assert_eq!(tape, recorder.tape());
    let replay = Replay::new(&tape);
    assert_eq!(replay.seed(), Some(9));
    assert_eq!([replay.now_ms(), replay.now_ms()], told);
    assert_eq!(replay.lookup(question).await, answer);
    assert!(replay.news().is_empty());
    let other = Question::Mx("other.example".parse().unwrap());
    assert!(replay.lookup(other.clone()).await.is_err());
    assert_eq!(replay.news(), [Asked::Lookup(other).in_words()]);
}

fn verdict(recipients: &[u32], decision: Decision, note: &str) -> Verdict {
    Verdict {
        recipients: recipients.to_vec(),
        decision,
        settings: None,
        flow: Flow::Next,
        note: Some(note.to_owned()),
    }
}

fn kinds(before: Vec<Verdict>, after: Vec<Verdict>) -> Vec<DifferenceKind> {
    let recipients = ["a@x.example", "b@x.example"];
    let recipients = recipients.map(|it| it.parse::<smtp::Mailbox>().unwrap().into());
    let domain = "x.example".parse().unwrap();
    let request = RouteRequest::new("ID", domain, recipients.to_vec());
    let input = Input::Route(Arc::new(request));
    let answered = |verdicts| Ending::Answered {
        output: Output::Route(verdicts),
        attributes: Vec::new(),
    };
    let found = differences(&input, &answered(before), &answered(after));
    found
        .into_iter()
        .map(|difference| difference.kind)
        .collect()
}

fn defer(seconds: u32, reason: &str) -> Decision {
    Decision::Defer {
        reason: reason.to_owned(),
        retry_after_seconds: Some(seconds),
    }
}

#[test]
fn grouping_notes_and_reasons_are_no_difference() {
    let apart = vec![
        verdict(&[0], defer(5, "one"), "x"),
        verdict(&[1], defer(5, "two"), "y"),
    ];
    let together = vec![verdict(&[0, 1], defer(5, "three"), "z")];
    assert_eq!(kinds(apart.clone(), together), []);
    let later = vec![verdict(&[0, 1], defer(6, "three"), "z")];
    assert_eq!(kinds(apart.clone(), later), [DifferenceKind::Time]);
    let mut stops = verdict(&[0, 1], Decision::Proceed, "");
    stops.flow = Flow::Stop;
    let both = [DifferenceKind::Decision, DifferenceKind::Flow];
    assert_eq!(kinds(apart, vec![stops]), both);
}

#[test]
fn failures_are_the_same_by_their_reason() {
    let failed = |reason, detail: &str| Ending::Failed {
        reason,
        detail: detail.to_owned(),
    };
    let (one, other) = (
        failed(FailureReason::Trap, "here"),
        failed(FailureReason::Trap, "there"),
    );
    assert_eq!(differences(&Input::Message, &one, &other), []);
    let temporary = failed(FailureReason::Temporary, "");
    let found = differences(&Input::Message, &one, &temporary);
    assert_eq!(found[0].kind, DifferenceKind::Failure);
    assert!(one.is_repeatable() && !failed(FailureReason::CpuLimit, "").is_repeatable());
}
