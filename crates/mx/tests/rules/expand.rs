//! Routes that a configuration or a plugin names.

use std::collections::HashMap;

use super::table::{TableResolver, directory, domain, temporary};
use mx::{
    CandidateChange, CandidateOrigin, DeliveryPlan, Directory, EditFailure, HopChoice, HopEndpoint,
    HopFault, MxEdit, NextHop, PlanFailureReason, PlanOptions, RouteFault, Step, TlsPolicy,
    edit_plan, expand_hops, plan, select_hops,
};

fn hop(host: &str, priority: u16, weight: u16) -> NextHop {
    let endpoint = HopEndpoint::host(host).unwrap();
    NextHop {
        priority,
        weight,
        ..NextHop::new(endpoint)
    }
}

fn mx_of(name: &str, priority: u16) -> NextHop {
    NextHop {
        priority,
        ..NextHop::new(HopEndpoint::mx_of(name).unwrap())
    }
}

fn shown(plan: &DeliveryPlan) -> String {
    let shown: Vec<String> = plan
        .candidates
        .iter()
        .map(|candidate| candidate.endpoint.to_string())
        .collect();
    shown.join(", ")
}

fn world() -> Directory {
    let table = TableResolver::new();
    table.mx(
        "d.example",
        "10 a.mx.example, 20 b.mx.example, 30 c.other.example",
        300,
    );
    table.mx("smart.example", "20 s2.example, 10 s1.example", 300);
    table.fail("down.example", &temporary());
    directory(&table)
}

async fn base(directory: &Directory) -> DeliveryPlan {
    plan(directory, &domain("d.example"), &PlanOptions::default(), 1)
        .await
        .unwrap()
}

async fn expand(hops: &[NextHop], seed: u64) -> Result<DeliveryPlan, RouteFault> {
    let options = PlanOptions {
        port: 2525,
        tls: TlsPolicy::Encrypt,
        ..PlanOptions::default()
    };
    expand_hops(&world(), hops, CandidateOrigin::Plugin, &options, seed).await
}

#[tokio::test]
async fn hops_go_by_priority_then_weight() {
    let hops = [
        hop("c.example", 20, 0),
        hop("a.example", 10, 75),
        hop("b.example", 10, 25),
    ];
    let mut first = HashMap::new();
    for seed in 0..1000 {
        let plan = expand(&hops, seed).await.unwrap();
        assert_eq!(plan.candidates[2].endpoint.to_string(), "c.example");
        *first
            .entry(plan.candidates[0].endpoint.to_string())
            .or_insert(0_u32) += 1;
    }
    assert!((680..820).contains(&first["a.example"]), "{first:?}");
    let plan = expand(&hops[..1], 0).await.unwrap();
    assert_eq!(
        plan.candidates[0].port, 25,
        "the port of the protocol, not that of MX hosts"
    );
    assert_eq!(plan.candidates[0].tls, TlsPolicy::Encrypt);
    assert_eq!(plan.candidates[0].origin, CandidateOrigin::Plugin);
}

#[tokio::test]
async fn mx_of_stands_for_its_hosts_in_their_order() {
    let mut smart = mx_of("smart.example", 5);
    smart.auth = Some("login".into());
    let plan = expand(&[hop("z.example", 9, 0), smart, hop("a.example", 1, 0)], 3)
        .await
        .unwrap();
    assert_eq!(shown(&plan), "a.example, s1.example, s2.example, z.example");
    let priorities: Vec<u32> = plan.candidates.iter().map(|one| one.priority).collect();
    assert_eq!(priorities, [1, 5, 5, 9]);
    let first = &plan.candidates[1];
    assert_eq!(
        first.origin,
        CandidateOrigin::Mx,
        "the world's DNS named the host"
    );
    assert_eq!((first.port, first.auth.as_deref()), (2525, Some("login")));
}

#[tokio::test]
async fn what_cannot_be_resolved_is_left_out_while_others_are_left() {
    let plan = expand(&[mx_of("down.example", 1), hop("a.example", 2, 0)], 1)
        .await
        .unwrap();
    assert_eq!(shown(&plan), "a.example");
    let left_out = |step: &Step| matches!(step, Step::HopUnresolved { .. });
    assert!(plan.why.iter().any(left_out));

    let fault = expand(&[mx_of("none.example", 1), mx_of("down.example", 2)], 1).await;
    let expected = RouteFault::Unresolved {
        domain: domain("down.example"),
        reason: PlanFailureReason::Temporary(temporary()),
    };
    assert_eq!(
        fault,
        Err(expected.clone()),
        "what may pass is the better reason"
    );
    assert!(expected.is_temporary());
    let fault = expand(&[mx_of("none.example", 1)], 1).await.unwrap_err();
    assert!(!fault.is_temporary());
}

#[tokio::test]
async fn faults_are_found_before_anything_is_tried() {
    assert_eq!(expand(&[], 1).await, Err(RouteFault::NoHops));
    let zero = NextHop {
        port: Some(0),
        ..hop("a.example", 1, 0)
    };
    let fault = RouteFault::Hop {
        position: 1,
        fault: HopFault::PortZero,
    };
    assert_eq!(expand(&[hop("b.example", 1, 0), zero], 1).await, Err(fault));
}

