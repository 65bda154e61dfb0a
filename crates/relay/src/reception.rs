//! From a whole message on a connection to a durable one in the queue.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use queue::{History, Origin, QueuedMessage, QueuedRecipient, UnixMs};
use smtp::{Envelope, ForwardPath, Mailbox, QueueId, Reply};
use spool::SpoolError;

use crate::clock::Stopwatch;
use crate::content::{self, Content};
use crate::core::Settings;
use crate::ingress::{Client, Received, Session};
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
    pub(crate) envelope: Envelope,
    pub(crate) content: Received,
}

/// Takes responsibility for a message or says why not.
///
/// A positive reply means that it is on disk.
pub(crate) async fn receive(arrival: &Arrival<'_>) -> Reply {
    let watch = Stopwatch::start();
    let session = arrival.session;
    let core = &session.core;
    let hops = trace::hop_count(&arrival.content.pieces);
    let limit = arrival.settings.config.limits.hops_count;
    if hops > limit {
        session.meters.message_refused("loop");
        tracing::warn!(peer = %session.peer, hops, "message refused: it loops");
        return Reply::new(
            554,
            (5, 4, 6),
            format!("Mail loop: {hops} hops, the limit is {limit}"),
        );
    }
    let now = core.now();
    let id = core.ids.next(now);
    let recipients = recipients(arrival, now);
    let content = assemble(arrival, id, now, &recipients);
    let message = message(arrival, id, now, recipients, content::size_bytes(&content));
    let line = Line::of(&message);
    match core.accept(message, content).await {
        Ok(()) => {
            session.meters.accepted.increment(1);
            session.meters.bytes.increment(line.size_bytes);
            core.meters
                .accept_seconds
                .record(watch.elapsed().as_secs_f64());
            line.log(session);
            Reply::new(250, (2, 0, 0), format!("OK: queued as {id}"))
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

fn recipients(arrival: &Arrival<'_>, now: UnixMs) -> Vec<QueuedRecipient> {
    let hostname = &arrival.settings.config.hostname;
    let accepted = arrival.envelope.recipients.iter();
    accepted
        .map(|recipient| {
            let mailbox = match &recipient.path {
                ForwardPath::Mailbox(mailbox) => mailbox.clone(),
                // RFC 5321 section 4.1.1.3: the postmaster of this host.
                ForwardPath::Postmaster => Mailbox::new("postmaster", hostname.clone())
                    .expect("postmaster is a local part, and our name a domain"),
            };
            QueuedRecipient::new(mailbox, recipient.parameters.clone(), now)
        })
        .collect()
}

fn assemble(
    arrival: &Arrival<'_>,
    id: QueueId,
    now: UnixMs,
    recipients: &[QueuedRecipient],
) -> Content {
    let only = match recipients {
        [only] => Some(only.mailbox.to_string()),
        _ => None,
    };
    let client = arrival.client;
    let header = trace::received(&Hop {
        helo: &client.helo,
        client_ip: Some(arrival.session.peer.ip()),
        hostname: arrival.settings.config.hostname.as_str(),
        protocol: match (client.extended, client.tls) {
            (false, _) => "SMTP",
            (true, false) => "ESMTP",
            (true, true) => "ESMTPS",
        },
        id,
        recipient: only.as_deref(),
        at: now,
    });
    let pieces = &arrival.content.pieces;
    if arrival.content.size_bytes > COMPACT_BYTES {
        return std::iter::once(header)
            .chain(pieces.iter().cloned())
            .collect();
    }
    let size = header.len() + pieces.iter().map(Bytes::len).sum::<usize>();
    let mut whole = BytesMut::with_capacity(size);
    whole.extend_from_slice(&header);
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    [whole.freeze()].into()
}

fn message(
    arrival: &Arrival<'_>,
    id: QueueId,
    now: UnixMs,
    recipients: Vec<QueuedRecipient>,
    size_bytes: u64,
) -> QueuedMessage {
    let queue = &arrival.settings.config.queue;
    let lifetime = match arrival.envelope.reverse_path {
        smtp::ReversePath::Null => queue.bounce_expires_after,
        smtp::ReversePath::Mailbox(_) => queue.expires_after,
    };
    QueuedMessage {
        id,
        received_at: now,
        expires_at: now.plus_ms(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)),
        size_bytes,
        origin: Origin {
            listener: arrival.session.listener.clone(),
            client_ip: Some(arrival.session.peer.ip()),
            helo: Some(arrival.client.helo.clone()),
            user: None,
            tls: arrival.client.tls,
        },
        reverse_path: arrival.envelope.reverse_path.clone(),
        parameters: arrival.envelope.parameters.clone(),
        recipients,
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    }
}
