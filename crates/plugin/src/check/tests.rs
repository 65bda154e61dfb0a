//! What no guest of ours can be made to answer; the rest is in `tests/answers.rs`.

use super::*;
use crate::bindings::routes;

fn check(grants: &Grants) -> Check<'_> {
    Check {
        grants,
        candidates: None,
        recipient_count: 2,
    }
}

fn verdict(recipients: Vec<u32>, decision: wit::Decision) -> wit::Verdict {
    wit::Verdict {
        recipients,
        decision,
        settings: None,
        flow: types::Flow::Next,
        note: Some("a\nb".to_owned()),
    }
}

#[test]
fn all_others_may_be_none() {
    let grants = Grants::default();
    let answer = vec![
        verdict(vec![], wit::Decision::Discard("the rest".to_owned())),
        verdict(vec![1, 0], wit::Decision::Proceed),
    ];
    let verdicts = check(&grants).verdicts(answer).unwrap();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].recipients, [0, 1]);
    assert_eq!(verdicts[0].note.as_deref(), Some("a b"));
}

#[test]
fn a_fault_in_a_verdict_for_nobody_counts_too() {
    let grants = Grants::default();
    let answer = vec![
        verdict(vec![0, 1], wit::Decision::Proceed),
        verdict(vec![], wit::Decision::Select(vec![])),
    ];
    let fault = check(&grants).verdicts(answer).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "verdicts[1].select: empty, at least one choice is wanted"
    );
}

#[test]
fn lists_within_policies_are_bounded() {
    let names = vec!["a.example".to_owned(); 17];
    let fault = hop::tls(routes::TlsPolicy::Verify(names)).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "tls.verify: 17 entries, at most 16 are taken"
    );
}
