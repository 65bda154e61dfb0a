//! After the end of data.

use super::{actions, content, field, gatekeeper, greeted, kept, lab, message};
use crate::lab::{LIMIT, id_of};

const RULES: &str = r#"
    [message]
    "later" = { action = "defer", text = "the scanner is busy" }
    "never" = { action = "reject", code = 554, enhanced = "5.7.0", text = "spam" }
    "discard" = { action = "discard", text = "a virus" }
    "hold" = { action = "hold", text = "for review", attributes = { reviewer = "ann" } }
    "hold-an-hour" = { action = "hold", text = "for an hour", release_after = 3600 }
    "report" = { action = "rewrite", report = true }
    "edit" = { action = "rewrite", headers = [["prepend", "X-First", "ünïcode"], ["append", "X-Last", "9"], ["remove", "x-secret", ""], ["replace", "Subject", "[list] hello"]] }
    "long" = { action = "rewrite", headers = [["append", "X-Long", "%"]] }
    "smuggle" = { action = "rewrite", headers = [["append", "X-Bad", "a\r\nBcc: b"]] }
    "unloop" = { action = "rewrite", headers = [["remove", "Received", ""]] }
    "divert" = { action = "rewrite", to = ["a@dest.test", "b@dest.test"], sender = "list@sender.test" }
    "bounce" = { action = "rewrite", sender = "<>" }
    "far" = { action = "rewrite", to = ["x@elsewhere.test"] }
    "far-sender" = { action = "rewrite", sender = "x@elsewhere.test" }
    "keep" = { action = "rewrite", to = ["you@other.test"] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_deferred_rejected_or_dropped() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    let to = "you@dest.test";
    message(
        &mut client,
        to,
        "later",
        "451 4.7.1 the scanner is busy\r\n",
    )
    .await;
    message(&mut client, to, "never", "554 5.7.0 spam\r\n").await;
    // The same words as for mail that is taken.
    message(&mut client, to, "discard", "250 2.0.0 OK: queued as ").await;
    message(&mut client, to, "", "250 2.0.0 OK: queued as ").await;
    hop.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(hop.mail_count(), 1);
    for action in ["defer", "reject", "discard"] {
        assert_eq!(actions(&lab, "message", action).await, 1.0, "{action}");
    }
    let refused = "waypost_messages_refused_total{listener=\"smtp-1\",reason=\"plugin\"}";
    assert_eq!(lab.metric(refused).await, 2.0);
    let discarded = "waypost_messages_discarded_total{listener=\"smtp-1\"}";
    assert_eq!(lab.metric(discarded).await, 1.0);
    assert_eq!(lab.metric("waypost_recipients_discarded_total").await, 1.0);
    let accepted = "waypost_messages_accepted_total{listener=\"smtp-1\"}";
    assert_eq!(lab.metric(accepted).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_message_waits_until_it_is_released() {
    let (hop, mut lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    let reply = message(&mut client, "you@dest.test", "hold", "250").await;
    let id = id_of(&reply);
    drop(client);
    // What the plugin said survives a restart.
    lab = lab.restart().await;
    let story = kept(&lab, &id).await;
    let held = &story["message"]["hold"];
    assert_eq!(held["reason"], "held by gate: for review");
    assert!(held["release_at"].is_null(), "{held}");
    assert_eq!(story["message"]["attributes"][0][0], "reviewer");
    assert_eq!(hop.connection_count(), 0);
    lab.command(&format!("/queue/{id}/release")).await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(hop.messages()[0].recipients, ["you@dest.test"]);

    let mut client = greeted(&lab).await;
    let reply = message(&mut client, "you@dest.test", "hold-an-hour", "250").await;
    let story = kept(&lab, &id_of(&reply)).await;
    let held = &story["message"]["hold"];
    let at = |name: &str| held[name].as_u64().expect("a time");
    assert_eq!(at("release_at") - at("held_at"), 3_600_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_edits_stand_below_our_received_field() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    let text = "Received: from a by b\r\nX-Secret: 1\r\nSubject: hello\r\nX-Do: edit\r\n\
        X-SECRET: 2\r\n\tand more\r\n\r\nX-Secret: in the body\r\n.";
    client.ask(text, "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = content(&hop);
    let (ours, rest) = content.split_once("X-Do: edit").map_or_else(
        || panic!("{content}"),
        |_| content.split_once("+0000\r\n").expect("our trace field"),
    );
    assert!(ours.starts_with("Received: from client.test "), "{ours}");
    assert_eq!(
        rest,
        "Subject: [list] hello\r\nX-First: =?UTF-8?Q?=C3=BCn=C3=AFcode?=\r\n\
         Received: from a by b\r\nX-Do: edit\r\nX-Last: 9\r\n\r\nX-Secret: in the body\r\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sees_the_message_as_it_was_received() {
    let rules = r#"
        [sender]
        "*" = { report = true, attributes = { tenant = "blue" } }
        [recipient]
        "*" = { report = true }
        [message]
        "report" = { action = "rewrite", report = true }
    "#;
    let (hop, lab) = lab(&gatekeeper("gate", "", rules)).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("RCPT TO:<me@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    let text = "Subject: one\r\n two\r\nX-Do: report\r\nTo: you@dest.test\r\n\r\nBody\r\nmore\r\n";
    let reply = client.ask(&format!("{text}."), "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = content(&hop);
    for (name, value) in [
        ("X-Id", id_of(&reply).as_str()),
        ("X-Age", "true"),
        ("X-Size", &text.len().to_string()),
        ("X-Origin", "127.0.0.1 smtp-1 client.test clear"),
        ("X-Sender", "me@sender.test"),
        ("X-Recipients", "2 you@dest.test me@dest.test"),
        // Our trace field is not there yet.
        ("X-Names", "Subject X-Do To"),
        // As received: the blank behind the colon, and the folding.
        ("X-Subject-Octets", "[10]"),
        ("X-Body", "Body|more|"),
        ("X-Attribute-tenant", "blue"),
        (
            "X-Attribute-seen-at-mail",
            "127.0.0.1 smtp-1 client.test clear",
        ),
        ("X-Attribute-seen-at-rcpt", "after 1"),
    ] {
        assert_eq!(field(&content, name), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_shown_only_where_it_is_granted() {
    let plugin = gatekeeper("gate", "", RULES);
    for (grant, seen) in [("", "denied"), ("body = \"3B\"", "Bod")] {
        let (hop, lab) = lab(&plugin.replace("body = \"1KiB\"", grant)).await;
        let mut client = greeted(&lab).await;
        message(&mut client, "you@dest.test", "report", "250").await;
        hop.wait_for_messages(1, LIMIT).await;
        assert_eq!(field(&content(&hop), "X-Body"), seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_and_sender_of_a_message_are_replaced() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    message(&mut client, "you@other.test", "divert", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let taken = &hop.messages()[0];
    assert_eq!(taken.recipients, ["a@dest.test", "b@dest.test"]);
    assert_eq!(taken.reverse_path, "list@sender.test");
    message(&mut client, "you@dest.test", "bounce", "250").await;
    hop.wait_for_messages(2, LIMIT).await;
    assert_eq!(hop.messages()[1].reverse_path, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rewrite_may_not_do_fails_as_a_whole() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    for command in ["smuggle", "unloop", "far", "far-sender"] {
        message(&mut client, "you@dest.test", command, "451 4.3.0").await;
    }
    // A recipient that stays needs no grant.
    message(&mut client, "you@other.test", "keep", "250").await;
    assert_eq!(hop.connection_count(), 0);
    let failed = "waypost_messages_refused_total{listener=\"smtp-1\",reason=\"plugin_failed\"}";
    assert_eq!(lab.metric(failed).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_keeps_its_body_through_an_edit() {
    // There is room in memory for one copy of it, and no more.
    let limits = "[limits]\nmessage_size = \"9MiB\"\nin_flight = \"9MiB\"\n";
    let plugin = gatekeeper("gate", "", RULES);
    let (hop, lab) = lab(&format!("{limits}{plugin}")).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    let line = "All work and no play makes Jack a dull boy.\r\n";
    let body = line.repeat((8 << 20) / line.len());
    client
        .say(&format!("Subject: large\r\nX-Do: edit\r\n\r\n{body}."))
        .await;
    client.expect("250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = content(&hop);
    let (header, received) = content.split_once("\r\n\r\n").expect("a header and a body");
    assert!(header.contains("\r\nSubject: [list] hello\r\n"), "{header}");
    assert!(received == body, "the body is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_values_are_folded() {
    let words = "word ".repeat(500);
    let rules = RULES.replace("\"%\"", &format!("\"{words}\""));
    let (hop, lab) = lab(&gatekeeper("gate", "", &rules)).await;
    let mut client = greeted(&lab).await;
    message(&mut client, "you@dest.test", "long", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = content(&hop);
    assert!(content.lines().all(|line| line.len() <= 78), "{content}");
    assert_eq!(field(&content, "X-Long"), words.trim());
}
