//! Answers: good ones come out whole, wrong ones are refused with the field that
//! is wrong, and nothing beyond the grants comes through.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use plugin::{
    CallFailure, Decision, FailureReason, Flow, Grants, HopChoice, PluginHost, PluginSpec,
    RouteCall, Verdict,
};
use support::{Candidates, behaving, call_once, candidate, guest, host, request};

/// Three recipients, two candidates.
async fn answer(host: &PluginHost, spec: PluginSpec) -> Result<RouteCall, CallFailure> {
    let plugin = host.load(spec).await.unwrap();
    let world = Candidates(vec![candidate("mx1.example"), candidate("mx2.example")]);
    let recipients = ["a@example.com", "b@example.com", "c@example.com"];
    plugin.route(request(&recipients), Arc::new(world)).await
}

async fn only(host: &PluginHost, behaviour: &str) -> Verdict {
    let mut call = answer(host, behaving(behaviour)).await.unwrap();
    assert_eq!(call.verdicts.len(), 1, "{call:?}");
    call.verdicts.remove(0)
}

#[tokio::test]
async fn each_decision_comes_out() {
    let host = host();
    let verdict = only(&host, "proceed").await;
    assert_eq!(verdict.decision, Decision::Proceed);
    assert_eq!(verdict.recipients, [0, 1, 2]);
    assert_eq!(verdict.flow, Flow::Next);
    assert_eq!(verdict.note.as_deref(), Some("as told: proceed"));
    let verdict = only(&host, "defer").await;
    let reason = "not  now".to_owned();
    assert_eq!(
        verdict.decision,
        Decision::Defer {
            reason,
            retry_after_seconds: Some(60)
        }
    );
    assert_eq!(
        verdict.flow,
        Flow::Stop,
        "a deferral ends the chain whatever the plugin says"
    );
    let verdict = only(&host, "reject").await;
    let reply = smtp::Reply::new(550, (5, 7, 1), "no  such thing");
    assert_eq!(
        verdict.decision,
        Decision::Reject { reply },
        "a 4xx code is no rejection"
    );
    let verdict = only(&host, "discard").await;
    assert_eq!(
        verdict.decision,
        Decision::Discard {
            reason: "unwanted".to_owned()
        }
    );
    let verdict = only(&host, "hold").await;
    let reason = "for review".to_owned();
    assert_eq!(
        verdict.decision,
        Decision::Hold {
            reason,
            release_after_seconds: Some(3600)
        }
    );
}

#[tokio::test]
async fn edits_come_out_canonical() {
    let verdict = only(&host(), "edit").await;
    assert_eq!(
        serde_json::to_value(&verdict.decision).unwrap(),
        serde_json::json!({
            "decision": "edit",
            "edits": [
                { "drop": "*.bad.example" },
                { "keep": ["mx.example"] },
                { "set-tls": ["*.example", "encrypt"] },
                { "address-family": "v6" },
            ],
        })
    );
}

#[tokio::test]
async fn every_recipient_has_one_verdict() {
    let host = host();
    let call = answer(&host, behaving("nothing")).await.unwrap();
    assert_eq!(call.verdicts.len(), 1);
    assert_eq!(call.verdicts[0].decision, Decision::Proceed);
    assert_eq!(call.verdicts[0].recipients, [0, 1, 2]);
    let call = answer(&host, behaving("first-only")).await.unwrap();
    assert_eq!(call.verdicts[0].decision.as_str(), "hold");
    assert_eq!(call.verdicts[0].recipients, [0]);
    assert_eq!(call.verdicts[1].decision, Decision::Proceed);
    assert_eq!(call.verdicts[1].recipients, [1, 2]);
}

#[tokio::test]
async fn candidates_are_chosen_from_those_that_were_given() {
    let host = host();
    let chosen = answer(&host, guest("behaviour = 'select'\nchoices = [1, 0]"))
        .await
        .unwrap();
    let choices = vec![HopChoice::Candidate(1), HopChoice::Candidate(0)];
    assert_eq!(chosen.verdicts[0].decision, Decision::Select { choices });
    assert_eq!(chosen.verdicts[0].note.as_deref(), Some("of 2"));
    let failure = call_once(&host, guest("behaviour = 'select'"))
        .await
        .unwrap();
    assert_eq!(
        failure.verdicts[0].decision.as_str(),
        "defer",
        "no candidates are to be had here"
    );
}

