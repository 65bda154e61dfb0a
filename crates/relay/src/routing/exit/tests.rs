//! Plans that nobody may have made are kept back, each for what is wrong with it.

use std::sync::Arc;

use mx::{Candidate, CandidateOrigin, DeliveryPlan, Endpoint, Freshness, MxLine, Step, TlsPolicy};
use plugin::{CandidateChange, Decision, Flow, Grants, HopChoice, NextHop, Verdict};
use queue::UnixMs;

use super::super::tests::message;
use super::super::{Lanes, Subject};
use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::explain;

/// What a recipient at dest.test has without plugins, by this configuration.
async fn base(config: &str) -> Base {
    let text = format!(
        "hostname = \"relay.test\"\n{config}[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"200ms\"\nattempts = 1\n"
    );
    let config = match Config::parse(&text, "waypost.toml") {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    };
    let settings = explain::settings(config, &Clock::system()).await;
    let (settings, _host) = settings.expect("the configuration is good");
    let subject = Subject {
        message: Arc::new(message()),
        domain: "dest.test".parse().expect("a domain"),
        recipients: vec![0],
        attempt: 0,
        now: UnixMs(1_000),
        content: Arc::new(|| Box::pin(async { Ok(Vec::new().into()) })),
        lanes: Lanes::default(),
        wants_log: false,
    };
    Base::new(&settings, &subject)
}

fn at(host: &str, port: u16, origin: CandidateOrigin) -> Candidate {
    let endpoint = match host.parse() {
        Ok(ip) => Endpoint::Address(ip),
        Err(_) => Endpoint::Host(host.parse().expect("a name")),
    };
    Candidate::new(endpoint, port, origin)
}

fn plan(candidates: Vec<Candidate>) -> DeliveryPlan {
    let why = Vec::new();
    DeliveryPlan { candidates, why }
}

fn hop(endpoint: plugin::Endpoint, port: Option<u16>) -> NextHop {
    NextHop {
        endpoint,
        port,
        priority: 0,
        weight: 0,
        protocol: plugin::Protocol::Smtp,
        tls: None,
        auth: None,
        source_pool: None,
        site: None,
    }
}

fn host(name: &str, port: Option<u16>) -> NextHop {
    hop(plugin::Endpoint::Host(name.parse().expect("a name")), port)
}

fn grants(patterns: &[&str]) -> Grants {
    let patterns = patterns.iter().map(|one| one.parse().expect("a pattern"));
    Grants {
        route_hosts: patterns.collect(),
        credentials: vec!["secret".to_owned()],
        ..Grants::default()
    }
}

fn claims(decision: Decision, grants: &Grants) -> Claims {
    let mut claims = Claims::default();
    let verdict = Verdict {
        recipients: vec![0],
        decision,
        settings: None,
        flow: Flow::Next,
        note: None,
    };
    claims.add(&verdict, grants);
    claims
}

fn named(hops: Vec<NextHop>, grants: &Grants) -> Claims {
    let fall_back_to_mx = false;
    claims(
        Decision::UseHops {
            hops,
            fall_back_to_mx,
        },
        grants,
    )
}

fn changed(port: Option<u16>, auth: Option<&str>, grants: &Grants) -> Claims {
    let change = CandidateChange {
        index: 0,
        priority: None,
        port,
        tls: None,
        auth: auth.map(ToOwned::to_owned),
        source_pool: None,
    };
    let choices = vec![HopChoice::Changed(change)];
    claims(Decision::Select { choices }, grants)
}

#[tokio::test]
async fn only_the_smarthosts_are_the_configurations() {
    use CandidateOrigin::Configured;
    let base =
        base("smarthost = [{ host = \"smart.test\", port = 587, tls = \"encrypt\" }]\n").await;
    let nobody = Claims::default();
    let mut good = at("smart.test", 587, Configured);
    good.tls = TlsPolicy::Encrypt;
    assert_eq!(
        check(&base, &nobody, &plan(vec![good.clone()])).await,
        Ok(())
    );
    for bad in [
        at("other.test", 587, Configured),
        at("192.0.2.1", 587, Configured),
        Candidate {
            port: 25,
            ..good.clone()
        },
        Candidate {
            tls: TlsPolicy::Off,
            ..good.clone()
        },
        Candidate {
            auth: Some("secret".to_owned()),
            ..good.clone()
        },
        Candidate {
            source_pool: Some("warm".to_owned()),
            ..good.clone()
        },
        Candidate {
            origin: CandidateOrigin::Mx,
            ..good.clone()
        },
        Candidate {
            origin: CandidateOrigin::Plugin,
            ..good.clone()
        },
    ] {
        // One good candidate before it changes nothing.
        let plan = plan(vec![good.clone(), bad.clone()]);
        assert!(check(&base, &nobody, &plan).await.is_err(), "{bad}");
    }
    let moved = changed(Some(2525), None, &Grants::default());
    let elsewhere = Candidate { port: 2525, ..good };
    assert_eq!(check(&base, &moved, &plan(vec![elsewhere])).await, Ok(()));
    assert!(check(&base, &nobody, &plan(Vec::new())).await.is_err());
}

