//! Splits mail between relays by weight and by region, so that the same key always takes the same
//! relay.
//!
//! ```toml
//! [plugin.config]
//! sticky = "sender-domain"     # or sender, recipient-domain, user, message
//!
//! [[plugin.config.region]]     # the first that matches; one without domains takes the rest
//! name = "europe"
//! domains = ["*.de", "*.fr", "example.net"]
//! relays = [
//!     { host = "fra.relay.example:587", weight = 3 },
//!     { host = "ams.relay.example:587", weight = 1 },
//! ]
//!
//! [[plugin.config.region]]
//! name = "world"
//! relays = [{ host = "nyc.relay.example:587" }]
//! ```
//!
//! A relay gets the share of keys that its weight has in its region (weighted rendezvous hashing):
//! when one goes or comes, only its own share moves. The others of the region follow as second,
//! third… choice. Weight 0: only when the others fail.

use std::collections::BTreeSet;

use serde::Deserialize;
use waypost_sdk::{
    Decision, DomainPattern, HookError, Place, Plugin, Request, Router, Verdict, config_fault,
    read_config, sticky_order,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    sticky: Sticky,
    region: Vec<Region>,
}

/// What of a message is hashed.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sticky {
    #[default]
    SenderDomain,
    Sender,
    RecipientDomain,
    User,
    Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    name: String,
    #[serde(default)]
    domains: Vec<DomainPattern>,
    relays: Vec<Relay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relay {
    /// As text, `host:port`.
    host: Place,
    #[serde(default = "one")]
    weight: f64,
}

fn one() -> f64 {
    1.0
}

struct WeightedSplit;

impl Plugin for WeightedSplit {
    fn check_config() -> Vec<String> {
        let faults = config_fault::<Config>("");
        let Ok(config) = read_config::<Config>("") else {
            return faults;
        };
        let mut faults = Vec::new();
        if config.region.is_empty() {
            faults.push("region: at least one is wanted".into());
        }
        let mut names = BTreeSet::new();
        for region in &config.region {
            let place = format!("region {:?}", region.name);
            if !names.insert(&region.name) {
                faults.push(format!("{place}: there are two of this name"));
            }
            if region.relays.is_empty() {
                faults.push(format!("{place}: no relays"));
            }
            let usable = |weight: f64| weight.is_finite() && weight >= 0.0;
            if region.relays.iter().any(|relay| !usable(relay.weight)) {
                faults.push(format!("{place}: a weight is a number from 0"));
            }
            let hosts: BTreeSet<String> = region
                .relays
                .iter()
                .map(|relay| relay.host.to_string())
                .collect();
            if hosts.len() < region.relays.len() {
                faults.push(format!("{place}: a relay is named twice"));
            }
        }
        faults
    }
}

impl Router for WeightedSplit {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        let in_region = |region: &&Region| {
            region.domains.is_empty()
                || region
                    .domains
                    .iter()
                    .any(|pattern| pattern.matches(&request.domain))
        };
        let Some(region) = config.region.iter().find(in_region) else {
            return Ok(Vec::new());
        };
        let key = key(config.sticky, &request);
        let names: Vec<String> = region
            .relays
            .iter()
            .map(|relay| relay.host.to_string())
            .collect();
        let weighted: Vec<(&str, f64)> = names
            .iter()
            .zip(&region.relays)
            .map(|(name, relay)| (name.as_str(), relay.weight))
            .collect();
        let order = sticky_order(&key, &weighted);
        let hops = order.iter().zip(0u16..).filter_map(|(&index, priority)| {
            Some(region.relays.get(index)?.host.hop().priority(priority))
        });
        let first = order.first().and_then(|&index| names.get(index));
        let note = format!(
            "{}: {key:?} -> {}",
            region.name,
            first.map_or("", String::as_str)
        );
        Ok(vec![Verdict::all(Decision::hops(hops)).note(note)])
    }
}

waypost_sdk::export!(WeightedSplit: Router);

/// What sticks; where a message has none of it, its own identity.
fn key(sticky: Sticky, request: &Request) -> String {
    let sender = request.sender.as_ref();
    let key = match sticky {
        Sticky::SenderDomain => sender.map(|sender| sender.domain.to_lowercase()),
        Sticky::Sender => sender.map(|sender| sender.key()),
        Sticky::RecipientDomain => Some(request.domain.clone()),
        Sticky::User => request.user.clone(),
        Sticky::Message => None,
    };
    key.unwrap_or_else(|| request.message_id.clone())
}
