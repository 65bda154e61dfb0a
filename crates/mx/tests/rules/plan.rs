//! The rules of RFC 5321 section 5.1 and RFC 7505, one case each.

use std::collections::HashMap;

use super::table::{TableResolver, addresses, directory, domain, fresh, mx_records, temporary};
use mx::{
    Answer, CandidateOrigin, DeliveryPlan, DropReason, Endpoint, LookupError, PlanFailure,
    PlanFailureReason, PlanOptions, Step, TlsPolicy, plan, plan_from_answers,
};

fn options() -> PlanOptions {
    PlanOptions {
        own_names: vec![domain("us.example")],
        ..PlanOptions::default()
    }
}

fn plan_of(records: &str, seed: u64) -> Result<DeliveryPlan, PlanFailure> {
    let mx = fresh(Ok(Answer::new(mx_records(records), 300)));
    plan_from_answers(&domain("d.example"), &mx, None, &options(), seed)
}

fn shown(plan: &DeliveryPlan) -> String {
    let shown: Vec<String> = plan
        .candidates
        .iter()
        .map(|candidate| format!("{} {}", candidate.priority, candidate.endpoint))
        .collect();
    shown.join(", ")
}

#[test]
fn mx_records_become_candidates() {
    for (records, expected) in [
        (
            "20 b.example, 10 a.example, 30 c.example",
            "10 a.example, 20 b.example, 30 c.example",
        ),
        // The same host twice: its better preference counts.
        (
            "20 a.example, 10 A.EXAMPLE., 30 b.example",
            "10 a.example, 30 b.example",
        ),
        // RFC 7505: a null MX beside others means nothing.
        ("0 ., 10 a.example", "10 a.example"),
        // Not names.
        ("5 192.0.2.1., 6 2001:db8::1, 10 a.example", "10 a.example"),
        ("5 two words, 10 a.example", "10 a.example"),
        // Us, and what is not better than us, goes.
        (
            "10 a.example, 20 us.example, 20 b.example, 30 c.example",
            "10 a.example",
        ),
        (
            "10 a.example, 20 US.Example., 15 b.example",
            "10 a.example, 15 b.example",
        ),
    ] {
        let plan = plan_of(records, 1).unwrap();
        assert_eq!(shown(&plan), expected, "{records}");
        assert!(
            plan.candidates
                .iter()
                .all(|one| one.origin == CandidateOrigin::Mx)
        );
        assert!(plan.candidates.iter().all(|one| one.port == 25));
    }
}

#[test]
fn some_mx_records_leave_nothing() {
    for (records, reason) in [
        ("0 .", PlanFailureReason::NullMx),
        ("10 .", PlanFailureReason::NullMx),
        ("0 ., 10 .", PlanFailureReason::NullMx),
        ("10 192.0.2.1.", PlanFailureReason::UnusableMx),
        ("0 ., 10 192.0.2.1.", PlanFailureReason::UnusableMx),
        ("10 us.example", PlanFailureReason::Loop),
        (
            "10 us.example, 10 a.example, 20 b.example",
            PlanFailureReason::Loop,
        ),
    ] {
        let failure = plan_of(records, 1).unwrap_err();
        assert_eq!(failure.reason, reason, "{records}");
        assert!(!failure.is_temporary(), "{records}");
        assert!(matches!(failure.why[0], Step::MxFound { .. }), "{records}");
    }
}

