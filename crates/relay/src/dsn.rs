//! How a bounce looks: a multipart/report (RFC 6522) with a text for people, a
//! delivery status for programs (RFC 3464) and the header section of the message
//! that came back.
//!
//! Pure: the time and the identity come from the caller. The result is 7-bit and
//! has no line beyond 998 octets, whatever the peer's reply or the original's
//! header section hold, so that it can be sent to any server; nothing in them can
//! add a field, end a part or forge a boundary.
//!
//! lettre's builder has no multipart/report, hence this writer.

mod encode;
#[cfg(test)]
mod tests;

use queue::{
    LastDeferral, Notification, NotificationKind, QueuedRecipient, RecipientState, UnixMs,
};
use smtp::{Domain, EnhancedStatusCode, QueueId, Reply, Severity};

use crate::trace::{date, header_values};
use encode::{body_part, field, plain, printable, wrapped};

/// Most of the original's header section that a bounce carries, in octets.
pub(crate) const HEADER_LIMIT_BYTES: usize = 64 * 1024;
/// Most of one diagnostic text, in characters. Replies are longer only in attacks.
const DIAGNOSTIC_LIMIT: usize = 2_000;
const INDENT: &str = "    ";

/// Who sends the bounce, when and by which name.
#[derive(Clone, Debug)]
pub struct DsnContext {
    /// Our own name.
    pub hostname: Domain,
    /// The Date field.
    pub now: UnixMs,
    /// The bounce's own queue id: makes its Message-ID and its boundary unique.
    pub id: QueueId,
}

