//! Several transactions, what travels with a message, and what is known of the session.

use super::{ZONE, content, field, gatekeeper, greeted, lab, message};
use crate::lab::{LIMIT, Plan, host};
use crate::tls::{Certificate, start_tls};
use testkit::virtual_mx::Script;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_noted_ends_with_it() {
    let rules = r#"
        [sender]
        "one@sender.test" = { attributes = { from = "one" } }
        "two@sender.test" = { attributes = { from = "two" } }
        [recipient]
        "marked@dest.test" = { attributes = { mark = "set" } }
        [message]
        "report" = { action = "rewrite", report = true }
        "never" = { action = "reject", attributes = { mark = "rejected" } }
    "#;
    let (hop, lab) = lab(&gatekeeper("gate", "", rules)).await;
    let mut client = greeted(&lab).await;
    for end in ["RSET", "EHLO client.test"] {
        client.ask("MAIL FROM:<one@sender.test>", "250").await;
        client.ask("RCPT TO:<marked@dest.test>", "250").await;
        client.ask(end, "250").await;
    }
    client.ask("MAIL FROM:<one@sender.test>", "250").await;
    client.ask("RCPT TO:<marked@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("X-Do: never\r\n\r\nBody\r\n.", "550").await;
    client.ask("MAIL FROM:<two@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("X-Do: report\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = content(&hop);
    assert_eq!(field(&content, "X-Attribute-from"), "two");
    assert!(!content.contains("X-Attribute-mark"), "{content}");
    assert_eq!(field(&content, "X-Recipients"), "1 you@dest.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_of_the_dialogue_is_seen_by_routing() {
    let elsewhere = host(4, 0, Script::accept()).await;
    let rules = format!(
        "[recipient]\n\"away@dest.test\" = {{ attributes = {{ route = \"127.0.0.4 {}\" }} }}\n",
        elsewhere.port()
    );
    let (hop, lab) = lab(&gatekeeper("gate", "", &rules)).await;
    let mut client = greeted(&lab).await;
    message(&mut client, "away@dest.test", "", "250").await;
    message(&mut client, "you@dest.test", "", "250").await;
    elsewhere.wait_for_messages(1, LIMIT).await;
    hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(elsewhere.messages()[0].recipients, ["away@dest.test"]);
    assert_eq!(hop.messages()[0].recipients, ["you@dest.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_plugins_note_is_bounded() {
    let value = "x".repeat(400);
    let rules = format!(
        "[recipient]\n\"a@dest.test\" = {{ attributes = {{ a = \"{value}\" }} }}\n\
         \"b@dest.test\" = {{ attributes = {{ b = \"{value}\" }} }}\n\
         \"c@dest.test\" = {{ attributes = {{ c = \"{value}\" }} }}\n"
    );
    let hop = host(2, 0, Script::accept()).await;
    let plan = Plan::new(ZONE, hop.port()).with("[limits]\nattributes = \"1KiB\"\n");
    let lab = plan.with(&gatekeeper("gate", "", &rules)).open().await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    for (to, wanted) in [("a", "250"), ("b", "250"), ("c", "451 4.3.0"), ("a", "250")] {
        client
            .ask(&format!("RCPT TO:<{to}@dest.test>"), wanted)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_told_of_the_clients_tls() {
    let certificate = Certificate::new();
    let hop = host(2, 0, Script::accept()).await;
    let rules = r#"
        [sender]
        "*" = { report = true }
        [message]
        "report" = { action = "rewrite", report = true }
    "#;
    let plan = Plan::new(ZONE, hop.port()).with(&certificate.config());
    let lab = plan.with(&gatekeeper("gate", "", rules)).open().await;
    let client = greeted(&lab).await;
    let mut client = start_tls(client, &certificate).await;
    client.ask("EHLO secret.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("X-Do: report\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let seen = field(&content(&hop), "X-Origin");
    let (client, tls) = seen.split_once(" 1.3 ").expect("TLS 1.3");
    assert_eq!(client, "127.0.0.1 smtp-1 secret.test");
    assert!(
        tls.starts_with("TLS_") && tls.ends_with(" relay.test"),
        "{tls}"
    );
    assert_eq!(field(&content(&hop), "X-Attribute-seen-at-mail"), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_mail_of_its_listeners_is_a_plugins_business() {
    let hop = host(2, 0, Script::accept()).await;
    let listeners = "[[listener]]\nname = \"inside\"\naddress = \"127.0.0.1:0\"\n\
        [[listener]]\nname = \"outside\"\naddress = \"127.0.0.1:0\"\n";
    let rules = "[sender]\n\"*\" = { action = \"reject\", text = \"asked\" }\n";
    let plugin = gatekeeper("gate", "listeners = [\"outside\"]", rules);
    let lab = Plan::new(ZONE, hop.port())
        .with_listeners(listeners)
        .with(&plugin)
        .open()
        .await;
    for (name, address) in lab.relay.addresses() {
        let mut client = crate::lab::Client::connect(*address).await;
        client.expect("220").await;
        client.ask("EHLO client.test", "250").await;
        let wanted = if name == "outside" { "550" } else { "250" };
        client.ask("MAIL FROM:<me@sender.test>", wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_remembers_whom_it_has_put_off() {
    let rules = "[recipient]\n\"*\" = { action = \"greylist\" }\n";
    let plugin = gatekeeper("gate", "", rules);
    let granted = plugin.replace("dns = true", "dns = true\nstate = \"64KiB\"");
    let (hop, lab) = lab(&granted).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client
        .ask("RCPT TO:<you@dest.test>", "451 4.7.1 come again")
        .await;
    client.ask("RSET", "250").await;
    message(&mut client, "you@dest.test", "", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
}
