//! The plugins' say in the SMTP dialogue: after MAIL, after each RCPT, after the end of data.
//!
//! Relay control comes first and is not theirs to change: they are asked about a recipient only
//! after the listener has accepted it for this client. What they put in its place is the
//! operator's own routing of mail that was accepted, as an alias is, and within their grant
//! `rewrite_domains`.
//!
//! A [`Transaction`] takes one snapshot of the plugins at MAIL and keeps to it. What they noted
//! and changed becomes the message's when it is accepted; until then it is nowhere else, so a
//! transaction that ends otherwise leaves nothing.

mod link;
mod message;
mod record;

use std::sync::Arc;

use plugin::{
    CallEnvironment, Flow, Input, MailFrom, Output, Peer, Phase, Recipient, RecipientAction,
    SenderAction,
};
use queue::{AttemptRecord, UnixMs};
use smtp::{MailParameters, Mailbox, QueueId, RcptParameters, Reply, ReversePath};

pub(crate) use self::message::{Ending, HoldWish};
use self::record::Record;
use super::call::{Failure, NoAnswer};
use super::chain::{Link, Versions};
use super::gate::{self, About, Answer};
use super::session_environment::{self, Accepted, SessionEnvironment, Shown};
use crate::config::OnError;
use crate::core::Settings;
use crate::telemetry;

/// What is wrong with an answer that no phase of the contract could give here.
const OTHER_PHASE: &str = "answered for another phase than it was asked in";

/// The phases of the dialogue.
const PHASES: [Phase; 3] = [Phase::Sender, Phase::Recipient, Phase::Message];

/// Why a command or a message was refused, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// To the client.
    pub(crate) reply: Reply,
    /// Label for metrics: `plugin` where one said so, `plugin_failed` where one could not be
    /// asked, `too_many_recipients`.
    pub(crate) reason: &'static str,
}

/// One mail transaction as plugins have made it so far.
pub(crate) struct Transaction {
    id: QueueId,
    begun_at: UnixMs,
    settings: Arc<Settings>,
    versions: Versions,
    peer: Arc<Peer>,
    reverse_path: ReversePath,
    parameters: MailParameters,
    accepted: Arc<Vec<Accepted>>,
    /// RCPT commands that were accepted and came to nothing by a plugin's wish.
    dropped_count: u64,
    attributes: Arc<[(String, String)]>,
    record: Record,
}

/// An accepted transaction as it goes into the queue.
pub(crate) struct Outcome {
    pub(crate) reverse_path: ReversePath,
    pub(crate) recipients: Vec<Accepted>,
    pub(crate) attributes: Vec<(String, String)>,
    /// Recipients that were accepted and are dropped.
    pub(crate) dropped_count: u64,
    /// Who decided what, for the message's history.
    pub(crate) record: Option<AttemptRecord>,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a transaction begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) id: QueueId,
    pub(crate) now: UnixMs,
    pub(crate) listener: &'a str,
    pub(crate) reverse_path: &'a ReversePath,
    pub(crate) parameters: &'a MailParameters,
}

/// Whether some plugin may have a say in this message, which comes in through this listener.
fn takes_part(versions: &Versions, id: QueueId, listener: &str) -> bool {
    versions
        .of(id)
        .filter(|link| PHASES.iter().any(|phase| link.plugin.has(*phase)))
        .any(|link| link.hears(listener))
}

impl Transaction {
    /// None where no plugin takes part: then nothing is kept and nobody is asked. `peer` is
    /// called only where one does.
    pub(crate) fn begin(
        settings: &Arc<Settings>,
        beginning: &Beginning<'_>,
        peer: impl FnOnce() -> Peer,
    ) -> Option<Box<Self>> {
        let versions = settings.chain.versions();
        if !takes_part(&versions, beginning.id, beginning.listener) {
            return None;
        }
        Some(Box::new(Self {
            id: beginning.id,
            begun_at: beginning.now,
            versions,
            settings: Arc::clone(settings),
            peer: Arc::new(peer()),
            reverse_path: beginning.reverse_path.clone(),
            parameters: beginning.parameters.clone(),
            accepted: Arc::default(),
            dropped_count: 0,
            attributes: Arc::new([]),
            record: Record::default(),
        }))
    }

