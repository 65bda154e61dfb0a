//! The configuration as its users meet it: files that load, reports that help.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    errors.errors().map(|d| (d.line, d.key.clone(), d.message.clone())).collect()
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
    assert!(config.listeners[0].relay_from.contains("192.0.2.77".parse().unwrap()));
    assert!(config.listeners[0].relay_from.contains("::ffff:192.0.2.77".parse().unwrap()));
    assert!(!config.listeners[0].relay_from.contains("198.51.100.1".parse().unwrap()));
    assert!(!config.listeners[0].relay_from.contains("127.0.0.1".parse().unwrap()));
    let [smarthost] = config.smarthosts.as_slice() else { panic!("{:?}", config.smarthosts) };
    assert_eq!(smarthost.host, SmarthostHost::Name("smtp.provider.example".parse().unwrap()));
    assert_eq!((smarthost.port, smarthost.tls), (587, TlsMode::Opportunistic));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
}

#[test]
fn nothing_set_relays_for_this_machine_only() {
    let config = good("");
    assert_eq!(config.hostname.as_str(), HOST);
    assert_eq!(config.listeners[0].address, "127.0.0.1:25".parse().unwrap());
    assert_eq!(config.listeners[0].relay_from, Networks::loopback());
    assert!(config.listeners[0].relay_from.contains("::1".parse().unwrap()));
    assert!(!config.listeners[0].relay_from.contains("192.168.0.1".parse().unwrap()));
    assert!(config.smarthosts.is_empty() && config.plugins.is_empty());
}

#[test]
fn the_documented_file_has_the_defaults() {
    assert_eq!(values(&good(&file("waypost.toml"))), values(&good("")));
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = good("");
    let retry: Vec<u64> =
        config.queue.retry.iter().map(|pause| u64::try_from(pause.as_millis()).unwrap()).collect();
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
    assert!(missing.is_empty(), "not in config/waypost.toml: {missing:?}");
    assert!(asked.len() > 90, "{}", asked.len());
}

fn collect_keys(path: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys.insert(path.clone());
                collect_keys(&path, value, keys);
            }
        }
        toml::Value::Array(values) => {
            values.iter().for_each(|value| collect_keys(&format!("{path}[]"), value, keys));
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
    assert_eq!(config.listeners[0].address, "127.0.0.1:2525".parse().unwrap());
    assert_eq!(config.admin.listen, "127.0.0.1:9925".parse().unwrap());
    assert!(config.storage.directory.ends_with("config/../var/spool"));
    assert!(config.plugins[0].path.ends_with("config/../target/plugins/smarthost-table.wasm"));
    assert_eq!(config.plugins[0].config["routes"]["example.com"].as_str(), Some("127.0.0.1:2526"));
    let sink = SmarthostHost::Address("127.0.0.1".parse().unwrap());
    assert!(config.smarthosts.iter().all(|smarthost| smarthost.host == sink));
    assert_eq!(config.smarthosts.len(), 1);
}

const FAULTY: &str = r#"hostname = "relay_.exa mple"
listen = ["0.0.0.0:25", "localhost:25", "0.0.0.0:25"]
relay_from = ["192.0.2.0/24", "0.0.0.0/0", "192.0.2.9/24"]
smarthost = "smtp://smtp.provider.example:587"
mesage_size = "10MB"
hops = 7

[limits]
message_size = "50 Mib"
recipients = "many"
mesages_per_connection = 10
conections = 5
command_timeout = "5 minutes"

[queue]
retry = ["5m", "soon"]
initial_concurrency = 50

[[plugin]]
name = "Routes"
listeners = ["smtp-9"]
on_error = "ignore"
"#;

#[test]
fn all_faults_are_reported_at_once() {
    let errors = errors(FAULTY);
    let places: Vec<(usize, usize, &str)> =
        errors.errors().map(|d| (d.line, d.column, d.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (1, 12, "hostname"),
            (2, 25, "listen[1]"),
            (2, 41, "listen[2]"),
            (3, 31, "relay_from[1]"),
            (3, 44, "relay_from[2]"),
            (4, 13, "smarthost"),
            (5, 1, "mesage_size"),
            (6, 1, "hops"),
            (9, 16, "limits.message_size"),
            (10, 14, "limits.recipients"),
            (11, 1, "limits.mesages_per_connection"),
            (12, 1, "limits.conections"),
            (13, 19, "limits.command_timeout"),
            (16, 16, "queue.retry[1]"),
            (17, 23, "queue.initial_concurrency"),
            (19, 1, "plugin[0]"),
            (20, 8, "plugin[0].name"),
            (21, 14, "plugin[0].listeners[0]"),
            (22, 12, "plugin[0].on_error"),
        ]
    );
    assert_eq!(errors.len(), places.len());
}

