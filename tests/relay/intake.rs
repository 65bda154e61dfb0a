//! Who may send through the relay, and what is refused at the door.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::{Client, LIMIT, Plan, host};
use testkit::virtual_mx::Script;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_not_relay() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port()).open().await;
    // relay_from names 127.0.0.1 alone.
    let mut stranger = Client::connect_from(IpAddr::from([127, 0, 0, 9]), lab.smtp()).await;
    stranger.expect("220").await;
    stranger.ask("EHLO stranger.test", "250").await;
    stranger.ask("MAIL FROM:<me@sender.test>", "250").await;
    stranger.ask("RCPT TO:<you@dest.test>", "550 5.7.1").await;
    stranger.ask("RCPT TO:<postmaster>", "550 5.7.1").await;
    stranger
        .ask("RCPT TO:<you%dest.test@relay.test>", "550 5.7.1")
        .await;
    stranger
        .ask("RCPT TO:<@relay.test:you@dest.test>", "550 5.7.1")
        .await;
    stranger.ask("DATA", "5").await;
    assert_eq!(hop.connection_count(), 0);
    assert_eq!(lab.queue().await["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looping_message_is_refused() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port())
        .with("[limits]\nhops = 20\n")
        .open()
        .await;
    let mut client = Client::begin(lab.smtp(), "me@sender.test", &["you@dest.test"]).await;
    let hops = "Received: from a by b; now\r\n".repeat(21);
    client.ask(&format!("{hops}\r\nx\r\n."), "554 5.4.6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_beyond_the_memory_budget_waits_outside() {
    let hop = host(2, 0, Script::accept()).await;
    let limits = "[limits]\nmessage_size = \"1MiB\"\nin_flight = \"1MiB\"\n";
    let lab = Plan::new(ZONE, hop.port()).with(limits).open().await;
    let mut hogs = Vec::new();
    for number in 0..2 {
        let client = Client::begin(
            lab.smtp(),
            "me@sender.test",
            &[&format!("you{number}@dest.test")],
        )
        .await;
        hogs.push(client);
    }
    let line = format!("{}\r\n", "x".repeat(998));
    let most = line.repeat(700);
    hogs[0].say(&most).await;
    // The first one's content is in memory for certain once the relay reports it.
    let receiving = "waypost_content_memory_bytes{use=\"receiving\"}";
    lab.wait_for_metric(receiving, |bytes| bytes >= 600_000.0)
        .await;
    hogs[1].ask(&format!("{most}\r\n."), "452 4.3.1").await;
    let refused = |reason: &str| {
        format!("waypost_messages_refused_total{{listener=\"smtp-1\",reason=\"{reason}\"}}")
    };
    assert_eq!(lab.metric(&refused("memory")).await, 1.0);
    assert_eq!(lab.metric(&refused("content")).await, 0.0);
    hogs[0].ask(".", "250").await;
    // With the first one gone there is room again.
    hogs[1].ask("MAIL FROM:<me@sender.test>", "250").await;
    hogs[1].ask("RCPT TO:<again@dest.test>", "250").await;
    hogs[1].ask("DATA", "354").await;
    hogs[1].ask(&format!("{most}\r\n."), "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_told_to_come_back() {
    let hop = host(2, 0, Script::accept()).await;
    let limits = "[limits]\nconnections_per_address = 2\n";
    let lab = Plan::new(ZONE, hop.port()).with(limits).open().await;
    let mut first = Client::connect(lab.smtp()).await;
    first.expect("220").await;
    let mut second = Client::connect(lab.smtp()).await;
    second.expect("220").await;
    Client::connect(lab.smtp()).await.expect("421 4.7.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_messages_use_one_outgoing_connection() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port()).open().await;
    for number in 1..=5 {
        lab.send(&format!("you{number}@dest.test")).await;
        hop.wait_for_messages(number, LIMIT).await;
        lab.wait_until_empty().await;
    }
    assert_eq!(hop.connection_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smuggled_message_is_refused_whole() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port()).open().await;
    for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n"] {
        let mut client = Client::begin(lab.smtp(), "me@sender.test", &["you@dest.test"]).await;
        let smuggled = format!("one{end}MAIL FROM:<admin@dest.test>\r\nRCPT TO:<x@dest.test>");
        client
            .ask(&format!("{smuggled}\r\nDATA\r\ntwo\r\n."), "554 5.6.0")
            .await;
    }
    assert_eq!(lab.queue().await["total"], 0);
    assert_eq!(hop.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_many_recipients_is_sent_away() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port())
        .with("[limits]\nerrors_per_connection = 3\n")
        .open()
        .await;
    let mut stranger = Client::connect_from(IpAddr::from([127, 0, 0, 9]), lab.smtp()).await;
    stranger.expect("220").await;
    stranger.ask("EHLO stranger.test", "250").await;
    stranger.ask("MAIL FROM:<me@sender.test>", "250").await;
    for number in 1..=3 {
        let rcpt = format!("RCPT TO:<you{number}@dest.test>");
        stranger.ask(&rcpt, "550 5.7.1").await;
    }
    stranger.ask("RCPT TO:<you4@dest.test>", "421 4.7.0").await;
    stranger.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_by_the_octet_is_cut_off() {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port())
        .with("[limits]\ncommand_timeout = \"1s\"\n")
        .open()
        .await;
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    let (mut reader, mut writer) = client.into_stream().into_split();
    // Never as long silent as the limit, and never done. It ends when the relay hangs up.
    let dribble = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    tokio::time::timeout(LIMIT, async {
        // Hanging up on somebody who is speaking may be a reset.
        drop(reader.read_to_end(&mut said).await);
    })
    .await
    .expect("the relay hangs up");
    assert!(said.starts_with(b"421 4.4.2"), "{said:?}");
    dribble.await.expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_does_not_stop_a_shutdown() {
    let hop = host(2, 0, Script::accept()).await;
    // Both longer than the test may take.
    let lab = Plan::new(ZONE, hop.port())
        .with("[limits]\ncommand_timeout = \"10m\"\nshutdown_timeout = \"10m\"\n")
        .open()
        .await;
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    let mut stream = client.into_stream();
    // Replies are many times longer than this command. When all buffers are full of them the
    // relay waits to write, reads no more, and nothing can be sent either.
    let commands = b"HELP\r\n".repeat(10_000);
    let patience = Duration::from_millis(500);
    while tokio::time::timeout(patience, stream.write_all(&commands))
        .await
        .is_ok()
    {}
    tokio::time::timeout(LIMIT, lab.relay.shutdown())
        .await
        .expect("the relay stops");
    drop(stream);
}
