//! From a whole message on a connection to a durable one in the queue.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use queue::{AttemptRecord, Hold, Origin, QueuedMessage, QueuedRecipient, UnixMs};
use smtp::{Domain, Envelope, ForwardPath, MailParameters, Mailbox, QueueId, Reply, ReversePath};
use spool::SpoolError;

use crate::clock::Stopwatch;
use crate::content::{self, Content};
use crate::core::Settings;
use crate::ingress::{Client, Received, Session};
use crate::policy::dialogue::{HoldWish, Outcome};
use crate::policy::session_environment::Accepted;
use crate::trace::{self, Hop};

/// Content up to this size is kept in one exact piece. A slice of a read buffer keeps the whole
/// buffer alive: for a small message that would be many times its size, and the budget for
/// memory would be a fiction.
const COMPACT_BYTES: u64 = 32 * 1024;

/// A whole message, not yet accepted.
pub(crate) struct Arrival<'a> {
    pub(crate) session: &'a Session,
    pub(crate) settings: &'a Arc<Settings>,
    pub(crate) client: &'a Client,
    pub(crate) id: QueueId,
    pub(crate) mail: Mail,
    pub(crate) content: Received,
    /// Since the end of data.
    pub(crate) watch: Stopwatch,
}

/// Who gets a message and what is to be done with it.
pub(crate) struct Mail {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Recipients,
    attributes: Vec<(String, String)>,
    hold: Option<HoldWish>,
    dropped_count: u64,
    record: Option<AttemptRecord>,
}

enum Recipients {
    /// As the client named them.
    Plain(Vec<smtp::Recipient>),
    /// As plugins made them.
    Made(Vec<Accepted>),
}

impl Mail {
    /// As the client gave it.
    pub(crate) fn plain(envelope: Envelope) -> Self {
        Self {
            reverse_path: envelope.reverse_path,
            parameters: envelope.parameters,
            recipients: Recipients::Plain(envelope.recipients),
            attributes: Vec::new(),
            hold: None,
            dropped_count: 0,
            record: None,
        }
    }

    /// As plugins made it.
    pub(crate) fn by_plugins(
        outcome: Outcome,
        parameters: MailParameters,
        hold: Option<HoldWish>,
    ) -> Self {
        Self {
            reverse_path: outcome.reverse_path,
            parameters,
            recipients: Recipients::Made(outcome.recipients),
            attributes: outcome.attributes,
            hold,
            dropped_count: outcome.dropped_count,
            record: outcome.record,
        }
    }
}

/// The refusal of a message that has come by too many hosts: it loops.
pub(crate) fn loops(session: &Session, settings: &Settings, pieces: &[Bytes]) -> Option<Reply> {
    let hops = trace::hop_count(pieces);
    let limit = settings.config.limits.hops_count;
    if hops <= limit {
        return None;
    }
    session.meters.message_refused("loop");
    tracing::warn!(peer = %session.peer, hops, "message refused: it loops");
    Some(Reply::new(
        554,
        (5, 4, 6),
        format!("Mail loop: {hops} hops, the limit is {limit}"),
    ))
}

/// The positive reply.
pub(crate) fn accepted(id: QueueId) -> Reply {
    Reply::new(250, (2, 0, 0), format!("OK: queued as {id}"))
}

/// Takes responsibility for a message or says why not.
///
/// A positive reply means that it is on disk.
pub(crate) async fn receive(arrival: Arrival<'_>) -> Reply {
    let Arrival {
        session,
        settings,
        client,
        id,
        mail,
        content,
        watch,
    } = arrival;
    let core = &session.core;
    let now = core.now();
    let recipients = recipients(mail.recipients, &settings.config.hostname, now);
    let at = Hop {
        helo: &client.helo,
        client_ip: Some(session.peer.ip()),
        hostname: settings.config.hostname.as_str(),
        protocol: match (client.extended, client.tls) {
            (false, _) => "SMTP",
            (true, false) => "ESMTP",
            (true, true) => "ESMTPS",
        },
        id,
        recipient: None,
        at: now,
    };
    let octets = assemble(&at, content, &recipients);
    let message = QueuedMessage {
        id,
        received_at: now,
        expires_at: expiry(settings, &mail.reverse_path, now),
        size_bytes: content::size_bytes(&octets),
        origin: Origin {
            listener: session.listener.clone(),
            client_ip: Some(session.peer.ip()),
            helo: Some(client.helo.clone()),
            user: None,
            tls: client.tls,
        },
        reverse_path: mail.reverse_path,
        parameters: mail.parameters,
        recipients,
        attributes: mail.attributes,
        hold: mail.hold.map(|wish| hold(wish, now)),
        released_at: None,
        history: mail.record.into_iter().collect(),
    };
    let line = Line::of(&message);
    match core.accept(message, octets).await {
        Ok(()) => {
            session.meters.accepted.increment(1);
            session.meters.bytes.increment(line.size_bytes);
            core.meters.discarded.increment(mail.dropped_count);
            core.meters
                .accept_seconds
                .record(watch.elapsed().as_secs_f64());
            line.log(session);
            accepted(id)
        }
        Err(error) => {
            session.meters.message_refused("spool");
            tracing::error!(peer = %session.peer, %error, "message refused: the spool did not take it");
            refusal(&error)
        }
    }
}

