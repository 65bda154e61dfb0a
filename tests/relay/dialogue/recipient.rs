//! After RCPT TO.

use super::{actions, content, field, gatekeeper, greeted, lab, message};
use crate::lab::{Client, LIMIT, Plan, host};
use testkit::virtual_mx::Script;

const RULES: &str = r#"
    [recipient]
    "team@alias.test" = { action = "rewrite", to = ["a@dest.test", "b@dest.test"] }
    "both@alias.test" = { action = "rewrite", to = ["b@dest.test", "c@dest.test"] }
    "copy@dest.test" = { action = "rewrite", to = ["copy@dest.test", "archive@dest.test"] }
    "drop@dest.test" = { action = "rewrite", to = [] }
    "later@dest.test" = { action = "defer", text = "greylisted" }
    "never@dest.test" = { action = "reject", code = 551, enhanced = "5.1.6", text = "moved" }
    "far@dest.test" = { action = "rewrite", to = ["x@elsewhere.test"] }
    "marked@dest.test" = { attributes = { mark = "set" } }
    "unmarked@dest.test" = { attributes = { mark = "wrong" }, note = "marked wrongly" }
    "sixty@alias.test" = { action = "rewrite", to = ["n%@dest.test"], count = 60 }
    "more@alias.test" = { action = "rewrite", to = ["m%@dest.test"], count = 60 }
    "toomany@alias.test" = { action = "rewrite", to = ["t%@dest.test"], count = 101 }
    [message]
    "report" = { action = "rewrite", report = true }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelined_group_gets_each_recipients_answer_in_order() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    let group = "MAIL FROM:<me@sender.test>\r\nRCPT TO:<later@dest.test>\r\n\
        RCPT TO:<team@alias.test>\r\nRCPT TO:<never@dest.test>\r\nRCPT TO:<drop@dest.test>\r\n\
        RCPT TO:<both@alias.test>\r\nRCPT TO:<copy@dest.test>\r\nRCPT TO:<far@dest.test>\r\nDATA";
    client.say(group).await;
    for wanted in [
        "250 2.1.0",
        "451 4.7.1 greylisted",
        "250 2.1.5",
        "551 5.1.6 moved",
        "250 2.1.5",
        "250 2.1.5",
        "250 2.1.5",
        "451 4.3.0",
        "354",
    ] {
        client.expect(wanted).await;
    }
    client.ask("X-Do: report\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let taken = &hop.messages()[0];
    // One copy for whom two aliases lead to.
    assert_eq!(
        taken.recipients,
        [
            "a@dest.test",
            "b@dest.test",
            "c@dest.test",
            "copy@dest.test",
            "archive@dest.test"
        ]
    );
    let seen = field(&content(&hop), "X-Recipients");
    assert_eq!(seen, "5 a@dest.test b@dest.test c@dest.test");
    for (action, count) in [
        ("rewrite", 3.0),
        ("drop", 1.0),
        ("defer", 1.0),
        ("reject", 1.0),
    ] {
        assert_eq!(actions(&lab, "recipient", action).await, count, "{action}");
    }
    let refused = |reason: &str| {
        format!("waypost_recipients_refused_total{{listener=\"smtp-1\",reason=\"{reason}\"}}")
    };
    assert_eq!(lab.metric(&refused("plugin")).await, 2.0);
    assert_eq!(lab.metric(&refused("plugin_failed")).await, 1.0);
    assert_eq!(lab.metric("waypost_recipients_discarded_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_recipients_are_all_dropped_is_dropped() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    message(&mut client, "drop@dest.test", "", "250 2.0.0 OK: queued as").await;
    message(&mut client, "you@dest.test", "", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(hop.messages()[0].recipients, ["you@dest.test"]);
    let dropped = "waypost_messages_discarded_total{listener=\"smtp-1\"}";
    assert_eq!(lab.metric(dropped).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_about_a_refused_recipient_is_not_kept() {
    // The first notes something about a recipient, the second refuses it.
    let second = "[recipient]\n\"unmarked@dest.test\" = { action = \"reject\", text = \"no\" }\n";
    let chain = gatekeeper("gate", "", RULES) + &gatekeeper("second", "", second);
    let (hop, lab) = lab(&chain).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<marked@dest.test>", "250").await;
    client
        .ask("RCPT TO:<unmarked@dest.test>", "550 5.7.1 no")
        .await;
    client.ask("DATA", "354").await;
    client.ask("X-Do: report\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(field(&content(&hop), "X-Attribute-mark"), "set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_plugin_is_asked_about_each_mailbox_of_an_alias() {
    let second = r#"
        [recipient]
        "a@dest.test" = { action = "rewrite", to = ["z@dest.test"] }
        "b@dest.test" = { action = "rewrite", to = [] }
        "c@dest.test" = { action = "reject", text = "no c" }
    "#;
    let chain = gatekeeper("gate", "", RULES) + &gatekeeper("second", "", second);
    let (hop, lab) = lab(&chain).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<team@alias.test>", "250").await;
    // One of them refused: the client learns it, and nobody gets half of an alias unseen.
    client
        .ask("RCPT TO:<both@alias.test>", "550 5.7.1 no c")
        .await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(hop.messages()[0].recipients, ["z@dest.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_count_towards_the_limit_of_recipients() {
    let hop = host(2, 0, Script::accept()).await;
    let plan = Plan::new(super::ZONE, hop.port()).with("[limits]\nrecipients = 100\n");
    let lab = plan.with(&gatekeeper("gate", "", RULES)).open().await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<sixty@alias.test>", "250").await;
    // In the next transaction there is room.
    client.ask("RCPT TO:<more@alias.test>", "452 4.5.3").await;
    client
        .ask("RCPT TO:<toomany@alias.test>", "451 4.3.0")
        .await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nBody\r\n.", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<more@alias.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(2, LIMIT).await;
    let counts: Vec<_> = hop
        .messages()
        .iter()
        .map(|one| one.recipients.len())
        .collect();
    assert_eq!(counts, [60, 60]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_recipients_are_asked_about_one_by_one() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    let mut group = "MAIL FROM:<me@sender.test>".to_owned();
    for number in 0..1000 {
        group.push_str(&format!("\r\nRCPT TO:<u{number}@dest.test>"));
    }
    client.say(&group).await;
    for _ in 0..=1000 {
        client.expect("250").await;
    }
    client.ask("RCPT TO:<onemore@dest.test>", "452 4.5.3").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    let taken: usize = hop.messages().iter().map(|one| one.recipients.len()).sum();
    assert_eq!(taken, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_plugin_opens_the_relay() {
    // It would take anybody's mail and send it to where it is granted.
    let rules = "[recipient]\n\"*\" = { action = \"rewrite\", to = [\"a@dest.test\"] }\n";
    let (hop, lab) = lab(&gatekeeper("gate", "", rules)).await;
    let stranger = "127.0.0.9".parse().expect("an address");
    let mut client = Client::connect_from(stranger, lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO stranger.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    for to in ["you@dest.test", "you@alias.test", "Postmaster"] {
        client
            .ask(&format!("RCPT TO:<{to}>"), "550 5.7.1 Relaying denied")
            .await;
    }
    client.ask("DATA", "554 5.5.1").await;
    assert_eq!(hop.connection_count(), 0);
    let asked = "waypost_plugin_calls_total{plugin=\"gate\",phase=\"recipient\",result=\"ok\"}";
    assert_eq!(
        lab.metric(asked).await,
        0.0,
        "the plugin was not even asked"
    );
    // Whom relay control lets in is asked about.
    let mut client = greeted(&lab).await;
    message(&mut client, "you@nowhere.test", "", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(hop.messages()[0].recipients, ["a@dest.test"]);
    assert_eq!(lab.metric(asked).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_recipients_of_its_domains_are_a_plugins_business() {
    let rules = "[recipient]\n\"*\" = { action = \"reject\", text = \"asked\" }\n";
    let (_hop, lab) = lab(&gatekeeper("gate", "domains = [\"dest.test\"]", rules)).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@alias.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "550").await;
}
