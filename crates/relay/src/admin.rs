//! HTTP for machines and operators.
//!
//! Two doors. The admin listener (TCP, loopback unless the configuration says otherwise) shows
//! numbers only: metrics and health. The control socket, a unix socket in the spool directory
//! that only its owner may open, shows the queue, which is other people's mail, and takes
//! commands.

use std::collections::BinaryHeap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use queue::{OperatorCommand, QueuedMessage, RecipientState, UnixMs};
use serde::{Deserialize, Serialize};
use smtp::{QueueId, Reply};
use spool::{LiveRecord, RecordId, SpoolError};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::control_candidates;
use crate::control_plugins;
use crate::core::Core;
use crate::dispatch::{Input, Question};
use crate::policy::live::Live;
use crate::routing;
use crate::store;
use crate::telemetry::{self, DnsHits};

/// Name of the control socket in the spool directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Messages in one answer of `/queue`, unless asked for fewer.
const LIST_LIMIT: usize = 1000;
/// What the single writer of queue state is given to answer; then the door says 503.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(5);

/// What the doors look at.
#[derive(Clone)]
pub struct AdminState {
    pub(crate) core: Arc<Core>,
    metrics: PrometheusHandle,
    ready: Arc<AtomicBool>,
    reload: Arc<dyn Fn() + Send + Sync>,
    pub(crate) live: Arc<Live>,
    dns_hits: Arc<DnsHits>,
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminState")
    }
}

impl AdminState {
    /// The state behind both doors; `reload` asks for a reload of the configuration.
    pub(crate) fn new(
        core: Arc<Core>,
        metrics: PrometheusHandle,
        ready: Arc<AtomicBool>,
        reload: Arc<dyn Fn() + Send + Sync>,
        live: Arc<Live>,
    ) -> Self {
        Self {
            core,
            metrics,
            ready,
            reload,
            live,
            dns_hits: Arc::default(),
        }
    }
}

/// What the admin listener serves.
pub fn public(state: AdminState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(state)
}

/// What the control socket serves.
pub fn control(state: AdminState) -> Router {
    Router::new()
        .route("/queue", get(list))
        .route("/queue/{id}", get(show))
        .route("/queue/{id}/{command}", post(command))
        .route("/retry-all", post(retry_all))
        .route("/reload", post(reload))
        .merge(control_plugins::routes())
        .merge(control_candidates::routes())
        .with_state(state)
}

/// Where the control socket of a spool is.
#[must_use]
pub fn control_path(spool: &Path) -> PathBuf {
    spool.join(CONTROL_SOCKET)
}

/// Binds the control socket, in place of one that a killed relay left behind.
///
/// The spool's lock is held by now: no other relay can be listening there.
///
/// # Errors
/// When the directory does not allow it.
pub fn bind_control(spool: &Path) -> io::Result<UnixListener> {
    let path = control_path(spool);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn metrics(State(state): State<AdminState>) -> Response {
    refresh_gauges(&state).await;
    state.metrics.run_upkeep();
    let text = state.metrics.render();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// Alive: the process answers, and its spool can take mail.
async fn healthz(State(state): State<AdminState>) -> Response {
    if state.core.dispatch.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "delivery has ended\n").into_response();
    }
    if state.core.spool.stats().failed {
        return (StatusCode::SERVICE_UNAVAILABLE, "the spool has failed\n").into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

/// Ready: listeners are open and the queue is loaded; not while draining.
async fn readyz(State(state): State<AdminState>) -> Response {
    if state.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or draining\n").into_response()
    }
}

/// Where the queue does not answer its gauges keep their last values; the rest matters most then.
async fn refresh_gauges(state: &AdminState) {
    if let Ok(Some(numbers)) = ask(&state.core, Question::Counts).await {
        telemetry::queue_gauges(&numbers);
    }
    telemetry::spool_gauges(&state.core.spool.stats());
    telemetry::core_gauges(&state.core, &state.dns_hits);
    telemetry::plugin_versions(state.live.host().plugins().loaded_count());
}

/// Asks the single writer of queue state; nothing when it has stopped.
///
/// # Errors
/// The answer to give when it is too busy to say.
async fn ask<T>(
    core: &Core,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Result<Option<T>, Response> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        core.dispatch.send(Input::Ask(question(reply))).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(DISPATCH_PATIENCE, asked)
        .await
        .map_err(|_| busy())
}

/// Hands an operator's command to the single writer.
async fn order(core: &Core, command: OperatorCommand) -> Response {
    let sent = core.dispatch.send(Input::Command(command));
    match tokio::time::timeout(DISPATCH_PATIENCE, sent).await {
        Ok(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(_)) => fault(StatusCode::SERVICE_UNAVAILABLE, "the relay is stopping"),
        Err(_) => busy(),
    }
}

fn busy() -> Response {
    fault(
        StatusCode::SERVICE_UNAVAILABLE,
        "the queue is too busy to answer",
    )
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    limit: Option<usize>,
}

/// One line of `queue ls`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Identity.
    pub id: String,
    /// Reception, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Next attempt, in milliseconds since 1970.
    pub due_at_ms: u64,
    /// Octets of content.
    pub size_bytes: u64,
    /// Reverse-path; empty: null.
    pub sender: String,
    /// Recipients that are still to be delivered.
    pub pending: Vec<String>,
    /// Real tries so far, the most of any pending recipient.
    pub attempts: u32,
    /// Deferrals since the last real try that were our own fault (DNS, a plugin, the spool), the
    /// most of any pending recipient.
    pub local_deferrals: u32,
    /// Why it waits: the last reply, or the reason of a hold.
    pub reason: Option<String>,
    /// Kept aside.
    pub held: bool,
}