    /// After MAIL.
    ///
    /// # Errors
    /// The refusal, with which the transaction ends.
    pub(crate) async fn on_mail(&mut self) -> Result<(), Refusal> {
        let versions = self.versions.clone();
        for link in versions.of(self.id) {
            if !self.concerns(link, Phase::Sender) {
                continue;
            }
            let input = Input::MailFrom(MailFrom {
                peer: Peer::clone(&self.peer),
                sender: session_environment::sender(&self.reverse_path, &self.parameters),
            });
            let Some(answer) = self.ask(link, input, None).await? else {
                continue;
            };
            let Output::MailFrom(verdict) = &answer.call().output else {
                let failure = answer.refused(OTHER_PHASE.to_owned());
                self.failed(link, Phase::Sender, &failure)?;
                continue;
            };
            let note = verdict.note.as_deref();
            match &verdict.action {
                SenderAction::Proceed => self.record.noted(link, Phase::Sender, note),
                SenderAction::Rewrite(mailbox) => {
                    let path = mailbox.clone().map_or(ReversePath::Null, Into::into);
                    self.rewrite_sender(link, Phase::Sender, path, note);
                }
                SenderAction::Defer(reply) => {
                    return Err(self.refused(link, Phase::Sender, "defer", reply, note));
                }
                SenderAction::Reject(reply) => {
                    return Err(self.refused(link, Phase::Sender, "reject", reply, note));
                }
            }
            let flow = verdict.flow;
            self.keep(&answer.used().attributes);
            if flow == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// After a RCPT that relay control has accepted. The recipient is kept as plugins make it.
    ///
    /// # Errors
    /// The refusal of this recipient, which leaves the transaction as it was before.
    pub(crate) async fn on_rcpt(
        &mut self,
        given: Mailbox,
        parameters: RcptParameters,
    ) -> Result<(), Refusal> {
        let before = (Arc::clone(&self.attributes), self.record.clone());
        let result = match self.targets(&given).await {
            Ok(targets) => self.accept(&given, &parameters, targets),
            Err(refusal) => Err(refusal),
        };
        if result.is_err() {
            // What was noted about a refused recipient is not true of the others.
            (self.attributes, self.record) = before;
        }
        result
    }

    /// Where mail for this recipient is to go. A later plugin is asked about each mailbox that
    /// earlier ones put there.
    async fn targets(&mut self, given: &Mailbox) -> Result<Vec<Target>, Refusal> {
        let mut targets = vec![Target {
            mailbox: given.clone(),
            is_settled: false,
        }];
        let versions = self.versions.clone();
        for link in versions.of(self.id) {
            if !self.concerns(link, Phase::Recipient) {
                continue;
            }
            let mut next = Vec::with_capacity(targets.len());
            for target in targets {
                if target.is_settled || !link.is_for(target.mailbox.domain()) {
                    next.push(target);
                } else {
                    self.ask_about(link, target, &mut next).await?;
                }
            }
            targets = next;
        }
        Ok(targets)
    }

    /// Asks one plugin about one mailbox; what comes of it goes to `next`.
    async fn ask_about(
        &mut self,
        link: &Link,
        target: Target,
        next: &mut Vec<Target>,
    ) -> Result<(), Refusal> {
        let input = Input::Rcpt(Recipient::from(target.mailbox.clone()));
        let Some(answer) = self.ask(link, input, None).await? else {
            next.push(target);
            return Ok(());
        };
        let Output::Rcpt(verdict) = &answer.call().output else {
            next.push(target);
            let failure = answer.refused(OTHER_PHASE.to_owned());
            return self.failed(link, Phase::Recipient, &failure);
        };
        let note = verdict.note.as_deref();
        let is_settled = verdict.flow == Flow::Stop;
        match &verdict.action {
            RecipientAction::Proceed => {
                self.record.noted(link, Phase::Recipient, note);
                next.push(Target {
                    is_settled,
                    ..target
                });
            }
            RecipientAction::Rewrite(mailboxes) => {
                let limit = self.settings.config.limits.recipients_count;
                if next.len() + mailboxes.len() > limit {
                    let detail = format!("more than limits.recipients = {limit} for one RCPT");
                    next.push(target);
                    let failure = answer.refused(detail);
                    return self.failed(link, Phase::Recipient, &failure);
                }
                self.record
                    .rewrote_recipient(link, &target.mailbox, mailboxes, note);
                let action = if mailboxes.is_empty() {
                    "drop"
                } else {
                    "rewrite"
                };
                telemetry::plugin_action(link.name(), Phase::Recipient, action);
                for mailbox in mailboxes {
                    if next.iter().all(|known| known.mailbox != *mailbox) {
                        next.push(Target {
                            mailbox: mailbox.clone(),
                            is_settled,
                        });
                    }
                }
            }
            RecipientAction::Defer(reply) => {
                return Err(self.refused(link, Phase::Recipient, "defer", reply, note));
            }
            RecipientAction::Reject(reply) => {
                return Err(self.refused(link, Phase::Recipient, "reject", reply, note));
            }
        }
        self.keep(&answer.used().attributes);
        Ok(())
    }

    fn accept(
        &mut self,
        given: &Mailbox,
        parameters: &RcptParameters,
        targets: Vec<Target>,
    ) -> Result<(), Refusal> {
        if targets.is_empty() {
            self.dropped_count += 1;
        }
        let is_as_given = matches!(targets.as_slice(), [only] if only.mailbox == *given);
        let known = |mailbox: &Mailbox| self.accepted.iter().any(|one| one.mailbox == *mailbox);
        let new: Vec<Accepted> = targets
            .into_iter()
            // A mailbox that two aliases lead to gets one copy. One that the client itself
            // names twice is its own affair.
            .filter(|target| is_as_given || !known(&target.mailbox))
            .map(|target| Accepted {
                original: (target.mailbox != *given).then(|| given.clone()),
                mailbox: target.mailbox,
                parameters: parameters.clone(),
            })
            .collect();
        let limit = self.settings.config.limits.recipients_count;
        if self.accepted.len() + new.len() > limit {
            return Err(Refusal {
                reply: Reply::new(452, (4, 5, 3), "Too many recipients, aliases counted"),
                reason: "too_many_recipients",
            });
        }
        Arc::make_mut(&mut self.accepted).extend(new);
        Ok(())
    }

    /// Recipients that the client was told are accepted, and that are dropped with the message.
    pub(crate) fn discarded_count(&self) -> u64 {
        self.dropped_count + self.accepted.len() as u64
    }

    /// What goes into the queue: the envelope, what plugins noted, and what they decided.
    pub(crate) fn into_outcome(self, now: UnixMs) -> Outcome {
        Outcome {
            reverse_path: self.reverse_path,
            recipients: Arc::unwrap_or_clone(self.accepted),
            attributes: self.attributes.to_vec(),
            dropped_count: self.dropped_count,
            record: self.record.into_history(now),
        }
    }

    /// Whether the plugin takes part in this phase and this mail is its business, as far as
    /// that does not depend on recipients.
    fn concerns(&self, link: &Link, phase: Phase) -> bool {
        link.plugin.has(phase)
            && link.hears(&self.peer.listener)
            && link.is_for_sender(&self.reverse_path)
    }

    /// Makes one call. None: it failed, and the operator wants to go on as if the plugin were
    /// not there.
    async fn ask<'l>(
        &mut self,
        link: &'l Link,
        input: Input,
        shown: Option<Shown>,
    ) -> Result<Option<Answer<'l>>, Refusal> {
        let phase = input.phase();
        let environment: Arc<dyn CallEnvironment> = Arc::new(SessionEnvironment {
            id: self.id,
            received_at_ms: self.begun_at.0,
            peer: Arc::clone(&self.peer),
            sender: session_environment::sender(&self.reverse_path, &self.parameters),
            recipients: Arc::clone(&self.accepted),
            attributes: Arc::clone(&self.attributes),
            shown,
            directory: Arc::clone(&self.settings.directory),
        });
        let about = About::new(self.id);
        let input = std::future::ready(Ok(input));
        match gate::ask(link, &about, phase, input, environment).await {
            Ok(answer) => {
                let limit = self.settings.config.limits.attributes_bytes;
                if self
                    .noted(&answer.call().attributes)
                    .is_some_and(|all| size(&all) > limit)
                {
                    let detail = format!("notes more than limits.attributes = {limit} octets");
                    self.failed(link, phase, &answer.refused(detail))?;
                    return Ok(None);
                }
                Ok(Some(answer))
            }
            Err(NoAnswer::Failed(failure)) => {
                self.failed(link, phase, &failure)?;
                Ok(None)
            }
            // Nothing of this message comes from the spool.
            Err(NoAnswer::Unreadable(_)) => Err(unasked(OnError::Defer)),
        }
    }

