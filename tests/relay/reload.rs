//! A changed configuration takes effect without a restart, and a bad one not at all.

use std::net::{IpAddr, SocketAddr};

use crate::lab::{Client, LIMIT, Lab, Plan, host, parse};
use testkit::virtual_mx::Script;

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n";

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_by_the_new_smarthost_and_relay_control_changes() {
    let old = host(2, 0, Script::accept()).await;
    let new = host(3, 0, Script::accept()).await;
    let top = format!("smarthost = \"127.0.0.2:{}\"", old.port());
    let lab = Plan::new(ZONE, 25).open_with(&top).await;
    lab.send("one@dest.test").await;
    old.wait_for_messages(1, LIMIT).await;

    let changed = lab
        .config
        .replace(&top, &format!("smarthost = \"127.0.0.3:{}\"", new.port()))
        .replace(
            "relay_from = [\"127.0.0.1\"]",
            "relay_from = [\"127.0.0.1\", \"127.0.0.9\"]",
        );
    let config = parse(lab.directory.path(), &changed);
    lab.relay
        .reload(config)
        .await
        .expect("a good configuration");
    lab.send("two@dest.test").await;
    new.wait_for_messages(1, LIMIT).await;
    assert_eq!(old.messages().len(), 1);

    let mut permitted = Client::connect_from(IpAddr::from([127, 0, 0, 9]), lab.smtp()).await;
    permitted.expect("220").await;
    permitted.ask("EHLO client.test", "250").await;
    permitted.ask("MAIL FROM:<me@sender.test>", "250").await;
    permitted.ask("RCPT TO:<you@dest.test>", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_load_changes_nothing() {
    let hop = host(2, 0, Script::accept()).await;
    let top = format!("smarthost = \"127.0.0.2:{}\"", hop.port());
    let lab = Plan::new(ZONE, 25).open_with(&top).await;
    let broken = lab.directory.path().join("broken.wasm");
    std::fs::write(&broken, b"not a component").expect("a temporary directory");
    let changed = format!(
        "{}\n[[plugin]]\nname = \"broken\"\npath = \"broken.wasm\"\n",
        lab.config
    );
    let config = parse(lab.directory.path(), &changed);
    let error = lab
        .relay
        .reload(config)
        .await
        .expect_err("it is no component");
    assert!(error.to_string().contains("broken.wasm"), "{error}");
    lab.send("one@dest.test").await;
    hop.wait_for_messages(1, LIMIT).await;
}

/// Two doors: one for our own, one for nobody who is in these tests.
const DOORS: &str = "[[listener]]\nname = \"inside\"\naddress = \"127.0.0.1:0\"\n\
    relay_from = [\"127.0.0.1\"]\n\
    [[listener]]\nname = \"public\"\naddress = \"127.0.0.5:0\"\n\
    relay_from = [\"192.0.2.1\"]\n";

async fn try_rcpt(door: SocketAddr, wanted: &str) {
    let mut client = Client::connect_from(IpAddr::from([127, 0, 0, 1]), door).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", wanted).await;
}

fn door(lab: &Lab, name: &str) -> SocketAddr {
    let mut doors = lab.relay.addresses().iter();
    doors.find(|(own, _)| own == name).expect("it listens").1
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_that_change_places_keep_their_relay_control() {
    let lab = Plan::new(ZONE, 25).with_listeners(DOORS).open().await;
    let (inside, public) = (door(&lab, "inside"), door(&lab, "public"));
    try_rcpt(inside, "250").await;
    try_rcpt(public, "550 5.7.1").await;
    let swapped = lab
        .config
        .replace("127.0.0.5:0", "elsewhere")
        .replace("\"127.0.0.1:0\"\nrelay_from", "\"127.0.0.5:0\"\nrelay_from")
        .replace("elsewhere", "127.0.0.1:0");
    assert_ne!(swapped, lab.config);
    // Twice: what was kept once has to be kept again.
    for _ in 0..2 {
        lab.reload(&swapped).await;
        try_rcpt(inside, "250").await;
        try_rcpt(public, "550 5.7.1").await;
    }
    // In their own places again they take what the configuration says of them.
    let opened = lab.config.replace("192.0.2.1", "127.0.0.1");
    lab.reload(&opened).await;
    try_rcpt(public, "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_renamed_or_dropped_keeps_its_relay_control() {
    let lab = Plan::new(ZONE, 25).with_listeners(DOORS).open().await;
    let (inside, public) = (door(&lab, "inside"), door(&lab, "public"));
    let renamed = lab.config.replace("\"public\"", "\"outside\"");
    lab.reload(&renamed.replace("192.0.2.1", "127.0.0.1")).await;
    try_rcpt(public, "550 5.7.1").await;
    let dropped = lab.config.split("[[listener]]\nname = \"public\"");
    let dropped = dropped.into_iter().next().expect("what stands before it");
    lab.reload(dropped).await;
    try_rcpt(public, "550 5.7.1").await;
    try_rcpt(inside, "250").await;
}
