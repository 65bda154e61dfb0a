//! Permanent failures bounce, temporary ones wait, and nothing bounces for a fault of ours.

use crate::lab::{Host, LIMIT, Lab, Plan, host, says};
use testkit::dns::{Fault, Zone};
use testkit::virtual_mx::{Phase, Script};

const SENDER: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    sender MX 10 home.sender\nhome.sender A 127.0.0.2\n";

const FAILED: &str = "waypost_recipients_bounced_total{cause=\"failed\"}";
const BOUNCES: &str = "waypost_bounce_messages_total";

/// A laboratory in which the sender's own host takes bounces.
async fn lab(more: &str) -> (Host, Lab) {
    let home = host(2, 0, Script::accept()).await;
    let lab = Plan::new(&format!("{SENDER}{more}"), home.port())
        .open()
        .await;
    (home, lab)
}

async fn bounce(home: &Host) -> String {
    home.wait_for_messages(1, LIMIT).await;
    let message = home.messages().remove(0);
    assert_eq!(message.reverse_path, "", "the null reverse-path");
    assert_eq!(message.recipients, ["me@sender.test"]);
    String::from_utf8_lossy(&message.content).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_mx_bounces_with_5_1_10() {
    let (home, lab) = lab("dest MX 0 .\n").await;
    lab.send("you@dest.test").await;
    let text = bounce(&home).await;
    assert!(text.contains("\r\nStatus: 5.1.10\r\n"), "{text}");
    assert!(text.contains("\r\nAction: failed\r\n"), "{text}");
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_does_not_exist_bounces_with_5_1_2() {
    let (home, lab) = lab("").await;
    lab.send("you@nowhere.test").await;
    let text = bounce(&home).await;
    assert!(text.contains("\r\nStatus: 5.1.2\r\n"), "{text}");
    assert!(
        text.contains("Subject: to you@nowhere.test"),
        "the header goes back: {text}"
    );
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servfail_makes_the_mail_wait_and_then_go() {
    let (home, lab) = lab("dest MX 10 home.sender\n").await;
    lab.dns
        .script()
        .set_fault("dest.test", "MX", Fault::ServFail);
    let reply = lab.send("you@dest.test").await;
    let reason = lab.deferral().await;
    assert!(reason.starts_with("451 4.4.3"), "{reason}");
    assert!(reason.contains("SERVFAIL"), "{reason}");
    assert_eq!(home.connection_count(), 0);

    lab.dns.script().clear_faults("dest.test");
    let id = crate::lab::id_of(&reply);
    // The directory remembers a failure for some seconds; asked again until then.
    let delivered = async {
        while home.messages().is_empty() {
            lab.command(&format!("/queue/{id}/retry")).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LIMIT, delivered)
        .await
        .expect("it goes when the DNS is well");
    assert_eq!(home.messages()[0].recipients, ["you@dest.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dns_that_is_silent_makes_the_mail_wait() {
    let (home, lab) = lab("").await;
    lab.dns.script().set_silent(true);
    lab.send("you@dest.test").await;
    let reason = lab.deferral().await;
    assert!(reason.starts_with("451 4.4.3"), "{reason}");
    assert_eq!(home.messages().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_cannot_be_delivered_is_not_bounced() {
    let (home, lab) = lab("").await;
    let mut client = crate::lab::Client::begin(lab.smtp(), "", &["you@nowhere.test"]).await;
    client.ask("Subject: a bounce\r\n\r\nx\r\n.", "250").await;
    lab.wait_until_empty().await;
    assert_eq!(lab.metric(FAILED).await, 1.0, "it was given up");
    assert_eq!(lab.metric(BOUNCES).await, 0.0, "and nobody was told");
    assert_eq!(home.messages().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mx_of_the_world_does_not_lead_to_loopback() {
    let home = host(2, 0, Script::accept()).await;
    let plan = Plan::new(
        &format!("{SENDER}dest MX 10 a.dest\na.dest A 127.0.0.9\n"),
        home.port(),
    );
    let lab = plan.open().await;
    let closed = lab
        .config
        .replace("loopback_mx = true", "loopback_mx = false");
    lab.relay
        .reload(crate::lab::parse(lab.directory.path(), &closed))
        .await
        .expect("a good configuration");
    // The sender's own host is on loopback too, so the bounce cannot go anywhere either.
    lab.send("you@dest.test").await;
    lab.wait_until_empty().await;
    assert_eq!(lab.metric(BOUNCES).await, 1.0, "the sender was to be told");
    assert_eq!(lab.metric(FAILED).await, 2.0, "the message and its bounce");
    assert_eq!(home.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mx_is_used_at_the_next_attempt() {
    let old = host(3, 0, Script::accept().at(Phase::Mail, says("451 4.3.0 no"))).await;
    let new = host(4, old.port(), Script::accept()).await;
    let zone = |target: &str| {
        format!(
            "$TTL 0\n$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
             dest MX 10 a.dest\na.dest A {target}\n"
        )
    };
    let lab = Plan::new(&zone("127.0.0.3"), old.port()).open().await;
    let reply = lab.send("you@dest.test").await;
    lab.deferral().await;
    lab.dns.script().set_zone(Zone::parse(&zone("127.0.0.4")));
    let id = crate::lab::id_of(&reply);
    lab.command(&format!("/queue/{id}/retry")).await;
    new.wait_for_messages(1, LIMIT).await;
    assert_eq!(old.connection_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_due_times_survive_a_restart() {
    let tired = host(3, 0, Script::accept().at(Phase::Mail, says("451 4.3.0 no"))).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
        dest MX 10 a.dest\na.dest A 127.0.0.3\n\
        other MX 10 a.other\na.other A 127.0.0.4\n";
    let other = host(4, tired.port(), Script::accept()).await;
    let lab = Plan::new(zone, tired.port()).open().await;
    let reply = lab.send("you@dest.test").await;
    let id = crate::lab::id_of(&reply);
    lab.deferral().await;
    lab.command(&format!("/queue/{id}/retry")).await;
    let twice = |queue: &serde_json::Value| queue["messages"][0]["attempts"] == 2;
    let before = lab.wait_for_queue("a second attempt", twice).await;
    let lab = lab.restart().await;
    let after = lab.queue().await;
    assert_eq!(before["messages"], after["messages"]);
    // A message that came later has been through everything: the restart has had its chance.
    lab.send("you@other.test").await;
    other.wait_for_messages(1, LIMIT).await;
    assert_eq!(
        tired.mail_count(),
        2,
        "the restart tried nothing before its time"
    );
}
