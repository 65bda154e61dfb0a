//! One call of a routing plugin: the request, the trace, the count.

use std::sync::Arc;

use plugin::{CallStats, FailureReason, LogLine, RouteCall, RouteRequest, Verdict};
use serde::Serialize;
use smtp::{QueueId, ReversePath};
use spool::SpoolError;

use super::chain::Link;
use super::environment::RouteEnvironment;
use super::meters::CONTENT_UNAVAILABLE;
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
    error: SpoolError,
    stats: CallStats,
}

/// A call that gave nothing usable.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: FailureReason,
    pub(crate) detail: String,
    pub(crate) stats: CallStats,
}

impl Failure {
    /// The plugin answered, and the answer cannot be carried out.
    pub(crate) fn invalid(call: &RouteCall, detail: String) -> Self {
        Self {
            reason: FailureReason::InvalidAnswer,
            detail,
            stats: call.stats.clone(),
        }
    }
}

/// What one plugin did, for `explain` and for logs.
#[derive(Debug, Clone, Serialize)]
pub struct CallTrace {
    /// Name in the configuration.
    pub plugin: String,
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
    pub(crate) fn ok(link: &Link, verdict: &Verdict, call: &RouteCall) -> Self {
        let decision = serde_json::to_string(&verdict.decision);
        Self {
            decision: decision.unwrap_or_else(|_| verdict.decision.as_str().to_owned()),
            note: verdict.note.clone(),
            ..Self::new(link, "ok", &call.stats)
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
            digest: link
                .plugin
                .inspect()
                .sha256
                .to_string()
                .chars()
                .take(12)
                .collect(),
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

/// Calls the plugin about these recipients of the subject, when its turn has come.
/// `attributes`: what earlier plugins changed.
pub(crate) async fn route(
    link: &Link,
    subject: &Subject,
    recipients: &[u32],
    attributes: &Attributes,
    environment: Arc<RouteEnvironment>,
) -> Result<RouteCall, NoAnswer> {
    let _turn = link.turn().await.map_err(|waited| {
        NoAnswer::Failed(Failure {
            reason: FailureReason::Busy,
            detail: format!("no turn came within {waited:?}"),
            stats: CallStats::default(),
        })
    })?;
    let headers = headers(link, subject).await.map_err(|error| {
        let stats = CallStats::default();
        NoAnswer::Unreadable(Unread { error, stats })
    })?;
    let request = RouteRequest {
        headers,
        attributes: changed(&subject.message.attributes, attributes),
        ..request(subject, recipients)
    };
    let world = Arc::clone(&environment);
    let answer = link.plugin.route(Arc::new(request), world).await;
    if let Some(error) = environment.unread() {
        let stats = match answer {
            Ok(call) => call.stats,
            Err(failure) => failure.stats,
        };
        let error = error.clone();
        return Err(NoAnswer::Unreadable(Unread { error, stats }));
    }
    answer.map_err(|failure| {
        NoAnswer::Failed(Failure {
            reason: failure.reason,
            detail: failure.detail,
            stats: failure.stats,
        })
    })
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

/// Counts a call that failed, and says so in the log.
pub(crate) fn report_failed(link: &Link, id: QueueId, failure: &Failure) {
    link.meters.failed(failure.reason, &failure.stats);
    tracing::warn!(
        %id,
        plugin = link.config.name,
        reason = failure.reason.as_str(),
        detail = failure.detail,
        "plugin call failed"
    );
}

/// Counts a call that could not be made with the message unread, and says so in the log.
pub(crate) fn report_unreadable(link: &Link, id: QueueId, unread: &Unread) {
    link.meters.unreadable();
    tracing::error!(
        %id,
        plugin = link.config.name,
        error = %unread.error,
        "cannot show a plugin a message's content; the message waits"
    );
}
