//! Outgoing connections: kept for the next message, shared out when they are few, and not at the
//! mercy of the host at the other end.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Client, LIMIT, Plan, host, says};
use testkit::virtual_mx::{Phase, Script, Step};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const HEAD: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n";

fn one_host() -> String {
    format!("{HEAD}dest MX 10 a.dest\na.dest A 127.0.0.2\n")
}

/// A connection is kept after the first message; then the host does this at the next MAIL, once.
async fn a_kept_connection_is_of_no_use(step: Step) {
    let only = host(2, 0, Script::accept()).await;
    let plan = Plan::new(&one_host(), only.port());
    let lab = plan.delivery("idle_timeout = \"10m\"").open().await;
    lab.send("one@dest.test").await;
    lab.wait_until_empty().await;
    assert_eq!(only.connection_count(), 1);
    only.set_script(Script::accept().first(1, Phase::Mail, step));
    lab.send("two@dest.test").await;
    // There is no other host, and the first retry is far away.
    only.wait_for_messages(2, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(only.mail_count(), 3, "the kept connection was tried");
    assert_eq!(only.connection_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_went_silent_is_no_failure_of_the_host() {
    a_kept_connection_is_of_no_use(Step::Hang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_is_no_failure_of_the_host() {
    a_kept_connection_is_of_no_use(Step::Drop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_says_goodbye_is_no_failure_of_the_host() {
    a_kept_connection_is_of_no_use(says("421 4.4.2 idle for too long")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_share_a_single_connection() {
    const EACH: usize = 10;
    let one = host(2, 0, Script::accept()).await;
    let two = host(3, one.port(), Script::accept()).await;
    let zone =
        format!("{HEAD}one MX 10 a.one\na.one A 127.0.0.2\ntwo MX 10 a.two\na.two A 127.0.0.3\n");
    // An idle connection that stayed would leave the other destination nothing until long after
    // the test; and waiting for its end would be a deferral.
    let keys = "connections = 1\nidle_timeout = \"10m\"";
    let lab = Plan::new(&zone, one.port()).delivery(keys).open().await;
    let send = async |domain: &str| {
        for number in 0..EACH {
            lab.send(&format!("you{number}@{domain}")).await;
        }
    };
    tokio::join!(send("one.test"), send("two.test"));
    one.wait_for_messages(EACH, LIMIT).await;
    two.wait_for_messages(EACH, LIMIT).await;
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_connection_goes_from_hand_to_hand() {
    const EACH: usize = 5;
    let only = host(2, 0, Script::accept()).await;
    let keys = "connections = 1\nidle_timeout = \"10m\"";
    let plan = Plan::new(&one_host(), only.port()).delivery(keys);
    let plan = plan.with("[queue]\ninitial_concurrency = 10\n");
    let lab = plan.open().await;
    let send = async |name: &str| {
        for number in 0..EACH {
            lab.send(&format!("{name}{number}@dest.test")).await;
        }
    };
    tokio::join!(send("a"), send("b"), send("c"), send("d"));
    only.wait_for_messages(4 * EACH, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(only.connection_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_few_recipients_gets_several_transactions() {
    let full = says("452 4.5.3 too many recipients");
    let script = Script::accept()
        .recipient_first(1, "two@dest.test", full.clone())
        .recipient_first(2, "three@dest.test", full);
    let only = host(2, 0, script).await;
    let lab = Plan::new(&one_host(), only.port()).open().await;
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    for name in ["one", "two", "three"] {
        client
            .ask(&format!("RCPT TO:<{name}@dest.test>"), "250")
            .await;
    }
    client.ask("DATA", "354").await;
    client.ask("Subject: three\r\n\r\nx\r\n.", "250").await;
    only.wait_for_messages(3, LIMIT).await;
    lab.wait_until_empty().await;
    let taken = only.messages();
    let recipients: Vec<&[String]> = taken.iter().map(|taken| &*taken.recipients).collect();
    assert_eq!(
        recipients,
        [["one@dest.test"], ["two@dest.test"], ["three@dest.test"]]
    );
    assert_eq!(only.connection_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_drips_octets_is_given_the_time_of_one_reply() {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let tarpit = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the relay comes");
        // A greeting without end, faster than any time-out for a single read.
        while stream.write_all(b"220-x\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let lab = Plan::new(&one_host(), port).open().await;
    lab.send("you@dest.test").await;
    let reason = lab.deferral().await;
    assert!(reason.starts_with("451 4.4.2"), "{reason}");
    tarpit.await.expect("the relay hung up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferral_is_counted() {
    const REMOTE: &str = "waypost_recipients_deferred_total{cause=\"remote\"}";
    let script = Script::accept().at(Phase::Rcpt, says("450 4.2.0 later"));
    let only = host(2, 0, script).await;
    let lab = Plan::new(&one_host(), only.port()).open().await;
    assert_eq!(only.connection_count(), 0);
    lab.send("you@dest.test").await;
    lab.deferral().await;
    let counted = lab.metric(REMOTE).await;
    assert!(counted >= 1.0, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_as_preferred_as_ourselves_gets_nothing() {
    const MESSAGES: usize = 6;
    let other = host(2, 0, Script::accept()).await;
    let sender = host(3, other.port(), Script::accept()).await;
    let zone = format!(
        "{HEAD}dest MX 10 a.dest\ndest MX 10 us.dest\na.dest A 127.0.0.2\nus.dest A 127.0.0.1\n\
         sender MX 10 a.sender\na.sender A 127.0.0.3\n"
    );
    let ourselves = SocketAddr::from(([127, 0, 0, 1], other.port()));
    let plan = Plan::new(&zone, other.port()).listen(ourselves);
    let lab = plan.open().await;
    // In one of two plans, by chance, the other host stands first.
    for number in 0..MESSAGES {
        lab.send(&format!("you{number}@dest.test")).await;
    }
    sender.wait_for_messages(MESSAGES, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(other.connection_count(), 0);
    for bounce in sender.messages() {
        let text = String::from_utf8_lossy(&bounce.content).into_owned();
        assert!(text.contains("Status: 5.4.6"), "{text}");
    }
}
