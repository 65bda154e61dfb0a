//! A changed configuration takes effect without a restart, and a bad one not at all.

use crate::lab::{Client, LIMIT, Plan, host, parse};
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

    let mut permitted =
        Client::connect_from(std::net::IpAddr::from([127, 0, 0, 9]), lab.smtp()).await;
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
