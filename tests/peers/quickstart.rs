//! What the README promises: the quickstart's configuration, a sink, and a line that sends.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::harness::{Process, Relay, free_address, root, wait_for, waypost};

/// config/quickstart.toml on other ports, and with its paths as seen from elsewhere.
pub(crate) fn quickstart(sink: SocketAddr) -> Relay {
    let (smtp, admin) = (free_address(), free_address());
    let mut config = std::fs::read_to_string(root().join("config/quickstart.toml"))
        .expect("the quickstart has a configuration");
    let replacements = [
        ("127.0.0.1:2525", smtp.to_string()),
        ("127.0.0.1:2526", sink.to_string()),
        ("127.0.0.1:9925", admin.to_string()),
        ("\"../var/", "\"var/".to_owned()),
    ];
    for (from, to) in replacements {
        assert!(
            config.contains(from),
            "{from} is not in the quickstart's configuration"
        );
        config = config.replace(from, &to);
    }
    // The plugin's component, which `cargo xtask` builds.
    let config = config.replace("\"../", &format!("\"{}/", root().display()));
    Relay::with_config(smtp, admin, &config)
}

/// `waypost sink`, and the file that it shows messages in.
pub(crate) fn sink(address: SocketAddr, log: &Path) -> Process {
    let mut command = Command::new(waypost());
    let process = Process::start(
        command.args(["sink", "--listen", &address.to_string()]),
        log,
    );
    wait_for("the sink", || std::net::TcpStream::connect(address).ok());
    process
}

/// `waypost send` from the quickstart's sender to its recipient.
pub(crate) fn send(relay: &Relay, subject: &str) {
    let output = Command::new(waypost())
        .args([
            "send",
            "--server",
            &relay.smtp.to_string(),
            "--from",
            "me@example.org",
        ])
        .args(["--to", "you@example.com", "--subject", subject])
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_sent_message_is_seen_at_the_sink_and_explained() {
    let sink_address = free_address();
    let mut relay = quickstart(sink_address);
    let log = relay.dir().join("sink.log");
    let mut sink = sink(sink_address, &log);
    send(&relay, "hello quickstart");
    let shown = wait_for("the message at the sink", || {
        let shown = std::fs::read_to_string(&log).expect("the sink writes it");
        shown.contains("Subject: hello quickstart").then_some(shown)
    });
    assert!(
        shown.contains("<me@example.org> -> <you@example.com>"),
        "{shown}"
    );
    // Through the plugin, not past it.
    assert!(
        relay.metric("waypost_plugin_calls_total") >= 1.0,
        "{}",
        relay.metrics_text()
    );

    let explained = relay.run_waypost(
        "explain",
        &["--from", "me@example.org", "--to", "you@example.com"],
    );
    let text = String::from_utf8_lossy(&explained.stdout);
    assert!(
        explained.status.success(),
        "{}",
        String::from_utf8_lossy(&explained.stderr)
    );
    assert!(text.contains(&sink_address.to_string()), "{text}");
    relay.stop();
    assert!(sink.terminate().success());
}
