//! What plugins decided, in words: for `explain`, for the history of a message, for logs.
//!
//! One line each, made of what the host has checked already: no name in it is longer than the
//! contract allows, and long lists are cut.

use std::fmt::Write as _;

use plugin::{
    AddressFamily, Advice, CandidateChange, Decision, Endpoint, Flow, HopChoice, HostPattern,
    MxEdit, NextHop, Protocol, Settings, TlsPolicy, Verdict,
};

/// Entries of a list that are named.
const NAMED_MAX: usize = 8;

/// A verdict: the decision, how to deliver, and whether the chain stops here.
pub(crate) fn verdict(verdict: &Verdict) -> String {
    let mut text = decision(&verdict.decision);
    if let Some(settings) = &verdict.settings {
        text.push_str(&settings_words(settings));
    }
    let is_final = matches!(
        verdict.decision,
        Decision::Defer { .. }
            | Decision::Reject { .. }
            | Decision::Discard { .. }
            | Decision::Hold { .. }
    );
    if verdict.flow == Flow::Stop && !is_final {
        text.push_str(", stop");
    }
    text
}

fn decision(decision: &Decision) -> String {
    match decision {
        Decision::Proceed => "no opinion".to_owned(),
        Decision::UseHops {
            hops,
            fall_back_to_mx,
        } => {
            let hops = list(hops, hop);
            let fall_back = if *fall_back_to_mx { ", else by MX" } else { "" };
            format!("use {hops}{fall_back}")
        }
        Decision::Select { choices } => format!("select {}", list(choices, choice)),
        Decision::Edit { edits } if edits.is_empty() => "the list as it is".to_owned(),
        Decision::Edit { edits } => format!("edit the list: {}", list(edits, edit)),
        Decision::Defer {
            reason,
            retry_after_seconds,
        } => match retry_after_seconds {
            Some(seconds) => format!("defer for {seconds} s: {reason}"),
            None => format!("defer: {reason}"),
        },
        Decision::Reject { reply } => format!("reject: {reply}"),
        Decision::Discard { reason } => format!("discard: {reason}"),
        Decision::Hold {
            reason,
            release_after_seconds,
        } => match release_after_seconds {
            Some(seconds) => format!("hold for {seconds} s: {reason}"),
            None => format!("hold: {reason}"),
        },
    }
}

/// Advice after an attempt.
pub(crate) fn advice(advice: &Advice) -> String {
    match advice {
        Advice::Usual => "as usual".to_owned(),
        Advice::RetryAfter { seconds } => format!("try again after {seconds} s"),
        Advice::NextHopNow => "try the next hop now".to_owned(),
        Advice::Reroute => "route again now".to_owned(),
        Advice::GiveUp(reply) => format!("give up: {reply}"),
        Advice::Hold(reason) => format!("hold: {reason}"),
    }
}

