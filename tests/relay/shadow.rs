//! Versions of a plugin on trial: what a shadow reports is what is different and nothing else, a
//! canary decides for its share and for no other message, and one that fails is taken out.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::trial::{Trial, count};

const NO_CAP: &str = "concurrency = 10000\nexamples = 1000";

fn compared(status: &Value, phase: &str) -> u64 {
    let results = ["same", "differs", "failed", "skipped"];
    let results = results.map(|result| count(status, "shadow", phase, result));
    results.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_reports_just_the_messages_that_it_decides_otherwise() {
    let trial = Trial::open("other = 3", NO_CAP, "").await;
    let ids = trial.send(400, 1).await;
    let status = trial
        .wait_for_status(|status| compared(status, "routing") >= 400)
        .await;
    // Three in a hundred, and that by time, chance, state, tables and DNS all the others are the
    // same.
    assert_eq!(
        count(&status, "shadow", "routing", "differs"),
        12,
        "{status:#}"
    );
    assert_eq!(
        count(&status, "shadow", "routing", "same"),
        388,
        "{status:#}"
    );
    assert_eq!(count(&status, "shadow", "recipient", "same"), 400);
    let expected: BTreeSet<&str> = ids
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 100 < 3)
        .map(|(_, id)| id.as_str())
        .collect();
    let examples = status["examples"].as_array().expect("a list");
    let named: BTreeSet<&str> = examples
        .iter()
        .map(|example| example["message"].as_str().expect("an id"))
        .collect();
    assert_eq!(named, expected);
    let first = &examples[0];
    assert_eq!(first["phase"], "routing");
    assert_eq!(first["differences"][0]["kind"], "decision");
    let words = |side: &str| first["differences"][0][side].as_str().unwrap().to_owned();
    assert!(words("before").contains("defer"), "{first:#}");
    assert!(words("after").contains("the other version"), "{first:#}");
    let metric = "waypost_plugin_shadow_total{plugin=\"recorded\",phase=\"routing\",\
                  result=\"differs\",reason=\"decision\"}";
    assert_eq!(trial.lab.metric(metric).await, 12.0);
    // All is as the plugin in force has decided.
    assert_eq!(trial.lab.queue().await["total"], 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_shadow_is_counted_and_harms_nobody() {
    let trial = Trial::open("trap = 50", NO_CAP, "").await;
    trial.send(100, 1).await;
    let status = trial
        .wait_for_status(|status| compared(status, "routing") >= 100)
        .await;
    assert_eq!(
        count(&status, "shadow", "routing", "failed"),
        50,
        "{status:#}"
    );
    assert_eq!(
        count(&status, "shadow", "routing", "same"),
        50,
        "{status:#}"
    );
    assert_eq!(trial.lab.queue().await["total"], 100);
    let failures = "waypost_plugin_calls_total{plugin=\"recorded\",phase=\"routing\",\
                    result=\"trap\"}";
    assert_eq!(trial.lab.metric(failures).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_beside_a_busy_shadow_is_accounted_for() {
    let trial = Trial::open("other = 100", "concurrency = 1", "").await;
    // A hundred decisions of one message, made side by side.
    trial.send(2, 100).await;
    let status = trial
        .wait_for_status(|status| compared(status, "routing") >= 200)
        .await;
    assert_eq!(compared(&status, "routing"), 200);
    assert_eq!(compared(&status, "recipient"), 200);
    assert_eq!(count(&status, "shadow", "", "failed"), 0, "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_a_shadow_is_set_while_it_runs() {
    let trial = Trial::open("other = 100", "percent = 0", "").await;
    trial.send(20, 1).await;
    trial
        .wait_for_count(
            "waypost_plugin_calls_total{plugin=\"recorded\",phase=\"routing\",result=\"ok\"}",
            20.0,
        )
        .await;
    assert_eq!(compared(&trial.status().await, ""), 0);
    let (code, text) = trial
        .lab
        .ask_control("POST", "/plugins/recorded/candidate/share/1000000")
        .await;
    assert_eq!(code, 200, "{text}");
    trial.send(20, 1).await;
    trial
        .wait_for_status(|status| compared(status, "routing") >= 20)
        .await;
}

/// How many messages wait: the plugin in force defers, its candidate discards.
async fn waiting(trial: &Trial) -> u64 {
    trial.lab.queue().await["total"].as_u64().expect("a number")
}

async fn calls(trial: &Trial) -> f64 {
    let metric = "waypost_plugin_calls_total{plugin=\"recorded\",phase=\"routing\",result=\"ok\"}";
    trial.lab.metric(metric).await
}

async fn retry_all(trial: &Trial, count: u64) {
    let metric = "waypost_plugin_calls_total{plugin=\"recorded\",phase=\"routing\",result=\"ok\"}";
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let wanted = calls(trial).await + count as f64;
    trial.lab.command("/retry-all").await;
    trial.wait_for_count(metric, wanted).await;
}

async fn set_share(trial: &Trial, millionths: u32) {
    let path = format!("/plugins/recorded/candidate/share/{millionths}");
    let (code, text) = trial.lab.ask_control("POST", &path).await;
    assert_eq!(code, 200, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_decides_its_share_and_always_the_same_messages() {
    let canary = "mode = \"canary\"\npercent = 10";
    let trial = Trial::open("other = 100", canary, "").await;
    let metric = "waypost_plugin_calls_total{plugin=\"recorded\",phase=\"routing\",result=\"ok\"}";
    trial.send(500, 1).await;
    trial.wait_for_count(metric, 500.0).await;
    let status = trial.status().await;
    let decided = count(&status, "canary", "routing", "ok");
    // Fifty expected; the standard deviation is 6.7.
    assert!((17..=84).contains(&decided), "{decided}");
    // The phases of a message are all on one side.
    assert_eq!(count(&status, "canary", "recipient", "ok"), decided);
    trial
        .lab
        .wait_for_queue("the rest", |queue| queue["total"] == 500 - decided)
        .await;

    // Whoever was not chosen is not chosen in a later attempt either.
    retry_all(&trial, 500 - decided).await;
    assert_eq!(waiting(&trial).await, 500 - decided);
    let status = trial.status().await;
    assert_eq!(count(&status, "canary", "routing", "ok"), decided);

    // More are chosen when the share grows; in all as many as if it had been so from the start.
    set_share(&trial, 500_000).await;
    retry_all(&trial, 500 - decided).await;
    let status = trial.status().await;
    let decided = count(&status, "canary", "routing", "ok");
    // 250 expected; the standard deviation is 11.2.
    assert!((194..=306).contains(&decided), "{decided}");
    trial
        .lab
        .wait_for_queue("the rest", |queue| queue["total"] == 500 - decided)
        .await;
    retry_all(&trial, 500 - decided).await;
    assert_eq!(waiting(&trial).await, 500 - decided);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_keeps_failing_is_taken_out() {
    let canary = "mode = \"canary\"\npercent = 100\nmax_failures = 5\nmax_failure_percent = 10";
    let trial = Trial::open("trap = 100", canary, "").await;
    for _ in 0..8 {
        // One after the other: what is under way when it is stopped still ends.
        trial.send(1, 1).await;
    }
    let status = trial
        .wait_for_status(|status| status["stopped"].is_string())
        .await;
    assert_eq!(status["percent"], 0.0);
    assert_eq!(status["configured_percent"], 100.0);
    let failed = count(&status, "canary", "routing", "failed");
    assert!((6..=8).contains(&failed), "{status:#}");
    let stops = "waypost_plugin_candidate_stops_total{plugin=\"recorded\"}";
    assert_eq!(trial.lab.metric(stops).await, 1.0);
    // From now on the plugin in force decides, what failed included; nothing is lost.
    retry_all(&trial, 8).await;
    assert_eq!(trial.lab.queue().await["total"], 8);
    let status = trial.status().await;
    assert_eq!(count(&status, "canary", "routing", "failed"), failed);

    // Until the operator reloads.
    trial.lab.reload(&trial.lab.config).await;
    let status = trial.status().await;
    assert!(status["stopped"].is_null(), "{status:#}");
    assert_eq!(status["percent"], 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_does_not_load_stops_nothing() {
    let pin = "0".repeat(64);
    let trial = Trial::open("", &format!("sha256 = \"{pin}\""), "").await;
    trial.send(1, 1).await;
    let status = trial.status().await;
    assert!(
        status["load_error"]
            .as_str()
            .expect("a text")
            .contains("pins")
    );
    let failed = "waypost_plugin_candidate_loads_total{plugin=\"recorded\",result=\"failed\"}";
    assert_eq!(trial.lab.metric(failed).await, 1.0);
    let (code, _) = trial
        .lab
        .ask_control("POST", "/plugins/recorded/candidate/share/1000000")
        .await;
    assert_eq!(code, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_candidate_is_in_force_and_stays_so() {
    let trial = Trial::open("other = 100", "mode = \"canary\"", "").await;
    trial.send(5, 1).await;
    let (code, text) = trial
        .lab
        .ask_control("POST", "/plugins/recorded/promote")
        .await;
    assert_eq!(code, 200, "{text}");
    let changed: Value = serde_json::from_str(&text).expect("JSON");
    let digest = plugin::Digest::of(&std::fs::read(trial.file("other")).expect("it is there"));
    assert_eq!(changed[0]["result"], "ok", "{text}");
    assert_eq!(changed[0]["digest"], digest.to_string());
    let (code, _) = trial
        .lab
        .ask_control("GET", "/plugins/recorded/candidate")
        .await;
    assert_eq!(code, 404, "the trial has ended");
    trial.lab.command("/retry-all").await;
    trial.lab.wait_until_empty().await;
    let Trial { lab, place } = trial;
    let lab = lab.restart().await;
    let (_, text) = lab.ask_control("GET", "/plugins").await;
    assert!(text.contains(&digest.to_string()), "{text}");
    drop(place);
}
