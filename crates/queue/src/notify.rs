//! Whether the sender is owed a notification, and about whom. How it looks is not
//! decided here.

use std::sync::Arc;

use smtp::ReversePath;

use crate::{QueuedMessage, RecipientState};

/// A notification the sender is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The message, with the final state of those recipients, none of them marked as
    /// notified: a driver may save it as it is before the notification is safe.
    pub message: Arc<QueuedMessage>,
    /// Positions in the message's recipient list; never empty.
    pub recipients: Vec<u32>,
    /// What about.
    pub kind: NotificationKind,
}

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotificationKind {
    /// Refused for good.
    Failure,
    /// Given up after too long a time.
    Expired,
}

/// What the sender of `message` is owed now: the recipients that failed or expired
/// and that it has not been told about, by kind. Nothing for a message with the
/// null reverse-path (RFC 5321, 4.5.5): it is a notification itself.
#[must_use]
pub fn owed(message: &QueuedMessage) -> Vec<(NotificationKind, Vec<u32>)> {
    if matches!(message.reverse_path, ReversePath::Null) {
        return Vec::new();
    }
    let mut failed = Vec::new();
    let mut expired = Vec::new();
    for (position, recipient) in (0_u32..).zip(&message.recipients) {
        match recipient.state {
            RecipientState::Failed {
                notified: false, ..
            } => failed.push(position),
            RecipientState::Expired {
                notified: false, ..
            } => expired.push(position),
            _ => {}
        }
    }
    [
        (NotificationKind::Failure, failed),
        (NotificationKind::Expired, expired),
    ]
    .into_iter()
    .filter(|(_, recipients)| !recipients.is_empty())
    .collect()
}

/// Notes that the sender has been told about these recipients.
pub(crate) fn mark(message: &mut QueuedMessage, recipients: &[u32]) {
    for &position in recipients {
        let Some(recipient) = message.recipients.get_mut(position as usize) else {
            continue;
        };
        match &mut recipient.state {
            RecipientState::Failed { notified, .. } | RecipientState::Expired { notified, .. } => {
                *notified = true;
            }
            _ => {}
        }
    }
}
