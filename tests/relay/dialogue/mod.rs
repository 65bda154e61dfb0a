//! Plugins in the SMTP dialogue: what each phase can do, over real connections.

mod failures;
mod message;
mod recipient;
mod sender;
mod session;

use std::fmt::Write as _;

use crate::lab::{Client, Host, Lab, Plan, component, host};
use testkit::virtual_mx::Script;

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nalias MX 10 a.dest\nsender MX 10 a.dest\n";

/// A plugin with these rules: the tables `sender`, `recipient` and `message` of its section.
fn gatekeeper(name: &str, keys: &str, rules: &str) -> String {
    let path = component("gatekeeper");
    let mut text = format!(
        "[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\ncpu = \"2s\"\nwall = \"20s\"\n{keys}\n\
         [plugin.grants]\ndns = true\nbody = \"1KiB\"\nroute_hosts = [\"*\"]\n\
         rewrite_domains = [\"dest.test\", \"alias.test\", \"sender.test\"]\n"
    );
    for line in rules.lines() {
        let line = line.trim();
        let line = line.strip_prefix('[').map_or_else(
            || line.to_owned(),
            |table| format!("[plugin.config.{table}"),
        );
        writeln!(text, "{line}").expect("writing to a String");
    }
    text
}

/// A relay with these plugins in front of one host.
async fn lab(plugins: &str) -> (Host, Lab) {
    let hop = host(2, 0, Script::accept()).await;
    let lab = Plan::new(ZONE, hop.port()).with(plugins).open().await;
    (hop, lab)
}

/// A connection that has said EHLO.
async fn greeted(lab: &Lab) -> Client {
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    client
}

/// One message on a connection; `command` goes into the field that tells the plugin what to do.
async fn message(client: &mut Client, to: &str, command: &str, wanted: &str) -> String {
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask(&format!("RCPT TO:<{to}>"), "250").await;
    client.ask("DATA", "354").await;
    let text = format!("Subject: hello\r\nX-Do: {command}\r\n\r\nBody\r\n.");
    client.ask(&text, wanted).await
}

/// What a plugin is counted to have done.
async fn actions(lab: &Lab, phase: &str, action: &str) -> f64 {
    let counter = format!(
        "waypost_plugin_actions_total{{plugin=\"gate\",phase=\"{phase}\",action=\"{action}\"}}"
    );
    lab.metric(&counter).await
}

/// What is kept of a message, as the control socket gives it.
async fn kept(lab: &Lab, id: &str) -> serde_json::Value {
    let (status, text) = lab.ask_control("GET", &format!("/queue/{id}")).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The content of the only message that the host took, as text.
fn content(hop: &Host) -> String {
    let messages = hop.messages();
    assert_eq!(messages.len(), 1, "one message");
    String::from_utf8(messages[0].content.to_vec()).expect("text")
}

/// The value of a header field, unfolded.
fn field(content: &str, name: &str) -> String {
    let unfolded = content.replace("\r\n ", " ");
    let header = unfolded.split("\r\n\r\n").next().unwrap_or_default();
    let line = header
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {content}"))
        .to_owned()
}
