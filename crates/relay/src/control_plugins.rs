//! The part of the control socket that is about plugins: what is in force, reload, roll back.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use plugin::Phase;
use queue::UnixMs;
use serde::{Deserialize, Serialize};

use crate::admin::{AdminState, fault};
use crate::config::OnError;
use crate::core::Settings;
use crate::policy::chain::{Door, Link};
use crate::policy::live::{self, ChangeError};

pub use crate::policy::live::Changed;
pub use crate::policy::shelf::Version;

/// Answer of `/plugins`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PluginListing {
    /// In the order in which they are asked.
    pub plugins: Vec<PluginState>,
    /// Configured, but not enabled.
    pub disabled: Vec<String>,
}

/// One plugin as it is now.
#[derive(Debug, Serialize, Deserialize)]
pub struct PluginState {
    /// Name in the configuration.
    pub name: String,
    /// Name and version that it gives itself.
    pub identity: Option<(String, String)>,
    /// Digest of the component.
    pub digest: String,
    /// The file that the component in force was read from.
    pub path: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How it came in force: `configuration`, `reload`, `watch` or `rollback`.
    pub by: String,
    /// Phases that it is asked in.
    pub phases: Vec<String>,
    /// What a failed call means: `defer`, `continue` or `reject`.
    pub on_error: String,
    /// Whether it is called: `closed` (yes), `half-open` (it is tried again) or `open` (no).
    pub breaker: String,
    /// Failures of this version since the breaker last closed.
    pub failures_count: u64,
    /// The first of them.
    pub first_failure: Option<FailureNote>,
    /// The version that was last refused, if one was since the one in force was taken.
    pub refused: Option<RefusalNote>,
    /// Versions that are kept, the one in force first.
    pub kept: Vec<Version>,
    /// Components that are not taken from the file before a reload by name.
    pub held_back: Vec<String>,
}

/// A call that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailureNote {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The message.
    pub id: String,
    /// The phase.
    pub phase: String,
    /// Label of the reason.
    pub reason: String,
    /// The detail, with the place in the plugin where there is one.
    pub detail: String,
}

/// A version that was not taken.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefusalNote {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The step that it did not pass.
    pub result: String,
    /// Why.
    pub text: String,
}

/// What the control socket serves of plugins.
pub(crate) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/plugins", get(list))
        .route("/plugins/reload", post(reload_all))
        .route("/plugins/{name}/reload", post(reload))
        .route("/plugins/{name}/rollback", post(roll_back))
}

async fn list(State(state): State<AdminState>) -> Response {
    let settings = state.core.settings.load_full();
    let read = tokio::task::spawn_blocking(move || listing(&settings));
    match read.await {
        Ok(listing) => Json(listing).into_response(),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn listing(settings: &Settings) -> PluginListing {
    let links = settings.chain.links().iter();
    let entries = settings.config.plugins.iter();
    PluginListing {
        plugins: links.map(|link| plugin_state(settings, link)).collect(),
        disabled: entries
            .filter(|entry| !entry.enabled)
            .map(|entry| entry.name.clone())
            .collect(),
    }
}

fn plugin_state(settings: &Settings, link: &Link) -> PluginState {
    let inspection = link.plugin.inspect();
    // What cannot be read is not there to go back to.
    let records = live::shelf(settings, link).records().unwrap_or_default();
    let phases = Phase::ALL.into_iter();
    let (first, failures_count) = link.guard.failures();
    PluginState {
        name: link.config.name.clone(),
        identity: inspection.identity.clone(),
        digest: inspection.sha256.to_string(),
        path: inspection.path.display().to_string(),
        since_ms: link.since.0,
        by: link.door.as_str().to_owned(),
        phases: phases
            .filter(|phase| link.plugin.has(*phase))
            .map(|phase| phase.as_str().to_owned())
            .collect(),
        on_error: on_error(link.on_error()).to_owned(),
        breaker: link.guard.standing().as_str().to_owned(),
        failures_count,
        first_failure: first.map(|(UnixMs(at_ms), first)| FailureNote {
            at_ms,
            id: first.id,
            phase: first.phase.to_owned(),
            reason: first.reason.to_owned(),
            detail: first.detail,
        }),
        refused: link.ledger.refused().map(|refused| RefusalNote {
            at_ms: refused.at.0,
            result: refused.result.to_owned(),
            text: refused.text,
        }),
        kept: records.versions,
        held_back: records.held_back.iter().map(ToString::to_string).collect(),
    }
}

fn on_error(choice: OnError) -> &'static str {
    match choice {
        OnError::Defer => "defer",
        OnError::Continue => "continue",
        OnError::Reject => "reject",
    }
}

async fn reload_all(State(state): State<AdminState>) -> Response {
    Json(state.live.reload_all(&state.core).await).into_response()
}

async fn reload(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    answer(state.live.reload(&state.core, &name, Door::Reload).await)
}

async fn roll_back(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    answer(state.live.roll_back(&state.core, &name).await)
}

/// A refused version is an answer as well: the command was carried out.
fn answer(result: Result<Changed, ChangeError>) -> Response {
    match result {
        Ok(changed) => Json(vec![changed]).into_response(),
        Err(error @ ChangeError::Unknown { .. }) => {
            fault(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(error) => fault(StatusCode::CONFLICT, &error.to_string()),
    }
}
