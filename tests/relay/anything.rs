//! No answer of a plugin, however wrong, sends mail to a place that a valid plan does not contain:
//! answers of chance, right ones and nonsense, in a whole relay, with hosts that nobody may reach.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use testkit::virtual_mx::Script;

use crate::lab::{Client, Host, Lab, Plan, component, host};

/// `dest.test` is where the mail is for. Of the others the plugin may name `good.test`, its
/// address, what is below `fine.test`, and the MX of `viamx.test`.
const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\ndest MX 20 b.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n\
    good A 127.0.0.4\nx.fine A 127.0.0.4\n\
    bad A 127.0.0.5\nfine A 127.0.0.5\nother MX 10 bad\n\
    viamx MX 10 c.viamx\nc.viamx A 127.0.0.6\n";

/// Messages that are under way at a time.
const BATCH: usize = 25;
const BATCHES: usize = 24;

/// Everything a plugin of chance may name, well or badly written.
fn place() -> impl Strategy<Value = Value> {
    let names = vec![
        "good.test",
        "GOOD.test.",
        "x.fine.test",
        "fine.test",
        "bad.test",
        "a.dest.test",
        "b.dest.test",
        "dest.test",
        "viamx.test",
        "c.viamx.test",
        "other.test",
        "nowhere.test",
        "",
        ".",
        "good.test\r\nbad.test",
        "bad.test/good.test",
        "good.test@bad.test",
        "*.fine.test",
        "[127.0.0.5]",
        "127.0.0.5",
        "::ffff:127.0.0.5",
        "localhost",
        "xn--\u{fc}",
        "good..test",
    ];
    let addresses = vec![
        "127.0.0.4",
        "127.0.0.5",
        "127.0.0.2",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.5",
        "127.5",
        "2130706437",
        "0x7f000005",
        "good.test",
        "",
        "127.0.0.4:25",
        "[127.0.0.4]",
        "127.0.0.04",
    ];
    prop_oneof![
        4 => prop::sample::select(names.clone()).prop_map(|name| json!({ "host": name })),
        2 => prop::sample::select(names).prop_map(|name| json!({ "mx-of": name })),
        2 => prop::sample::select(addresses).prop_map(|text| json!({ "address": text })),
        1 => Just(json!({ "socket": "/var/run/other.sock" })),
    ]
}

fn tls() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(Value::Null),
        1 => prop::sample::select(vec!["off", "opportunistic", "encrypt", "dane", "implicit"])
            .prop_map(Value::from),
        1 => Just(json!({ "verify": ["not a name"] })),
    ]
}

/// The port of all the hosts, mostly.
fn port(port: u16) -> impl Strategy<Value = Option<u16>> {
    prop_oneof![6 => Just(Some(port)), 1 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(9))]
}

fn hop(its: u16) -> impl Strategy<Value = Value> {
    let auth = prop_oneof![9 => Just(None), 1 => Just(Some("secret"))];
    (place(), port(its), 0..3u16, prop::bool::weighted(0.05), tls(), auth).prop_map(
        |(place, port, priority, lmtp, tls, auth)| {
            json!({ "place": place, "port": port, "priority": priority, "lmtp": lmtp, "tls": tls, "auth": auth })
        },
    )
}