/// Configuration of the guest, and what the detail of the failure has to say.
const WRONG: &[(&str, &str)] = &[
    (
        "behaviour = 'empty-hops'",
        "verdicts[0].use-hops.hops: empty",
    ),
    (
        "behaviour = 'many-hops'",
        "verdicts[0].use-hops.hops: 1000 entries, at most 64",
    ),
    (
        "behaviour = 'invalid-host'",
        r#"use-hops.hops[0].endpoint.host: "no host!" is no domain"#,
    ),
    (
        "behaviour = 'out-of-range'",
        "verdicts[0].recipients[0]: 3, but the call has 3 recipients",
    ),
    (
        "behaviour = 'named-twice'",
        "verdicts[0].recipients[1]: 0 is named by verdicts[0] already",
    ),
    (
        "behaviour = 'rest-twice'",
        "verdicts[1].recipients: empty as in verdicts[0]",
    ),
    (
        "behaviour = 'select-unasked'",
        "did not ask for the candidates",
    ),
    ("behaviour = 'empty-select'", "verdicts[0].select: empty"),
    (
        "behaviour = 'select'\nchoices = [2]",
        "candidate.index: 2, but there are 2 candidates",
    ),
    (
        "behaviour = 'select'\nchoices = [1, 1]",
        "select[1]: candidate 1 is chosen already",
    ),
    (
        "behaviour = 'edit-pattern'",
        r#"edit[0].prefer: "mx*.example" is neither"#,
    ),
    ("behaviour = 'edit-family'", "edit[0].address-family: 5"),
    ("behaviour = 'edit-keep-nothing'", "edit[0].keep: empty"),
    (
        "behaviour = 'settings-pool'",
        r#"settings.source-pool: "bulk" is not among"#,
    ),
    (
        "behaviour = 'settings-class'",
        r#"settings.traffic-class: "bulk" is not among"#,
    ),
    ("behaviour = 'settings-expiry'", "settings.expires-after: 0"),
    (
        "behaviour = 'settings-tls'",
        r#"settings.tls.verify: "192.0.2.1" is an address"#,
    ),
    (
        "behaviour = 'settings-extra'",
        r#"settings.extra[0].name: "No Name" is not"#,
    ),
    (
        "behaviour = 'hop'\nhop.host = '192.0.2.7'",
        "is an address, which goes into `address`",
    ),
    ("behaviour = 'hop'\nhop.host = ''", "endpoint.host"),
    (
        "behaviour = 'hop'\nhop.mx-of = '[192.0.2.7]'",
        "has no MX records",
    ),
    (
        "behaviour = 'hop'\nhop.address = 'relay.example'",
        "endpoint.address",
    ),
    (
        "behaviour = 'hop'\nhop.address = '0.0.0.0'",
        "is no host's address",
    ),
    (
        "behaviour = 'hop'\nhop.address = '224.0.0.1'",
        "is no host's address",
    ),
    (
        "behaviour = 'hop'\nhop.socket = 'run/lmtp'",
        "is no absolute path",
    ),
    (
        "behaviour = 'hop'\nhop.socket = '/run/lmtp'\nhop.port = 24",
        "port: a local socket has none",
    ),
    (
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.port = 0",
        "hops[0].port: 0",
    ),
    (
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.site = 'a b'",
        "hops[0].site",
    ),
    (
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.verify = 'no host!'",
        "tls.verify",
    ),
    (
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.auth = 'secret'",
        "hops[0].auth",
    ),
    (
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.pool = 'bulk'",
        "hops[0].source-pool",
    ),
    (
        "behaviour = 'edit-append'\nhop.host = 'a b'",
        "edit[0].append.endpoint.host",
    ),
];

#[tokio::test]
async fn wrong_answers_are_refused_with_the_field() {
    let host = host();
    // Spares the others the compiler.
    let _in_use = host.load(behaving("proceed")).await.unwrap();
    for (config, detail) in WRONG {
        let spec = PluginSpec {
            grants: Grants {
                route_hosts: vec!["*".parse().unwrap()],
                ..Grants::default()
            },
            ..guest(config)
        };
        let failure = answer(&host, spec).await.expect_err(config);
        assert_eq!(
            failure.reason,
            FailureReason::InvalidAnswer,
            "{config}: {failure}"
        );
        assert!(failure.detail.contains(detail), "{config}: {failure}");
    }
}

