//! One call of a routing plugin: the request, the trace, the count.

use std::sync::Arc;

use plugin::{CallStats, FailureReason, Input, LogLine, Phase, RouteRequest, Verdict};
use serde::Serialize;
use smtp::ReversePath;
use spool::SpoolError;

use super::chain::Link;
use super::environment::RouteEnvironment;
use super::gate::{self, About, Answer};
use super::meters::CONTENT_UNAVAILABLE;
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

/// What one plugin did, for `explain` and for logs.
#[derive(Debug, Clone, Serialize)]
pub struct CallTrace {
    /// Name in the configuration.
    pub plugin: String,
    /// Version that what was called gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of what was called, shortened.
    pub digest: String,
    /// `ok`, `content_unavailable`, or the reason of the failure.
    pub result: &'static str,
    /// What it decided, or the detail of the failure.
    pub decision: String,
    /// The plugin's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why the decision was not carried out, where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheeded: Option<&'static str>,
    /// CPU time in microseconds.
    pub cpu_us: u128,
    /// Wall-clock time in microseconds.
    pub wall_us: u128,
    /// Its log lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogLine>,
}

impl CallTrace {
    pub(crate) fn ok(link: &Link, verdict: &Verdict, stats: &CallStats) -> Self {
        let decision = serde_json::to_string(&verdict.decision);
        Self {
            decision: decision.unwrap_or_else(|_| verdict.decision.as_str().to_owned()),
            note: verdict.note.clone(),
            ..Self::new(link, "ok", stats)
        }
    }

    pub(crate) fn failed(link: &Link, failure: Failure) -> Self {
        let trace = Self::new(link, failure.reason.as_str(), &failure.stats);
        Self {
            decision: failure.detail,
            ..trace
        }
    }

    pub(crate) fn unreadable(link: &Link, unread: &Unread) -> Self {
        Self {
            decision: unread.error.to_string(),
            ..Self::new(link, CONTENT_UNAVAILABLE, &unread.stats)
        }
    }

    fn new(link: &Link, result: &'static str, stats: &CallStats) -> Self {
        Self {
            plugin: link.config.name.clone(),
            version: link.version().map(ToOwned::to_owned),
            digest: link.short_digest(),
            result,
            decision: String::new(),
            note: None,
            unheeded: None,
            cpu_us: stats.cpu.as_micros(),
            wall_us: stats.wall.as_micros(),
            log: stats.log.clone(),
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
fn changed(known: &[(String, String)], changes: &Attributes) -> Vec<(String, String)> {
    let mut all = known.to_vec();
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        all.extend(value.clone().map(|value| (name.clone(), value)));
    }
    all
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