    /// What a failure means, as the operator has said.
    fn failed(&mut self, link: &Link, phase: Phase, failure: &Failure) -> Result<(), Refusal> {
        match failure.on_error(link) {
            OnError::Continue => {
                self.record
                    .passed_over(link, phase, failure.reason, &failure.detail);
                Ok(())
            }
            on_error => {
                tracing::warn!(
                    id = %self.id,
                    plugin = link.name(),
                    phase = phase.as_str(),
                    reason = failure.reason.as_str(),
                    peer = ?self.peer.ip,
                    "refused: a plugin that has a say could not be asked"
                );
                Err(unasked(on_error))
            }
        }
    }

    fn rewrite_sender(&mut self, link: &Link, phase: Phase, path: ReversePath, note: Option<&str>) {
        let paths = (&self.reverse_path, &path);
        self.record.rewrote_sender(link, phase, paths, note);
        telemetry::plugin_action(link.name(), phase, "rewrite");
        self.reverse_path = path;
    }

    fn refused(
        &self,
        link: &Link,
        phase: Phase,
        action: &'static str,
        reply: &Reply,
        note: Option<&str>,
    ) -> Refusal {
        telemetry::plugin_action(link.name(), phase, action);
        tracing::info!(
            id = %self.id,
            plugin = link.name(),
            phase = phase.as_str(),
            action,
            %reply,
            note,
            peer = ?self.peer.ip,
            from = %self.reverse_path,
            "refused by a plugin"
        );
        Refusal {
            reply: reply.clone(),
            reason: "plugin",
        }
    }

