//! Fails over between relays by what deliveries report: a relay that fails several times in a row
//! is tried last for a while, by every message, not only by the one that met the failure.
//!
//! ```toml
//! [[plugin]]
//! grants = { state = "1MiB", route_hosts = ["*.relay.example:587"] }
//!
//! [plugin.config]
//! relays = ["a.relay.example:587", "b.relay.example:587"]
//! failures = 3             # in a row, until a relay is taken for down
//! cool_down_seconds = 300  # how long it is then tried last; it is never left out
//! ```
//!
//! What counts as a failure: no connection, no greeting, no TLS, or a 421. A reply to the message
//! itself (a full mailbox, greylisting) says nothing about the relay.

use std::time::Duration;

use serde::Deserialize;
use waypost_sdk::{
    Advice, Attempt, Decision, Endpoint, HookError, NextHop, OnDeliveryResult, Place, Plugin,
    Request, Router, Verdict, config_fault, log_warning, metrics, read_config, state,
};
use waypost_sdk::{Outcome, Stage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    relays: Vec<Place>,
    #[serde(default = "three")]
    failures: i64,
    #[serde(default = "five_minutes")]
    cool_down_seconds: u32,
}

fn three() -> i64 {
    3
}

fn five_minutes() -> u32 {
    300
}

struct FailoverFeedback;

impl Plugin for FailoverFeedback {
    fn check_config() -> Vec<String> {
        let mut faults = config_fault::<Config>("");
        if let Ok(config) = read_config::<Config>("") {
            if config.relays.len() < 2 {
                faults.push("relays: at least two are wanted, to fail over".into());
            }
            if config.failures < 1 {
                faults.push("failures: at least 1".into());
            }
            if config.cool_down_seconds == 0 {
                faults.push("cool_down_seconds: at least 1".into());
            }
        }
        faults
    }
}

impl Router for FailoverFeedback {
    fn route(_request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        let mut up = Vec::new();
        let mut down = Vec::new();
        for place in &config.relays {
            let hop = place.hop();
            match state::get(&down_key(&name_of(&hop)))? {
                None => up.push(hop),
                Some(_) => down.push(hop),
            }
        }
        let note = match down.as_slice() {
            [] => "all relays are up".to_owned(),
            down => {
                let names: Vec<String> = down.iter().map(name_of).collect();
                format!("down of late, so tried last: {}", names.join(", "))
            }
        };
        let hops = up.into_iter().chain(down).zip(0u16..);
        let hops = hops.map(|(hop, priority)| hop.priority(priority));
        Ok(vec![Verdict::all(Decision::hops(hops)).note(note)])
    }
}

impl OnDeliveryResult for FailoverFeedback {
    fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError> {
        let config: Config = read_config("")?;
        let Some(relay) = relay_of(&config, &attempt) else {
            return Ok(Advice::Usual);
        };
        let failures = format!("failures:{relay}");
        if !is_relays_fault(&attempt) {
            state::remove(&failures)?;
            state::remove(&down_key(&relay))?;
            return Ok(Advice::Usual);
        }
        let cool_down = Duration::from_secs(config.cool_down_seconds.into());
        let ttl_ms = u64::from(config.cool_down_seconds) * 1000;
        if state::add(&failures, 1, Some(ttl_ms))? >= config.failures {
            state::put(&down_key(&relay), b"1", Some(ttl_ms))?;
            state::remove(&failures)?;
            metrics::count("relay_down", 1, &[]);
            log_warning(&format!("{relay} is down, tried last for {cool_down:?}"));
            // The next look at the state finds the others first.
            return Ok(Advice::Reroute);
        }
        Ok(Advice::NextHopNow)
    }
}

waypost_sdk::export!(FailoverFeedback: Router, OnDeliveryResult);

/// Whether the relay itself is to blame for an attempt that failed.
fn is_relays_fault(attempt: &Attempt) -> bool {
    let early = matches!(
        attempt.stage,
        Stage::Resolve | Stage::Connect | Stage::Greeting | Stage::Tls
    );
    match &attempt.outcome {
        Outcome::Failed(_) => true,
        Outcome::Temporary(reply) => early || reply.code == 421,
        Outcome::Delivered(_) | Outcome::Permanent(_) => false,
    }
}

/// The name of the configured relay that an attempt went to.
fn relay_of(config: &Config, attempt: &Attempt) -> Option<String> {
    let names = config.relays.iter().map(|place| name_of(&place.hop()));
    names
        .into_iter()
        .find(|name| attempt.host.as_ref() == Some(name) || attempt.address.as_ref() == Some(name))
}

/// Its host name or address; ports tell no relays apart here.
fn name_of(hop: &NextHop) -> String {
    match &hop.endpoint {
        Endpoint::Host(name) | Endpoint::MxOf(name) | Endpoint::Address(name) => {
            name.to_lowercase()
        }
        Endpoint::UnixSocket(path) => path.clone(),
    }
}

fn down_key(relay: &str) -> String {
    format!("down:{relay}")
}