fn what(its: u16) -> impl Strategy<Value = Value> {
    let index = prop_oneof![4 => 0..2u32, 1 => 2..4u32, 1 => Just(u32::MAX)];
    let choice = prop_oneof![
        3 => index.clone().prop_map(|index| json!({ "candidate": index })),
        1 => (index, port(its), tls()).prop_map(|(index, port, tls)| {
            json!({ "changed": [index, port, tls, null] })
        }),
        2 => hop(its).prop_map(|hop| json!({ "hop": hop })),
    ];
    let pattern = prop::sample::select(vec![
        "a.dest.test",
        "*.dest.test",
        "B.DEST.test",
        "*",
        "",
        "*.*",
        "bad.test",
        "a.dest.test,bad.test",
    ]);
    let edit = prop_oneof![
        2 => pattern.clone().prop_map(|one| json!({ "drop": one })),
        2 => prop::collection::vec(pattern.clone(), 0..3).prop_map(|all| json!({ "keep": all })),
        1 => pattern.clone().prop_map(|one| json!({ "prefer": one })),
        1 => pattern.clone().prop_map(|one| json!({ "demote": one })),
        2 => hop(its).prop_map(|hop| json!({ "first": hop })),
        2 => hop(its).prop_map(|hop| json!({ "append": hop })),
        1 => pattern.prop_map(|one| json!({ "tls": [one, "opportunistic"] })),
        1 => (0..10u8).prop_map(|family| json!({ "family": family })),
    ];
    prop_oneof![
        2 => Just(json!("proceed")),
        6 => (prop::collection::vec(hop(its), 0..4), any::<bool>())
            .prop_map(|(hops, mx)| json!({ "hops": { "hops": hops, "mx": mx } })),
        4 => prop::collection::vec(choice, 0..4).prop_map(|all| json!({ "select": all })),
        4 => prop::collection::vec(edit, 0..4).prop_map(|all| json!({ "edit": all })),
        1 => Just(json!({ "defer": 3600 })),
        1 => Just(json!("discard")),
        1 => Just(json!({ "hold": null })),
    ]
}

/// Verdicts for two recipients, or for those who are not there.
fn answer(its: u16) -> impl Strategy<Value = Value> {
    let to = prop_oneof![
        3 => Just(vec![]), 2 => Just(vec![0u32]), 2 => Just(vec![1]), 1 => Just(vec![0, 1]),
        1 => Just(vec![0, 0]), 1 => Just(vec![2]),
    ];
    let verdict = (to, what(its), tls(), prop::bool::weighted(0.1)).prop_map(|(to, what, tls, pooled)| {
        let pool = pooled.then_some("nobody's");
        json!({ "to": to, "what": what, "tls": tls, "pool": pool, "expires": null, "stop": false, "note": null })
    });
    (any::<bool>(), prop::collection::vec(verdict, 0..3))
        .prop_map(|(look, verdicts)| json!({ "look": look, "verdicts": verdicts }))
}

/// Last octets of the addresses that mail for a recipient may reach, at most: worked out from the
/// answer alone, by a reading of the contract that shares no code with the relay.
fn allowed(answer: &Value, recipient: u32) -> BTreeSet<u8> {
    let verdicts = answer["verdicts"].as_array().expect("a list");
    // An answer is used as a whole or not at all.
    if !verdicts
        .iter()
        .all(|verdict| hops_of(verdict).all(|hop| reach(hop).is_some()))
    {
        return BTreeSet::new();
    }
    let names = |verdict: &&Value| {
        let to = verdict["to"].as_array().expect("a list");
        to.iter().any(|to| to == recipient)
    };
    let rest = |verdict: &&Value| verdict["to"].as_array().expect("a list").is_empty();
    let mine = verdicts
        .iter()
        .find(names)
        .or_else(|| verdicts.iter().find(rest));
    let mx = BTreeSet::from([2, 3]);
    let Some(verdict) = mine else { return mx };
    let what = &verdict["what"];
    let mut places: BTreeSet<u8> = hops_of(verdict).filter_map(reach).flatten().collect();
    let keeps_mx = match what
        .as_object()
        .and_then(|object| object.keys().next())
        .map(String::as_str)
    {
        None => what == "proceed",
        Some("hops") => what["hops"]["mx"] == true,
        Some("select") => {
            let choices = what["select"].as_array().expect("a list");
            choices.iter().any(|choice| choice.get("hop").is_none())
        }
        Some("edit") => true,
        Some(_) => false,
    };
    if keeps_mx {
        places.extend(mx);
    }
    places
}

/// Every hop that a verdict names.
fn hops_of(verdict: &Value) -> impl Iterator<Item = &Value> {
    let what = &verdict["what"];
    let plain = what["hops"]["hops"].as_array().into_iter().flatten();
    let chosen = what["select"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("hop"));
    let edits = what["edit"].as_array().into_iter().flatten();
    let edited = edits.filter_map(|one| one.get("first").or(one.get("append")));
    plain.chain(chosen).chain(edited)
}