fn list<T>(entries: &[T], words: impl Fn(&T) -> String) -> String {
    let named: Vec<String> = entries.iter().take(NAMED_MAX).map(words).collect();
    let mut text = named.join(", ");
    if let Some(more) = entries
        .len()
        .checked_sub(NAMED_MAX)
        .filter(|&more| more > 0)
    {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn hop(hop: &NextHop) -> String {
    let mut text = match &hop.endpoint {
        Endpoint::Host(name) => name.to_string(),
        Endpoint::MxOf(domain) => format!("MX of {domain}"),
        Endpoint::Address(address @ std::net::IpAddr::V6(_)) => format!("[{address}]"),
        Endpoint::Address(address) => address.to_string(),
        Endpoint::UnixSocket(path) => path.display().to_string(),
    };
    match (&hop.endpoint, hop.port, hop.tcp_port()) {
        // The MX hosts' own port is nothing to speak of.
        (Endpoint::MxOf(_), None, _) | (_, _, None) => {}
        (_, _, Some(port)) => {
            let _ = write!(text, ":{port}");
        }
    }
    let mut how = Vec::new();
    if hop.protocol == Protocol::Lmtp {
        how.push("lmtp".to_owned());
    }
    how.extend(
        hop.tls
            .as_ref()
            .map(|policy| format!("tls {}", tls(policy))),
    );
    how.extend(hop.auth.as_ref().map(|name| format!("auth {name}")));
    how.extend(hop.source_pool.as_ref().map(|name| format!("from {name}")));
    how.extend((hop.priority > 0).then(|| format!("priority {}", hop.priority)));
    how.extend((hop.weight > 1).then(|| format!("weight {}", hop.weight)));
    if !how.is_empty() {
        let _ = write!(text, " ({})", how.join(", "));
    }
    text
}

fn choice(choice: &HopChoice) -> String {
    match choice {
        HopChoice::Candidate(index) => format!("candidate {}", ordinal(*index)),
        HopChoice::Changed(changed) => change(changed),
        HopChoice::Hop(other) => hop(other),
    }
}

fn change(change: &CandidateChange) -> String {
    let mut how = Vec::new();
    how.extend(
        change
            .priority
            .map(|priority| format!("priority {priority}")),
    );
    how.extend(change.port.map(|port| format!("port {port}")));
    how.extend(
        change
            .tls
            .as_ref()
            .map(|policy| format!("tls {}", tls(policy))),
    );
    how.extend(change.auth.as_ref().map(|name| format!("auth {name}")));
    how.extend(
        change
            .source_pool
            .as_ref()
            .map(|name| format!("from {name}")),
    );
    let index = ordinal(change.index);
    if how.is_empty() {
        return format!("candidate {index}");
    }
    format!("candidate {index} with {}", how.join(", "))
}

/// People count from 1.
fn ordinal(index: u32) -> u64 {
    u64::from(index) + 1
}

fn edit(edit: &MxEdit) -> String {
    match edit {
        MxEdit::Drop(pattern) => format!("drop {}", host(pattern)),
        MxEdit::Keep(patterns) => format!("keep {}", list(patterns, host)),
        MxEdit::Prefer(pattern) => format!("prefer {}", host(pattern)),
        MxEdit::Demote(pattern) => format!("demote {}", host(pattern)),
        MxEdit::InsertFirst(first) => format!("first {}", hop(first)),
        MxEdit::Append(last) => format!("last {}", hop(last)),
        MxEdit::SetTls(pattern, policy) => format!("tls {} for {}", tls(policy), host(pattern)),
        MxEdit::AddressFamily(AddressFamily::V4) => "IPv4 only".to_owned(),
        MxEdit::AddressFamily(AddressFamily::V6) => "IPv6 only".to_owned(),
    }
}

fn host(pattern: &HostPattern) -> String {
    String::from(pattern.clone())
}

fn tls(policy: &TlsPolicy) -> String {
    super::convert::tls(policy).to_string()
}

fn settings_words(settings: &Settings) -> String {
    let mut text = String::new();
    if let Some(policy) = &settings.tls {
        let _ = write!(text, ", tls {}", tls(policy));
    }
    if let Some(pool) = &settings.source_pool {
        let _ = write!(text, ", from {pool}");
    }
    if let Some(class) = &settings.traffic_class {
        let _ = write!(text, ", class {class}");
    }
    if let Some(seconds) = settings.expires_after_seconds {
        let _ = write!(text, ", given up {seconds} s after reception");
    }
    for (name, value) in settings.extra.iter().take(NAMED_MAX) {
        let _ = write!(text, ", {name} = {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decision: Decision, flow: Flow) -> Verdict {
        Verdict {
            recipients: vec![0],
            decision,
            settings: None,
            flow,
            note: None,
        }
    }

    fn smart(port: Option<u16>) -> NextHop {
        NextHop {
            endpoint: Endpoint::Host("mx1.provider.example".parse().expect("a name")),
            port,
            priority: 0,
            weight: 0,
            protocol: Protocol::Smtp,
            tls: None,
            auth: None,
            source_pool: None,
            site: None,
        }
    }

    #[test]
    fn a_decision_reads_as_a_sentence() {
        let to = |hops, fall_back_to_mx| Decision::UseHops {
            hops,
            fall_back_to_mx,
        };
        let mx_of = NextHop {
            endpoint: Endpoint::MxOf("provider.example".parse().expect("a name")),
            tls: Some(TlsPolicy::Verify(Vec::new())),
            ..smart(None)
        };
        let changed = HopChoice::Changed(CandidateChange {
            index: 1,
            priority: None,
            port: Some(2525),
            tls: Some(TlsPolicy::Encrypt),
            auth: None,
            source_pool: None,
        });
        let below = "*.slow.example".parse().expect("a pattern");
        let reply = smtp::Reply::new(550, (5, 7, 1), "no\nway");
        for (decision, flow, words) in [
            (Decision::Proceed, Flow::Next, "no opinion"),
            (Decision::Proceed, Flow::Stop, "no opinion, stop"),
            (
                to(vec![smart(Some(587)), smart(None)], false),
                Flow::Stop,
                "use mx1.provider.example:587, mx1.provider.example:25, stop",
            ),
            (
                to(vec![mx_of], true),
                Flow::Next,
                "use MX of provider.example (tls verify), else by MX",
            ),
            (
                to(vec![smart(None); 10], false),
                Flow::Next,
                &format!(
                    "use {} and 2 more",
                    ["mx1.provider.example:25"; 8].join(", ")
                ),
            ),
            (
                Decision::Select {
                    choices: vec![HopChoice::Candidate(0), changed],
                },
                Flow::Next,
                "select candidate 1, candidate 2 with port 2525, tls encrypt",
            ),
            (
                Decision::Edit {
                    edits: vec![MxEdit::Demote(below), MxEdit::InsertFirst(smart(None))],
                },
                Flow::Next,
                "edit the list: demote *.slow.example, first mx1.provider.example:25",
            ),
            (
                Decision::Defer {
                    reason: "the table is being rebuilt".to_owned(),
                    retry_after_seconds: Some(60),
                },
                Flow::Stop,
                "defer for 60 s: the table is being rebuilt",
            ),
            (
                Decision::Reject { reply },
                Flow::Stop,
                "reject: 550 5.7.1 no way",
            ),
        ] {
            assert_eq!(verdict(&all(decision, flow)), words);
        }
    }

    #[test]
    fn how_to_deliver_is_said_too() {
        let mut with = all(Decision::Proceed, Flow::Next);
        with.settings = Some(Settings {
            tls: Some(TlsPolicy::Encrypt),
            expires_after_seconds: Some(3600),
            ..Settings::default()
        });
        assert_eq!(
            verdict(&with),
            "no opinion, tls encrypt, given up 3600 s after reception"
        );
    }
}
