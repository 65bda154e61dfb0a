//! Canaries whose share changes, whose plugin changes, or which know more than their plugin.

use std::path::PathBuf;

use serde_json::Value;

use super::{Site, all_by, digest, marks, put, version};
use crate::lab::{Client, LIMIT, component, parse};

/// A component that takes part in routing only.
fn router() -> Vec<u8> {
    std::fs::read(component("misbehave")).expect("it can be read")
}

/// A file for a candidate, and the table that names it.
fn canary(octets: &[u8]) -> (tempfile::TempDir, PathBuf, String) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("next.wasm");
    put(&file, octets);
    let table = format!(
        "[plugin.candidate]\npath = \"{}\"\nmode = \"canary\"\npercent = 100\n",
        file.display()
    );
    (place, file, table)
}

async fn set_share(site: &Site, millionths: u32) -> (u16, String) {
    let path = format!("/plugins/live/candidate/share/{millionths}");
    site.post(&path).await
}

async fn status(site: &Site) -> Value {
    let (_, text) = site.lab.ask_control("GET", "/plugins/live/candidate").await;
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_to_the_canary_that_it_began_with() {
    let (_place, _file, table) = canary(&version(2));
    let site = Site::open(&table, "").await;
    let mut client = Client::connect(site.lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    for (number, (by, share_after)) in [(2, 0), (1, 1_000_000)].into_iter().enumerate() {
        client.ask("MAIL FROM:<me@sender.test>", "250").await;
        let (code, text) = set_share(&site, share_after).await;
        assert_eq!(code, 200, "{text}");
        client.ask("RCPT TO:<you@dest.test>", "250").await;
        client.ask("DATA", "354").await;
        client.ask("Subject: kept\r\n\r\nHello\r\n.", "250").await;
        site.hop.wait_for_messages(number + 1, LIMIT).await;
        assert_eq!(marks(&site.hop.messages()[number].content), all_by(by));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_without_a_phase_of_the_new_version_is_taken_out() {
    let (_place, _file, table) = canary(&router());
    let site = Site::open_with(&router(), &table, "", |_| {}).await;
    assert_eq!(status(&site).await["percent"], 100.0);
    site.put(&version(1));
    assert_eq!(site.change("reload").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(1), "every phase is asked");
    let stopped = status(&site).await;
    let why = stopped["stopped"].as_str().expect("it is said");
    assert!(why.contains("sender, recipient, message"), "{why}");
    assert_eq!(stopped["percent"], 0.0);
    let stops = "waypost_plugin_candidate_stops_total{plugin=\"live\"}";
    assert_eq!(site.lab.metric(stops).await, 1.0);

    // Neither a share nor a promotion brings it in.
    for path in ["candidate/share/1000000", "promote"] {
        let (code, text) = site.post(&format!("/plugins/live/{path}")).await;
        assert_eq!(code, 409, "{text}");
        assert!(text.contains("takes no part"), "{text}");
        assert_eq!(site.marks().await, all_by(1));
    }

    // Beside a version that it goes with it may be asked again.
    assert_eq!(site.change("rollback").await["result"], "ok");
    let (code, text) = set_share(&site, 1_000_000).await;
    assert_eq!(code, 200, "{text}");
    site.lab.send("you@dest.test").await;
    let asked = "waypost_plugin_canary_total{plugin=\"live\",phase=\"routing\",\
                 result=\"ok\",reason=\"\"}";
    site.lab.wait_for_metric(asked, |count| count >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_asked_in_a_phase_that_no_plugin_in_force_has() {
    let (_place, _file, table) = canary(&version(2));
    let site = Site::open_with(&router(), &table, "", |_| {}).await;
    assert_eq!(site.marks().await, all_by(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_does_not_use_up_a_change_of_a_watched_file() {
    let site = Site::open("watch = true", "watch_interval = \"1s\"").await;
    let table = site.lab.directory.path().join("networks");
    put(&table, b"nowhere 1\n");
    let table = format!(
        "[[table]]\nname = \"zones\"\npath = \"{}\"\nformat = \"networks\"\n[[plugin]]",
        table.display()
    );
    site.put(&version(2));
    // The plugin is good; what is looked at after it is not.
    let config = site.lab.config.replace("[[plugin]]", &table);
    let config = parse(site.lab.directory.path(), &config);
    let refused = site.lab.relay.reload(config).await.expect_err("no network");
    assert!(refused.to_string().contains("networks"), "{refused}");
    let second = digest(&version(2));
    site.wait_for("the second", |state| state["digest"] == *second)
        .await;
}
