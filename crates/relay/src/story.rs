//! The whole story of one message as people read it: `waypost queue show`.

use std::fmt;

use queue::{AttemptRecord, QueuedMessage, RecipientState};

use crate::admin::{DestinationView, Story};
use crate::explain::moment;

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = &self.message;
        write_head(f, self)?;
        for recipient in &message.recipients {
            let (mailbox, state) = (&recipient.mailbox, state(&recipient.state));
            writeln!(f, "  to <{mailbox}>: {state}")?;
        }
        for destination in &self.destinations {
            write_destination(f, destination)?;
        }
        for record in message.history.iter() {
            write_record(f, message, record)?;
        }
        Ok(())
    }
}

fn write_head(out: &mut fmt::Formatter<'_>, story: &Story) -> fmt::Result {
    let message = &story.message;
    let (id, size, state) = (message.id, message.size_bytes, &story.state);
    writeln!(out, "{id}  {size} octets, {state}")?;
    writeln!(out, "  from      <{}>", message.reverse_path)?;
    let received = moment(message.received_at.0);
    writeln!(out, "  received  {received}{}", origin(message))?;
    writeln!(out, "  next try  {}", moment(story.due_at_ms))?;
    writeln!(out, "  expires   {}", moment(message.expires_at.0))?;
    if let Some(hold) = &message.hold {
        let since = moment(hold.held_at.0);
        writeln!(out, "  held since {since}: {}", hold.reason)?;
    }
    if let Some(at) = message.released_at {
        let at = moment(at.0);
        writeln!(out, "  released  {at}: no plugin holds it again")?;
    }
    for (name, value) in &message.attributes {
        writeln!(out, "  attribute {name} = {value}")?;
    }
    Ok(())
}

fn write_destination(out: &mut fmt::Formatter<'_>, destination: &DestinationView) -> fmt::Result {
    let DestinationView {
        name,
        concurrency,
        in_flight,
        ready,
        failures,
        ..
    } = destination;
    write!(out, "  destination {name}: ")?;
    if let Some(until) = destination.suspended_until_ms {
        write!(out, "suspended until {}, ", moment(until))?;
    }
    writeln!(
        out,
        "{failures} failures in a row, {in_flight} of {concurrency} attempts under way, {ready} \
         wait"
    )
}

fn write_record(
    out: &mut fmt::Formatter<'_>,
    message: &QueuedMessage,
    record: &AttemptRecord,
) -> fmt::Result {
    if record.is_reception() {
        writeln!(out, "  {}  {}", moment(record.at.0), record.outcome)?;
        return write_decisions(out, record);
    }
    write!(out, "  {}  {}", moment(record.at.0), record.destination)?;
    match (&record.host, &record.address) {
        (None, None) => {}
        (host, address) => {
            let host = host.as_deref().unwrap_or("-");
            let address = address.as_deref().unwrap_or("-");
            write!(out, " via {host} [{address}]")?;
        }
    }
    let (stage, took) = (&record.stage, record.duration_ms);
    writeln!(out, " at {stage}, {took} ms: {}", record.outcome)?;
    if let Some(recipients) = recipients(message, record) {
        writeln!(out, "    for {recipients}")?;
    }
    write_decisions(out, record)
}

fn write_decisions(out: &mut fmt::Formatter<'_>, record: &AttemptRecord) -> fmt::Result {
    for decision in &record.decisions {
        writeln!(out, "    {} {decision}", decision.phase)?;
    }
    Ok(())
}

/// Whom a record is about, where it is not everybody.
fn recipients(message: &QueuedMessage, record: &AttemptRecord) -> Option<String> {
    let count = record.recipient_count as usize;
    if count == 0 || count == message.recipients.len() {
        return None;
    }
    let known = record.recipients.iter();
    let named: Vec<String> = known
        .filter_map(|&at| message.recipients.get(at as usize))
        .map(|recipient| format!("<{}>", recipient.mailbox))
        .collect();
    let more = match count.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}{more}", named.join(", ")))
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
                1 => ", 1 local deferral since".into(),
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
