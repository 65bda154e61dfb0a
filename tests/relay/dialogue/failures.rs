//! A plugin that fails: what the operator said about it happens, in each phase, and no mail is
//! taken past it unless that is what was said.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{gatekeeper, greeted, lab, message};
use crate::lab::{Client, LIMIT, Lab};

fn rules(failure: &str) -> String {
    format!(
        "[sender]\n\"bad@sender.test\" = {{ fail = \"{failure}\", attributes = {{ mark = \"x\" }} }}\n\
         [recipient]\n\"bad@dest.test\" = {{ fail = \"{failure}\" }}\n\
         [message]\n\"bad\" = {{ fail = \"{failure}\" }}\n"
    )
}

/// Goes into the failure in each phase; each is answered as given.
async fn each_phase(lab: &Lab, wanted: &str) {
    let mut client = greeted(lab).await;
    client.ask("MAIL FROM:<bad@sender.test>", wanted).await;
    client.ask("RSET", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<bad@dest.test>", wanted).await;
    client.ask("RSET", "250").await;
    message(&mut client, "you@dest.test", "bad", wanted).await;
    client.ask("QUIT", "221").await;
}

async fn count(lab: &Lab, phase: &str, reason: &str) -> f64 {
    let counter = format!(
        "waypost_plugin_calls_total{{plugin=\"gate\",phase=\"{phase}\",result=\"{reason}\"}}"
    );
    lab.metric(&counter).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_plugin_defers_unless_told_otherwise() {
    for (failure, reason) in [
        ("trap", "trap"),
        ("temporary", "temporary"),
        ("spin", "cpu_limit"),
    ] {
        let (hop, lab) = lab(&gatekeeper("gate", "", &rules(failure))).await;
        let before = [
            count(&lab, "sender", reason).await,
            count(&lab, "recipient", reason).await,
            count(&lab, "message", reason).await,
        ];
        each_phase(&lab, "451 4.3.0").await;
        for (phase, before) in ["sender", "recipient", "message"].into_iter().zip(before) {
            assert_eq!(
                count(&lab, phase, reason).await,
                before + 1.0,
                "{phase} {reason}"
            );
        }
        assert_eq!(hop.connection_count(), 0, "{failure}");
        assert_eq!(lab.queue().await["total"], 0, "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_plugin_rejects_where_the_operator_says_so() {
    let plugin = gatekeeper("gate", "on_error = \"reject\"", &rules("broken"));
    let (hop, lab) = lab(&plugin).await;
    each_phase(&lab, "550 5.3.0").await;
    assert_eq!(hop.connection_count(), 0);
    assert_eq!(lab.queue().await["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_plugin_is_passed_over_where_the_operator_says_so() {
    let first = gatekeeper("gate", "on_error = \"continue\"", &rules("trap"));
    // The next one has its say, and sees nothing of what the failed call noted.
    let second = "[message]\n\"bad\" = { action = \"rewrite\", report = true }\n";
    let (hop, lab) = lab(&(first + &gatekeeper("second", "", second))).await;
    let mut client = greeted(&lab).await;
    client.ask("MAIL FROM:<bad@sender.test>", "250").await;
    client.ask("RCPT TO:<bad@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("X-Do: bad\r\n\r\nBody\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let content = super::content(&hop);
    assert_eq!(super::field(&content, "X-Recipients"), "1 bad@dest.test");
    assert!(!content.contains("X-Attribute-mark"), "{content}");
    for phase in ["sender", "recipient", "message"] {
        assert_eq!(count(&lab, phase, "trap").await, 1.0, "{phase}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_waits_holds_up_nobody_else() {
    let rules = r#"
        [sender]
        "slow@sender.test" = { wait_for = "slow.test" }
        [recipient]
        "slow@dest.test" = { wait_for = "slower.test" }
        [message]
        "slow" = { wait_for = "slowest.test" }
    "#;
    let (hop, lab) = lab(&gatekeeper("gate", "", rules)).await;
    lab.dns.script().set_silent(true);
    // All at once; the machine answers in order, each when its plugin has.
    let mut waiting = greeted(&lab).await;
    waiting
        .say(
            "MAIL FROM:<slow@sender.test>\r\nRCPT TO:<you@dest.test>\r\nRCPT TO:<slow@dest.test>\r\n\
             DATA\r\nX-Do: slow\r\n\r\nBody\r\n.\r\nNOOP",
        )
        .await;
    let mut other = greeted(&lab).await;
    message(&mut other, "you@dest.test", "", "250").await;
    for wanted in [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "354",
        "250 2.0.0 OK: queued",
        "250 2.0.0 Ok",
    ] {
        waiting.expect(wanted).await;
    }
    lab.dns.script().set_silent(false);
    drop(hop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_does_not_wait_for_plugins_for_ever() {
    let rules = "[sender]\n\"*\" = { wait_for = \"slow.test\" }\n";
    let (_hop, lab) = lab(&gatekeeper("gate", "", rules)).await;
    lab.dns.script().set_silent(true);
    let mut client: Client = greeted(&lab).await;
    client.say("MAIL FROM:<me@sender.test>\r\nQUIT").await;
    let asked = async {
        while lab.dns.script().count("slow.test", "TXT") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let asked = tokio::time::timeout(LIMIT, asked).await;
    asked.expect("the plugin asks and waits");
    let stopped = tokio::time::timeout(LIMIT, lab.relay.shutdown());
    stopped.await.expect("it stops");
    // Either the plugin was quick enough, or the client is told to come again.
    let reply = client.expect("").await;
    let told = ["250", "421"].iter().any(|code| reply.starts_with(code));
    assert!(told, "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_keeps_no_turn_of_a_plugin() {
    // The replies to all of it are more than the buffers of a connection ever take, and nearly
    // all go out while a plugin waits.
    const WAITS: usize = 1000;
    let mut rules = "[sender]\n".to_owned();
    let mut said = String::new();
    for number in 0..WAITS {
        let rule = format!("\"s{number}@sender.test\" = {{ wait_for = \"n{number}.test\" }}");
        writeln!(rules, "{rule}").expect("writing to a String");
        said.push_str(&"EHLO client.test\r\n".repeat(40));
        said.push_str(&format!("MAIL FROM:<s{number}@sender.test>\r\nRSET\r\n"));
    }
    let (_hop, lab) = lab(&gatekeeper("gate", "concurrency = 1", &rules)).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = socket.connect(lab.smtp()).await.expect("it listens");
    let mut deaf = Client::over(stream);
    deaf.expect("220").await;
    let mut deaf = deaf.into_stream();
    let talking = tokio::spawn(async move {
        let written = deaf.write_all(said.as_bytes()).await;
        std::future::pending::<()>().await;
        drop(written);
    });
    // Until it holds up itself: then nothing changes any more.
    let answered = async {
        let mut known = 0.0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = count(&lab, "sender", "ok").await;
            if now > 0.0 && (now - known).abs() < 0.5 {
                return now;
            }
            known = now;
        }
    };
    let answered = tokio::time::timeout(4 * LIMIT, answered).await;
    let answered = answered.expect("at some time it is held up");
    assert!(answered < 1000.0, "its replies fit into the buffers");
    let mut other = greeted(&lab).await;
    message(&mut other, "you@dest.test", "", "250").await;
    assert_eq!(count(&lab, "sender", "wall_limit").await, 0.0);
    talking.abort();
}