#[test]
fn without_records_the_proof_decides() {
    let found = || Ok(Answer::new(addresses("192.0.2.1, 2001:db8::1"), 60));
    let absent = || LookupError::NoRecords { ttl_s: 60 };
    let unknown = || LookupError::NoSuchDomain { ttl_s: 60 };
    let later = || PlanFailureReason::Temporary(temporary());
    let name = domain("d.example");
    let no_mx = fresh(Err(absent()));
    let plan = plan_from_answers(&name, &no_mx, Some(&fresh(found())), &options(), 1).unwrap();
    assert_eq!(shown(&plan), "0 d.example");
    assert_eq!(plan.candidates[0].origin, CandidateOrigin::ImplicitAddress);

    for (mx, own, reason) in [
        (
            absent(),
            Some(Err(absent())),
            PlanFailureReason::NoAddresses,
        ),
        (
            absent(),
            Some(Err(unknown())),
            PlanFailureReason::NoSuchDomain,
        ),
        (absent(), Some(Err(temporary())), later()),
        (unknown(), None, PlanFailureReason::NoSuchDomain),
        // Addresses never stand in for MX records that may well exist.
        (unknown(), Some(found()), PlanFailureReason::NoSuchDomain),
        (temporary(), Some(found()), later()),
        (temporary(), None, later()),
    ] {
        let shown = format!("{mx:?} {own:?}");
        let own = own.map(fresh);
        let failure = plan_from_answers(&name, &fresh(Err(mx)), own.as_ref(), &options(), 1);
        assert_eq!(failure.unwrap_err().reason, reason, "{shown}");
    }
    let unasked = plan_from_answers(&name, &fresh(Err(absent())), None, &options(), 1);
    assert!(
        unasked.unwrap_err().is_temporary(),
        "what was not asked is not proven"
    );
}

#[test]
fn our_own_domain_without_mx_is_a_loop() {
    let mx = fresh(Err(LookupError::NoRecords { ttl_s: 60 }));
    let own = fresh(Ok(Answer::new(addresses("192.0.2.1"), 60)));
    let failure = plan_from_answers(&domain("us.example"), &mx, Some(&own), &options(), 1);
    assert_eq!(failure.unwrap_err().reason, PlanFailureReason::Loop);
}

#[test]
fn each_reason_has_its_reply() {
    let name = domain("d.example");
    for (reason, code, enhanced) in [
        (PlanFailureReason::NoSuchDomain, 550, "5.1.2"),
        (PlanFailureReason::NullMx, 556, "5.1.10"),
        (PlanFailureReason::NoAddresses, 550, "5.1.2"),
        (PlanFailureReason::UnusableMx, 550, "5.4.4"),
        (PlanFailureReason::Loop, 554, "5.4.6"),
        (PlanFailureReason::Temporary(temporary()), 451, "4.4.3"),
    ] {
        let reply = reason.reply(&name);
        assert_eq!(reply.code, code, "{reason}");
        assert_eq!(reply.enhanced, enhanced.parse().ok(), "{reason}");
        assert!(reply.text.contains("d.example"), "{reason}");
        assert_eq!(reason.is_temporary(), code < 500, "{reason}");
    }
}

#[test]
fn equal_preferences_share_the_load_and_a_seed_repeats() {
    let records = "10 a.example, 10 b.example, 10 c.example, 20 d.example, 20 e.example";
    let mut orders = HashMap::new();
    for seed in 0..12_000 {
        let plan = plan_of(records, seed).unwrap();
        let priorities: Vec<u32> = plan.candidates.iter().map(|one| one.priority).collect();
        assert_eq!(priorities, [10, 10, 10, 20, 20]);
        *orders.entry(shown(&plan)).or_insert(0_u32) += 1;
        assert_eq!(shown(&plan), shown(&plan_of(records, seed).unwrap()));
    }
    assert_eq!(orders.len(), 12, "3! × 2! orders");
    assert!(
        orders.values().all(|count| (800..1200).contains(count)),
        "{orders:?}"
    );
}

#[test]
fn the_order_of_the_answer_does_not_matter_for_the_spread() {
    // Servers rotate answers: chance must not be undone, nor added to, by that.
    let mut first = HashMap::new();
    for seed in 0..4000 {
        let plan = plan_of("10 b.example, 10 a.example", seed).unwrap();
        *first.entry(shown(&plan)).or_insert(0_u32) += 1;
    }
    assert!(
        first.values().all(|count| (1850..2150).contains(count)),
        "{first:?}"
    );
}

