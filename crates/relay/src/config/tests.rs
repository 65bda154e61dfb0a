//! The configuration as its users meet it: files that load, reports that help.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod faults;

use super::*;

const HOST: &str = "relay.example.net";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    check::parse(text, Path::new("/etc/waypost/waypost.toml"), HOST).0
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> ConfigErrors {
    match parse(text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors,
    }
}

/// Line, key and message of every error.
fn found(text: &str) -> Vec<(usize, String, String)> {
    let errors = errors(text);
    errors
        .errors()
        .map(|d| (d.line, d.key.clone(), d.message.clone()))
        .collect()
}

/// The only error of `text`.
fn only(text: &str) -> (usize, String, String) {
    let mut all = found(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(repository().join("config").join(name)).unwrap()
}

/// `text` with every "#key = value" and "#[section]" line in use.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Everything that was read, without where it stood.
fn values(config: &Config) -> String {
    let mut config = config.clone();
    config.file = PathBuf::new();
    config.warnings = Report::new(Path::new(""), "".into(), Vec::new());
    config.file_mentions.clear();
    format!("{config:#?}")
}

#[test]
fn five_lines_make_a_smarthost() {
    let config = good(
        r#"
        hostname = "relay.example.net"
        listen = ["0.0.0.0:25"]
        relay_from = ["192.0.2.0/24"]
        smarthost = "smtp.provider.example:587"
        spool = "/var/spool/waypost"
        "#,
    );
    assert_eq!(config.hostname.as_str(), "relay.example.net");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].name, "smtp-1");
    assert_eq!(config.listeners[0].address, "0.0.0.0:25".parse().unwrap());
    assert!(
        config.listeners[0]
            .relay_from
            .contains("192.0.2.77".parse().unwrap())
    );
    assert!(
        config.listeners[0]
            .relay_from
            .contains("::ffff:192.0.2.77".parse().unwrap())
    );
    assert!(
        !config.listeners[0]
            .relay_from
            .contains("198.51.100.1".parse().unwrap())
    );
    assert!(
        !config.listeners[0]
            .relay_from
            .contains("127.0.0.1".parse().unwrap())
    );
    let [smarthost] = config.smarthosts.as_slice() else {
        panic!("{:?}", config.smarthosts)
    };
    assert_eq!(
        smarthost.host,
        SmarthostHost::Name("smtp.provider.example".parse().unwrap())
    );
    assert_eq!(
        (smarthost.port, smarthost.tls),
        (587, TlsMode::Opportunistic)
    );
    assert!(config.warnings.is_empty(), "{}", config.warnings);
}

#[test]
fn nothing_set_relays_for_this_machine_only() {
    let config = good("");
    assert_eq!(config.hostname.as_str(), HOST);
    assert_eq!(config.listeners[0].address, "127.0.0.1:25".parse().unwrap());
    assert_eq!(config.listeners[0].relay_from, Networks::loopback());
    assert!(
        config.listeners[0]
            .relay_from
            .contains("::1".parse().unwrap())
    );
    assert!(
        !config.listeners[0]
            .relay_from
            .contains("192.168.0.1".parse().unwrap())
    );
    assert!(config.smarthosts.is_empty() && config.plugins.is_empty());
}

#[test]
fn the_documented_file_has_the_defaults() {
    assert_eq!(values(&good(&file("waypost.toml"))), values(&good("")));
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = good("");
    let retry: Vec<u64> = config
        .queue
        .retry
        .iter()
        .map(|pause| u64::try_from(pause.as_millis()).unwrap())
        .collect();
    let schedule = queue::RetrySchedule::new(retry, config.queue.retry_jitter_percent).unwrap();
    assert_eq!(schedule, queue::RetrySchedule::default());
    let with_plugin = good("plugin = [{ name = \"a\", path = \"a.wasm\" }]");
    assert_eq!(with_plugin.plugins[0].limits, plugin::Limits::default());
    assert_eq!(with_plugin.plugins[0].grants, plugin::Grants::default());
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_read() {
    let text = uncommented(&file("waypost.toml"));
    let (result, asked) = check::parse(&text, Path::new("waypost.toml"), HOST);
    // The examples of all keys together are a configuration too.
    let config = result.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.plugins.len(), 1);
    let tree: toml::Table = text.parse().unwrap();
    let mut written = BTreeSet::new();
    collect_keys("", &toml::Value::Table(tree), &mut written);
    // Tables of smarthosts are shown in a comment; the walk saw a string.
    let missing: Vec<&String> = asked.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "not in config/waypost.toml: {missing:?}"
    );
    assert!(asked.len() > 90, "{}", asked.len());
}

