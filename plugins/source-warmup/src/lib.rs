//! Warms up a new source pool: each day it may send so many recipients, and no more; the rest goes
//! by the pool that has a name already.
//!
//! ```toml
//! [[plugin]]
//! grants = { state = "1MiB", state_durable = true, source_pools = ["new", "established"] }
//!
//! [plugin.config]
//! pool = "new"
//! fallback = "established"
//! start = 1795392000                   # first day, in seconds since 1970
//! daily = [50, 100, 200, 400, 800, 1600, 3200]   # recipients; after the last day no limit
//! domains = ["*.example"]              # optional: limit per destination to these
//! ```
//!
//! A message stays with the pool that it got: retries do not count again, and a recipient's host
//! does not see the same mail from two addresses.

use serde::Deserialize;
use waypost_sdk::{
    Decision, DomainPattern, HookError, Plugin, Request, Router, Settings, Verdict, ambient,
    config_fault, keep_attribute, message, read_config, state,
};

/// Milliseconds of a day, and how long a day's count is kept.
const DAY_MS: u64 = 86_400_000;
const KEPT_MS: u64 = 2 * DAY_MS;

/// The attribute that keeps a message with its pool.
const ATTRIBUTE: &str = "warmup.pool";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    pool: String,
    fallback: String,
    start: u64,
    daily: Vec<i64>,
    #[serde(default)]
    domains: Vec<DomainPattern>,
}

struct SourceWarmup;

impl Plugin for SourceWarmup {
    fn check_config() -> Vec<String> {
        let mut faults = config_fault::<Config>("");
        if let Ok(config) = read_config::<Config>("") {
            if config.pool == config.fallback {
                faults.push("fallback: the same pool as `pool`".into());
            }
            if config.daily.is_empty() {
                faults.push("daily: no day".into());
            }
            if config.daily.iter().any(|&limit| limit < 1) {
                faults.push("daily: at least 1 each day".into());
            }
        }
        faults
    }
}

impl Router for SourceWarmup {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        let meant = config.domains.is_empty()
            || config
                .domains
                .iter()
                .any(|pattern| pattern.matches(&request.domain));
        if !meant {
            return Ok(Vec::new());
        }
        let attribute = format!("{ATTRIBUTE}.{}", request.domain);
        if let Some(pool) = kept(&config, &attribute) {
            return Ok(vec![by(pool, "as before")]);
        }
        let (pool, why) = choose(&config, request.recipients.len())?;
        // A domain too long for the name of an attribute is decided anew at each attempt.
        let _ = keep_attribute(&attribute, pool);
        Ok(vec![by(pool, &why)])
    }
}

waypost_sdk::export!(SourceWarmup: Router);

/// The pool that this message got at an earlier attempt, while it still is one of the two.
fn kept<'a>(config: &'a Config, attribute: &str) -> Option<&'a str> {
    let kept = message::get_attribute(attribute)?;
    [&config.pool, &config.fallback]
        .into_iter()
        .find(|pool| **pool == kept)
        .map(String::as_str)
}

/// The new pool while today's number lasts.
fn choose(config: &Config, recipients: usize) -> Result<(&str, String), HookError> {
    let Some(elapsed_ms) = ambient::now().checked_sub(config.start.saturating_mul(1000)) else {
        return Ok((&config.fallback, "the first day has not come".into()));
    };
    let day = elapsed_ms / DAY_MS;
    let limit = usize::try_from(day)
        .ok()
        .and_then(|day| config.daily.get(day));
    let Some(&limit) = limit else {
        return Ok((&config.pool, format!("day {}: warm", day + 1)));
    };
    let key = format!("sent:{}:{day}", config.pool);
    let wanted = i64::try_from(recipients).unwrap_or(i64::MAX);
    let sent = state::add(&key, wanted, Some(KEPT_MS))?;
    let why = format!("day {}: {sent} of {limit}", day + 1);
    if sent <= limit {
        return Ok((&config.pool, why));
    }
    // Given back, so that a smaller message may still fit.
    state::add(&key, -wanted, Some(KEPT_MS))?;
    Ok((
        &config.fallback,
        format!("day {}: {limit} are spent", day + 1),
    ))
}

fn by(pool: &str, why: &str) -> Verdict {
    let settings = Settings::new().source_pool(pool);
    Verdict::all(Decision::Proceed)
        .settings(settings)
        .note(format!("source pool {pool}: {why}"))
}
