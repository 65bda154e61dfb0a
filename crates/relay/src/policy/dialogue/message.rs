//! The message phase: what plugins make of a whole message before the relay answers for it.

use std::sync::Arc;

use bytes::Bytes;
use plugin::{Flow, Input, MessageAction, MessageRewrite, Output, Phase};
use smtp::Mailbox;

use super::{OTHER_PHASE, Refusal, Transaction};
use crate::content::size_bytes;
use crate::policy::chain::Link;
use crate::policy::edits::HeaderChanges;
use crate::policy::session_environment::{Accepted, Shown};
use crate::telemetry;

/// How a message phase ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The message is taken, as the transaction has it now.
    Accept(Admission),
    /// The client is told that it is taken, and it is dropped.
    Discard,
    /// The client is told why not.
    Refuse(Refusal),
}

/// What is to be done to an accepted message.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// To its header.
    pub(crate) changes: HeaderChanges,
    /// It is kept aside.
    pub(crate) hold: Option<HoldWish>,
}

/// A plugin wants a message kept aside.
#[derive(Debug)]
pub(crate) struct HoldWish {
    /// Names the plugin.
    pub(crate) reason: String,
    /// None: until somebody releases it.
    pub(crate) release_after_seconds: Option<u32>,
}

impl Transaction {
    /// After the end of data.
    pub(crate) async fn on_message(&mut self, content: &Arc<[Bytes]>) -> Ending {
        let mut admission = Admission::default();
        let versions = self.versions.clone();
        for link in versions.of(self.id) {
            if self.accepted.is_empty() {
                // Plugins have dropped every recipient: nobody is left to decide about.
                return self.discard("no recipient is left");
            }
            if !self.concerns(link, Phase::Message) || !self.has_recipient_for(link) {
                continue;
            }
            match self.ask_of_message(link, content, &mut admission).await {
                Ok(None) => {}
                Ok(Some(Stop::Chain)) => break,
                Ok(Some(Stop::Discard(reason))) => return self.discard(&reason),
                Err(refusal) => return Ending::Refuse(refusal),
            }
        }
        if self.accepted.is_empty() {
            return self.discard("no recipient is left");
        }
        Ending::Accept(admission)
    }

    fn has_recipient_for(&self, link: &Link) -> bool {
        let mut domains = self.accepted.iter().map(|one| one.mailbox.domain());
        domains.any(|domain| link.is_for(domain))
    }

    /// Asks one plugin, and does as it says.
    async fn ask_of_message(
        &mut self,
        link: &Link,
        content: &Arc<[Bytes]>,
        admission: &mut Admission,
    ) -> Result<Option<Stop>, Refusal> {
        let shown = Shown::new(
            Arc::clone(content),
            admission.changes.clone(),
            size_bytes(content),
        );
        let Some(answer) = self.ask(link, Input::Message, Some(shown)).await? else {
            return Ok(None);
        };
        let Output::Message(verdict) = &answer.call().output else {
            let failure = answer.refused(OTHER_PHASE.to_owned());
            self.failed(link, Phase::Message, &failure)?;
            return Ok(None);
        };
        let note = verdict.note.as_deref();
        let mut stop = (verdict.flow == Flow::Stop).then_some(Stop::Chain);
        match &verdict.action {
            MessageAction::Proceed => self.record.noted(link, Phase::Message, note),
            MessageAction::Rewrite(rewrite) => {
                if let Err(detail) = self.rewrite(link, rewrite, admission, note) {
                    let failure = answer.refused(detail);
                    self.failed(link, Phase::Message, &failure)?;
                    return Ok(None);
                }
            }
            MessageAction::Hold {
                reason,
                release_after_seconds,
            } => {
                telemetry::plugin_action(link.name(), Phase::Message, "hold");
                self.record.held(link, reason, note);
                admission.hold = Some(HoldWish {
                    reason: format!("held by {}: {reason}", link.name()),
                    release_after_seconds: *release_after_seconds,
                });
                stop = Some(Stop::Chain);
            }
            MessageAction::Discard(reason) => {
                telemetry::plugin_action(link.name(), Phase::Message, "discard");
                let reason = format!("discarded by {}: {reason}", link.name());
                return Ok(Some(Stop::Discard(reason)));
            }
            MessageAction::Defer(reply) => {
                return Err(self.refused(link, Phase::Message, "defer", reply, note));
            }
            MessageAction::Reject(reply) => {
                return Err(self.refused(link, Phase::Message, "reject", reply, note));
            }
        }
        self.keep(&answer.used().attributes);
        Ok(stop)
    }

    /// All of a rewrite or nothing of it.
    fn rewrite(
        &mut self,
        link: &Link,
        rewrite: &MessageRewrite,
        admission: &mut Admission,
        note: Option<&str>,
    ) -> Result<(), String> {
        let mut changes = admission.changes.clone();
        for edit in &rewrite.headers {
            changes.apply(edit).map_err(|fault| fault.to_string())?;
        }
        if let Some(mailboxes) = &rewrite.recipients {
            let accepted = self.replaced(mailboxes);
            let limit = self.settings.config.limits.recipients_count;
            if accepted.len() > limit {
                return Err(format!("more than limits.recipients = {limit}"));
            }
            let counts = (self.accepted.len(), accepted.len());
            self.record.rewrote_recipients(link, counts, note);
            self.accepted = Arc::new(accepted);
        }
        if let Some(path) = &rewrite.sender {
            let paths = (&self.reverse_path, path);
            self.record
                .rewrote_sender(link, Phase::Message, paths, note);
            self.reverse_path = path.clone();
        }
        if !rewrite.headers.is_empty() {
            self.record.edited_header(link, &rewrite.headers, note);
        }
        admission.changes = changes;
        telemetry::plugin_action(link.name(), Phase::Message, "rewrite");
        Ok(())
    }

    /// The recipients in place of the ones so far; those that were there keep what the client
    /// said about them.
    fn replaced(&self, mailboxes: &[Mailbox]) -> Vec<Accepted> {
        let mut accepted: Vec<Accepted> = Vec::with_capacity(mailboxes.len());
        for mailbox in mailboxes {
            if accepted.iter().any(|one| one.mailbox == *mailbox) {
                continue;
            }
            let known = self.accepted.iter().find(|one| one.mailbox == *mailbox);
            accepted.push(match (known, self.accepted.as_slice()) {
                (Some(known), _) => known.clone(),
                (None, [only]) => Accepted {
                    mailbox: mailbox.clone(),
                    original: only.original.clone().or_else(|| Some(only.mailbox.clone())),
                    ..only.clone()
                },
                (None, _) => Accepted {
                    mailbox: mailbox.clone(),
                    parameters: smtp::RcptParameters::default(),
                    original: None,
                },
            });
        }
        accepted
    }

    fn discard(&self, reason: &str) -> Ending {
        tracing::info!(
            id = %self.id,
            reason,
            from = %self.reverse_path,
            recipients = self.accepted.len(),
            peer = ?self.peer.ip,
            "message discarded"
        );
        Ending::Discard
    }
}

/// No further plugin is asked.
enum Stop {
    Chain,
    Discard(String),
}
