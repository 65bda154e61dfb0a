//! What is refused or warned of, and how the report looks.

use std::path::Path;

use super::*;

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
    let places: Vec<(usize, usize, &str)> = errors
        .errors()
        .map(|d| (d.line, d.column, d.key.as_str()))
        .collect();
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
    let expected = r#"error: limits.mesage_size: there is no such key
 --> /etc/waypost/waypost.toml:2:1
  |
2 | mesage_size = "10MB"
  | ^^^^^^^^^^^ did you mean `message_size`?

error: limits.recipients: this is of type string
 --> /etc/waypost/waypost.toml:3:14
  |
3 | recipients = "many"
  |              ^^^^^^ write a whole number from 1 to 100000, without quotes

/etc/waypost/waypost.toml: 2 errors"#;
    assert_eq!(report, expected);
    let colored = errors(text).render(true);
    assert!(colored.contains("\u{1b}[") && !report.contains('\u{1b}'));
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
    let text = "spool = /x y\n[limits]\nhops = 0\n[[plugin]]\nname = a\npath = \"a.wasm\"\n";
    let all = found(text);
    let places: Vec<(usize, &str)> = all.iter().map(|(line, key, _)| (*line, &**key)).collect();
    assert_eq!(places, [(1, ""), (3, "limits.hops"), (5, "")], "{all:?}");
    // An array without an end takes the rest of the file with it.
    let all = found("hops = 7\nlisten = [\"0.0.0.0:25\"\nspool = \"/x\"\n");
    let places: Vec<(usize, &str)> = all.iter().map(|(line, key, _)| (*line, &**key)).collect();
    assert_eq!(places, [(1, "hops"), (3, "")], "{all:?}");
}

#[test]
fn an_open_relay_is_refused() {
    for network in [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "128.0.0.0/7",
        "2000::/3",
        "::ffff:0:0/0",
    ] {
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
fn a_smarthost_that_is_this_relay_is_warned_of() {
    for smarthost in ["127.0.0.1:2525", "localhost:2525", "relay.example.net:2525"] {
        let text = format!(
            "listen = [\"0.0.0.0:2525\"]\nrelay_from = [\"10.0.0.0/8\"]\nsmarthost = \"{smarthost}\""
        );
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
    assert!(
        warnings
            .to_string()
            .contains("relay_from = [\"192.0.2.0/24\"]"),
        "{warnings}"
    );
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
    assert_eq!(
        places,
        [
            (2, "tls.certificate"),
            (3, "tls.key"),
            (9, "plugin[1].path")
        ]
    );
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
    assert!(
        check::parse("hostname = \"a.example\"", Path::new("w"), "")
            .0
            .is_ok()
    );
}

#[test]
fn limits_that_contradict_each_other_are_named() {
    let cases = [
        ("[limits]\nmessage_size = \"1GiB\"", "limits.message_size"),
        (
            "[queue]\ninitial_concurrency = 21",
            "queue.initial_concurrency",
        ),
        (
            "[queue]\nreserved_for_fresh = 20000",
            "queue.reserved_for_fresh",
        ),
        ("[queue]\nsuspend = \"1h\"", "queue.suspend"),
        ("[queue]\nretry = []", "queue.retry"),
        ("[dns]\nttl_ceiling = \"1s\"", "dns.ttl_floor"),
        ("[storage]\nmax_size = \"1MiB\"", "storage.segment_size"),
        ("[tls]\nkey = \"k.pem\"", "tls"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        (
            "plugin = [{ name = \"a\", path = \"a\", cpu = \"9s\" }]",
            "plugin[0].cpu",
        ),
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
