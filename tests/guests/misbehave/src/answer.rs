//! Answers by name, right ones and wrong ones.

use waypost_sdk::{
    CandidateChange, Decision, Deferral, Endpoint, ExplicitRoute, Hold, HookError, HopChoice,
    MxEdit, NextHop, Reply, Request, Settings, TlsPolicy, Verdict, destination, types,
};

use crate::{number, text};

pub fn by_name(name: &str, request: &Request) -> Result<Vec<Verdict>, HookError> {
    if let Some(decision) = plain(name) {
        return Ok(vec![
            Verdict::all(decision).note(format!("as told: {name}")),
        ]);
    }
    if let Some(settings) = settings(name) {
        return Ok(vec![Verdict::all(Decision::Proceed).settings(settings)]);
    }
    Ok(match name {
        "nothing" => Vec::new(),
        "hop" => vec![Verdict::all(configured_route())],
        "split" => split(request),
        "choose-tls-off" => vec![choose(vec![HopChoice::Changed(CandidateChange {
            tls: Some(TlsPolicy::Off),
            ..CandidateChange::of(destination::candidates().map_or(1, |_| 0))
        })])],
        "select-unasked" => vec![choose(vec![HopChoice::Candidate(0)])],
        "select" => select(request),
        "out-of-range" => vec![Verdict::of(
            vec![request.recipients.len() as u32],
            Decision::Proceed,
        )],
        "named-twice" => vec![Verdict::of(vec![0, 0], Decision::Proceed)],
        "rest-twice" => vec![
            Verdict::all(Decision::Proceed),
            Verdict::all(Decision::Proceed),
        ],
        "first-only" => vec![Verdict::of(vec![0], Decision::hold("the first"))],
        "huge" => huge(),
        other => return Err(HookError::Broken(format!("no behaviour {other:?}"))),
    })
}

fn plain(name: &str) -> Option<Decision> {
    Some(match name {
        "proceed" => Decision::Proceed,
        "defer" => Decision::Defer(Deferral {
            reason: "not\r\nnow".into(),
            retry_after: Some(60),
        }),
        "reject" => Decision::Reject(Reply {
            code: 450,
            enhanced: "4.2.1".into(),
            text: "no\r\nsuch thing".into(),
        }),
        "discard" => Decision::Discard("unwanted".into()),
        "hold" => Decision::Hold(Hold {
            reason: "for review".into(),
            release_after: Some(3600),
        }),
        "empty-hops" => Decision::UseHops(ExplicitRoute {
            hops: Vec::new(),
            fall_back_to_mx: false,
        }),
        "invalid-host" => Decision::hops(vec![Endpoint::Host("no host!".into()).into()]),
        "many-hops" => Decision::hops(vec![
            Endpoint::Host("relay.example.net".into()).into();
            1000
        ]),
        "empty-select" => Decision::Select(Vec::new()),
        "edit" => Decision::Edit(vec![
            MxEdit::Drop("*.Bad.example".into()),
            MxEdit::Keep(vec!["mx.example".into()]),
            MxEdit::SetTls(("*.example".into(), TlsPolicy::Encrypt)),
            MxEdit::AddressFamily(6),
        ]),
        "edit-tls-off" => Decision::Edit(vec![MxEdit::SetTls(("*.test".into(), TlsPolicy::Off))]),
        "edit-pattern" => Decision::Edit(vec![MxEdit::Prefer("mx*.example".into())]),
        "edit-family" => Decision::Edit(vec![MxEdit::AddressFamily(5)]),
        "edit-keep-nothing" => Decision::Edit(vec![MxEdit::Keep(Vec::new())]),
        "edit-append" => Decision::Edit(vec![MxEdit::Append(configured_hop())]),
        _ => return None,
    })
}

fn settings(name: &str) -> Option<Settings> {
    let mut settings = Settings::default();
    match name {
        "settings-pool" => settings.source_pool = Some("bulk".into()),
        "settings-class" => settings.traffic_class = Some("bulk".into()),
        "settings-expiry" => settings.expires_after = Some(0),
        "settings-tls" => settings.tls = Some(TlsPolicy::Verify(vec!["192.0.2.1".into()])),
        "settings-tls-off" => settings.tls = Some(TlsPolicy::Off),
        "settings-extra" => {
            settings.extra = vec![types::Attribute {
                name: "No Name".into(),
                value: String::new(),
            }];
        }
        _ => return None,
    }
    Some(settings)
}

/// A hop as `hop.*` of the configuration describes it.
fn configured_hop() -> NextHop {
    let endpoint = if let Some(host) = text("hop.host") {
        Endpoint::Host(host)
    } else if let Some(domain) = text("hop.mx-of") {
        Endpoint::MxOf(domain)
    } else if let Some(address) = text("hop.address") {
        Endpoint::Address(address)
    } else {
        Endpoint::UnixSocket(text("hop.socket").unwrap_or_default())
    };
    NextHop {
        port: number("hop.port").map(|port| port as u16),
        auth: text("hop.auth"),
        source_pool: text("hop.pool"),
        site: text("hop.site"),
        tls: text("hop.verify").map(|name| TlsPolicy::Verify(vec![name])),
        ..endpoint.into()
    }
}

/// The hop of the configuration; with `hop.fall-back`, the MX hosts after it.
fn configured_route() -> Decision {
    Decision::UseHops(ExplicitRoute {
        hops: vec![configured_hop()],
        fall_back_to_mx: text("hop.fall-back").is_some(),
    })
}

/// The hop of the configuration for recipients whose local part is `moved`; no
/// opinion about others.
fn split(request: &Request) -> Vec<Verdict> {
    let moved = (0..)
        .zip(&request.recipients)
        .filter(|(_, recipient)| recipient.mailbox.local_part == "moved")
        .map(|(position, _)| position);
    vec![Verdict::of(moved.collect(), configured_route())]
}

fn choose(choices: Vec<HopChoice>) -> Verdict {
    Verdict::all(Decision::Select(choices))
}

/// Chooses the candidates at `choices` of the configuration; with `auth`, as
/// changed candidates.
fn select(request: &Request) -> Vec<Verdict> {
    let Ok(candidates) = destination::candidates() else {
        return vec![Verdict::all(Decision::defer(format!(
            "no way to {}",
            request.domain
        )))];
    };
    let auth = text("hop.auth");
    let choices = (0..8).map_while(|place| number(&format!("choices.{place}")));
    let choices = choices.map(|index| match &auth {
        None => HopChoice::Candidate(index as u32),
        Some(auth) => HopChoice::Changed(CandidateChange {
            auth: Some(auth.clone()),
            ..CandidateChange::of(index as u32)
        }),
    });
    vec![choose(choices.collect()).note(format!("of {}", candidates.len()))]
}

/// More octets than any relay would take, out of one string.
fn huge() -> Vec<Verdict> {
    let note = "x".repeat(8 << 20);
    vec![Verdict::all(Decision::Proceed).note(note)]
}