#[test]
fn a_report_shows_place_fault_and_remedy() {
    let text = "[limits]\nmesage_size = \"10MB\"\nrecipients = \"many\"\n";
    let report = errors(text).to_string();
    assert_eq!(report, "");
}

#[test]
fn unknown_keys_come_with_the_nearest_or_with_their_section() {
    let errors = errors("hops = 1\nlisten-on = []\nzzz = 1\n[queue]\nconcurency = 3\n");
    let help: Vec<&str> = errors.errors().map(|d| d.help.as_str()).collect();
    assert_eq!(help[0], "this key belongs into [limits]");
    assert!(help[2].starts_with("known here: hostname, "), "{}", help[2]);
    assert_eq!(help[3], "did you mean `concurrency`?");
}

#[test]
fn broken_syntax_hides_nothing_of_the_other_lines() {
    let all = found("listen = [\"0.0.0.0:25\"\nspool = \"/x\"\n[limits]\nhops = 0\n");
    assert!(all.iter().any(|(_, key, text)| key.is_empty() && text.starts_with("not TOML")));
    assert!(all.iter().any(|(line, key, _)| *line == 4 && key == "limits.hops"), "{all:?}");
}

#[test]
fn an_open_relay_is_refused() {
    for network in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/7", "2000::/3", "::ffff:0:0/0"] {
        let (line, key, message) = only(&format!("relay_from = [\"{network}\"]"));
        assert_eq!((line, key.as_str()), (1, "relay_from[0]"));
        assert!(message.contains("open relay"), "{network}: {message}");
        let (_, key, message) = only(&format!(
            "listener = [{{ name = \"a\", address = \"0.0.0.0:25\", relay_from = [\"{network}\"] }}]"
        ));
        assert_eq!(key, "listener[0].relay_from[0]");
        assert!(message.contains("open relay"), "{network}: {message}");
    }
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
    assert!(config.listeners[1].relay_from.contains("10.1.1.1".parse().unwrap()));
    assert!(!config.listeners[2].relay_from.contains("10.1.1.1".parse().unwrap()));
    assert!(config.listeners[2].relay_from.contains("192.0.2.1".parse().unwrap()));
    let (line, key, _) = only(&text.replace("inside", "smtp-2"));
    assert_eq!((line, key.as_str()), (5, "listener[0].name"));
    let (line, key, _) = only(&format!("{text}\n[admin]\nlisten = \"[::1]:2525\""));
    assert_eq!((line, key.as_str()), (11, "admin"));
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
    assert_eq!(seen, expected.map(|(host, port, tls)| (host.to_owned(), port, tls)));
    for wrong in ["", "a b", "a.example:0", "a.example:x", "a.example:70000", "192.0.2.300", "[::1"] {
        let (_, key, _) = only(&format!("smarthost = \"{wrong}\""));
        assert_eq!(key, "smarthost", "{wrong}");
    }
    let (_, key, message) = only("smarthost = [{ port = 1 }]");
    assert_eq!((key.as_str(), message.as_str()), ("smarthost[0]", "`host` is missing"));
}

#[test]
fn a_smarthost_that_is_this_relay_is_warned_of() {
    for smarthost in ["127.0.0.1:2525", "localhost:2525", "relay.example.net:2525"] {
        let text = format!("listen = [\"0.0.0.0:2525\"]\nrelay_from = [\"10.0.0.0/8\"]\nsmarthost = \"{smarthost}\"");
        let warnings = good(&text).warnings;
        assert_eq!(warnings.len(), 1, "{smarthost}: {warnings}");
        assert_eq!(warnings.diagnostics()[0].line, 3);
        assert_eq!(warnings.diagnostics()[0].severity, Severity::Warning);
    }
}

