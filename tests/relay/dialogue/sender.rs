//! After MAIL FROM.

use super::{actions, content, field, gatekeeper, greeted, kept, lab};
use crate::lab::{LIMIT, id_of};

const RULES: &str = r#"
    [sender]
    "later@sender.test" = { action = "defer", code = 450, enhanced = "4.2.1", text = "come later" }
    "never@sender.test" = { action = "reject", text = "not you" }
    "odd@sender.test" = { action = "reject", code = 250, enhanced = "2.0.0", text = "line\r\nbreak" }
    "old@sender.test" = { action = "rewrite", to = ["new@sender.test"], note = "moved" }
    "bulk@sender.test" = { action = "rewrite", to = [] }
    "far@sender.test" = { action = "rewrite", to = ["x@elsewhere.test"] }
    "<>" = { action = "rewrite", to = ["bounces@sender.test"] }
    [message]
    "report" = { action = "rewrite", report = true }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_deferred_or_rejected_in_the_plugins_words() {
    let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    for (sender, wanted) in [
        ("later@sender.test", "450 4.2.1 come later\r\n"),
        ("never@sender.test", "550 5.7.1 not you\r\n"),
        // Of another class than the verdict calls for, and more than one line.
        ("odd@sender.test", "550 5.7.1 line  break\r\n"),
    ] {
        client.ask(&format!("MAIL FROM:<{sender}>"), wanted).await;
    }
    // Commands of the same group that now lack it are no errors of the client.
    client
        .say("MAIL FROM:<never@sender.test>\r\nRCPT TO:<you@dest.test>\r\nDATA")
        .await;
    client.expect("550 5.7.1").await;
    client.expect("503 5.5.1").await;
    client.expect("503 5.5.1").await;
    // The connection goes on.
    super::message(&mut client, "you@dest.test", "", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(actions(&lab, "sender", "defer").await, 1.0);
    assert_eq!(actions(&lab, "sender", "reject").await, 3.0);
    let refused = "waypost_senders_refused_total{listener=\"smtp-1\",reason=\"plugin\"}";
    assert_eq!(lab.metric(refused).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_sender_is_what_counts_from_then_on() {
    for (given, becomes) in [
        ("old@sender.test", "new@sender.test"),
        ("bulk@sender.test", ""),
        ("", "bounces@sender.test"),
        ("other@sender.test", "other@sender.test"),
    ] {
        let (hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
        let mut client = greeted(&lab).await;
        client.ask(&format!("MAIL FROM:<{given}>"), "250").await;
        client.ask("RCPT TO:<you@dest.test>", "250").await;
        client.ask("DATA", "354").await;
        client.ask("X-Do: report\r\n\r\nBody\r\n.", "250").await;
        hop.wait_for_messages(1, LIMIT).await;
        assert_eq!(hop.messages()[0].reverse_path, becomes);
        let seen = if becomes.is_empty() { "<>" } else { becomes };
        assert_eq!(field(&content(&hop), "X-Sender"), seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_outside_of_the_grant_is_a_failure() {
    let (_hop, lab) = lab(&gatekeeper("gate", "", RULES)).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<far@sender.test>", "451 4.3.0").await;
    let failed = "waypost_senders_refused_total{listener=\"smtp-1\",reason=\"plugin_failed\"}";
    assert_eq!(lab.metric(failed).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_plugins_see_what_earlier_ones_decided() {
    let second = r#"
        [sender]
        "new@sender.test" = { action = "rewrite", to = ["newest@sender.test"], note = "again" }
        "old@sender.test" = { action = "reject", text = "the second saw the old one" }
        [message]
        "hold" = { action = "hold", text = "to be looked at" }
    "#;
    let chain = gatekeeper("gate", "", RULES) + &gatekeeper("second", "", second);
    let (hop, lab) = lab(&chain).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<old@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    let reply = client.ask("X-Do: hold\r\n\r\nBody\r\n.", "250").await;
    let id = id_of(&reply);
    // Who decided what is told by the message's story.
    let story = kept(&lab, &id).await;
    let decisions = &story["message"]["history"][0]["decisions"];
    let said: Vec<String> = (0..3)
        .map(|at| {
            let one = &decisions[at];
            format!(
                "{} {} {} {}",
                one["policy"], one["phase"], one["text"], one["note"]
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "\"gate\" \"sender\" \"sender <old@sender.test> became <new@sender.test>\" \"moved\"",
            "\"second\" \"sender\" \"sender <new@sender.test> became <newest@sender.test>\" \"again\"",
            "\"second\" \"message\" \"hold: to be looked at\" null",
        ]
    );
    assert_eq!(decisions[0]["version"], "0.3.0");
    assert_eq!(
        story["message"]["hold"]["reason"],
        "held by second: to be looked at"
    );
    assert_eq!(hop.connection_count(), 0);
    lab.command(&format!("/queue/{id}/release")).await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(hop.messages()[0].reverse_path, "newest@sender.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_stops_the_chain_is_the_last_one_asked() {
    let first = "[sender]\n\"*\" = { stop = true }\n";
    let second = "[sender]\n\"*\" = { action = \"reject\", text = \"asked\" }\n";
    let chain = gatekeeper("gate", "", first) + &gatekeeper("second", "", second);
    let (_hop, lab) = lab(&chain).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_none_of_its_business_passes_a_plugin_by() {
    let rules = "[sender]\n\"*\" = { action = \"reject\", text = \"asked\" }\n";
    let keys = "senders = [\"*.other.test\", \"<>\"]";
    let (_hop, lab) = lab(&gatekeeper("gate", keys, rules)).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RSET", "250").await;
    client.ask("MAIL FROM:<me@a.other.test>", "550").await;
    client.ask("MAIL FROM:<>", "550").await;
}