#[tokio::test]
async fn what_plugins_name_counts_within_their_grants() {
    use CandidateOrigin::Plugin;
    let base = base("").await;
    let granted = grants(&["*.provider.test:587", "192.0.2.0/24"]);
    let good = named(vec![host("mx.provider.test", Some(587))], &granted);
    let there = |port| plan(vec![at("mx.provider.test", port, Plugin)]);
    assert_eq!(check(&base, &good, &there(587)).await, Ok(()));
    for (what, claims, plan) in [
        ("nobody named it", Claims::default(), there(587)),
        ("another port", good.clone(), there(25)),
        (
            "another host",
            good.clone(),
            plan(vec![at("b.provider.test", 587, Plugin)]),
        ),
        (
            "the port is not granted",
            named(vec![host("mx.provider.test", Some(25))], &granted),
            there(25),
        ),
        (
            "the host is not granted",
            named(vec![host("mx.other.test", Some(587))], &granted),
            plan(vec![at("mx.other.test", 587, Plugin)]),
        ),
        (
            "said to come from DNS",
            good.clone(),
            plan(vec![at("mx.provider.test", 587, CandidateOrigin::Mx)]),
        ),
    ] {
        assert!(check(&base, &claims, &plan).await.is_err(), "{what}");
    }
    let ip = "192.0.2.7".parse().expect("an address");
    let by_address = named(vec![hop(plugin::Endpoint::Address(ip), None)], &granted);
    let there = plan(vec![at("192.0.2.7", 25, Plugin)]);
    assert_eq!(check(&base, &by_address, &there).await, Ok(()));
}

#[tokio::test]
async fn hosts_of_a_domain_that_a_plugin_named_need_the_look_up() {
    let base = base("").await;
    let domain = "provider.test".parse().expect("a name");
    let mx_of = hop(plugin::Endpoint::MxOf(domain), None);
    let claims = named(vec![mx_of.clone()], &grants(&["provider.test"]));
    let found = Step::MxFound {
        domain: "provider.test".parse().expect("a name"),
        records: vec![MxLine {
            preference: 10,
            exchange: "MX.Provider.test.".to_owned(),
        }],
        ttl_s: 60,
        freshness: Freshness::Fresh,
        secure: false,
        canonical_name: None,
    };
    let there = |host| DeliveryPlan {
        candidates: vec![at(host, 25, CandidateOrigin::Mx)],
        why: vec![found.clone()],
    };
    assert_eq!(
        check(&base, &claims, &there("mx.provider.test")).await,
        Ok(())
    );
    assert!(check(&base, &claims, &there("evil.test")).await.is_err());
    let unseen = plan(there("mx.provider.test").candidates);
    assert!(check(&base, &claims, &unseen).await.is_err());
    let ungranted = named(vec![mx_of], &grants(&["other.test"]));
    assert!(
        check(&base, &ungranted, &there("mx.provider.test"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_secret_goes_where_somebody_may_send_it() {
    use CandidateOrigin::Plugin;
    let base = base("").await;
    let granted = grants(&["mx.provider.test"]);
    let with = |name: &str| NextHop {
        auth: Some(name.to_owned()),
        ..host("mx.provider.test", Some(587))
    };
    let there = |name: &str| {
        let mut candidate = at("mx.provider.test", 587, Plugin);
        candidate.auth = Some(name.to_owned());
        plan(vec![candidate])
    };
    let good = named(vec![with("secret")], &granted);
    assert_eq!(check(&base, &good, &there("secret")).await, Ok(()));
    assert!(check(&base, &good, &there("other")).await.is_err());
    let other = named(vec![with("other")], &granted);
    assert!(check(&base, &other, &there("other")).await.is_err());
    let without = named(vec![host("mx.provider.test", Some(587))], &granted);
    assert!(check(&base, &without, &there("secret")).await.is_err());
}