#[test]
fn a_public_listener_for_nobody_is_warned_of() {
    let warnings = good("listen = [\"0.0.0.0:25\"]").warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings.to_string().contains("relay_from = [\"192.0.2.0/24\"]"), "{warnings}");
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
        grants = { dns = true, body = "64KiB", route_hosts = ["*.example.net:587", "127.0.0.1"] }
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
    assert_eq!((plugin.limits.host_calls, plugin.limits.concurrency), (7, 3));
    assert_eq!(plugin.limits.memory_bytes, 64 << 20);
    assert_eq!(plugin.route_headers, ["list-id"]);
    assert_eq!(plugin.grants.body_bytes, 64 << 10);
    assert_eq!(plugin.grants.route_hosts.len(), 2);
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
fn two_plugins_of_one_name_show_both_places() {
    let plugin = "[[plugin]]\nname = \"twice\"\npath = \"a.wasm\"\n";
    let report = errors(&format!("{plugin}{plugin}")).to_string();
    assert!(report.contains("plugin[1].name"), "{report}");
    assert!(report.contains("first here"), "{report}");
    assert!(report.contains("waypost.toml:5:8"), "{report}");
}

#[test]
fn missing_files_are_found_where_they_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("waypost.toml");
    std::fs::write(directory.path().join("there.wasm"), "").unwrap();
    let text = "[tls]\ncertificate = \"none.pem\"\nkey = \".\"\n[[plugin]]\nname = \"a\"\n\
                path = \"there.wasm\"\n[[plugin]]\nname = \"b\"\npath = \"gone.wasm\"\n\
                [[plugin]]\nname = \"c\"\npath = \"gone.wasm\"\nenabled = false\n";
    let config = check::parse(text, &path, HOST).0.unwrap();
    let errors = config.check_files().unwrap_err();
    let places: Vec<(usize, &str)> = errors.errors().map(|d| (d.line, d.key.as_str())).collect();
    assert_eq!(places, [(2, "tls.certificate"), (3, "tls.key"), (9, "plugin[1].path")]);
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.toml");
    let errors = Config::load(&path).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors.to_string().contains("none.toml"), "{errors}");
    assert_eq!(errors.diagnostics()[0].line, 0);
}

#[test]
fn a_machine_without_a_name_needs_one_written() {
    let (result, _) = check::parse("", Path::new("waypost.toml"), "");
    let errors = result.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors.diagnostics()[0].key, "hostname");
    assert!(check::parse("hostname = \"a.example\"", Path::new("w"), "").0.is_ok());
}

#[test]
fn limits_that_contradict_each_other_are_named() {
    let cases = [
        ("[limits]\nmessage_size = \"1GiB\"", "limits.message_size"),
        ("[queue]\ninitial_concurrency = 21", "queue.initial_concurrency"),
        ("[queue]\nreserved_for_fresh = 20000", "queue.reserved_for_fresh"),
        ("[queue]\nsuspend = \"1h\"", "queue.suspend"),
        ("[queue]\nretry = []", "queue.retry"),
        ("[dns]\nttl_ceiling = \"1s\"", "dns.ttl_floor"),
        ("[storage]\nmax_size = \"1MiB\"", "storage.segment_size"),
        ("[tls]\nkey = \"k.pem\"", "tls"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("plugin = [{ name = \"a\", path = \"a\", cpu = \"9s\" }]", "plugin[0].cpu"),
        ("listen = []", "listen"),
        ("limits = 3", "limits"),
        ("[delivery]\nport = 70000", "delivery.port"),
        ("[delivery]\nport = -1", "delivery.port"),
        ("[delivery]\ntls = true", "delivery.tls"),
    ];
    for (text, key) in cases {
        assert_eq!(only(text).1, key, "{text}");
    }
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
    for wrong in ["", "5", "m", "5 minutes", "30m2h", "1m1m", "-1s", "1.5s", "5mm", "99999999999999999w"] {
        assert!(value::duration(wrong).is_err(), "{wrong}");
    }
    for text in ["250ms", "5m", "2h30m", "1d", "60d"] {
        assert_eq!(value::show_duration(value::duration(text).unwrap()), text);
    }
    for text in ["1B", "4KiB", "50MiB", "3GiB", "1001B"] {
        assert_eq!(value::show_size(value::size(text).unwrap()), text);
    }
}
