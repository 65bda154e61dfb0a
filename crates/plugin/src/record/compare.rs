//! Two endings of one call: what is different, in kinds and in words.
//!
//! Notes, and reasons that only people of this relay read, are no difference.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use smtp::Reply;

use super::Ending;
use crate::attempt::Advice;
use crate::dialogue::{
    MessageAction, MessageRewrite, RecipientAction, RecipientVerdict, SenderAction,
};
use crate::phase::{Input, Output};
use crate::verdict::{Decision, Settings, Verdict};

/// Characters of one side of a difference.
const WORDS_MAX: usize = 300;

/// What kind of thing is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// One failed and the other did not, or for another reason.
    Failure,
    /// Another word: reject in place of proceed.
    Decision,
    /// Other places, another order, other edits of the list.
    Hops,
    /// Other settings of the delivery.
    Settings,
    /// Another reply to the client or in the bounce.
    Reply,
    /// Another time to wait.
    Time,
    /// Other recipients or another sender in their place.
    Envelope,
    /// Other edits of the header.
    Header,
    /// Whether later plugins are asked.
    Flow,
    /// Other annotations of the message.
    Attributes,
}

impl DifferenceKind {
    /// Stable label for metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Decision => "decision",
            Self::Hops => "hops",
            Self::Settings => "settings",
            Self::Reply => "reply",
            Self::Time => "time",
            Self::Envelope => "envelope",
            Self::Header => "header",
            Self::Flow => "flow",
            Self::Attributes => "attributes",
        }
    }
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Of what.
    pub kind: DifferenceKind,
    /// Whom it concerns; empty: the whole message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// On the one side, in words.
    pub before: String,
    /// On the other.
    pub after: String,
}

/// What is different between two endings of a call with this input; at most one
/// of each kind. Empty: they mean the same for the mail.
pub fn differences(input: &Input, before: &Ending, after: &Ending) -> Vec<Difference> {
    let mut list = List::default();
    match (before, after) {
        (
            Ending::Answered { output, attributes },
            Ending::Answered {
                output: other,
                attributes: others,
            },
        ) => {
            outputs(&mut list, input, output, other);
            let (one, other) = (last_words(attributes), last_words(others));
            list.unequal(DifferenceKind::Attributes, "", &one, &other);
        }
        (Ending::Failed { reason, .. }, Ending::Failed { reason: other, .. })
            if reason == other => {}
        _ => list.add(DifferenceKind::Failure, "", &ending(before), &ending(after)),
    }
    list.0.into_values().collect()
}

#[derive(Default)]
struct List(BTreeMap<DifferenceKind, Difference>);

impl List {
    fn add(&mut self, kind: DifferenceKind, of: &str, before: &str, after: &str) {
        self.0.entry(kind).or_insert_with(|| Difference {
            kind,
            of: of.to_owned(),
            before: cut(before),
            after: cut(after),
        });
    }

    fn unequal<T: PartialEq + Serialize>(
        &mut self,
        kind: DifferenceKind,
        of: &str,
        before: &T,
        after: &T,
    ) {
        if before != after {
            self.add(kind, of, &words(before), &words(after));
        }
    }

    fn replies(&mut self, of: &str, before: &Reply, after: &Reply) {
        if before != after {
            let (before, after) = (before.to_string(), after.to_string());
            self.add(DifferenceKind::Reply, of, &before, &after);
        }
    }
}

fn words<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", text.split_at(end).0),
        None => text.to_owned(),
    }
}

fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Answered { output, .. } => words(output),
        Ending::Failed { reason, detail } => format!("failed, {reason}: {detail}"),
    }
}

