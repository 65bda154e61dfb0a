//! What the plugin sees, as text that a test can compare.

use waypost_sdk::{HeaderEdit, HeaderField, Peer, message};

pub fn of_peer(peer: &Peer) -> String {
    let tls = match &peer.tls {
        None => "clear".to_owned(),
        Some(tls) => format!(
            "{} {} {}",
            tls.version,
            tls.cipher,
            tls.sni.as_deref().unwrap_or("-")
        ),
    };
    format!("{} {} {} {tls}", peer.ip, peer.listener, peer.helo)
}

/// Header fields that tell everything about the message.
pub fn of_message() -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    let mut say = |name: &str, value: String| {
        edits.push(HeaderEdit::Append(HeaderField::new(name, value)));
    };
    say("X-Id", message::id());
    say("X-Age", (message::received_at() > 0).to_string());
    say("X-Size", message::size().to_string());
    say("X-Origin", of_peer(&message::origin()));
    let sender = message::envelope_sender().and_then(|sender| sender.mailbox);
    say(
        "X-Sender",
        sender.map_or("<>".into(), |one| crate::text(&one)),
    );
    let recipients = message::envelope_recipients(0, 3);
    let recipients: Vec<_> = recipients
        .iter()
        .map(|one| crate::text(&one.mailbox))
        .collect();
    say(
        "X-Recipients",
        format!("{} {}", message::recipient_count(), recipients.join(" ")),
    );
    let fields = message::headers(100);
    let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
    say("X-Names", names.join(" "));
    let octets = message::header_octets("subject");
    let octets: Vec<_> = octets.iter().map(Vec::len).collect();
    say("X-Subject-Octets", format!("{octets:?}"));
    let body =
        message::body(0, 1000).map(|body| String::from_utf8_lossy(&body).replace("\r\n", "|"));
    say("X-Body", body.unwrap_or_else(|| "denied".to_owned()));
    for attribute in message::attributes() {
        say(&format!("X-Attribute-{}", attribute.name), attribute.value);
    }
    edits
}
