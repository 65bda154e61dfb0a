//! Postfix's policy delegation over HTTP: the same lines, in the body of a POST.

use std::time::Duration;

use waypost_sdk::http::{Method, Request};
use waypost_sdk::{HookError, Recipient, message};

/// Asks the server; gives what follows `action=`.
pub fn ask(
    url: &str,
    timeout_ms: u32,
    auth: Option<&str>,
    recipient: &Recipient,
) -> Result<String, HookError> {
    let mut request = Request::new(Method::Post, url)
        .header("Content-Type", "text/plain; charset=utf-8")
        .timeout(Duration::from_millis(timeout_ms.into()));
    request.auth = auth.map(str::to_owned);
    request.body = attributes(recipient).into_bytes();
    let response = request.send()?;
    let body = String::from_utf8_lossy(&response.body);
    let action = body
        .lines()
        .find_map(|line| line.trim().strip_prefix("action="));
    action
        .map(str::to_owned)
        .ok_or_else(|| HookError::temporary("the answer has no action="))
}

fn attributes(recipient: &Recipient) -> String {
    let peer = message::origin();
    let sender = message::envelope_sender();
    let mailbox = sender.as_ref().and_then(|sender| sender.mailbox.as_ref());
    let size = sender
        .as_ref()
        .and_then(|sender| sender.declared_size)
        .unwrap_or(0);
    let tls = peer.tls.as_ref();
    let attributes = [
        ("request", "smtpd_access_policy".to_owned()),
        ("protocol_state", "RCPT".to_owned()),
        ("protocol_name", "ESMTP".to_owned()),
        ("helo_name", peer.helo.clone()),
        ("queue_id", message::id()),
        (
            "sender",
            mailbox.map_or_else(String::new, ToString::to_string),
        ),
        ("recipient", recipient.mailbox.to_string()),
        ("recipient_count", message::recipient_count().to_string()),
        ("client_address", peer.ip.clone()),
        ("client_port", peer.port.to_string()),
        (
            "client_name",
            peer.fcrdns.clone().unwrap_or_else(|| "unknown".into()),
        ),
        ("sasl_username", peer.user.clone().unwrap_or_default()),
        ("size", size.to_string()),
        (
            "encryption_protocol",
            tls.map_or_else(String::new, |tls| format!("TLSv{}", tls.version)),
        ),
        (
            "encryption_cipher",
            tls.map_or_else(String::new, |tls| tls.cipher.clone()),
        ),
        ("instance", message::id()),
    ];
    let mut text = String::new();
    for (name, value) in attributes {
        // A line break in a value would be a line of somebody else's making.
        let value = value.replace(['\r', '\n'], " ");
        text.push_str(&format!("{name}={value}\n"));
    }
    text.push('\n');
    text
}
