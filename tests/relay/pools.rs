//! Pools of source addresses: mail goes out from where a plugin says, under the address's name,
//! and waits where that cannot be.

use crate::lab::{Host, LIMIT, Lab, Plan, component, host};

use testkit::virtual_mx::Script;

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\n";

/// A plugin that names the pool `warm` for all mail, and the pool itself.
fn warm(addresses: &str) -> String {
    let path = component("source-warmup");
    format!(
        "[[source_pool]]\nname = \"warm\"\naddresses = {addresses}\n\
         [[plugin]]\nname = \"warmup\"\npath = \"{path}\"\n\
         grants = {{ state = \"64KiB\", source_pools = [\"warm\"] }}\n\
         config = {{ pool = \"warm\", fallback = \"cold\", start = 0, daily = [1] }}\n"
    )
}

async fn lab(pool: &str) -> (Host, Lab) {
    let host = host(2, 0, Script::accept()).await;
    let plan = Plan::new(ZONE, host.port()).with(&warm(pool));
    // A single failure of a host would be seen.
    let plan =
        plan.with("[queue]\nfailures_to_suspend = 1\nsuspend = \"1h\"\nsuspend_max = \"1h\"\n");
    (host, plan.open().await)
}

/// The mail waits for a fault of ours: that is none of the host's, and nobody else's mail waits.
async fn assert_is_ours(lab: &Lab) {
    let suspended = "waypost_queue_destinations{state=\"suspended\"}";
    assert_eq!(lab.metric(suspended).await, 0.0);
    let local = "waypost_recipients_deferred_total{cause=\"local\"}";
    assert_eq!(lab.metric(local).await, 1.0);
}

#[tokio::test]
async fn mail_goes_out_from_the_pool_that_a_plugin_names() {
    let pool = "[{ address = \"127.0.0.7\", ehlo = \"seven.test\" }, \
                { address = \"127.0.0.8\", ehlo = \"eight.test\" }]";
    let (host, lab) = lab(pool).await;
    for _ in 0..30 {
        lab.send("you@dest.test").await;
    }
    host.wait_for_messages(30, LIMIT).await;
    let mut names: Vec<String> = Vec::new();
    for message in host.messages() {
        let (address, name) = message.source;
        // A connection is never used under another address's name.
        let expected = match name.as_str() {
            "seven.test" => "127.0.0.7",
            "eight.test" => "127.0.0.8",
            other => panic!("{other} is no name of the pool"),
        };
        assert_eq!(address, Some(expected.parse().unwrap()));
        names.push(name);
    }
    names.sort();
    names.dedup();
    // Ids are drawn by chance: all would be alike once in 500 million runs.
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn mail_waits_where_the_address_is_not_ours() {
    let (host, lab) = lab("[{ address = \"192.0.2.1\" }]").await;
    lab.send("you@dest.test").await;
    let why = lab.deferral().await;
    assert!(why.contains("from 192.0.2.1: "), "{why}");
    assert_eq!(host.connection_count(), 0);
    assert_is_ours(&lab).await;
}

#[tokio::test]
async fn mail_waits_where_the_pool_has_no_address_of_the_family() {
    let (host, lab) = lab("[{ address = \"::1\" }]").await;
    lab.send("you@dest.test").await;
    let why = lab.deferral().await;
    assert!(
        why.contains("the source pool \"warm\" has no IPv4 address"),
        "{why}"
    );
    assert_eq!(host.connection_count(), 0);
    assert_is_ours(&lab).await;
}