#[tokio::test]
async fn the_same_place_is_tried_once() {
    let plan = expand(&[hop("a.example", 1, 0), hop("a.example", 2, 0)], 1)
        .await
        .unwrap();
    assert_eq!(shown(&plan), "a.example");
    let submission = NextHop {
        port: Some(587),
        ..hop("a.example", 2, 0)
    };
    let plan = expand(&[hop("a.example", 1, 0), submission], 1)
        .await
        .unwrap();
    assert_eq!(plan.candidates.len(), 2);
}

async fn select(choices: &[HopChoice], seed: u64) -> Result<DeliveryPlan, RouteFault> {
    let directory = world();
    let (base, options) = (base(&directory).await, PlanOptions::default());
    select_hops(
        &directory,
        &base,
        choices,
        CandidateOrigin::Plugin,
        &options,
        seed,
    )
    .await
}

#[tokio::test]
async fn a_selection_goes_by_priority_then_by_its_own_order() {
    let first = |index, priority| {
        HopChoice::Changed(CandidateChange {
            index,
            priority: Some(priority),
            ..CandidateChange::default()
        })
    };
    for seed in 0..50 {
        let plan = select(&[HopChoice::Candidate(1), HopChoice::Candidate(0)], seed)
            .await
            .unwrap();
        assert_eq!(shown(&plan), "a.mx.example, b.mx.example");
        let plan = select(&[first(2, 0), first(0, 0), first(1, 0)], seed)
            .await
            .unwrap();
        assert_eq!(shown(&plan), "c.other.example, a.mx.example, b.mx.example");
        let choices = [
            HopChoice::Candidate(0),
            HopChoice::Hop(hop("gw.example", 5, 0)),
        ];
        let plan = select(&choices, seed).await.unwrap();
        assert_eq!(shown(&plan), "gw.example, a.mx.example");
        let selected = Step::Selected {
            taken_count: 2,
            left_out_count: 2,
        };
        assert_eq!(plan.why.last(), Some(&selected));
        assert!(
            matches!(plan.why[0], Step::MxFound { .. }),
            "how the list came about stays"
        );
    }
}

#[tokio::test]
async fn weights_spread_a_selection() {
    let choices = [
        HopChoice::Hop(hop("a.example", 1, 50)),
        HopChoice::Hop(hop("b.example", 1, 50)),
    ];
    let mut first = HashMap::new();
    for seed in 0..600 {
        *first
            .entry(shown(&select(&choices, seed).await.unwrap()))
            .or_insert(0_u32) += 1;
    }
    assert!(
        first.values().all(|count| (230..370).contains(count)),
        "{first:?}"
    );
}

#[tokio::test]
async fn a_selection_of_what_is_not_there_is_a_fault() {
    let failure = EditFailure::IndexOutOfRange {
        index: 3,
        candidates_count: 3,
    };
    let fault = RouteFault::Edit {
        position: 1,
        failure,
    };
    let choices = [HopChoice::Candidate(0), HopChoice::Candidate(3)];
    assert_eq!(select(&choices, 1).await, Err(fault));
    let nothing = RouteFault::Edit {
        position: 0,
        failure: EditFailure::NothingLeft,
    };
    assert_eq!(select(&[], 1).await, Err(nothing));
}

async fn edit(edits: &[MxEdit]) -> Result<DeliveryPlan, RouteFault> {
    let directory = world();
    let (base, options) = (base(&directory).await, PlanOptions::default());
    edit_plan(
        &directory,
        base,
        edits,
        CandidateOrigin::Plugin,
        &options,
        1,
    )
    .await
}

#[tokio::test]
async fn edits_apply_in_order() {
    let plan = edit(&[
        MxEdit::Drop("b.mx.example".parse().unwrap()),
        MxEdit::InsertFirst(mx_of("smart.example", 9)),
        MxEdit::Append(hop("last.example", 0, 0)),
        MxEdit::Prefer("*.other.example".parse().unwrap()),
        MxEdit::Prefer("c.other.example".parse().unwrap()),
    ])
    .await
    .unwrap();
    assert_eq!(
        shown(&plan),
        "c.other.example, s1.example, s2.example, a.mx.example, last.example"
    );
    let priorities: Vec<u32> = plan.candidates.iter().map(|one| one.priority).collect();
    assert!(priorities.is_sorted(), "{priorities:?}");
    let edited = plan
        .why
        .iter()
        .filter(|step| matches!(step, Step::Edited { .. }));
    assert_eq!(edited.count(), 5);
}

#[tokio::test]
async fn an_edit_that_fails_names_its_place() {
    let keep = MxEdit::Keep(vec!["zzz.example".parse().unwrap()]);
    let fault = edit(&[MxEdit::Drop("b.mx.example".parse().unwrap()), keep]).await;
    let expected = RouteFault::Edit {
        position: 1,
        failure: EditFailure::NothingLeft,
    };
    assert_eq!(fault, Err(expected.clone()));
    assert_eq!(expected.to_string(), "entry 1: no candidate is left");
    let zero = NextHop {
        port: Some(0),
        ..hop("a.example", 1, 0)
    };
    let fault = edit(&[MxEdit::Append(zero)]).await;
    assert_eq!(
        fault,
        Err(RouteFault::Hop {
            position: 0,
            fault: HopFault::PortZero
        })
    );
}

#[tokio::test]
async fn an_insertion_that_does_not_resolve_is_left_out() {
    let plan = edit(&[MxEdit::InsertFirst(mx_of("down.example", 0))])
        .await
        .unwrap();
    assert_eq!(shown(&plan), "a.mx.example, b.mx.example, c.other.example");
}
