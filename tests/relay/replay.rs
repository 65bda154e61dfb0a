//! Decisions on record, made again: by the same component all of them come out the same, by
//! another one what would change is listed.

use std::os::unix::fs::PermissionsExt;

use relay::Clock;
use relay::replay::{PluginReport, Report, Request};

use crate::lab::parse;
use crate::trial::{Trial, lines};

const WRITTEN: &str = "waypost_decision_log_records_total{result=\"written\"}";

fn log(keys: &str) -> String {
    format!("[decision_log]\nenabled = true\nwaiting = 100000\n{keys}\n")
}

async fn replay(trial: &Trial, version: Option<&str>) -> Report {
    let config = parse(trial.lab.directory.path(), &trial.lab.config);
    let request = Request {
        plugin: Some("recorded".to_owned()),
        component: version.map(|word| trial.file(word)),
        examples_count: 10_000,
        ..Request::default()
    };
    relay::replay::replay(&config, &Clock::system(), &request)
        .await
        .expect("the log is there")
}

fn only(report: &Report) -> &PluginReport {
    assert_eq!(report.unreadable_count, 0, "{:?}", report.unreadable);
    assert_eq!(report.plugins.len(), 1);
    &report.plugins[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_decisions_come_out_the_same_and_another_version_shows_what_changes() {
    let trial = Trial::open("other = 3", "", &log("privacy = \"full\"")).await;
    // Each recipient is a decision after RCPT, and one of where to: its domain is its own.
    trial.send(100, 50).await;
    trial.wait_for_count(WRITTEN, 10_000.0).await;

    let report = replay(&trial, None).await;
    let same = only(&report);
    assert_eq!((same.records, same.same_digest), (10_000, 10_000));
    assert_eq!(same.same, 10_000, "{:#?}", same.examples.first());
    assert!(!report.has_differences() && !report.is_incomplete());

    let report = replay(&trial, Some("other")).await;
    let other = only(&report);
    assert_eq!((other.records, other.same_digest), (10_000, 0));
    assert_eq!((other.same, other.differs), (9_850, 150), "{other:#?}");
    assert_eq!(other.kinds.get("decision"), Some(&150));
    assert!(report.has_differences());
    for example in &other.examples {
        let of = &example.differences[0].of;
        assert!(
            ["u00@", "u01@", "u02@"].iter().any(|it| of.starts_with(it)),
            "{of}"
        );
        assert!(example.differences[0].after.contains("the other version"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_asks_something_new_is_not_guessed_about() {
    let trial = Trial::open("", "", &log("privacy = \"full\"")).await;
    trial.send(1, 5).await;
    trial.wait_for_count(WRITTEN, 10.0).await;
    let report = replay(&trial, Some("curio")).await;
    let curio = only(&report);
    assert_eq!(curio.same, 5, "the decisions after RCPT");
    assert_eq!(curio.examples.len(), 5);
    for example in &curio.examples {
        assert_eq!(example.news.len(), 1, "{example:?}");
        assert!(example.news[0].contains("txt"), "{example:?}");
    }
    assert!(report.has_differences());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_is_not_in_the_log_and_the_log_replays_all_the_same() {
    let trial = Trial::open("other = 3", "", &log("")).await;
    trial.send(10, 10).await;
    trial.wait_for_count(WRITTEN, 200.0).await;
    let text = lines(&trial.log());
    assert!(
        text.contains("@d7.test") && text.contains("sender.test"),
        "domains are kept"
    );
    for hidden in ["alice", "bounce", "secret", "u07", "u42"] {
        assert!(!text.contains(hidden), "{hidden} is in the log");
    }
    for entry in std::fs::read_dir(trial.log()).expect("the log") {
        let metadata = entry.expect("an entry").metadata().expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let report = replay(&trial, None).await;
    let same = only(&report);
    assert_eq!(
        (same.records, same.same),
        (200, 200),
        "{:#?}",
        same.examples.first()
    );
    // The guest looks at a header field that is hidden: what is on record is not what was
    // decided, and says so.
    assert_eq!(same.unlike, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_that_matters_is_hidden_the_log_has_what_was_decided() {
    let keys = "keep_headers = [\"Subject\"]";
    let trial = Trial::open("", "", &log(keys)).await;
    trial.send(10, 5).await;
    trial.wait_for_count(WRITTEN, 100.0).await;
    let text = lines(&trial.log());
    assert!(text.contains("secret") && !text.contains("alice"));
    let report = replay(&trial, None).await;
    let same = only(&report);
    assert_eq!((same.records, same.same, same.unlike), (100, 100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_domains_hidden_too_the_log_still_replays() {
    let trial = Trial::open("", "", &log("privacy = \"hash\"")).await;
    trial.send(5, 8).await;
    trial.wait_for_count(WRITTEN, 80.0).await;
    let text = lines(&trial.log());
    for hidden in ["alice", "sender.test", "d7.test", "127.0.0.1", "secret"] {
        assert!(!text.contains(hidden), "{hidden} is in the log");
    }
    let report = replay(&trial, None).await;
    let same = only(&report);
    assert_eq!(
        (same.records, same.same),
        (80, 80),
        "{:#?}",
        same.examples.first()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_within_its_limits() {
    let keys = "privacy = \"full\"\nmax_records = 40\nmax_size = \"64KiB\"";
    let trial = Trial::open("", "", &log(keys)).await;
    trial.send(20, 5).await;
    trial.wait_for_count(WRITTEN, 200.0).await;
    let text = lines(&trial.log());
    assert!(text.len() <= 64 << 10, "{}", text.len());
    let records = text.lines().count();
    assert!((1..=40).contains(&records), "{records}");
    let report = replay(&trial, None).await;
    let same = only(&report);
    assert_eq!(same.same, records as u64);
}

/// All that the guest was told is in its decision: a log in which one answer is another one shows.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_one_on_record_shows() {
    let trial = Trial::open("", "", &log("privacy = \"full\"")).await;
    trial.send(1, 1).await;
    trial.wait_for_count(WRITTEN, 2.0).await;
    let text = lines(&trial.log());
    let line = text.lines().find(|line| line.contains("\"routing\""));
    let record: serde_json::Value = serde_json::from_str(line.expect("a record")).expect("JSON");
    let exchanges = record["tape"]["exchanges"].as_array().expect("a list");
    let asked = |what: &str| {
        let of = |it: &serde_json::Value| it["asked"] == what || it["asked"].get(what).is_some();
        let at = exchanges.iter().position(of);
        at.unwrap_or_else(|| panic!("{what} was not asked: {record:#}"))
    };
    let told = |what: &str, told: serde_json::Value| {
        let mut other = record.clone();
        other["message"] = what.into();
        other["tape"]["exchanges"][asked(what)]["told"] = told;
        other
    };
    let mut another_seed = record.clone();
    another_seed["message"] = "seed".into();
    another_seed["tape"]["seed"] = 1.into();
    let records = [
        record.clone(),
        another_seed,
        told("now", serde_json::json!({ "number": 7 })),
        told("state-add", serde_json::json!({ "sum": { "Ok": 99 } })),
        told(
            "table-domain",
            serde_json::json!({ "table-match": { "Ok": null } }),
        ),
        told(
            "lookup",
            serde_json::json!({ "lookup": { "Err": "temporary" } }),
        ),
        told("headers", serde_json::json!({ "headers": [] })),
    ];
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    let file = elsewhere.path().join("decisions-00000000000001-000.jsonl");
    std::fs::write(file, lines.join("\n")).expect("it is written");
    let config = parse(trial.lab.directory.path(), &trial.lab.config);
    let request = Request {
        log: Some(elsewhere.path().to_owned()),
        examples_count: 10,
        ..Request::default()
    };
    let report = relay::replay::replay(&config, &Clock::system(), &request).await;
    let report = report.expect("the log is there");
    let seen = only(&report);
    let named = seen.examples.iter();
    let named: Vec<&str> = named.map(|example| example.message.as_str()).collect();
    let all = [
        "seed",
        "now",
        "state-add",
        "table-domain",
        "lookup",
        "headers",
    ];
    assert_eq!(named, all);
    assert_eq!((seen.records, seen.same, seen.differs), (7, 1, 6));
}
