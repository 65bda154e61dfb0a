//! Asks a policy server over HTTP where mail goes, in the manner of the `route` stage of MTA Hooks
//! (draft-degennaro-mta-hooks, work in progress).
//!
//! ```toml
//! [[plugin]]
//! grants = { http = ["https://policy.example"], route_hosts = ["*.relay.example"] }
//!
//! [plugin.config]
//! url = "https://policy.example/hooks/route"
//! timeout_ms = 2000
//! cache_seconds = 0        # with the grant `state`: keep answers that long
//! ```
//!
//! The server gets what the relay knows and answers with patches of it: see `README.md` for both.
//! What cannot be understood makes the call fail, and the mail waits; it is never sent by a guess.

mod answer;
mod question;

use std::time::Duration;

use serde::Deserialize;
use waypost_sdk::http::Request as HttpRequest;
use waypost_sdk::{
    HookError, Plugin, Request, Router, Verdict, answer_as, config_fault, read_config, read_state,
    sticky_hash, write_state,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
    #[serde(default = "two_seconds")]
    timeout_ms: u32,
    /// Name of a credential that the relay adds.
    auth: Option<String>,
    #[serde(default)]
    cache_seconds: u32,
    /// Header fields that the server is told.
    #[serde(default)]
    headers: Vec<String>,
}

fn two_seconds() -> u32 {
    2000
}

struct HttpRouter;

impl Plugin for HttpRouter {
    fn check_config() -> Vec<String> {
        let mut faults = config_fault::<Config>("");
        if let Ok(config) = read_config::<Config>("") {
            if !config.url.starts_with("https://") && !config.url.starts_with("http://") {
                faults.push(format!("url: {:?}, but https://… is wanted", config.url));
            }
            if config.timeout_ms == 0 {
                faults.push("timeout_ms: at least 1".into());
            }
        }
        faults
    }
}

impl Router for HttpRouter {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        let question = question::of(&request, &config.headers);
        let answer = match cached(&config, &request)? {
            Some(answer) => answer,
            None => {
                let answer: answer::Answer = ask(&config, &question)?;
                keep(&config, &request, &answer)?;
                answer
            }
        };
        answer.verdicts(request.recipients.len())
    }
}

waypost_sdk::export!(HttpRouter: Router);

fn ask(config: &Config, question: &serde_json::Value) -> Result<answer::Answer, HookError> {
    let mut call = HttpRequest::json(&config.url, question)?
        .timeout(Duration::from_millis(config.timeout_ms.into()));
    call.auth = config.auth.clone();
    answer_as(&call.send()?)
}

/// What answers are kept under: everything that the answer may depend on and that repeats.
fn key(request: &Request) -> String {
    let sender = request
        .sender
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    let recipients: Vec<String> = request
        .recipients
        .iter()
        .map(|recipient| recipient.mailbox.to_string())
        .collect();
    let parts = [
        sender.as_str(),
        &recipients.join(" "),
        &request.listener,
        request.user.as_deref().unwrap_or(""),
    ];
    format!("answer:{:016x}", sticky_hash(&parts))
}

fn cached(config: &Config, request: &Request) -> Result<Option<answer::Answer>, HookError> {
    if config.cache_seconds == 0 || request.attempt > 0 {
        return Ok(None);
    }
    read_state(&key(request))
}

fn keep(config: &Config, request: &Request, answer: &answer::Answer) -> Result<(), HookError> {
    if config.cache_seconds == 0 {
        return Ok(());
    }
    let ttl = Duration::from_secs(config.cache_seconds.into());
    write_state(&key(request), answer, Some(ttl))
}
