//! When the best host does not take the mail now, the next one gets it at once.

use crate::lab::{LIMIT, Plan, host, says};
use testkit::virtual_mx::{Phase, Script, Step};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\ndest MX 20 b.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n";

/// The best host does as the script says; the other one is well. The mail must arrive there.
async fn goes_to_the_second_host(script: Option<Script>) {
    let second = host(3, 0, Script::accept()).await;
    let first = match script {
        Some(script) => Some(host(2, second.port(), script).await),
        None => None,
    };
    let lab = Plan::new(ZONE, second.port()).open().await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    if let Some(first) = first {
        assert_eq!(first.messages().len(), 0);
        assert_eq!(first.connection_count(), 1, "the best host was tried, once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_the_connection() {
    goes_to_the_second_host(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_nothing() {
    goes_to_the_second_host(Some(Script::accept().at(Phase::Greeting, Step::Hang))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_turns_the_session_away_for_now() {
    goes_to_the_second_host(Some(Script::accept().at(Phase::Greeting, says("421 busy")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_turns_the_session_away_for_good() {
    goes_to_the_second_host(Some(Script::accept().at(Phase::Greeting, says("554 no")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_the_sender_for_now() {
    goes_to_the_second_host(Some(
        Script::accept().at(Phase::Mail, says("451 4.3.0 later")),
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_the_recipient_for_now() {
    goes_to_the_second_host(Some(
        Script::accept().at(Phase::Rcpt, says("450 4.2.0 later")),
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_the_content_for_now() {
    let script = Script::accept().at(Phase::EndOfData, says("451 4.3.0 later"));
    goes_to_the_second_host(Some(script)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_going_down_when_the_content_is_there() {
    // 421 in answer to the dot refuses the message; only silence leaves doubt.
    let script = Script::accept().at(Phase::EndOfData, says("421 4.3.2 going down"));
    goes_to_the_second_host(Some(script)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_in_the_middle_of_the_content() {
    // Far more than the buffers between the two hold: the end cannot have been sent.
    const LINES: usize = 24 * 1024;
    let second = host(3, 0, Script::accept()).await;
    let script = Script::accept().at(Phase::Content, Step::Drop);
    let first = host(2, second.port(), script).await;
    let lab = Plan::new(ZONE, second.port()).open().await;
    let mut client =
        crate::lab::Client::begin(lab.smtp(), "me@sender.test", &["you@dest.test"]).await;
    let text = format!("{}\r\n", "x".repeat(996)).repeat(LINES);
    client.ask(&format!("\r\n{text}."), "250").await;
    second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(first.connection_count(), 1, "the best host was tried, once");
    let content = second.messages().remove(0).content;
    assert!(content.ends_with(text.as_bytes()), "all of it arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hangs_up_before_the_content() {
    goes_to_the_second_host(Some(Script::accept().at(Phase::Data, Step::Drop))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_of_the_same_host_is_tried() {
    let alive = host(3, 0, Script::accept()).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
        dest MX 10 a.dest\na.dest A 127.0.0.4\na.dest A 127.0.0.3\n";
    let lab = Plan::new(zone, alive.port()).open().await;
    for number in 0..8 {
        lab.send(&format!("you{number}@dest.test")).await;
    }
    alive.wait_for_messages(8, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hung_up_after_the_content_is_not_doubted_by_another() {
    // It may have taken the message: to give it to another host now would double it.
    let second = host(3, 0, Script::accept()).await;
    let first = host(
        2,
        second.port(),
        Script::accept().at(Phase::EndOfData, Step::Drop),
    )
    .await;
    let lab = Plan::new(ZONE, second.port()).open().await;
    lab.send("you@dest.test").await;
    let reason = lab.deferral().await;
    assert!(reason.starts_with("451 4.4.2"), "{reason}");
    assert_eq!(first.connection_count(), 1);
    assert_eq!(second.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_have_fates_of_their_own() {
    let first = host(
        2,
        0,
        Script::accept().recipient("bad@dest.test", says("550 5.1.1 no such user")),
    )
    .await;
    let sender = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
        dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\n";
    let lab = Plan::new(sender, first.port()).open().await;
    let mut client = crate::lab::Client::begin(
        lab.smtp(),
        "me@sender.test",
        &["good@dest.test", "bad@dest.test"],
    )
    .await;
    client.ask("Subject: two\r\n\r\nx\r\n.", "250").await;
    // The message for one, the bounce for the other.
    first.wait_for_messages(2, LIMIT).await;
    lab.wait_until_empty().await;
    let messages = first.messages();
    let to_good = messages
        .iter()
        .filter(|m| m.recipients == ["good@dest.test"])
        .count();
    let bounce = messages.iter().find(|m| m.recipients == ["me@sender.test"]);
    assert_eq!(to_good, 1);
    let bounce = bounce.expect("the sender is told");
    assert_eq!(bounce.reverse_path, "", "the null reverse-path");
    let text = String::from_utf8_lossy(&bounce.content).into_owned();
    assert!(
        text.contains("Final-Recipient: rfc822; bad@dest.test"),
        "{text}"
    );
    assert!(text.contains("Status: 5.1.1"), "{text}");
    assert!(!text.contains("good@dest.test"), "{text}");
}