/// Answer of `/queue`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listing {
    /// Messages in the spool, shown or not.
    pub total: usize,
    /// The earliest due first.
    pub messages: Vec<Summary>,
    /// Records that cannot be read, by id, with the reason.
    pub unreadable: Vec<(String, String)>,
}

async fn list(State(state): State<AdminState>, Query(query): Query<ListQuery>) -> Response {
    let limit = query.limit.unwrap_or(LIST_LIMIT).min(100_000);
    let spool = Arc::clone(&state.core.spool);
    let read = tokio::task::spawn_blocking(move || {
        let (total, earliest) = earliest(spool.as_ref(), limit);
        let mut listing = Listing {
            total,
            messages: Vec::new(),
            unreadable: Vec::new(),
        };
        for record in earliest {
            match read_message(spool.as_ref(), QueueId::new(record.id.0)) {
                Ok(message) => listing
                    .messages
                    .push(summary(&message, UnixMs(record.due_at_ms))),
                // Delivered while we were reading.
                Err(ReadFailure::Gone) => {}
                Err(ReadFailure::Other(reason)) => {
                    listing
                        .unreadable
                        .push((QueueId::new(record.id.0).to_string(), reason));
                }
            }
        }
        listing
    });
    match read.await {
        Ok(listing) => Json(listing).into_response(),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// How many messages there are, and the `limit` that are due first, in order. A queue of
/// millions is not sorted to show a hundred of it.
fn earliest(spool: &dyn spool::Spool, limit: usize) -> (usize, Vec<LiveRecord>) {
    let mut total = 0;
    // The latest of those kept is on top, to make room for an earlier one.
    let mut kept = BinaryHeap::new();
    spool.for_each_live(&mut |record| {
        total += 1;
        let key = (record.due_at_ms, record.id.0);
        if kept.len() < limit {
            kept.push(key);
        } else if let Some(mut latest) = kept.peek_mut()
            && key < *latest
        {
            *latest = key;
        }
    });
    let records = kept.into_sorted_vec().into_iter();
    let records = records.map(|(due_at_ms, id)| LiveRecord {
        id: RecordId(id),
        due_at_ms,
    });
    (total, records.collect())
}

/// Answer of `/queue/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Story {
    /// The message with every recipient's state and the newest attempts.
    pub message: QueuedMessage,
    /// When it is due, in milliseconds since 1970.
    pub due_at_ms: u64,
    /// What it is doing now.
    pub state: String,
    /// Destinations that it may be waiting for: where it was tried, or would be without plugins.
    pub destinations: Vec<DestinationView>,
}

/// A destination that has work, or whose past is remembered.
#[derive(Debug, Serialize, Deserialize)]
pub struct DestinationView {
    /// The unit of concurrency: a domain, or the places that somebody named.
    pub name: String,
    /// Attempts that it may have at once.
    pub concurrency: u32,
    /// Attempts that it has.
    pub in_flight: u32,
    /// Jobs that wait for it in memory.
    pub ready: usize,
    /// Failed attempts in a row.
    pub failures: u32,
    /// No attempts before this, in milliseconds since 1970; none: not suspended.
    pub suspended_until_ms: Option<u64>,
}

impl From<queue::DestinationState> for DestinationView {
    fn from(state: queue::DestinationState) -> Self {
        Self {
            name: state.name.to_string(),
            concurrency: state.concurrency,
            in_flight: state.in_flight,
            ready: state.ready,
            failures: state.failures,
            suspended_until_ms: state.suspended_until.map(|at| at.0),
        }
    }
}

async fn show(State(state): State<AdminState>, UrlPath(id): UrlPath<String>) -> Response {
    let Ok(id) = id.parse::<QueueId>() else {
        return fault(StatusCode::BAD_REQUEST, &format!("{id} is not a queue id"));
    };
    let spool = Arc::clone(&state.core.spool);
    let read = tokio::task::spawn_blocking(move || {
        let due_at_ms = spool
            .read_meta(RecordId(id.get()))
            .map_or(0, |stored| stored.due_at_ms);
        read_message(spool.as_ref(), id).map(|message| (message, due_at_ms))
    });
    match read.await {
        Ok(Ok((message, due_at_ms))) => {
            let names = routing::likely_destinations(&state.core.settings.load().config, &message);
            let asked = ask(&state.core, |reply| Question::Story(id, names, reply)).await;
            let (doing, destinations) = match asked {
                Ok(answer) => answer.unwrap_or_default(),
                Err(busy) => return busy,
            };
            let destinations = destinations.into_iter().map(DestinationView::from);
            let doing = doing.map_or_else(|| "finished".to_owned(), |state| doing_text(&state));
            Json(Story {
                message,
                due_at_ms,
                state: doing,
                destinations: destinations.collect(),
            })
            .into_response()
        }
        Ok(Err(ReadFailure::Gone)) => fault(StatusCode::NOT_FOUND, "no such message in the queue"),
        Ok(Err(ReadFailure::Other(reason))) => fault(StatusCode::INTERNAL_SERVER_ERROR, &reason),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn doing_text(state: &queue::MessageState) -> String {
    match state {
        queue::MessageState::Resting { .. } => "waiting for its time".to_owned(),
        queue::MessageState::Held { .. } => "held".to_owned(),
        queue::MessageState::Loading => "being loaded".to_owned(),
        queue::MessageState::Active {
            routing,
            ready,
            in_flight,
            advised,
        } => {
            let active = format!("active: {routing} routing, {ready} ready, {in_flight} in flight");
            match advised {
                0 => active,
                count => format!("{active}, {count} awaiting a plugin's advice"),
            }
        }
    }
}

async fn command(
    State(state): State<AdminState>,
    UrlPath((id, command)): UrlPath<(String, String)>,
) -> Response {
    let Ok(id) = id.parse::<QueueId>() else {
        return fault(StatusCode::BAD_REQUEST, &format!("{id} is not a queue id"));
    };
    let command = match command.as_str() {
        "retry" => OperatorCommand::RetryNow { id },
        "hold" => OperatorCommand::Hold {
            id,
            reason: "held by an operator".to_owned(),
        },
        "release" => OperatorCommand::Release { id },
        "remove" => OperatorCommand::Remove { id },
        "bounce" => OperatorCommand::Bounce {
            id,
            reply: Reply::new(554, (5, 0, 0), "Returned to the sender by the operator"),
        },
        _ => {
            return fault(
                StatusCode::BAD_REQUEST,
                "no such command: retry, hold, release, remove, bounce",
            );
        }
    };
    match ask(&state.core, |reply| Question::State(id, reply)).await {
        Ok(Some(Some(_))) => order(&state.core, command).await,
        Ok(Some(None) | None) => fault(StatusCode::NOT_FOUND, "no such message in the queue"),
        Err(busy) => busy,
    }
}

async fn retry_all(State(state): State<AdminState>) -> Response {
    order(&state.core, OperatorCommand::RetryAll).await
}

async fn reload(State(state): State<AdminState>) -> Response {
    (state.reload)();
    StatusCode::ACCEPTED.into_response()
}

pub(crate) fn fault(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

enum ReadFailure {
    Gone,
    Other(String),
}

fn read_message(spool: &dyn spool::Spool, id: QueueId) -> Result<QueuedMessage, ReadFailure> {
    let stored = spool
        .read_meta(RecordId(id.get()))
        .map_err(|error| match error {
            SpoolError::NotFound(_) => ReadFailure::Gone,
            other => ReadFailure::Other(other.to_string()),
        })?;
    store::decode(&stored.meta).map_err(|error| ReadFailure::Other(error.to_string()))
}

fn summary(message: &QueuedMessage, due_at: UnixMs) -> Summary {
    let mut pending = Vec::new();
    let mut most_attempts = 0;
    let mut most_local = 0;
    let mut reason = message.hold.as_ref().map(|hold| hold.reason.clone());
    for recipient in &message.recipients {
        if let RecipientState::Pending {
            attempts,
            local_deferrals,
            last,
            ..
        } = &recipient.state
        {
            pending.push(recipient.mailbox.to_string());
            most_attempts = most_attempts.max(*attempts);
            most_local = most_local.max(*local_deferrals);
            if reason.is_none() {
                reason = last.as_ref().map(|last| last.reply.to_string());
            }
        }
    }
    Summary {
        id: message.id.to_string(),
        received_at_ms: message.received_at.0,
        due_at_ms: due_at.0,
        size_bytes: message.size_bytes,
        sender: match &message.reverse_path {
            smtp::ReversePath::Null => String::new(),
            smtp::ReversePath::Mailbox(mailbox) => mailbox.to_string(),
        },
        pending,
        attempts: most_attempts,
        local_deferrals: most_local,
        reason,
        held: message.hold.is_some(),
    }
}
