//! The whole story of one message as people read it: `waypost queue show`.

use std::fmt;

use queue::{QueuedMessage, RecipientState};

use crate::admin::Story;
use crate::explain::moment;

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_story(f, self)
    }
}

fn write_story(out: &mut fmt::Formatter<'_>, story: &Story) -> fmt::Result {
    let message = &story.message;
    writeln!(
        out,
        "{}  {} octets, {}",
        message.id, message.size_bytes, story.state
    )?;
    writeln!(out, "  from      <{}>", message.reverse_path)?;
    writeln!(
        out,
        "  received  {}{}",
        moment(message.received_at.0),
        origin(message)
    )?;
    writeln!(out, "  next try  {}", moment(story.due_at_ms))?;
    writeln!(out, "  expires   {}", moment(message.expires_at.0))?;
    if let Some(hold) = &message.hold {
        writeln!(
            out,
            "  held since {}: {}",
            moment(hold.held_at.0),
            hold.reason
        )?;
    }
    if let Some(at) = message.released_at {
        writeln!(
            out,
            "  released  {}: no plugin holds it again",
            moment(at.0)
        )?;
    }
    for (name, value) in &message.attributes {
        writeln!(out, "  attribute {name} = {value}")?;
    }
    for recipient in &message.recipients {
        writeln!(
            out,
            "  to <{}>: {}",
            recipient.mailbox,
            state(&recipient.state)
        )?;
    }
    for record in message.history.iter() {
        let host = record.host.as_deref().unwrap_or("-");
        let address = record.address.as_deref().unwrap_or("-");
        writeln!(
            out,
            "  {}  {} via {host} [{address}] at {}, {} ms: {}",
            moment(record.at.0),
            record.destination,
            record.stage,
            record.duration_ms,
            record.outcome
        )?;
    }
    Ok(())
}

fn origin(message: &QueuedMessage) -> String {
    let origin = &message.origin;
    match origin.client_ip {
        Some(ip) => {
            let helo = origin.helo.as_deref().unwrap_or("unknown");
            format!(" from {ip} ({helo}) by {}", origin.listener)
        }
        None => " (made here)".to_owned(),
    }
}

fn state(state: &RecipientState) -> String {
    match state {
        RecipientState::Pending {
            attempts,
            local_deferrals,
            due_at,
            last,
        } => {
            let why = last
                .as_ref()
                .map_or_else(String::new, |last| format!(": {}", last.reply));
            let local = match local_deferrals {
                0 => String::new(),
                count => format!(", {count} local deferrals since"),
            };
            format!(
                "pending, {attempts} attempts{local}, due {}{why}",
                moment(due_at.0)
            )
        }
        RecipientState::Delivered { at, reply, host } => {
            let host = host.as_deref().unwrap_or("-");
            format!("delivered {} to {host}: {reply}", moment(at.0))
        }
        RecipientState::Failed { at, reply, .. } => format!("failed {}: {reply}", moment(at.0)),
        RecipientState::Expired { at, .. } => format!("expired {}", moment(at.0)),
        RecipientState::Discarded { at, reason } => format!("discarded {}: {reason}", moment(at.0)),
    }
}
