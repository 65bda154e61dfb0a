//! Tables in a whole relay: mail goes where the file says, and where it says after it has changed.

use std::fmt::Write as _;
use std::path::Path;

use testkit::virtual_mx::Script;

use crate::asking::{answer, guest, lab};
use crate::lab::{LIMIT, Lab, Plan, host};

/// A table in a file of that name in the laboratory's directory, looked at all the time.
fn table(name: &str, path: &Path, format: &str) -> String {
    let path = path.display();
    format!(
        "[[table]]\nname = \"{name}\"\npath = \"{path}\"\nformat = \"{format}\"\npoll = \"50ms\"\n"
    )
}

const ROUTES: &str = "waypost_table_loads_total{table=\"routes\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_changes_the_way_and_a_bad_one_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("routes");
    let first = host(2, 0, Script::accept()).await;
    let second = host(3, first.port(), Script::accept()).await;
    let port = first.port();
    let to = |octet: u8| format!("# who goes where\ndest.test 127.0.0.{octet}:{port}\n");
    std::fs::write(&path, to(2)).expect("it is written");
    let config =
        table("routes", &path, "map") + &guest("tables = [\"routes\"]", &[("you", "route routes")]);
    let lab = lab(&config).await;
    lab.send("you@dest.test").await;
    first.wait_for_messages(1, LIMIT).await;

    std::fs::write(&path, to(3)).expect("it is written");
    let loaded = format!("{ROUTES},result=\"ok\"}}");
    lab.wait_for_metric(&loaded, |loaded| loaded >= 2.0).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(1, LIMIT).await;

    std::fs::write(&path, to(2) + "novalue\n").expect("it is written");
    let failed = format!("{ROUTES},result=\"failed\"}}");
    lab.wait_for_metric(&failed, |failed| failed >= 1.0).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(2, LIMIT).await;
    // Nor does a reload of the configuration fail for it.
    lab.reload(&lab.config).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(3, LIMIT).await;

    std::fs::write(&path, to(2)).expect("it is written");
    lab.reload(&lab.config).await;
    lab.send("you@dest.test").await;
    first.wait_for_messages(2, LIMIT).await;
    assert_eq!(
        lab.metric("waypost_table_entries{table=\"routes\"}").await,
        1.0
    );
    lab.wait_until_empty().await;
}

