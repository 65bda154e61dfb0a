//! Throttles by provider: domains are many, providers are few, and their limits are per provider.
//! Who hosts a domain is seen by its MX hosts.
//!
//! ```toml
//! [[plugin]]
//! grants = { state = "1MiB", traffic_classes = ["webmail"] }
//!
//! [[plugin.config.provider]]
//! name = "bigmail"
//! mx = ["*.bigmail.example", "*.bigmail-inbound.example"]
//! rate = "600/1m"              # recipients, over all of its domains; kept in the state
//!
//! [[plugin.config.provider]]
//! name = "webmail"
//! mx = ["mx.webmail.example"]
//! traffic_class = "webmail"    # a class of the relay's configuration
//! ```
//!
//! `rate` needs nothing but the grant `state`: over it mail is deferred until its turn is likely.
//! `traffic_class` leaves limits, concurrency and schedule to a class of the relay. A domain of no
//! provider goes as it would have gone.

use std::time::Duration;

use serde::Deserialize;
use waypost_sdk::{
    Decision, DomainPattern, HookError, Plugin, Rate, Request, Router, Settings, Verdict, ambient,
    config_fault, destination, metrics, read_config, types::Attribute,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    provider: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    name: String,
    mx: Vec<DomainPattern>,
    rate: Option<Rate>,
    traffic_class: Option<String>,
}

struct ProviderThrottle;

impl Plugin for ProviderThrottle {
    fn check_config() -> Vec<String> {
        let mut faults = config_fault::<Config>("");
        if let Ok(config) = read_config::<Config>("") {
            for provider in &config.provider {
                if provider.mx.is_empty() {
                    faults.push(format!("provider {:?}: mx names no host", provider.name));
                }
                if provider.rate.is_none() && provider.traffic_class.is_none() {
                    faults.push(format!(
                        "provider {:?}: rate or traffic_class is wanted",
                        provider.name
                    ));
                }
            }
        }
        faults
    }
}

impl Router for ProviderThrottle {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        // Where there are no candidates the relay knows what to do; a limit is no question then.
        let Ok(candidates) = destination::candidates() else {
            return Ok(Vec::new());
        };
        let hosted_by = |provider: &&Provider| {
            candidates
                .iter()
                .any(|candidate| provider.mx.iter().any(|mx| mx.matches(&candidate.host)))
        };
        let Some(provider) = config.provider.iter().find(hosted_by) else {
            return Ok(Vec::new());
        };
        let count = u32::try_from(request.recipients.len()).unwrap_or(u32::MAX);
        if let Some(rate) = &provider.rate
            && !rate.take(&format!("rate:{}", provider.name), count)?
        {
            let label = Attribute {
                name: "provider".into(),
                value: provider.name.clone(),
            };
            metrics::count("deferred", 1, &[label]);
            return Ok(vec![over_rate(provider, rate, count)]);
        }
        let note = format!("hosted by {}", provider.name);
        let mut verdict = Verdict::all(Decision::Proceed).note(note);
        verdict.settings = provider
            .traffic_class
            .as_ref()
            .map(|class| Settings::new().traffic_class(class));
        Ok(vec![verdict])
    }
}

waypost_sdk::export!(ProviderThrottle: Router);

/// Put off until about its turn: the time that its recipients take at this rate, and up to as much
/// again, so that what was put off together does not come back together.
fn over_rate(provider: &Provider, rate: &Rate, count: u32) -> Verdict {
    let turn = rate
        .interval()
        .saturating_mul(count)
        .max(Duration::from_secs(1));
    let spread = turn.mul_f64(ambient::random() as f64 / u64::MAX as f64);
    let reason = format!("over the rate of {}", provider.name);
    Verdict::all(Decision::defer_for(reason, turn + spread))
}