/// What the log says of an accepted message, taken before the message is given away.
struct Line {
    id: QueueId,
    from: String,
    recipients: usize,
    first: String,
    size_bytes: u64,
}

impl Line {
    fn of(message: &QueuedMessage) -> Self {
        let enabled = tracing::enabled!(tracing::Level::INFO);
        let text = |value: &dyn std::fmt::Display| {
            if enabled {
                value.to_string()
            } else {
                String::new()
            }
        };
        Self {
            id: message.id,
            from: text(&message.reverse_path),
            recipients: message.recipients.len(),
            first: message
                .recipients
                .first()
                .map_or_else(String::new, |r| text(&r.mailbox)),
            size_bytes: message.size_bytes,
        }
    }

    fn log(&self, session: &Session) {
        tracing::info!(
            id = %self.id,
            from = self.from,
            to = self.first,
            recipients = self.recipients,
            size_bytes = self.size_bytes,
            peer = %session.peer,
            listener = session.listener,
            "accepted"
        );
    }
}

fn refusal(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full => Reply::new(452, (4, 3, 1), "No room for mail at present"),
        SpoolError::Closed => Reply::new(421, (4, 3, 2), "Shutting down"),
        // Too large for a record too: the machine has held the message to the limit that we
        // announced, so what does not fit is our fault and not the client's.
        _ => Reply::new(451, (4, 3, 0), "A fault in the local system"),
    }
}

fn recipients(given: Recipients, hostname: &Domain, now: UnixMs) -> Vec<QueuedRecipient> {
    match given {
        Recipients::Plain(given) => {
            let plain = |recipient: smtp::Recipient| {
                let mailbox = mailbox(&recipient.path, hostname);
                QueuedRecipient::new(mailbox, recipient.parameters, now)
            };
            given.into_iter().map(plain).collect()
        }
        Recipients::Made(made) => {
            let made = made.into_iter().map(|recipient| QueuedRecipient {
                original: recipient.original,
                ..QueuedRecipient::new(recipient.mailbox, recipient.parameters, now)
            });
            made.collect()
        }
    }
}

/// Whose mailbox a path names. RFC 5321 section 4.1.1.3: the postmaster without a domain is
/// that of this host.
pub(crate) fn mailbox(path: &ForwardPath, hostname: &Domain) -> Mailbox {
    match path {
        ForwardPath::Mailbox(mailbox) => mailbox.clone(),
        ForwardPath::Postmaster => Mailbox::new("postmaster", hostname.clone())
            .expect("postmaster is a local part, and our name a domain"),
    }
}

fn assemble(hop: &Hop<'_>, content: Received, recipients: &[QueuedRecipient]) -> Content {
    // What the client said, not where an alias has led.
    let only = match recipients {
        [only] => Some(only.original.as_ref().unwrap_or(&only.mailbox).to_string()),
        _ => None,
    };
    let header = trace::received(&Hop {
        recipient: only.as_deref(),
        ..*hop
    });
    let pieces = content.pieces;
    if content.size_bytes > COMPACT_BYTES {
        return std::iter::once(header).chain(pieces).collect();
    }
    let size = header.len() + pieces.iter().map(Bytes::len).sum::<usize>();
    let mut whole = BytesMut::with_capacity(size);
    whole.extend_from_slice(&header);
    for piece in &pieces {
        whole.extend_from_slice(piece);
    }
    [whole.freeze()].into()
}

fn expiry(settings: &Settings, reverse_path: &ReversePath, now: UnixMs) -> UnixMs {
    let queue = &settings.config.queue;
    let lifetime = match reverse_path {
        ReversePath::Null => queue.bounce_expires_after,
        ReversePath::Mailbox(_) => queue.expires_after,
    };
    now.plus_ms(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
}

fn hold(wish: HoldWish, now: UnixMs) -> Hold {
    let after = wish.release_after_seconds;
    Hold {
        reason: wish.reason,
        held_at: now,
        release_at: after.map(|seconds| now.plus_ms(u64::from(seconds) * 1000)),
    }
}
