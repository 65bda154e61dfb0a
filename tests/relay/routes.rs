//! Where DNS says: preference, equal preference, implicit MX.

use crate::lab::{LIMIT, Plan, host};
use testkit::virtual_mx::Script;

#[tokio::test(flavor = "multi_thread")]
async fn the_most_preferred_host_gets_the_mail() {
    let best = host(2, 0, Script::accept()).await;
    let other = host(3, best.port(), Script::accept()).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
        dest MX 20 b.dest\ndest MX 10 a.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n";
    let lab = Plan::new(zone, best.port()).open().await;
    let reply = lab.send("you@dest.test").await;
    best.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;

    let message = best.messages().remove(0);
    let text = String::from_utf8(message.content.to_vec()).expect("ASCII");
    let id = crate::lab::id_of(&reply);
    assert!(
        text.starts_with("Received: from client.test ([127.0.0.1])\r\n"),
        "{text}"
    );
    assert!(text.contains(&format!("with ESMTP id {id}")), "{text}");
    assert!(
        text.ends_with("Subject: to you@dest.test\r\n\r\nHello you@dest.test\r\n"),
        "{text}"
    );
    assert_eq!(other.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_equal_preference_share_the_mail() {
    const MESSAGES: usize = 60;
    let one = host(2, 0, Script::accept()).await;
    let two = host(3, one.port(), Script::accept()).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
        dest MX 10 a.dest\ndest MX 10 b.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n";
    let lab = Plan::new(zone, one.port()).open().await;
    for number in 0..MESSAGES {
        lab.send(&format!("you{number}@dest.test")).await;
    }
    lab.wait_until_empty().await;
    let counts = (one.messages().len(), two.messages().len());
    assert_eq!(counts.0 + counts.1, MESSAGES);
    // Fair coins give fewer than ten of sixty once in ten million runs.
    assert!(counts.0 >= 10 && counts.1 >= 10, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_mx_is_its_own_host() {
    let itself = host(2, 0, Script::accept()).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\ndest A 127.0.0.2\n";
    let lab = Plan::new(zone, itself.port()).open().await;
    lab.send("you@dest.test").await;
    itself.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smarthost_gets_everything_and_dns_is_not_asked() {
    let smarthost = host(2, 0, Script::accept()).await;
    let zone = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n";
    let plan = Plan::new(zone, 25);
    let lab = plan
        .open_with(&format!("smarthost = \"127.0.0.2:{}\"", smarthost.port()))
        .await;
    lab.send("you@nowhere.test").await;
    smarthost.wait_for_messages(1, LIMIT).await;
    assert_eq!(lab.dns.script().count_all(), 0);
}
