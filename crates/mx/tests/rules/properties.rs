//! What holds for any records, any edits and any seed.

use std::collections::HashSet;

use mx::{
    Answer, Candidate, CandidateOrigin, Endpoint, HopEndpoint, MxEdit, MxExchange, MxRecord,
    NextHop, PlanFailureReason, PlanOptions, TlsPolicy, edit_plan, plan_from_answers,
};
use proptest::prelude::*;

use super::table::{TableResolver, directory, domain, fresh};

/// Few names and preferences, so that they meet often.
fn record() -> impl Strategy<Value = MxRecord> {
    let exchange = prop_oneof![
        6 => (0..6_u8).prop_map(|host| format!("h{host}.example")),
        1 => Just("us.example".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("192.0.2.1".to_owned()),
        1 => Just("not a name".to_owned()),
    ];
    (0..5_u16, exchange).prop_map(|(preference, exchange)| MxRecord {
        preference,
        exchange: MxExchange::classify(&exchange),
    })
}

fn best(records: &[MxRecord], host: &str) -> Option<u32> {
    let named = records
        .iter()
        .filter(|record| record.exchange.to_string() == host);
    named.map(|record| u32::from(record.preference)).min()
}

fn hosts(candidates: &[Candidate]) -> Vec<String> {
    candidates
        .iter()
        .map(|candidate| candidate.endpoint.to_string())
        .collect()
}

fn in_order(candidates: &[Candidate]) -> bool {
    candidates
        .iter()
        .map(|candidate| candidate.priority)
        .is_sorted()
}

fn edit() -> impl Strategy<Value = MxEdit> {
    let pattern = || {
        prop_oneof![
            (0..6_u8).prop_map(|host| format!("h{host}.example")),
            Just("*.example".to_owned()),
            Just("*.test".to_owned()),
        ]
        .prop_map(|text| text.parse().unwrap())
    };
    let hop = || {
        (0..4_u8, 0..3_u16).prop_map(|(host, priority)| NextHop {
            priority,
            ..NextHop::new(HopEndpoint::host(&format!("g{host}.test")).unwrap())
        })
    };
    prop_oneof![
        pattern().prop_map(MxEdit::Drop),
        proptest::collection::vec(pattern(), 1..4).prop_map(MxEdit::Keep),
        pattern().prop_map(MxEdit::Prefer),
        pattern().prop_map(MxEdit::Demote),
        hop().prop_map(MxEdit::InsertFirst),
        hop().prop_map(MxEdit::Append),
        pattern().prop_map(|pattern| MxEdit::SetTls(pattern, TlsPolicy::Encrypt)),
    ]
}

proptest! {
    #[test]
    fn a_plan_has_every_host_better_than_us_once_and_in_order(
        records in proptest::collection::vec(record(), 1..12),
        seed: u64,
    ) {
        let options = PlanOptions {
            own_names: vec![domain("us.example")],
            ..PlanOptions::default()
        };
        let mx = fresh(Ok(Answer::new(records.clone(), 300)));
        let made = plan_from_answers(&domain("d.example"), &mx, None, &options, seed);
        let us = best(&records, "us.example").unwrap_or(u32::MAX);
        let expected: HashSet<String> = (0..6)
            .map(|host| format!("h{host}.example"))
            .filter(|host| best(&records, host).is_some_and(|preference| preference < us))
            .collect();
        match made {
            Ok(plan) => {
                let named = hosts(&plan.candidates);
                prop_assert_eq!(named.len(), expected.len());
                prop_assert_eq!(named.iter().cloned().collect::<HashSet<_>>(), expected);
                prop_assert!(in_order(&plan.candidates));
                for candidate in &plan.candidates {
                    let host = candidate.endpoint.to_string();
                    prop_assert_eq!(Some(candidate.priority), best(&records, &host));
                }
            }
            Err(failure) => {
                prop_assert!(expected.is_empty());
                prop_assert!(!failure.is_temporary());
                let is_loop = failure.reason == PlanFailureReason::Loop;
                prop_assert_eq!(is_loop, us != u32::MAX);
            }
        }
    }

    #[test]
    fn edits_keep_the_list_in_order_and_without_repetition(
        edits in proptest::collection::vec(edit(), 1..8),
        seed: u64,
    ) {
        let records = (0..6_u8).map(|host| MxRecord {
            preference: u16::from(host / 2),
            exchange: MxExchange::classify(&format!("h{host}.example")),
        });
        let mx = fresh(Ok(Answer::new(records.collect(), 300)));
        let options = PlanOptions::default();
        let base = plan_from_answers(&domain("d.example"), &mx, None, &options, seed).unwrap();
        let directory = directory(&TableResolver::new());
        let editing = edit_plan(&directory, base, &edits, CandidateOrigin::Plugin, &options, seed);
        let edited = futures_util::FutureExt::now_or_never(editing);
        if let Ok(plan) = edited.expect("no edit of these looks anything up") {
            prop_assert!(!plan.candidates.is_empty());
            prop_assert!(in_order(&plan.candidates), "{:?}", plan.candidates);
            let distinct: HashSet<&Candidate> = plan.candidates.iter().collect();
            prop_assert_eq!(distinct.len(), plan.candidates.len());
            let is_host = |one: &Candidate| matches!(one.endpoint, Endpoint::Host(_));
            prop_assert!(plan.candidates.iter().all(is_host));
        }
    }
}