/// What is left of changes made one after the other.
fn last_words(changes: &[(String, Option<String>)]) -> BTreeMap<&str, &Option<String>> {
    changes
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

fn outputs(list: &mut List, input: &Input, before: &Output, after: &Output) {
    match (before, after) {
        (Output::MailFrom(one), Output::MailFrom(other)) => {
            senders(list, &one.action, &other.action);
            list.unequal(DifferenceKind::Flow, "", &one.flow, &other.flow);
        }
        (Output::Rcpt(one), Output::Rcpt(other)) => recipients(list, one, other),
        (Output::Message(one), Output::Message(other)) => {
            messages(list, &one.action, &other.action);
            list.unequal(DifferenceKind::Flow, "", &one.flow, &other.flow);
        }
        (Output::Route(one), Output::Route(other)) => routes(list, input, one, other),
        (Output::Delivery(one), Output::Delivery(other)) => advice(list, one, other),
        _ => list.add(DifferenceKind::Decision, "", &words(before), &words(after)),
    }
}

fn senders(list: &mut List, before: &SenderAction, after: &SenderAction) {
    match (before, after) {
        (SenderAction::Proceed, SenderAction::Proceed) => {}
        (SenderAction::Rewrite(one), SenderAction::Rewrite(other)) => {
            list.unequal(DifferenceKind::Envelope, "", one, other);
        }
        (SenderAction::Defer(one), SenderAction::Defer(other))
        | (SenderAction::Reject(one), SenderAction::Reject(other)) => {
            list.replies("", one, other);
        }
        _ => list.add(DifferenceKind::Decision, "", &words(before), &words(after)),
    }
}

fn recipients(list: &mut List, before: &RecipientVerdict, after: &RecipientVerdict) {
    list.unequal(DifferenceKind::Flow, "", &before.flow, &after.flow);
    match (&before.action, &after.action) {
        (RecipientAction::Proceed, RecipientAction::Proceed) => {}
        (RecipientAction::Rewrite(one), RecipientAction::Rewrite(other)) => {
            list.unequal(DifferenceKind::Envelope, "", one, other);
        }
        (RecipientAction::Defer(one), RecipientAction::Defer(other))
        | (RecipientAction::Reject(one), RecipientAction::Reject(other)) => {
            list.replies("", one, other);
        }
        (one, other) => list.add(DifferenceKind::Decision, "", &words(one), &words(other)),
    }
}

fn messages(list: &mut List, before: &MessageAction, after: &MessageAction) {
    match (before, after) {
        (MessageAction::Proceed, MessageAction::Proceed)
        | (MessageAction::Discard(_), MessageAction::Discard(_)) => {}
        (MessageAction::Rewrite(one), MessageAction::Rewrite(other)) => {
            list.unequal(DifferenceKind::Header, "", &one.headers, &other.headers);
            let envelope =
                |rewrite: &MessageRewrite| (rewrite.recipients.clone(), rewrite.sender.clone());
            let (one, other) = (envelope(one), envelope(other));
            list.unequal(DifferenceKind::Envelope, "", &one, &other);
        }
        (
            MessageAction::Hold {
                release_after_seconds: one,
                ..
            },
            MessageAction::Hold {
                release_after_seconds: other,
                ..
            },
        ) => list.unequal(DifferenceKind::Time, "", one, other),
        (MessageAction::Defer(one), MessageAction::Defer(other))
        | (MessageAction::Reject(one), MessageAction::Reject(other)) => {
            list.replies("", one, other);
        }
        _ => list.add(DifferenceKind::Decision, "", &words(before), &words(after)),
    }
}

fn advice(list: &mut List, before: &Advice, after: &Advice) {
    match (before, after) {
        (Advice::RetryAfter { seconds: one }, Advice::RetryAfter { seconds: other }) => {
            list.unequal(DifferenceKind::Time, "", one, other);
        }
        (Advice::GiveUp(one), Advice::GiveUp(other)) => {
            list.replies("", one, other);
        }
        (Advice::Hold(_), Advice::Hold(_)) => {}
        (one, other) if one.as_str() == other.as_str() => {}
        _ => list.add(DifferenceKind::Decision, "", &words(before), &words(after)),
    }
}

/// Recipient by recipient: how an answer puts them into groups means nothing.
fn routes(list: &mut List, input: &Input, before: &[Verdict], after: &[Verdict]) {
    if before.len() == after.len() && before == after {
        return;
    }
    let (before, after) = (by_recipient(before), by_recipient(after));
    for at in before.keys().chain(after.keys()) {
        let (one, other) = (before.get(at), after.get(at));
        let of = name_of(input, *at);
        match (one, other) {
            (Some(one), Some(other)) => verdicts(list, &of, one, other),
            (one, other) => {
                let say = |verdict: Option<&&Verdict>| {
                    verdict.map_or_else(|| "nothing".to_owned(), |verdict| words(&verdict.decision))
                };
                list.add(DifferenceKind::Decision, &of, &say(one), &say(other));
            }
        }
    }
}

fn by_recipient(verdicts: &[Verdict]) -> BTreeMap<u32, &Verdict> {
    let mut each = BTreeMap::new();
    for verdict in verdicts {
        each.extend(verdict.recipients.iter().map(|at| (*at, verdict)));
    }
    each
}

fn name_of(input: &Input, at: u32) -> String {
    let Input::Route(request) = input else {
        return String::new();
    };
    let recipient = request.recipients.get(at as usize);
    recipient.map_or_else(String::new, |recipient| recipient.mailbox.to_string())
}

fn verdicts(list: &mut List, of: &str, before: &Verdict, after: &Verdict) {
    decisions(list, of, &before.decision, &after.decision);
    list.unequal(DifferenceKind::Flow, of, &before.flow, &after.flow);
    let none = Settings::default();
    let one = before.settings.as_ref().unwrap_or(&none);
    let other = after.settings.as_ref().unwrap_or(&none);
    list.unequal(DifferenceKind::Settings, of, one, other);
}

fn decisions(list: &mut List, of: &str, before: &Decision, after: &Decision) {
    match (before, after) {
        (
            Decision::Defer {
                retry_after_seconds: one,
                ..
            },
            Decision::Defer {
                retry_after_seconds: other,
                ..
            },
        )
        | (
            Decision::Hold {
                release_after_seconds: one,
                ..
            },
            Decision::Hold {
                release_after_seconds: other,
                ..
            },
        ) => list.unequal(DifferenceKind::Time, of, one, other),
        (Decision::Reject { reply: one }, Decision::Reject { reply: other }) => {
            list.replies(of, one, other);
        }
        (Decision::Discard { .. }, Decision::Discard { .. }) => {}
        _ if before == after => {}
        _ => {
            let kind = if before.as_str() == after.as_str() {
                DifferenceKind::Hops
            } else {
                DifferenceKind::Decision
            };
            list.add(kind, of, &words(before), &words(after));
        }
    }
}
