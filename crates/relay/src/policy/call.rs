//! One call of a routing plugin: the request, the trace, the count.

use std::sync::Arc;

use mx::Directory;
use plugin::{CallStats, FailureReason, LogLine, RouteCall, RouteRequest, Verdict};
use serde::Serialize;
use smtp::ReversePath;

use super::chain::Link;
use super::environment::{PlanSource, RouteEnvironment};
use crate::routing::Subject;
use crate::{telemetry, trace};

/// Most of a header section that is searched for the fields a plugin asked for.
const HEADER_LIMIT_BYTES: usize = 256 * 1024;

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
    /// `ok`, or the reason of the failure.
    pub result: &'static str,
    /// What it decided, or the detail of the failure.
    pub decision: String,
    /// The plugin's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
            cpu_us: stats.cpu.as_micros(),
            wall_us: stats.wall.as_micros(),
            log: stats.log.clone(),
        }
    }
}

/// Calls the plugin about these recipients of the subject.
pub(crate) async fn route(
    link: &Link,
    subject: &Subject,
    recipients: &[u32],
    plan: PlanSource,
    directory: Arc<Directory>,
) -> Result<RouteCall, Failure> {
    let environment = Arc::new(RouteEnvironment {
        message: Arc::clone(&subject.message),
        directory,
        content: Arc::clone(&subject.content),
        plan,
        wants_log: subject.wants_log,
    });
    let request = request(link, subject, recipients).await;
    link.plugin
        .route(Arc::new(request), environment)
        .await
        .map_err(|failure| Failure {
            reason: failure.reason,
            detail: failure.detail,
            stats: failure.stats,
        })
}

async fn request(link: &Link, subject: &Subject, recipients: &[u32]) -> RouteRequest {
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
        headers: headers(link, subject).await,
        attributes: message.attributes.clone(),
        ..RouteRequest::new(
            message.id.to_string(),
            subject.domain.clone(),
            listed.collect(),
        )
    }
}

/// Values of the header fields that the configuration names for this plugin.
async fn headers(link: &Link, subject: &Subject) -> Vec<String> {
    let wanted = &link.config.route_headers;
    if wanted.is_empty() {
        return Vec::new();
    }
    let Some(content) = (subject.content)().await else {
        return vec![String::new(); wanted.len()];
    };
    let section = trace::header_section(&content, HEADER_LIMIT_BYTES);
    let first = |name: &String| {
        let values = trace::header_values(&section, name);
        values
            .first()
            .map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    };
    wanted.iter().map(first).collect()
}

/// Counts a call whose verdicts were carried out.
pub(crate) fn count_ok(link: &Link, call: &RouteCall) {
    telemetry::plugin_call(&link.config.name, "ok", call.stats.wall, call.stats.cpu);
}

/// Counts a call that failed, and says so in the log.
pub(crate) fn count_failed(link: &Link, failure: &Failure) {
    let name = &link.config.name;
    let reason = failure.reason.as_str();
    telemetry::plugin_call(name, reason, failure.stats.wall, failure.stats.cpu);
    tracing::warn!(
        plugin = name,
        reason,
        detail = failure.detail,
        "plugin call failed"
    );
}