/// Where a hop leads, if it is one that the plugin may name.
fn reach(hop: &Value) -> Option<Vec<u8>> {
    let (kind, text) = hop["place"].as_object()?.iter().next()?;
    let name = text.as_str()?.trim_end_matches('.').to_lowercase();
    match (kind.as_str(), name.as_str()) {
        ("host", "good.test" | "x.fine.test") | ("address", "127.0.0.4") => Some(vec![4]),
        ("mx-of", "viamx.test") => Some(vec![6]),
        // Granted, and found to be nowhere in the DNS, or to have no MX of its own.
        ("mx-of", "good.test" | "x.fine.test") => Some(vec![4]),
        ("host", "viamx.test") => Some(vec![]),
        _ => None,
    }
}

async fn send(lab: &Lab, number: usize, answer: &Value) {
    let recipients = [0, 1].map(|at| format!("m{number}.{at}@dest.test"));
    let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut client = Client::begin(lab.smtp(), "me@sender.test", &to).await;
    let mut field = String::from("X-Answer:");
    // No line longer than 998 octets; the text has no spaces of its own that matter.
    for piece in answer.to_string().as_bytes().chunks(900) {
        let piece = std::str::from_utf8(piece).expect("it is ASCII");
        write!(field, "\r\n\t{piece}").expect("a string");
    }
    client
        .ask(&format!("{field}\r\n\r\nHello\r\n."), "250")
        .await;
}

/// Sees that what the hosts took since the last time is where it may be; gives how much it was.
fn check(hosts: &[(u8, Host)], answers: &[Value]) -> usize {
    let mut count = 0;
    for (octet, host) in hosts {
        for message in host.take_messages() {
            for recipient in message.recipients {
                let name = recipient
                    .trim_start_matches('m')
                    .trim_end_matches("@dest.test");
                let (number, at) = name.split_once('.').expect("as it was sent");
                let number: usize = number.parse().expect("a number");
                let may = allowed(&answers[number], at.parse().expect("a position"));
                assert!(
                    may.contains(octet),
                    "{recipient} came to 127.0.0.{octet}, of {may:?}: {:#}",
                    answers[number]
                );
                count += 1;
            }
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_sends_mail_where_no_valid_plan_does() {
    let first = host(2, 0, Script::accept()).await;
    let port = first.port();
    let mut hosts = vec![(2, first)];
    for octet in 3..=6 {
        hosts.push((octet, host(octet, port, Script::accept()).await));
    }
    let plugin = format!(
        "[[plugin]]\nname = \"anything\"\npath = \"{}\"\nroute_headers = [\"X-Answer\"]\n\
         breaker = {{ failures = 0 }}\n\
         grants = {{ route_hosts = [\"good.test\", \"*.fine.test\", \"viamx.test\", \"127.0.0.4\"] }}\n\
         [queue]\nretry = [\"1h\"]\n",
        component("anything")
    );
    let lab = Plan::new(ZONE, port).with(&plugin).open().await;
    let mut chance = TestRunner::deterministic();
    let strategy = answer(port);
    let (mut answers, mut arrived) = (Vec::new(), 0);
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            let answer = strategy.new_tree(&mut chance).expect("a value").current();
            send(&lab, answers.len(), &answer).await;
            answers.push(answer);
        }
        lab.wait_for_metric("waypost_queue_messages{state=\"active\"}", |count| {
            count < 0.5
        })
        .await;
        arrived += check(&hosts, &answers);
    }
    assert_eq!(
        hosts[3].1.connection_count(),
        0,
        "nobody may go to bad.test"
    );
    // Enough came through, and enough did not, for the rule to have been tried.
    let sent = 2 * answers.len();
    assert!(
        arrived > sent / 10 && arrived < sent * 9 / 10,
        "{arrived} of {sent}"
    );
    let good = "waypost_plugin_calls_total{plugin=\"anything\",phase=\"routing\",result=\"ok\"}";
    let bad = "waypost_plugin_calls_total{plugin=\"anything\",phase=\"routing\",result=\"invalid_answer\"}";
    assert!(lab.metric(good).await > 0.0 && lab.metric(bad).await > 0.0);
}
