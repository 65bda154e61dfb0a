//! /metrics in the eyes of Prometheus' own checker.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::{find, free_address, sums, wait_for};
use crate::programs::PROMTOOL;
use crate::quickstart::{quickstart, send, sink};

/// What every dashboard will want.
const FAMILIES: [&str; 10] = [
    "waypost_messages_accepted_total",
    "waypost_recipients_delivered_total",
    "waypost_recipients_deferred_total",
    "waypost_recipients_bounced_total",
    "waypost_queue_messages",
    "waypost_plugin_calls_total",
    "waypost_plugin_call_seconds",
    "waypost_dns_lookups_total",
    "waypost_spool_commits_total",
    "waypost_spool_commit_seconds",
];

#[test]
fn promtool_finds_no_fault() {
    let Some(promtool) = find(PROMTOOL, "promtool_finds_no_fault") else {
        return;
    };
    let sink_address = free_address();
    let relay = quickstart(sink_address);
    let _sink = sink(sink_address, &relay.dir().join("sink.log"));
    send(&relay, "counted");
    let text = wait_for("the delivery to be counted", || {
        let text = relay.metrics_text();
        (sums(&text)["waypost_recipients_delivered_total"] > 0.5).then_some(text)
    });

    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(text.as_bytes())
        .expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "promtool: {said}"
    );

    for family in FAMILIES {
        // Never used, but there: an alert on it can be written before the first time.
        let seen = text.contains(&format!("# HELP {family} "))
            && text.contains(&format!("# TYPE {family} "));
        assert!(seen, "{family} is not in /metrics with help and type");
    }
    assert!((relay.metric("waypost_messages_accepted_total") - 1.0).abs() < 0.5);
}