/// The bounce for `notification`, header section and all, lines ended by CRLF.
///
/// `header` is the header section of the original as far as it is known, at most
/// 64 KiB of which are included; what follows an empty line is left out. For a
/// message with the null reverse-path, to which no bounce is owed, the To field
/// is an empty group.
#[must_use]
pub fn compose(notification: &Notification, header: &[u8], context: &DsnContext) -> Vec<u8> {
    let original = header_section(header);
    let parts = [
        body_part(
            "text/plain",
            "Notification",
            &explanation(notification, context),
        ),
        body_part(
            "message/delivery-status",
            "Delivery status",
            &status(notification, context),
        ),
        body_part(
            "text/rfc822-headers",
            "Header of the undelivered message",
            &original,
        ),
    ];
    let boundary = boundary(context.id, &parts);
    let mut out = head(notification, &original, context, &boundary).into_bytes();
    out.extend_from_slice(b"This is a delivery report in MIME format (RFC 3464).\r\n");
    for part in &parts {
        out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

/// The bounce's own header section with the empty line that ends it.
fn head(
    notification: &Notification,
    original: &[u8],
    context: &DsnContext,
    boundary: &str,
) -> String {
    let host = context.hostname.as_str();
    let to = match notification.message.reverse_path.mailbox() {
        Some(sender) => format!("<{}>", plain(&sender.to_string())),
        None => "undisclosed-recipients:;".to_owned(),
    };
    let mut out = String::with_capacity(1024);
    field(&mut out, "Date", &date(context.now));
    field(
        &mut out,
        "From",
        &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
    );
    field(&mut out, "To", &to);
    field(&mut out, "Subject", "Undelivered Mail Returned to Sender");
    field(&mut out, "Message-ID", &format!("<{}@{host}>", context.id));
    if let Some(message_id) = message_id(original) {
        // RFC 3834 section 3.1.5: mail programs show the bounce beside its cause.
        field(&mut out, "In-Reply-To", &message_id);
        field(&mut out, "References", &message_id);
    }
    // RFC 3834 section 5: no vacation notice answers this.
    field(&mut out, "Auto-Submitted", "auto-replied");
    field(&mut out, "MIME-Version", "1.0");
    let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
    field(&mut out, "Content-Type", &kind);
    out.push_str("\r\n");
    out
}

/// A boundary that is in none of the parts. It holds `=_`, which quoted-printable
/// cannot hold, so a second try is for 7-bit parts that quote an earlier bounce.
fn boundary(id: QueueId, parts: &[Vec<u8>]) -> String {
    let mut number = 0_u32;
    loop {
        let boundary = format!("=_waypost_{id}_{number}");
        let taken = |part: &Vec<u8>| {
            part.windows(boundary.len())
                .any(|window| window == boundary.as_bytes())
        };
        if !parts.iter().any(taken) {
            return boundary;
        }
        number += 1;
    }
}

/// The recipients that the notification is about.
fn recipients(notification: &Notification) -> impl Iterator<Item = &QueuedRecipient> {
    let all = &notification.message.recipients;
    notification
        .recipients
        .iter()
        .filter_map(|position| all.get(*position as usize))
}

/// The text for people.
fn explanation(notification: &Notification, context: &DsnContext) -> Vec<u8> {
    let message = &notification.message;
    let mut out = String::new();
    wrapped(
        &mut out,
        "",
        &format!("This is the mail system at {}.", context.hostname.as_str()),
    );
    out.push_str("\r\n");
    let verdict = match notification.kind {
        NotificationKind::Failure => "could not be delivered to",
        NotificationKind::Expired => {
            "could not be delivered in time, and no more attempts will \
                                      be made, to"
        }
    };
    let whom = match notification.recipients.len() {
        1 => "this recipient",
        _ => "these recipients",
    };
    let received = date(message.received_at);
    wrapped(
        &mut out,
        "",
        &format!("Your message, accepted here on {received}, {verdict} {whom}:"),
    );
    for recipient in recipients(notification) {
        out.push_str("\r\n");
        wrapped(&mut out, "", &format!("<{}>", recipient.mailbox));
        explain_recipient(&mut out, recipient, message.received_at);
    }
    out.push_str("\r\n");
    let closing = format!(
        "Should you need help, show this message to your postmaster; the original has the queue \
         id {} here. A report for programs and the header of your message follow.",
        message.id
    );
    wrapped(&mut out, "", &closing);
    out.into_bytes()
}

fn explain_recipient(out: &mut String, recipient: &QueuedRecipient, received_at: UnixMs) {
    if let Some(original) = recipient
        .original
        .as_ref()
        .filter(|m| **m != recipient.mailbox)
    {
        wrapped(out, INDENT, &format!("(you wrote to <{original}>)"));
    }
    match &recipient.state {
        RecipientState::Failed {
            reply,
            host: Some(host),
            ..
        } => {
            wrapped(out, INDENT, &format!("The host {host} refused it:"));
            quote_reply(out, reply);
        }
        RecipientState::Failed {
            reply, host: None, ..
        } => {
            wrapped(out, INDENT, "It was refused here:");
            quote_reply(out, reply);
        }
        RecipientState::Expired {
            at, last, attempts, ..
        } => {
            let age = age(at.since_ms(received_at));
            let tried = match attempts {
                0 => "No host could be tried".to_owned(),
                1 => "It was tried once".to_owned(),
                count => format!("It was tried {count} times"),
            };
            wrapped(out, INDENT, &format!("{tried} in {age}."));
            if let Some(LastDeferral { reply, host, .. }) = last {
                let whose = match host {
                    Some(host) => format!("The last answer, for the host {host}, was:"),
                    None => "The last reason was:".to_owned(),
                };
                wrapped(out, INDENT, &whose);
                quote_reply(out, reply);
            }
        }
        // The queue does not notify of these; said plainly rather than not at all.
        RecipientState::Pending { .. }
        | RecipientState::Delivered { .. }
        | RecipientState::Discarded { .. } => wrapped(out, INDENT, "It was given up."),
    }
}

fn quote_reply(out: &mut String, reply: &Reply) {
    let enhanced = reply
        .enhanced
        .map(|code| format!("{code} "))
        .unwrap_or_default();
    for line in reply.text.split('\n') {
        let line = printable(line, DIAGNOSTIC_LIMIT);
        wrapped(out, INDENT, &format!("{} {enhanced}{line}", reply.code));
    }
}

/// A time as a person says it.
fn age(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    let (number, unit) = match minutes {
        0..=119 => (minutes, "minute"),
        120..=2_879 => (minutes / 60, "hour"),
        _ => (minutes / 1_440, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// The report for programs (RFC 3464 section 2).
fn status(notification: &Notification, context: &DsnContext) -> Vec<u8> {
    let message = &notification.message;
    let mut out = String::new();
    field(
        &mut out,
        "Reporting-MTA",
        &format!("dns; {}", context.hostname.as_str()),
    );
    if let Some(helo) = message
        .origin
        .helo
        .as_deref()
        .filter(|helo| !helo.is_empty())
    {
        field(
            &mut out,
            "Received-From-MTA",
            &format!("dns; {}", plain(helo)),
        );
    }
    field(&mut out, "Arrival-Date", &date(message.received_at));
    for recipient in recipients(notification) {
        out.push_str("\r\n");
        recipient_status(&mut out, recipient);
    }
    out.into_bytes()
}

fn recipient_status(out: &mut String, recipient: &QueuedRecipient) {
    let verdict = Verdict::of(&recipient.state);
    field(
        out,
        "Final-Recipient",
        &format!("rfc822; {}", plain(&recipient.mailbox.to_string())),
    );
    field(out, "Action", "failed");
    field(out, "Status", &verdict.status.to_string());
    if let Some(host) = verdict.host {
        field(out, "Remote-MTA", &format!("dns; {}", plain(host)));
    }
    if let Some(reply) = verdict.reply {
        // RFC 3464 section 2.3.6: "smtp" is for what the remote MTA said.
        let kind = if verdict.host.is_some() {
            "smtp"
        } else {
            "x-waypost"
        };
        let enhanced = reply
            .enhanced
            .map(|code| format!("{code} "))
            .unwrap_or_default();
        let text = plain(&printable(&reply.text, DIAGNOSTIC_LIMIT));
        field(
            out,
            "Diagnostic-Code",
            &format!("{kind}; {} {enhanced}{text}", reply.code),
        );
    }
    if let Some(at) = verdict.last_attempt_at {
        field(out, "Last-Attempt-Date", &date(at));
    }
}

/// What the report says about one recipient.
struct Verdict<'m> {
    status: EnhancedStatusCode,
    host: Option<&'m str>,
    reply: Option<&'m Reply>,
    last_attempt_at: Option<UnixMs>,
}

impl<'m> Verdict<'m> {
    fn of(state: &'m RecipientState) -> Self {
        match state {
            RecipientState::Failed {
                at,
                reply,
                host,
                attempts,
                ..
            } => Self {
                // A permanent failure is class 5, whatever the host made of its reply.
                status: reply
                    .enhanced
                    .filter(|code| code.class == 5)
                    .unwrap_or(EnhancedStatusCode::new(5, 0, 0)),
                host: host.as_deref(),
                reply: Some(reply),
                last_attempt_at: (*attempts > 0).then_some(*at),
            },
            RecipientState::Expired {
                last: Some(last),
                attempts,
                ..
            } => Self {
                // RFC 3463 section 3.5: the code of the actual problem is
                // better than 4.4.7, "delivery time expired".
                status: last
                    .reply
                    .enhanced
                    .filter(|code| code.class == 4 && last.reply.severity() == Severity::Transient)
                    .unwrap_or(EnhancedStatusCode::new(4, 4, 7)),
                host: last.host.as_deref(),
                reply: Some(&last.reply),
                last_attempt_at: (*attempts > 0).then_some(last.at),
            },
            RecipientState::Expired { last: None, .. } => {
                Self::bare(EnhancedStatusCode::new(4, 4, 7))
            }
            RecipientState::Pending { .. }
            | RecipientState::Delivered { .. }
            | RecipientState::Discarded { .. } => Self::bare(EnhancedStatusCode::new(5, 0, 0)),
        }
    }

    fn bare(status: EnhancedStatusCode) -> Self {
        Self {
            status,
            host: None,
            reply: None,
            last_attempt_at: None,
        }
    }
}

/// The header section with CRLF at the end of every line, as far as it fits.
fn header_section(header: &[u8]) -> Vec<u8> {
    let mut section = Vec::with_capacity(header.len().min(HEADER_LIMIT_BYTES));
    for line in header.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The empty line is the end of the section.
        if line.is_empty() || section.len() + line.len() + 2 > HEADER_LIMIT_BYTES {
            break;
        }
        section.extend_from_slice(line);
        section.extend_from_slice(b"\r\n");
    }
    section
}

/// The original's Message-ID, where it is one that can be repeated safely.
fn message_id(header: &[u8]) -> Option<String> {
    let value = header_values(header, "message-id").into_iter().next()?;
    let id = std::str::from_utf8(value.trim_ascii()).ok()?;
    let inner = id.strip_prefix('<')?.strip_suffix('>')?;
    let safe = inner
        .bytes()
        .all(|octet| octet.is_ascii_graphic() && !b"<>".contains(&octet));
    (safe && !inner.is_empty() && id.len() <= 500).then(|| id.to_owned())
}
