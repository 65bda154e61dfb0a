//! Samples in a whole relay: what their cases say of them is what happens to mail.

use std::path::Path;

use testkit::virtual_mx::Script;

use crate::lab::{Client, LIMIT, Lab, Plan, component, host};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n\
    other MX 10 a.dest\nsender MX 10 a.dest\n";

/// A sample with its grants and its configuration.
fn sample(name: &str, grants: &str, config: &str) -> String {
    let path = component(name);
    format!("[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\ngrants = {{ {grants} }}\n{config}\n")
}

/// A table with this content, in a file of its own.
fn table(name: &str, directory: &Path, content: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("it is written");
    let path = path.display();
    format!("[[table]]\nname = \"{name}\"\npath = \"{path}\"\nformat = \"map\"\n")
}

async fn lab(config: &str, port: u16) -> Lab {
    Plan::new(ZONE, port).with(config).open().await
}

#[tokio::test]
async fn an_access_table_decides_at_rcpt() {
    let directory = tempfile::tempdir().expect("a directory");
    let entries = "closed@dest.test 550 5.1.1 this mailbox has closed\n\
                   dest.test OK\nother.test DEFER come again\n";
    let config = table("access", directory.path(), entries)
        + &sample(
            "rcpt-access",
            "tables = [\"access\"]",
            "config = { table = \"access\" }",
        );
    let lab = lab(&config, 25).await;
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    let told = client.ask("RCPT TO:<closed@dest.test>", "550").await;
    assert!(told.contains("5.1.1 this mailbox has closed"), "{told}");
    client.ask("RCPT TO:<you@other.test>", "4").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
}

#[tokio::test]
async fn a_transport_table_decides_where_mail_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = host(2, 0, Script::accept()).await;
    let second = host(3, first.port(), Script::accept()).await;
    let entries = format!(
        "dest.test smtp:[b.dest.test]:{}\nother.test retry:4.4.1 the line is down\n",
        second.port()
    );
    let config = table("transport", directory.path(), &entries)
        + &sample(
            "transport-map",
            "tables = [\"transport\"], route_hosts = [\"*\"]",
            "config = { table = \"transport\" }",
        );
    let lab = lab(&config, first.port()).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(1, LIMIT).await;
    lab.send("you@other.test").await;
    let why = lab.deferral().await;
    assert!(why.contains("the line is down"), "{why}");
    // What has no entry goes by its MX records.
    lab.send("me@sender.test").await;
    first.wait_for_messages(1, LIMIT).await;
}

#[tokio::test]
async fn a_relay_that_fails_is_tried_last_by_the_next_message() {
    let second = host(3, 0, Script::accept()).await;
    let port = second.port();
    let config = sample(
        "failover-feedback",
        "state = \"64KiB\", route_hosts = [\"*\"]",
        &format!(
            "config = {{ relays = [\"127.0.0.2:{port}\", \"127.0.0.3:{port}\"], failures = 1 }}"
        ),
    );
    let lab = lab(&config, port).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(1, LIMIT).await;
    let down = "waypost_plugin_events_total{plugin=\"failover-feedback\",name=\"relay_down\"}";
    lab.wait_for_metric(down, |count| count >= 1.0).await;
    // Somebody is there now, and is not asked: the first relay comes last for a while.
    let first = host(2, port, Script::accept()).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(2, LIMIT).await;
    assert_eq!(first.connection_count(), 0);
}

#[tokio::test]
async fn a_message_is_held_by_a_rule_and_goes_when_released() {
    let first = host(2, 0, Script::accept()).await;
    let config = sample(
        "quarantine",
        "",
        "[[plugin.config.rule]]\nname = \"by hand\"\nsenders = [\"sender.test\"]\naction = \"hold\"",
    );
    let lab = lab(&config, first.port()).await;
    lab.send("you@dest.test").await;
    let queue = lab
        .wait_for_queue("a message that is held", |queue| {
            queue["messages"][0]["held"] == true
        })
        .await;
    assert_eq!(first.connection_count(), 0);
    let id = queue["messages"][0]["id"].as_str().expect("an id");
    lab.command(&format!("/queue/{id}/release")).await;
    first.wait_for_messages(1, LIMIT).await;
}

#[tokio::test]
async fn domains_of_one_provider_share_its_rate() {
    let first = host(2, 0, Script::accept()).await;
    let config = sample(
        "provider-throttle",
        "state = \"64KiB\"",
        "[[plugin.config.provider]]\nname = \"big\"\nmx = [\"a.dest.test\"]\nrate = \"1/1d\"",
    );
    let lab = lab(&config, first.port()).await;
    lab.send("you@dest.test").await;
    first.wait_for_messages(1, LIMIT).await;
    lab.send("you@other.test").await;
    let why = lab.deferral().await;
    assert!(why.contains("over the rate of big"), "{why}");
    assert_eq!(first.messages().len(), 1);
}