/// The guest fails a call that sees two versions, and a failed call makes its message wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_change_all_the_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("routes");
    let first = host(2, 0, Script::accept()).await;
    let second = host(3, first.port(), Script::accept()).await;
    let port = first.port();
    let put = |octet: u8| {
        let partial = path.with_extension("partial");
        let mut text = String::new();
        for number in 0..2000 {
            writeln!(text, "domain-{number}.example 127.0.0.9:{port}").expect("a string");
        }
        writeln!(text, "dest.test 127.0.0.{octet}:{port}").expect("a string");
        std::fs::write(&partial, text).expect("it is written");
        std::fs::rename(&partial, &path).expect("it is renamed");
    };
    put(2);
    let config =
        table("routes", &path, "map") + &guest("tables = [\"routes\"]", &[("you", "route routes")]);
    let lab = lab(&config).await;
    let mut sent = 0;
    for round in 0..6_u8 {
        put(2 + round % 2);
        lab.reload(&lab.config).await;
        for _ in 0..10 {
            lab.send("you@dest.test").await;
            sent += 1;
        }
    }
    lab.wait_until_empty().await;
    assert_eq!(first.messages().len() + second.messages().len(), sent);
    assert!(!first.messages().is_empty() && !second.messages().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_answers_as_the_contract_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path
    };
    let map = file(
        "map",
        "# transport(5)\nExample.com  smtp:[a]\n  :25\n*\tsmtp:\n",
    );
    let domains = file("domains", "example.com\n.example.net eu\n");
    let networks = file(
        "networks",
        "10.0.0.0/8 wide\n10.1.0.0/16 narrow\n2001:db8::/32 six\n",
    );
    let config = [
        table("map", &map, "map"),
        table("domains", &domains, "domains"),
        table("networks", &networks, "networks"),
        table("other", &map, "map"),
        guest(
            "tables = [\"map\", \"domains\", \"networks\"]",
            &[
                ("get", "get map EXAMPLE.com"),
                ("many", "get-many map nothing * example.com"),
                ("below", "domain map a.b.example.com"),
                ("exact", "domain domains example.com"),
                ("under", "domain domains x.example.com"),
                ("net", "domain domains x.example.net"),
                ("ip", "ip networks 10.1.2.3"),
                ("ip6", "ip networks 2001:db8:1::"),
                ("mapped", "ip networks ::ffff:10.2.2.3"),
                ("outside", "ip networks 192.0.2.1"),
                ("wrong", "ip map 192.0.2.1"),
                ("denied", "get other x"),
                ("unknown", "get nowhere x"),
            ],
        ),
    ];
    let lab = lab(&config.concat()).await;
    for (command, wanted) in [
        ("get", "Ok(Some(\"smtp:[a]  :25\"))"),
        (
            "many",
            "Ok([None, Some(\"smtp:\"), Some(\"smtp:[a]  :25\")])",
        ),
        ("below", "Ok(Some((\"example.com\", \"smtp:[a]  :25\")))"),
        ("exact", "Ok(Some((\"example.com\", \"\")))"),
        ("under", "Ok(None)"),
        ("net", "Ok(Some((\".example.net\", \"eu\")))"),
        ("ip", "Ok(Some((\"10.1.0.0/16\", \"narrow\")))"),
        ("ip6", "Ok(Some((\"2001:db8::/32\", \"six\")))"),
        ("mapped", "Ok(Some((\"10.0.0.0/8\", \"wide\")))"),
        ("outside", "Ok(None)"),
        ("denied", "Err(TableError::Denied(\"other\"))"),
        ("unknown", "Err(TableError::Denied(\"nowhere\"))"),
    ] {
        assert_eq!(answer(&lab, command).await, wanted, "{command}");
    }
    let wrong = answer(&lab, "wrong").await;
    assert!(wrong.starts_with("Err(TableError::Unavailable("), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_entries_are_loaded_and_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("routes");
    let only = host(2, 0, Script::accept()).await;
    let port = only.port();
    let mut text = String::with_capacity(48 << 20);
    for number in 0..1_000_000 {
        writeln!(text, "customer-{number}.example smtp:[relay.example]").expect("a string");
    }
    writeln!(text, "dest.test 127.0.0.2:{port}").expect("a string");
    std::fs::write(&path, &text).expect("it is written");
    let config = table("routes", &path, "map")
        + &guest(
            "tables = [\"routes\"]",
            &[
                ("you", "route routes"),
                ("last", "domain routes mail.customer-999999.example"),
                ("none", "get routes customer-1000000.example"),
            ],
        );
    let lab = lab(&config).await;
    lab.send("you@dest.test").await;
    only.wait_for_messages(1, LIMIT).await;
    let last = "Ok(Some((\"customer-999999.example\", \"smtp:[relay.example]\")))";
    assert_eq!(answer(&lab, "last").await, last);
    assert_eq!(answer(&lab, "none").await, "Ok(None)");
    let entries = lab.metric("waypost_table_entries{table=\"routes\"}").await;
    assert_eq!(entries, 1_000_001.0);
    let bytes = lab.metric("waypost_table_bytes{table=\"routes\"}").await;
    let limit = 2 * text.len();
    assert!(bytes > 1e6 && bytes < limit as f64, "{bytes}");
}

async fn refusal(lab: &Lab, config: &str) -> String {
    let config = crate::lab::parse(lab.directory.path(), config);
    match lab.relay.reload(config).await {
        Ok(()) => panic!("the configuration was taken"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_good_is_refused_with_every_fault() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("networks");
    std::fs::write(&path, "10.0.0.0/8\n10.0.0.1/8\nhost.example\n").expect("it is written");
    let lab = Plan::new("$ORIGIN test.\n@ SOA ns h 1 60 60 60 60\n", 25)
        .open()
        .await;
    let config = lab.config.clone() + &table("networks", &path, "networks");
    let refused = refusal(&lab, &config).await;
    let shown = path.display();
    assert!(refused.contains(&format!("{shown}:2: ")), "{refused}");
    assert!(refused.contains(&format!("{shown}:3: ")), "{refused}");

    // As does `waypost check`, before anything is started.
    let parsed = crate::lab::parse(lab.directory.path(), &config);
    let checked = relay::explain::check(parsed, &relay::Clock::system()).await;
    let text = checked.expect_err("it is refused").to_string();
    assert!(text.contains(&format!("{shown}:3: ")), "{text}");
    std::fs::write(&path, "10.0.0.0/8\n").expect("it is written");
    let parsed = crate::lab::parse(lab.directory.path(), &config);
    let facts = relay::explain::check(parsed, &relay::Clock::system()).await;
    let facts = facts.expect("it is good").join("\n");
    assert!(facts.contains("table networks: 1 entries"), "{facts}");
}
