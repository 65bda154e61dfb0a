//! Content as it comes in, within the limits of memory, and what becomes of it at its end.

use std::io;

use bytes::Bytes;
use smtp::{MailParameters, Reply};

use super::answers::stopping;
use super::{Dialogue, Session};
use crate::clock::Stopwatch;
use crate::content::{Content, Lease, size_bytes};
use crate::policy::dialogue::{Ending, Transaction};
use crate::policy::edits;
use crate::reception::{self, Arrival, Mail};

/// Content as it comes in.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size_bytes: u64,
    pub(crate) lease: Lease,
}

impl Received {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            pieces: Vec::new(),
            size_bytes: 0,
            lease: session.core.receiving.lease(),
        }
    }
}

impl Dialogue {
    pub(super) fn take_content(&mut self, piece: Bytes) {
        let size = piece.len() as u64;
        if self.content.lease.grow(size) {
            self.content.size_bytes += size;
            self.content.pieces.push(piece);
        } else {
            let text = "Too much mail at once: try again later";
            self.machine.abort_content(Reply::new(452, (4, 3, 1), text));
        }
    }

    /// The content was refused, by the machine or by us: counted here and nowhere else.
    pub(super) fn discard_content(&mut self) {
        let refusal = self.machine.refusal().and_then(|reply| reply.enhanced);
        let reason = match refusal.map(|status| (status.subject, status.detail)) {
            Some((3, 1)) => "memory",
            Some((3, 4)) => "size",
            Some((6, 0)) => "bare_line_break",
            _ => "content",
        };
        self.session.meters.message_refused(reason);
        self.forget_content();
    }

    pub(super) fn forget_content(&mut self) {
        self.content = Received::new(&self.session);
    }

    /// The content is whole: plugins have their say, then the spool.
    pub(super) async fn commit(&mut self) -> io::Result<()> {
        let Some(envelope) = self.machine.take_envelope() else {
            return Ok(());
        };
        let watch = Stopwatch::start();
        let fresh = Received::new(&self.session);
        let content = std::mem::replace(&mut self.content, fresh);
        self.client.tls = self.stream.is_tls();
        let transaction = self.transaction.take();
        let reply = match reception::loops(&self.session, &self.settings, &content.pieces) {
            Some(refusal) => refusal,
            None => match transaction {
                None => self.receive(Mail::plain(envelope), content, watch).await,
                Some(transaction) => {
                    let parameters = envelope.parameters;
                    match self.consult(*transaction, parameters, content).await? {
                        Ok((mail, content)) => self.receive(mail, content, watch).await,
                        Err(reply) => reply,
                    }
                }
            },
        };
        self.machine.committed(reply);
        Ok(())
    }

    async fn receive(&self, mail: Mail, content: Received, watch: Stopwatch) -> Reply {
        reception::receive(Arrival {
            session: &self.session,
            settings: &self.settings,
            client: &self.client,
            id: self.id,
            mail,
            content,
            watch,
        })
        .await
    }

    /// Asks the plugins about the whole message. Gives what they made of it, or the reply where
    /// nothing is left to do.
    async fn consult(
        &mut self,
        mut transaction: Transaction,
        parameters: MailParameters,
        mut content: Received,
    ) -> io::Result<Result<(Mail, Received), Reply>> {
        let pieces: Content = std::mem::take(&mut content.pieces).into();
        let ending = match self.wait(transaction.on_message(&pieces)).await? {
            Some(ending) => ending,
            None => return Ok(Err(stopping())),
        };
        let admission = match ending {
            Ending::Accept(admission) => admission,
            Ending::Discard => {
                let count = transaction.discarded_count();
                self.session.core.meters.discarded.increment(count);
                self.session.meters.message_discarded();
                // The same words as for any other: whom it drops is nobody's business.
                return Ok(Err(reception::accepted(self.id)));
            }
            Ending::Refuse(refusal) => {
                self.session.meters.message_refused(refusal.reason);
                return Ok(Err(refusal.reply));
            }
        };
        if admission.changes.is_empty() {
            content.pieces = pieces.to_vec();
        } else if content.lease.grow(edits::header_size_bytes(&pieces)) {
            content.pieces = admission.changes.write(&pieces);
            content.size_bytes = size_bytes(&content.pieces);
        } else {
            self.session.meters.message_refused("memory");
            let text = "Too much mail at once: try again later";
            return Ok(Err(Reply::new(452, (4, 3, 1), text)));
        }
        let outcome = transaction.into_outcome(self.session.core.now());
        let mail = Mail::by_plugins(outcome, parameters, admission.hold);
        Ok(Ok((mail, content)))
    }
}
