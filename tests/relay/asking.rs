//! A relay with the guest `resources`: a message to `name@dest.test` has it carry out the command
//! of that name, and what it was answered is the reason for which the message is held.

use std::fmt::Write as _;

use crate::lab::{Lab, Plan, component, id_of};

/// The domain that is the guest's; `far.test` has an address where nothing of ours is, and
/// `inside.test` one of this machine.
const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\ninside A 127.0.0.1\n";

/// The guest's table in a configuration. `grants`: keys of its grants. `commands`: names and
/// what they do.
pub(crate) fn guest(grants: &str, commands: &[(&str, &str)]) -> String {
    named_guest("resources", grants, commands)
}

/// Under another name.
pub(crate) fn named_guest(name: &str, grants: &str, commands: &[(&str, &str)]) -> String {
    let path = component("resources");
    // Time is for the machine's load, not for what the guest does.
    let mut text = format!(
        "[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\ndomains = [\"dest.test\"]\n\
         cpu = \"10s\"\nwall = \"60s\"\nhost_calls = 100000\n\
         [plugin.grants]\nroute_hosts = [\"*\"]\n{grants}\n[plugin.config.do]\n"
    );
    for (name, command) in commands {
        writeln!(text, "{name} = {command:?}").expect("a string");
    }
    text
}

/// A laboratory with this configuration beside the usual.
pub(crate) async fn lab(config: &str) -> Lab {
    Plan::new(ZONE, 25).with(config).open().await
}

/// What the guest was answered when it carried out the command.
pub(crate) async fn answer(lab: &Lab, command: &str) -> String {
    let reply = lab.send(&format!("{command}@dest.test")).await;
    answer_about(lab, &id_of(&reply)).await
}

/// What it was answered in the call about this message.
pub(crate) async fn answer_about(lab: &Lab, id: &str) -> String {
    let reason = |queue: &serde_json::Value| {
        let messages = queue["messages"].as_array()?;
        let message = messages.iter().find(|message| message["id"] == id)?;
        // The name of the plugin that holds it comes first.
        let (_plugin, reason) = message["reason"].as_str()?.split_once(": ")?;
        Some(reason.to_owned())
    };
    let queue = lab
        .wait_for_queue("an answer", |queue| reason(queue).is_some())
        .await;
    reason(&queue).expect("it was waited for")
}