#[test]
fn the_limit_keeps_the_best() {
    let limited = PlanOptions {
        hosts_limit: 2,
        ..options()
    };
    let records = mx_records("30 c.example, 10 a.example, 20 b.example");
    let mx = fresh(Ok(Answer::new(records, 300)));
    let plan = plan_from_answers(&domain("d.example"), &mx, None, &limited, 1).unwrap();
    assert_eq!(shown(&plan), "10 a.example, 20 b.example");
    assert_eq!(
        plan.why.last(),
        Some(&Step::Limited {
            kept_count: 2,
            dropped_count: 1
        })
    );
}

#[test]
fn every_step_is_told() {
    let mut answer = Answer::new(
        mx_records("0 ., 10 a.example, 20 a.example, 10 b.example"),
        300,
    );
    answer.canonical_name = Some(domain("real.example"));
    let mut mx = fresh(Ok(answer));
    mx.freshness = mx::Freshness::Cached { left_ms: 120_900 };
    let plan = plan_from_answers(&domain("d.example"), &mx, None, &options(), 4).unwrap();
    let told: Vec<String> = plan.why.iter().map(Step::to_string).collect();
    let order = plan.candidates.iter().map(|one| one.endpoint.to_string());
    let order = order.collect::<Vec<_>>().join(", ");
    assert_eq!(
        told,
        [
            "MX of d.example: alias of real.example, 0 ., 10 a.example, 10 b.example, \
             20 a.example, TTL 300 (cached, 120 s left)",
            "MX 0 . not used: a null MX beside other records means nothing (RFC 7505)",
            "MX 20 a.example not used: listed before",
            &format!("equal preference 10, in an order by chance: {order}"),
        ]
    );
    let dropped = Step::RecordDropped {
        preference: 20,
        exchange: "a.example".into(),
        reason: DropReason::Duplicate,
    };
    assert_eq!(plan.why[2], dropped);
}

#[tokio::test]
async fn the_directory_is_asked_for_what_is_needed_only() {
    let table = TableResolver::new();
    table.mx("mx.example", "10 a.example", 300);
    table.mx("bare.example", "", 300);
    table.addresses("bare.example", "192.0.2.1", 300);
    let directory = directory(&table);
    let options = PlanOptions {
        port: 2525,
        tls: TlsPolicy::Encrypt,
        ..options()
    };

    let found = plan(&directory, &domain("mx.example"), &options, 1)
        .await
        .unwrap();
    assert_eq!(
        table.asked_count(),
        1,
        "addresses of MX hosts wait for their turn"
    );
    assert_eq!(found.candidates[0].port, 2525);
    assert_eq!(found.candidates[0].tls, TlsPolicy::Encrypt);

    let found = plan(&directory, &domain("bare.example"), &options, 1)
        .await
        .unwrap();
    assert_eq!(table.asked_count(), 3);
    assert_eq!(
        found.candidates[0].endpoint,
        Endpoint::Host(domain("bare.example"))
    );

    let failure = plan(&directory, &domain("none.example"), &options, 1)
        .await
        .unwrap_err();
    assert_eq!(failure.reason, PlanFailureReason::NoSuchDomain);
    assert_eq!(
        failure.why[0].to_string(),
        "MX of none.example: no such domain (fresh)"
    );
}

#[tokio::test]
async fn an_address_literal_is_taken_by_its_word() {
    let table = TableResolver::new();
    let directory = directory(&table);
    for (literal, address) in [
        ("[192.0.2.7]", "192.0.2.7"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
    ] {
        let found = plan(&directory, &domain(literal), &options(), 1)
            .await
            .unwrap();
        assert_eq!(found.candidates.len(), 1);
        assert_eq!(
            found.candidates[0].endpoint,
            Endpoint::Address(address.parse().unwrap())
        );
        assert_eq!(found.candidates[0].origin, CandidateOrigin::Literal);
    }
    assert_eq!(table.asked_count(), 0);
}