fn granted(config: &str, route_hosts: &[&str]) -> PluginSpec {
    PluginSpec {
        grants: Grants {
            route_hosts: route_hosts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            route_unix: vec!["/run/lmtp".into()],
            credentials: vec!["partner".to_owned()],
            source_pools: vec!["bulk".to_owned()],
            traffic_classes: vec!["bulk".to_owned()],
            ..Grants::default()
        },
        ..guest(config)
    }
}

const RELAY: &str = "behaviour = 'hop'\nhop.host = 'Relay.Example'";

/// Configuration of the guest, the grant of `route_hosts`, whether it suffices.
const GRANTED: &[(&str, &str, bool)] = &[
    (RELAY, "relay.example", true),
    (RELAY, "relay.example:25", true),
    (RELAY, "relay.example:26", false),
    (RELAY, "*.relay.example", false),
    (RELAY, "0.0.0.0/0", false),
    (
        "behaviour = 'hop'\nhop.mx-of = 'partner.example'",
        "partner.example",
        true,
    ),
    (
        "behaviour = 'hop'\nhop.mx-of = 'partner.example'",
        "other.example",
        false,
    ),
    (
        "behaviour = 'hop'\nhop.address = '10.0.0.1'\nhop.port = 2525",
        "10.0.0.0/8:2525",
        true,
    ),
    (
        "behaviour = 'hop'\nhop.address = '10.0.0.1'",
        "10.0.0.0/8:2525",
        false,
    ),
    (
        "behaviour = 'hop'\nhop.address = '::ffff:10.0.0.1'",
        "10.0.0.1",
        true,
    ),
    (
        "behaviour = 'hop'\nhop.host = '[10.0.0.1]'",
        "10.0.0.1",
        true,
    ),
    (
        "behaviour = 'hop'\nhop.socket = '/run/lmtp'",
        "none.example",
        true,
    ),
    ("behaviour = 'hop'\nhop.socket = '/run/other'", "*", false),
    (
        "behaviour = 'edit-append'\nhop.host = 'relay.example'",
        "relay.example",
        true,
    ),
    (
        "behaviour = 'edit-append'\nhop.host = 'relay.example'",
        "none.example",
        false,
    ),
];

#[tokio::test]
async fn next_hops_are_those_that_are_granted() {
    let host = host();
    let _in_use = host.load(behaving("proceed")).await.unwrap();
    for (config, grant, taken) in GRANTED {
        let answered = answer(&host, granted(config, &[grant])).await;
        match answered {
            Ok(_) => assert!(*taken, "{config} with {grant} was taken"),
            Err(failure) => {
                assert!(!taken, "{config} with {grant}: {failure}");
                assert_eq!(failure.reason, FailureReason::InvalidAnswer);
                assert!(
                    failure.detail.contains("not covered by the grant"),
                    "{failure}"
                );
            }
        }
    }
    let failure = answer(&host, guest(RELAY)).await.unwrap_err();
    assert_eq!(
        failure.reason,
        FailureReason::InvalidAnswer,
        "nothing is granted by default"
    );
}

#[tokio::test]
async fn names_that_are_granted_come_through() {
    let host = host();
    let config =
        "behaviour = 'hop'\nhop.host = 'relay.example'\nhop.auth = 'partner'\nhop.pool = 'bulk'";
    let call = answer(&host, granted(config, &["relay.example"]))
        .await
        .unwrap();
    assert_eq!(
        serde_json::to_value(&call.verdicts[0].decision).unwrap()["hops"][0],
        serde_json::json!({
            "host": "relay.example", "priority": 0, "weight": 1, "protocol": "smtp",
            "auth": "partner", "source-pool": "bulk",
        })
    );
    for behaviour in ["settings-pool", "settings-class"] {
        let spec = granted(&format!("behaviour = '{behaviour}'"), &[]);
        answer(&host, spec).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_goes_to_named_hosts_only() {
    let host = host();
    let config = "behaviour = 'select'\nchoices = [0]\nhop.auth = 'partner'";
    let failure = answer(&host, granted(config, &["mx2.example"]))
        .await
        .unwrap_err();
    assert_eq!(failure.reason, FailureReason::InvalidAnswer);
    assert!(
        failure
            .detail
            .contains("select[0].changed.auth: mx1.example is not covered"),
        "{failure}"
    );
    answer(&host, granted(config, &["mx1.example"]))
        .await
        .unwrap();
}