fn collect_keys(path: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                keys.insert(path.clone());
                collect_keys(&path, value, keys);
            }
        }
        toml::Value::Array(values) => {
            values
                .iter()
                .for_each(|value| collect_keys(&format!("{path}[]"), value, keys));
        }
        _ => {}
    }
}

#[test]
fn the_examples_and_the_quickstart_load_without_warnings() {
    let directory = repository().join("config");
    let examples = std::fs::read_dir(directory.join("examples")).unwrap();
    let mut files: Vec<PathBuf> = examples.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4);
    files.push(directory.join("quickstart.toml"));
    for path in files {
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.warnings.is_empty(), "{}", config.warnings);
    }
}

#[test]
fn the_quickstart_stays_on_this_machine() {
    let path = repository().join("config/quickstart.toml");
    let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.listeners[0].address,
        "127.0.0.1:2525".parse().unwrap()
    );
    assert_eq!(config.admin.listen, "127.0.0.1:9925".parse().unwrap());
    assert!(config.storage.directory.ends_with("config/../var/spool"));
    assert!(
        config.plugins[0]
            .path
            .ends_with("config/../target/plugins/smarthost-table.wasm")
    );
    assert_eq!(
        config.plugins[0].config["routes"]["example.com"].as_str(),
        Some("127.0.0.1:2526")
    );
    let sink = SmarthostHost::Address("127.0.0.1".parse().unwrap());
    assert!(
        config
            .smarthosts
            .iter()
            .all(|smarthost| smarthost.host == sink)
    );
    assert_eq!(config.smarthosts.len(), 1);
}

#[test]
fn listeners_have_their_own_networks_and_unique_names() {
    let text = r#"
        listen = ["127.0.0.1:0", "127.0.0.1:0"]
        relay_from = ["10.0.0.0/8"]
        [[listener]]
        name = "inside"
        address = "[::1]:2525"
        relay_from = ["2001:db8::/32", "192.0.2.1"]
        banner = "hello"
    "#;
    let config = good(text);
    let names: Vec<&str> = config.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["smtp-1", "smtp-2", "inside"]);
    assert_eq!(config.listener("inside").unwrap().banner, "hello");
    assert!(
        config.listeners[1]
            .relay_from
            .contains("10.1.1.1".parse().unwrap())
    );
    assert!(
        !config.listeners[2]
            .relay_from
            .contains("10.1.1.1".parse().unwrap())
    );
    assert!(
        config.listeners[2]
            .relay_from
            .contains("192.0.2.1".parse().unwrap())
    );
    let (line, key, _) = only(&text.replace("inside", "smtp-2"));
    assert_eq!((line, key.as_str()), (5, "listener[0].name"));
    let (line, key, _) = only(&format!("{text}\n[admin]\nlisten = \"[::1]:2525\""));
    assert_eq!((line, key.as_str()), (10, "admin"));
}

#[test]
fn the_admin_listener_stays_at_home() {
    let (_, key, _) = only("[admin]\nlisten = \"0.0.0.0:9925\"");
    assert_eq!(key, "admin.listen");
    let config = good("[admin]\nlisten = \"0.0.0.0:9925\"\nallow_remote = true");
    assert!(config.admin.allow_remote);
}

#[test]
fn smarthosts_have_a_short_and_a_long_form() {
    let config = good(
        r#"
        smarthost = ["a.example", "192.0.2.1:26", "[2001:db8::1]:27", "2001:db8::2",
                     { host = "b.example", port = 465, tls = "verify" }, "[c.example]:28"]
        delivery.tls = "off"
        "#,
    );
    let seen: Vec<(String, u16, TlsMode)> = config
        .smarthosts
        .iter()
        .map(|s| {
            let host = match &s.host {
                SmarthostHost::Name(name) => name.to_string(),
                SmarthostHost::Address(ip) => ip.to_string(),
            };
            (host, s.port, s.tls)
        })
        .collect();
    let expected = [
        ("a.example", 25, TlsMode::Off),
        ("192.0.2.1", 26, TlsMode::Off),
        ("2001:db8::1", 27, TlsMode::Off),
        ("2001:db8::2", 25, TlsMode::Off),
        ("b.example", 465, TlsMode::Verify),
        ("c.example", 28, TlsMode::Off),
    ];
    assert_eq!(
        seen,
        expected.map(|(host, port, tls)| (host.to_owned(), port, tls))
    );
    for wrong in [
        "",
        "a b",
        "a.example:0",
        "a.example:x",
        "a.example:70000",
        "192.0.2.300",
        "[::1",
    ] {
        let (_, key, _) = only(&format!("smarthost = \"{wrong}\""));
        assert_eq!(key, "smarthost", "{wrong}");
    }
    let (_, key, message) = only("smarthost = [{ port = 1 }]");
    assert_eq!(
        (key.as_str(), message.as_str()),
        ("smarthost[0]", "`host` is missing")
    );
}

