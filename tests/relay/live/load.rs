//! A thousand reloads under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::virtual_mx::Script;

use super::{ZONE, all_by, digest, marks, put, version};
use crate::lab::{Client, Host, LIMIT, Lab, Plan, Taken, host};

/// Versions that come in force one after the other.
const RELOADS: usize = 1_000;
/// Those after which memory is looked at for the first time: pools and caches are filled.
const WARM_UP: usize = 300;
/// What may be in memory more at the end than after the warm-up, over 700 reloads.
const GROWTH_MAX_KIB: u64 = 16 << 10;
/// Connections that send without a pause.
const CLIENTS: usize = 4;
/// Recipients of each message: three domains, and two in one of them.
const RECIPIENTS: [&str; 4] = ["a@one.test", "b@one.test", "c@two.test", "d@three.test"];

/// What became of one message.
#[derive(Default)]
struct Fate {
    /// Recipients by the host that took the message for them.
    taken: [Vec<String>; 2],
}

/// Looks at what both hosts took since the last time.
fn look(hosts: &[Host; 2], fates: &mut BTreeMap<String, Fate>) {
    for (place, host) in hosts.iter().enumerate() {
        for Taken {
            recipients,
            content,
            ..
        } in host.take_messages()
        {
            let text = String::from_utf8_lossy(&content).into_owned();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
            let subject = subject.expect("each has one").to_owned();
            // The SMTP dialogue saw one version, whichever.
            let marks = marks(&content);
            assert!(
                marks == all_by(1) || marks == all_by(2),
                "{subject}: {marks}"
            );
            fates.entry(subject).or_default().taken[place].extend(recipients);
        }
    }
}

/// Sends one message after the other until told to stop.
async fn send(client: usize, lab: Arc<Lab>, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) {
    let mut session = Client::connect(lab.smtp()).await;
    session.expect("220").await;
    session.ask("EHLO client.test", "250").await;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        session.ask("MAIL FROM:<me@sender.test>", "250").await;
        for recipient in RECIPIENTS {
            session.ask(&format!("RCPT TO:<{recipient}>"), "250").await;
        }
        session.ask("DATA", "354").await;
        let text = format!("Subject: {client}-{number}\r\n\r\nHello\r\n.");
        session.ask(&text, "250").await;
        number += 1;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Resident memory of this process, which is that of the relay.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.expect("there is such a line").trim();
    let number = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number.expect("a number of KiB")
}

/// Sees that each message went whole by one version; gives how many went by each.
fn judge(fates: BTreeMap<String, Fate>) -> [usize; 2] {
    let mut by_version = [0, 0];
    for (subject, fate) in fates {
        let [one, two] = &fate.taken;
        assert!(
            one.is_empty() || two.is_empty(),
            "{subject}: {one:?} {two:?}"
        );
        let (place, taken) = if one.is_empty() { (1, two) } else { (0, one) };
        let mut taken = taken.clone();
        taken.sort();
        assert_eq!(taken, RECIPIENTS, "{subject}");
        by_version[place] += 1;
    }
    by_version
}

/// For whoever runs this with its output shown.
#[allow(clippy::print_stdout, reason = "what was measured is worth seeing")]
fn tell(text: &str) {
    println!("{text}");
}

/// The plugin under change, which sends by version 1 to the first host and by 2 to the second.
fn plugin(file: &std::path::Path, hosts: &[Host; 2]) -> String {
    format!(
        "[queue]\nconcurrency = 8\n\
         [[plugin]]\nname = \"live\"\npath = \"{}\"\n\
         grants = {{ route_hosts = [\"127.0.0.4\", \"127.0.0.5\"] }}\n\
         [plugin.config.hops]\nmarker0001 = \"127.0.0.4:{}\"\nmarker0002 = \"127.0.0.5:{}\"\n",
        file.display(),
        hosts[0].port(),
        hosts[1].port()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_lose_no_message_mix_no_versions_and_keep_no_memory() {
    let first = host(4, 0, Script::accept()).await;
    let hosts = [first, host(5, 0, Script::accept()).await];
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("live.wasm");
    let versions = [version(1), version(2)];
    let digests = [digest(&versions[0]), digest(&versions[1])];
    put(&file, &versions[0]);
    let plugin = plugin(&file, &hosts);
    let lab = Arc::new(Plan::new(ZONE, 25).with(&plugin).open().await);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (lab, stop, sent) = (Arc::clone(&lab), Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(send(client, lab, stop, sent))
        })
        .collect();

    let mut fates = BTreeMap::new();
    let mut warm_kib = 0;
    for reload in 1..=RELOADS {
        put(&file, &versions[reload % 2]);
        let (status, text) = lab.ask_control("POST", "/plugins/live/reload").await;
        assert_eq!(status, 200, "{text}");
        let changed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(changed[0]["result"], "ok", "{reload}: {text}");
        assert_eq!(changed[0]["digest"], digests[reload % 2]);
        look(&hosts, &mut fates);
        if reload == WARM_UP {
            warm_kib = resident_kib();
        }
    }
    let end_kib = resident_kib();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no message was refused");
    }
    lab.wait_until_empty().await;
    look(&hosts, &mut fates);
    // Those that were in force before are gone, each with its code.
    lab.wait_for_metric("waypost_plugin_versions_loaded", |count| count < 1.5)
        .await;

    assert_eq!(fates.len(), sent.load(Ordering::Relaxed), "all arrived");
    let by_version = judge(fates);
    tell(&format!(
        "{by_version:?} messages; {warm_kib} KiB warm, {end_kib} KiB at the end"
    ));
    assert!(by_version.iter().all(|count| *count > 0), "{by_version:?}");
    assert!(
        end_kib < warm_kib + GROWTH_MAX_KIB,
        "{warm_kib} KiB after {WARM_UP} reloads, {end_kib} KiB after {RELOADS}"
    );
    let taken = "waypost_plugin_reloads_total{plugin=\"live\",result=\"ok\"}";
    assert!((lab.metric(taken).await - RELOADS as f64).abs() < 0.5);
    tokio::time::timeout(LIMIT, async {
        let Ok(lab) = Arc::try_unwrap(lab) else {
            panic!("the clients have ended");
        };
        lab.relay.shutdown().await;
    })
    .await
    .expect("it stops");
}
