//! One call of a routing plugin: the request, and why there may be no answer.

use std::sync::Arc;

use plugin::{CallStats, FailureReason, Input, Phase, RouteRequest};
use smtp::ReversePath;
use spool::SpoolError;

use super::chain::Link;
use super::environment::RouteEnvironment;
use super::gate::{self, About, Answer};
use crate::config::OnError;
use crate::routing::{Attributes, Subject};
use crate::trace;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// By the plugin's fault, or for lack of a turn: its `on_error` says what happens.
    Failed(Failure),
    /// The plugin was not asked, or not shown what it asked for.
    Unreadable(Unread),
}

/// A message that the spool did not give.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) error: SpoolError,
    pub(crate) stats: CallStats,
}

/// Why a call gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// In the plugin, or on the way to it.
    Plugin(FailureReason),
    /// It was not called: it keeps failing.
    BreakerOpen,
}

impl Reason {
    /// Stable label for metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plugin(reason) => reason.as_str(),
            Self::BreakerOpen => "breaker_open",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that gave nothing usable.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) stats: CallStats,
}

impl Failure {
    /// What the operator wants done. That no turn came is our own overload, maybe of another
    /// plugin's making: no reason to refuse mail or to pass this plugin by.
    pub(crate) fn on_error(&self, link: &Link) -> OnError {
        match self.reason {
            Reason::Plugin(FailureReason::Busy) => OnError::Defer,
            _ => link.on_error(),
        }
    }
}

/// Asks the plugin about these recipients of the subject, when its turn has come.
/// `attributes`: what earlier plugins changed.
///
/// # Errors
/// There is no answer; it has been counted and logged.
pub(crate) async fn route<'l>(
    link: &'l Link,
    subject: &Subject,
    recipients: &[u32],
    attributes: &Attributes,
    (about, environment): (&About, Arc<RouteEnvironment>),
) -> Result<Answer<'l>, NoAnswer> {
    let input = async {
        Ok(Input::Route(Arc::new(RouteRequest {
            headers: headers(link, subject).await?,
            attributes: changed(&subject.message.attributes, attributes),
            ..request(subject, recipients)
        })))
    };
    gate::ask(link, about, Phase::Routing, input, environment).await
}

/// All but headers and attributes.
fn request(subject: &Subject, recipients: &[u32]) -> RouteRequest {
    let message = &subject.message;
    let named = recipients
        .iter()
        .filter_map(|&at| message.recipients.get(at as usize));
    let listed = named.map(|recipient| plugin::Recipient::from(recipient.mailbox.clone()));
    RouteRequest {
        sender: match &message.reverse_path {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox.clone()),
        },
        size_bytes: message.size_bytes,
        received_at_ms: message.received_at.0,
        attempt: subject.attempt,
        listener: message.origin.listener.clone(),
        user: message.origin.user.clone(),
        ..RouteRequest::new(
            message.id.to_string(),
            subject.domain.clone(),
            listed.collect(),
        )
    }
}

/// The message's attributes as they will be once the changes are kept.
pub(crate) fn changed(known: &[(String, String)], changes: &Attributes) -> Vec<(String, String)> {
    let mut all = known.to_vec();
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        all.extend(value.clone().map(|value| (name.clone(), value)));
    }
    all
}

/// What is wrong where these changes make the message's attributes grow beyond
/// `limits.attributes`. Changes that free room are always good: the limit may have been lowered.
pub(crate) fn overgrown(
    limit_bytes: u64,
    known: &[(String, String)],
    changes: &Attributes,
) -> Option<String> {
    if changes.is_empty() {
        return None;
    }
    let size = |all: &[(String, String)]| {
        let sizes = all.iter().map(|(name, value)| name.len() + value.len());
        sizes.sum::<usize>() as u64
    };
    let new_bytes = size(&changed(known, changes));
    (new_bytes > limit_bytes && new_bytes > size(known))
        .then(|| format!("notes more than limits.attributes = {limit_bytes} octets"))
}

/// Values of the header fields that the configuration names for this plugin.
async fn headers(link: &Link, subject: &Subject) -> Result<Vec<String>, SpoolError> {
    let wanted = &link.config.route_headers;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let content = (subject.content)().await?;
    let section = trace::header_section(&content, trace::HEADER_LIMIT_BYTES);
    let first = |name: &String| {
        let values = trace::header_values(&section, name);
        values
            .first()
            .map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    };
    Ok(wanted.iter().map(first).collect())
}