    /// Takes over what a call noted, since its answer is used.
    fn keep(&mut self, changes: &[(String, Option<String>)]) {
        if let Some(all) = self.noted(changes) {
            self.attributes = all.into();
        }
    }

    /// The annotations with these changes; none where there are none.
    fn noted(&self, changes: &[(String, Option<String>)]) -> Option<Vec<(String, String)>> {
        if changes.is_empty() {
            return None;
        }
        let mut all = self.attributes.to_vec();
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            all.extend(value.clone().map(|value| (name.clone(), value)));
        }
        Some(all)
    }
}

/// Where mail for a recipient goes, while plugins are still being asked.
struct Target {
    mailbox: Mailbox,
    /// No further plugin is asked about it.
    is_settled: bool,
}

/// Octets of annotations.
fn size(attributes: &[(String, String)]) -> u64 {
    let sizes = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len());
    sizes.sum::<usize>() as u64
}

/// The reply where a plugin could not be asked. It does not tell strangers which.
fn unasked(on_error: OnError) -> Refusal {
    let reply = match on_error {
        OnError::Reject => Reply::new(550, (5, 3, 0), "A policy of this system cannot be applied"),
        OnError::Defer | OnError::Continue => Reply::new(
            451,
            (4, 3, 0),
            "A policy of this system cannot be applied now: try again later",
        ),
    };
    Refusal {
        reply,
        reason: "plugin_failed",
    }
}
