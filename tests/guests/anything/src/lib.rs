//! A plugin for tests that answers, as far as the types of the contract go, anything: what to say
//! is in the field `X-Answer` of the message, as JSON, and nothing of it is checked here.

use serde::Deserialize;
use waypost_sdk::{
    CandidateChange, Decision, Deferral, Endpoint, ExplicitRoute, Flow, Hold, HookError, HopChoice,
    MxEdit, NextHop, Plugin, Protocol, Reply, Request, Router, Settings, TlsPolicy, Verdict,
    destination,
};

struct Anything;

impl Plugin for Anything {}

impl Router for Anything {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let text = request.headers.first().map_or("[]", String::as_str);
        let answer: Answer =
            serde_json::from_str(text).map_err(|error| HookError::Broken(error.to_string()))?;
        if answer.look {
            // Positions of candidates mean something only to a plugin that has seen them.
            let _candidates = destination::candidates();
        }
        Ok(answer
            .verdicts
            .into_iter()
            .map(Said::into_verdict)
            .collect())
    }
}

waypost_sdk::export!(Anything: Router);

#[derive(Deserialize)]
struct Answer {
    look: bool,
    verdicts: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    to: Vec<u32>,
    what: What,
    tls: Option<Tls>,
    pool: Option<String>,
    expires: Option<u32>,
    stop: bool,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Proceed,
    Hops { hops: Vec<Hop>, mx: bool },
    Select(Vec<Choice>),
    Edit(Vec<Edit>),
    Defer(Option<u32>),
    Reject(u16, String),
    Discard,
    Hold(Option<u32>),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    Candidate(u32),
    Changed(u32, Option<u16>, Option<Tls>, Option<String>),
    Hop(Hop),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Edit {
    Drop(String),
    Keep(Vec<String>),
    Prefer(String),
    Demote(String),
    First(Hop),
    Append(Hop),
    Tls(String, Tls),
    Family(u8),
}

#[derive(Deserialize)]
struct Hop {
    place: Place,
    port: Option<u16>,
    priority: u16,
    lmtp: bool,
    tls: Option<Tls>,
    auth: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Host(String),
    MxOf(String),
    Address(String),
    Socket(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Tls {
    Off,
    Opportunistic,
    Encrypt,
    Dane,
    Implicit,
    Verify(Vec<String>),
}

impl Said {
    fn into_verdict(self) -> Verdict {
        let settings = Settings {
            tls: self.tls.map(Into::into),
            source_pool: self.pool,
            traffic_class: None,
            expires_after: self.expires,
            reroute_on_retry: false,
            extra: Vec::new(),
        };
        Verdict {
            recipients: self.to,
            decision: self.what.into(),
            settings: Some(settings),
            flow: if self.stop { Flow::Stop } else { Flow::Next },
            note: self.note,
        }
    }
}

impl From<What> for Decision {
    fn from(what: What) -> Self {
        match what {
            What::Proceed => Self::Proceed,
            What::Hops { hops, mx } => Self::UseHops(ExplicitRoute {
                hops: hops.into_iter().map(Into::into).collect(),
                fall_back_to_mx: mx,
            }),
            What::Select(choices) => Self::Select(choices.into_iter().map(Into::into).collect()),
            What::Edit(edits) => Self::Edit(edits.into_iter().map(Into::into).collect()),
            What::Defer(retry_after) => Self::Defer(Deferral {
                reason: "as told".into(),
                retry_after,
            }),
            What::Reject(code, enhanced) => Self::Reject(Reply {
                code,
                enhanced,
                text: "as told".into(),
            }),
            What::Discard => Self::Discard("as told".into()),
            What::Hold(release_after) => Self::Hold(Hold {
                reason: "as told".into(),
                release_after,
            }),
        }
    }
}

impl From<Choice> for HopChoice {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Candidate(index) => Self::Candidate(index),
            Choice::Changed(index, port, tls, auth) => Self::Changed(CandidateChange {
                index,
                priority: None,
                port,
                tls: tls.map(Into::into),
                auth,
                source_pool: None,
            }),
            Choice::Hop(hop) => Self::Hop(hop.into()),
        }
    }
}

impl From<Edit> for MxEdit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Drop(pattern) => Self::Drop(pattern),
            Edit::Keep(patterns) => Self::Keep(patterns),
            Edit::Prefer(pattern) => Self::Prefer(pattern),
            Edit::Demote(pattern) => Self::Demote(pattern),
            Edit::First(hop) => Self::InsertFirst(hop.into()),
            Edit::Append(hop) => Self::Append(hop.into()),
            Edit::Tls(pattern, tls) => Self::SetTls((pattern, tls.into())),
            Edit::Family(family) => Self::AddressFamily(family),
        }
    }
}

impl From<Hop> for NextHop {
    fn from(hop: Hop) -> Self {
        Self {
            endpoint: match hop.place {
                Place::Host(name) => Endpoint::Host(name),
                Place::MxOf(name) => Endpoint::MxOf(name),
                Place::Address(address) => Endpoint::Address(address),
                Place::Socket(path) => Endpoint::UnixSocket(path),
            },
            port: hop.port,
            priority: hop.priority,
            weight: 0,
            protocol: if hop.lmtp {
                Protocol::Lmtp
            } else {
                Protocol::Smtp
            },
            tls: hop.tls.map(Into::into),
            auth: hop.auth,
            source_pool: None,
            site: None,
        }
    }
}

impl From<Tls> for TlsPolicy {
    fn from(tls: Tls) -> Self {
        match tls {
            Tls::Off => Self::Off,
            Tls::Opportunistic => Self::Opportunistic,
            Tls::Encrypt => Self::Encrypt,
            Tls::Dane => Self::Dane,
            Tls::Implicit => Self::Implicit,
            Tls::Verify(names) => Self::Verify(names),
        }
    }
}