#[test]
fn plugins_are_read_in_full() {
    let config = good(
        r#"
        listen = ["127.0.0.1:25"]
        [[plugin]]
        name = "routes"
        path = "p/routes.wasm"
        sha256 = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
        on_error = "reject"
        cpu = "50ms"
        wall = "1s"
        memory = "64MiB"
        host_calls = 7
        concurrency = 3
        listeners = ["smtp-1"]
        domains = ["example.com", "*.example.org"]
        senders = ["<>", "a@example.net", "*.example.net"]
        route_headers = ["List-Id"]
        grants = { dns = true, body = "64KiB", route_hosts = ["*.example.net:587", "127.0.0.1"], rewrite_domains = ["example.com"] }
        [plugin.config]
        deep = { list = [1, 2.5, "three", true] }
        [[plugin]]
        name = "off"
        path = "/abs/off.wasm"
        enabled = false
        "#,
    );
    let plugin = &config.plugins[0];
    assert_eq!(plugin.path, Path::new("/etc/waypost/p/routes.wasm"));
    assert_eq!(plugin.on_error, OnError::Reject);
    assert_eq!(plugin.sha256.unwrap().as_bytes()[1], 0x11);
    assert_eq!(plugin.limits.cpu, Duration::from_millis(50));
    assert_eq!(
        (plugin.limits.host_calls, plugin.limits.concurrency),
        (7, 3)
    );
    assert_eq!(plugin.limits.memory_bytes, 64 << 20);
    assert_eq!(plugin.route_headers, ["list-id"]);
    assert_eq!(plugin.grants.body_bytes, 64 << 10);
    assert_eq!(plugin.grants.route_hosts.len(), 2);
    assert_eq!(plugin.grants.rewrite_domains.len(), 1);
    assert_eq!(plugin.config["deep"]["list"][2].as_str(), Some("three"));
    let domain = |text: &str| text.parse::<Domain>().unwrap();
    let matches = |d: &str| plugin.filter.domains.iter().any(|p| p.matches(&domain(d)));
    assert!(matches("example.com") && matches("a.b.example.org"));
    assert!(!matches("example.org") && !matches("a.example.com") && !matches("xexample.org"));
    let sent_by = |s: smtp::ReversePath| plugin.filter.senders.iter().any(|p| p.matches(&s));
    let mailbox = |text: &str| smtp::ReversePath::Mailbox(text.parse().unwrap());
    assert!(sent_by(smtp::ReversePath::Null) && sent_by(mailbox("a@example.net")));
    assert!(sent_by(mailbox("x@y.example.net")) && !sent_by(mailbox("b@example.net")));
    assert_eq!(config.plugins[1].path, Path::new("/abs/off.wasm"));
    assert!(!config.plugins[1].enabled);
}

#[test]
fn sizes_and_durations_are_read_exactly() {
    assert_eq!(value::size("50MiB"), Ok(50 << 20));
    assert_eq!(value::size("10 MB"), Ok(10_000_000));
    assert_eq!(value::size("512"), Ok(512));
    for wrong in ["", "MiB", "-1", "1.5MiB", "5mib", "1 M B", "99999999999TiB"] {
        assert!(value::size(wrong).is_err(), "{wrong}");
    }
    let millis = Duration::from_millis;
    assert_eq!(value::duration("2h30m"), Ok(millis(9_000_000)));
    assert_eq!(value::duration("1s250ms"), Ok(millis(1250)));
    assert_eq!(value::duration("5d"), Ok(millis(432_000_000)));
    for wrong in [
        "",
        "5",
        "m",
        "5 minutes",
        "30m2h",
        "1m1m",
        "-1s",
        "1.5s",
        "5mm",
        "99999999999999999w",
    ] {
        assert!(value::duration(wrong).is_err(), "{wrong}");
    }
    for text in ["250ms", "5m", "2h30m", "1d", "60d"] {
        assert_eq!(value::show_duration(value::duration(text).unwrap()), text);
    }
    for text in ["1B", "4KiB", "50MiB", "3GiB", "1001B"] {
        assert_eq!(value::show_size(value::size(text).unwrap()), text);
    }
}
