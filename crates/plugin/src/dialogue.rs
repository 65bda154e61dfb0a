//! What a plugin decided in the SMTP dialogue, after the host has checked it:
//! replies are well-formed and of the class that the verdict calls for, and header
//! edits cannot break out of their field.
//!
//! They serialise as `action = "…"` with its argument, if it has one, under
//! `with`.

use serde::{Deserialize, Serialize};
use smtp::{Mailbox, Reply, ReversePath};

use crate::verdict::Flow;

/// The answer to MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderVerdict {
    /// What to do.
    #[serde(flatten)]
    pub action: SenderAction,
    /// Whether later plugins are asked; always `Stop` after defer and reject.
    pub flow: Flow,
    /// For the log and for `waypost explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a plugin wants done after MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "with", rename_all = "kebab-case")]
pub enum SenderAction {
    /// No opinion.
    Proceed,
    /// Go on as if this had been given; `None`: the null reverse-path.
    Rewrite(Option<Mailbox>),
    /// Always 4xx.
    Defer(Reply),
    /// Always 5xx.
    Reject(Reply),
}

/// The answer to one RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientVerdict {
    /// What to do.
    #[serde(flatten)]
    pub action: RecipientAction,
    /// Whether later plugins are asked; always `Stop` after defer and reject.
    pub flow: Flow,
    /// For the log and for `waypost explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a plugin wants done after RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "with", rename_all = "kebab-case")]
pub enum RecipientAction {
    /// No opinion.
    Proceed,
    /// These in its place, at most [`MAX_RECIPIENTS`](crate::MAX_RECIPIENTS), none
    /// of them twice; empty: accept and drop.
    Rewrite(Vec<Mailbox>),
    /// Always 4xx.
    Defer(Reply),
    /// Always 5xx.
    Reject(Reply),
}

/// The answer to a whole message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageVerdict {
    /// What to do.
    #[serde(flatten)]
    pub action: MessageAction,
    /// Whether later plugins are asked; always `Stop` after hold, discard, defer
    /// and reject.
    pub flow: Flow,
    /// For the log and for `waypost explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a plugin wants done with a message before the relay answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "with", rename_all = "kebab-case")]
pub enum MessageAction {
    /// No opinion.
    Proceed,
    /// Accept it changed.
    Rewrite(MessageRewrite),
    /// Accept it and keep it aside.
    #[serde(rename_all = "kebab-case")]
    Hold {
        /// One line of printable text.
        reason: String,
        /// Seconds after which it goes on by itself; `None`: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release_after_seconds: Option<u32>,
    },
    /// Accept it and drop it, for this reason: one line of printable text.
    Discard(String),
    /// Always 4xx.
    Defer(Reply),
    /// Always 5xx.
    Reject(Reply),
}

/// Changes to a message on its way in; each part may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageRewrite {
    /// In this order; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderEdit>,
    /// In place of all recipients, at most [`MAX_RECIPIENTS`](crate::MAX_RECIPIENTS),
    /// never empty; `None`: as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<Mailbox>>,
    /// `None`: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<ReversePath>,
}

/// One edit of the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderEdit {
    /// Put a field before all others.
    Prepend(NewField),
    /// Put a field after all others.
    Append(NewField),
    /// Remove every field of this name, in whatever case.
    Remove(String),
    /// Remove every field of this name, then prepend this one.
    Replace(NewField),
}

/// A header field to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewField {
    /// RFC 5322 `ftext`, 1 to 76 octets.
    pub name: String,
    /// Unfolded UTF-8 without CR, LF, NUL or other controls but tab, at most 8192
    /// octets, trimmed; there is a blank at least every 900 octets, where it can be
    /// folded.
    pub value: String,
}
