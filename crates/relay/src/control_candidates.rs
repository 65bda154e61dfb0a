//! The part of the control socket that is about plugins on trial: what is seen of a candidate, its
//! share, and putting it in force.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::admin::{AdminState, fault};
use crate::config::Percent;
use crate::core::Settings;
use crate::policy::chain::Link;

pub use crate::policy::candidate::{CandidateStatus, Count, Example, Side};

/// What the control socket serves of candidates.
pub(crate) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/plugins/{name}/candidate", get(show))
        .route("/plugins/{name}/candidate/share/{millionths}", post(share))
        .route("/plugins/{name}/promote", post(promote))
}

async fn show(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let settings = state.core.settings.load_full();
    match find(&settings, &name) {
        Ok(link) => status(link),
        Err(response) => *response,
    }
}

/// Out of a million, so that the path needs no decimal point.
async fn share(
    State(state): State<AdminState>,
    Path((name, millionths)): Path<(String, u32)>,
) -> Response {
    let settings = state.core.settings.load_full();
    let link = match find(&settings, &name) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let Some(candidate) = &link.candidate else {
        return none(&name);
    };
    match candidate.set_share(Percent::from_millionths(millionths), &link.plugin) {
        Ok(()) => status(link),
        Err(error) => fault(StatusCode::CONFLICT, &error),
    }
}

async fn promote(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    match state.live.promote(&state.core, &name).await {
        Ok(changed) => Json(vec![changed]).into_response(),
        Err(error) => fault(StatusCode::CONFLICT, &error),
    }
}

fn find<'s>(settings: &'s Settings, name: &str) -> Result<&'s Link, Box<Response>> {
    let unknown = || {
        Box::new(fault(
            StatusCode::NOT_FOUND,
            &format!("there is no plugin {name:?}"),
        ))
    };
    settings.chain.link(name).ok_or_else(unknown)
}

fn status(link: &Link) -> Response {
    match &link.candidate {
        Some(candidate) => Json(candidate.status(&link.plugin)).into_response(),
        None => none(&link.config.name),
    }
}

fn none(name: &str) -> Response {
    let text = format!("plugin {name} has no candidate: there is no [plugin.candidate]");
    fault(StatusCode::NOT_FOUND, &text)
}
