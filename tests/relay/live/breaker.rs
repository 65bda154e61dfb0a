//! A plugin that keeps failing is no longer called, and its mail goes the way that the operator
//! chose for it.

use testkit::virtual_mx::Script;

use super::ZONE;
use crate::lab::{Host, LIMIT, Lab, Plan, component, host};

/// A relay with a plugin that does as the local part says, not called after two failures.
async fn site(on_error: &str, breaker: &str) -> (Host, Lab) {
    let hop = host(2, 0, Script::accept()).await;
    let plugin = format!(
        "[[plugin]]\nname = \"frail\"\npath = \"{}\"\non_error = \"{on_error}\"\n\
         domains = [\"dest.test\"]\nconfig = {{ behaviour = \"local-part\" }}\n\
         [plugin.breaker]\nfailures = 2\n{breaker}\n",
        component("misbehave")
    );
    let lab = Plan::new(ZONE, hop.port()).with(&plugin).open().await;
    (hop, lab)
}

fn calls(result: &str) -> String {
    format!("waypost_plugin_calls_total{{plugin=\"frail\",phase=\"routing\",result=\"{result}\"}}")
}

const STATE: &str = "waypost_plugin_breaker_state{plugin=\"frail\"}";

/// Two messages on which it traps: it is not called any more.
async fn open(lab: &Lab) {
    assert_eq!(lab.metric(STATE).await, 0.0);
    for count in [1.0, 2.0] {
        lab.send("trap@dest.test").await;
        lab.wait_for_metric(&calls("trap"), |calls| calls == count)
            .await;
    }
    lab.wait_for_metric(STATE, |state| state == 2.0).await;
}

async fn wait_for_refused_call(lab: &Lab) {
    lab.wait_for_metric(&calls("breaker_open"), |calls| calls >= 1.0)
        .await;
    assert_eq!(lab.metric(&calls("trap")).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_mail_waits_it_waits_without_a_call() {
    let (hop, lab) = site("defer", "").await;
    open(&lab).await;
    let reply = lab.send("proceed@dest.test").await;
    wait_for_refused_call(&lab).await;
    let id = crate::lab::id_of(&reply);
    let of_it = |queue: &serde_json::Value| {
        let messages = queue["messages"].as_array().cloned().unwrap_or_default();
        messages
            .iter()
            .any(|message| message["id"] == *id && message["reason"].is_string())
    };
    let queue = lab.wait_for_queue("a deferral", of_it).await;
    let reasons = queue["messages"].to_string();
    assert!(
        reasons.contains("451 4.3.0 routing plugin frail failed: breaker_open"),
        "{reasons}"
    );
    assert_eq!(hop.connection_count(), 0);

    let (_, text) = lab.ask_control("GET", "/plugins").await;
    let listing: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let plugin = &listing["plugins"][0];
    assert_eq!(plugin["breaker"], "open");
    assert_eq!(plugin["failures_count"], 2);
    assert_eq!(plugin["first_failure"]["reason"], "trap");
    assert_eq!(plugin["first_failure"]["phase"], "routing");
    let detail = plugin["first_failure"]["detail"].as_str().expect("a text");
    assert!(detail.contains("unreachable"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_passed_over_it_is_passed_over_without_a_call() {
    let (hop, lab) = site("continue", "").await;
    open(&lab).await;
    lab.send("trap@dest.test").await;
    hop.wait_for_messages(3, LIMIT).await;
    wait_for_refused_call(&lab).await;
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_mail_is_refused_it_is_refused_without_a_call() {
    let (hop, lab) = site("reject", "").await;
    open(&lab).await;
    lab.send("proceed@dest.test").await;
    wait_for_refused_call(&lab).await;
    // The bounces.
    hop.wait_for_messages(3, LIMIT).await;
    let bounces = hop.messages();
    assert!(
        bounces
            .iter()
            .all(|bounce| bounce.recipients == ["me@sender.test"])
    );
    assert!(bounces.iter().any(|bounce| {
        let text = String::from_utf8_lossy(&bounce.content).into_owned();
        text.contains("frail failed: breaker_open")
    }));
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_cool_down_one_answer_brings_it_back() {
    let (hop, lab) = site("continue", "cool_down = \"50ms\"").await;
    lab.send("trap@dest.test").await;
    lab.send("trap@dest.test").await;
    hop.wait_for_messages(2, LIMIT).await;
    lab.wait_for_metric(STATE, |state| state == 1.0).await;
    lab.send("proceed@dest.test").await;
    lab.wait_for_metric(STATE, |state| state == 0.0).await;
    hop.wait_for_messages(3, LIMIT).await;
    assert_eq!(lab.metric(&calls("ok")).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_answers_others_goes_on_being_called() {
    let (hop, lab) = site("continue", "percent = 100").await;
    // Half of its calls fail: not all.
    for _ in 0..4 {
        lab.send("proceed@dest.test").await;
        lab.send("trap@dest.test").await;
    }
    hop.wait_for_messages(8, LIMIT).await;
    lab.wait_for_metric(&calls("trap"), |calls| calls == 4.0)
        .await;
    assert_eq!(lab.metric(STATE).await, 0.0);
    assert_eq!(lab.metric(&calls("breaker_open")).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_tries_it_again_at_once() {
    let (_hop, lab) = site("defer", "").await;
    open(&lab).await;
    let (status, text) = lab.ask_control("POST", "/plugins/frail/reload").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(lab.metric(STATE).await, 0.0);
    lab.send("trap@dest.test").await;
    lab.wait_for_metric(&calls("trap"), |calls| calls == 3.0)
        .await;
}
