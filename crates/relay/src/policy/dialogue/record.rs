//! Who decided what while a message came in: kept with it for `waypost queue show`, as the first
//! record of its history.

use plugin::{HeaderEdit, Phase};
use queue::{AttemptRecord, PolicyDecision, UnixMs};
use smtp::{Mailbox, ReversePath};

use crate::policy::attribution;
use crate::policy::call::Reason;
use crate::policy::chain::Link;

/// Decisions kept with a message; of further ones only the number.
const DECISIONS_MAX: usize = 32;
/// Header fields that are named.
const NAMED_MAX: usize = 8;

/// What plugins decided about one message so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    decisions: Vec<PolicyDecision>,
    more_count: usize,
}

impl Record {
    /// A plugin without an opinion, but with something to say.
    pub(super) fn noted(&mut self, link: &Link, phase: Phase, note: Option<&str>) {
        if note.is_some() {
            self.push(link, phase, "no opinion".to_owned(), note);
        }
    }

    pub(super) fn passed_over(&mut self, link: &Link, phase: Phase, reason: Reason, detail: &str) {
        let result = reason.as_str();
        self.keep(PolicyDecision {
            consequence: Some("on_error = continue: the plugin is passed over".to_owned()),
            ..attribution::decision(link, phase, result, detail.to_owned())
        });
    }

    pub(super) fn rewrote_sender(
        &mut self,
        link: &Link,
        phase: Phase,
        paths: (&ReversePath, &ReversePath),
        note: Option<&str>,
    ) {
        let (old, new) = paths;
        self.push(link, phase, format!("sender <{old}> became <{new}>"), note);
    }

    pub(super) fn rewrote_recipient(
        &mut self,
        link: &Link,
        old: &Mailbox,
        new: &[Mailbox],
        note: Option<&str>,
    ) {
        let what = match new {
            [] => format!("recipient <{old}> dropped"),
            [only] => format!("recipient <{old}> became <{only}>"),
            [first, rest @ ..] => {
                format!("recipient <{old}> became <{first}> and {} more", rest.len())
            }
        };
        self.push(link, Phase::Recipient, what, note);
    }

    pub(super) fn rewrote_recipients(
        &mut self,
        link: &Link,
        counts: (usize, usize),
        note: Option<&str>,
    ) {
        let (old, new) = counts;
        let what = format!("{old} recipients replaced by {new}");
        self.push(link, Phase::Message, what, note);
    }

    pub(super) fn edited_header(&mut self, link: &Link, edits: &[HeaderEdit], note: Option<&str>) {
        let words = edits.iter().take(NAMED_MAX).map(|edit| match edit {
            HeaderEdit::Prepend(field) | HeaderEdit::Append(field) => format!("+{}", field.name),
            HeaderEdit::Remove(name) => format!("-{name}"),
            HeaderEdit::Replace(field) => format!("={}", field.name),
        });
        let words: Vec<String> = words.collect();
        let what = match edits.len().checked_sub(NAMED_MAX) {
            None | Some(0) => format!("header {}", words.join(" ")),
            Some(more) => format!("header {} and {more} more", words.join(" ")),
        };
        self.push(link, Phase::Message, what, note);
    }

    pub(super) fn held(&mut self, link: &Link, reason: &str, note: Option<&str>) {
        self.push(link, Phase::Message, format!("hold: {reason}"), note);
    }

    fn push(&mut self, link: &Link, phase: Phase, text: String, note: Option<&str>) {
        self.keep(PolicyDecision {
            note: note.map(ToOwned::to_owned),
            ..attribution::decision(link, phase, PolicyDecision::OK, text)
        });
    }

    fn keep(&mut self, decision: PolicyDecision) {
        if self.decisions.len() < DECISIONS_MAX {
            self.decisions.push(decision.cut());
        } else {
            self.more_count += 1;
        }
    }

    /// As the first record of the message's history; none where nobody had anything to say.
    pub(super) fn into_history(mut self, at: UnixMs) -> Option<AttemptRecord> {
        if let (Some(last), 1..) = (self.decisions.last_mut(), self.more_count) {
            let more = format!("and {} more decisions that are not kept", self.more_count);
            last.consequence = Some(more);
        }
        (!self.decisions.is_empty()).then(|| AttemptRecord::of_reception(at, self.decisions))
    }
}
