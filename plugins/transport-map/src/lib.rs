//! A Postfix `transport_maps` file, read as it is.
//!
//! ```toml
//! [[table]]
//! name = "transport"
//! path = "/etc/postfix/transport"
//! format = "map"
//!
//! [[plugin]]
//! grants = { tables = ["transport"], route_hosts = ["*"] }
//!
//! [plugin.config]
//! table = "transport"
//! relayhost = "[smtp.provider.example]:587"      # optional: where `:` and no entry send mail
//!
//! [plugin.config.transports]                     # optional: names from your master.cf
//! slow = { traffic_class = "slow" }
//! submission = { port = 587, tls = "verify", auth = "provider" }
//! ```
//!
//! Looked up in Postfix's order (transport(5)): the address, the domain, `.parent` for each parent
//! domain, `*`. Each recipient is looked up for itself.

mod destination;
mod lookup;

use std::collections::BTreeMap;

use destination::{Outcome, Transport};
use serde::Deserialize;
use waypost_sdk::{
    Decision, HookError, Plugin, Request, Router, Verdict, config_fault, first_in_table,
    read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of the relay's table.
    table: String,
    /// Where mail goes that the table says nothing of; none: where it would have gone.
    relayhost: Option<String>,
    /// What begins the extension of a local part, as in Postfix's `recipient_delimiter`.
    #[serde(default)]
    recipient_delimiter: String,
    /// Whether LMTP is passed on; a relay that does not speak it would refuse it.
    #[serde(default)]
    lmtp: bool,
    #[serde(default)]
    transports: BTreeMap<String, Transport>,
}

struct TransportMap;

impl Plugin for TransportMap {
    fn check_config() -> Vec<String> {
        let faults = config_fault::<Config>("");
        let Ok(config) = read_config::<Config>("") else {
            return faults;
        };
        let mut faults = Vec::new();
        if let Some(relayhost) = &config.relayhost
            && let Err(fault) = destination::hops(relayhost, &Transport::default())
        {
            faults.push(format!("relayhost: {fault}"));
        }
        for (name, transport) in &config.transports {
            if let Err(fault) = transport.check() {
                faults.push(format!("transports.{name}: {fault}"));
            }
        }
        faults
    }
}

impl Router for TransportMap {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        // Recipients that share a destination share a verdict; a list of them is small.
        let mut verdicts: Vec<Verdict> = Vec::new();
        for (position, recipient) in request.recipients.iter().enumerate() {
            let keys = lookup::keys(&recipient.mailbox, &config.recipient_delimiter);
            let found = first_in_table(&config.table, keys)?;
            let Some(verdict) = verdict(&config, &request.domain, found)? else {
                continue;
            };
            let same = verdicts.iter_mut().find(|other| {
                (&other.decision, &other.settings, &other.note)
                    == (&verdict.decision, &verdict.settings, &verdict.note)
            });
            match same {
                Some(other) => other.recipients.push(position as u32),
                None => verdicts.push(Verdict {
                    recipients: vec![position as u32],
                    ..verdict
                }),
            }
        }
        Ok(verdicts)
    }
}

waypost_sdk::export!(TransportMap: Router);

/// What an entry, or the lack of one, means for a recipient. None: no opinion.
fn verdict(
    config: &Config,
    domain: &str,
    found: Option<(String, String)>,
) -> Result<Option<Verdict>, HookError> {
    let (key, entry) = match found {
        Some((key, entry)) => (key, entry),
        None => return relayhost(config, "no entry"),
    };
    let note = format!("{key} -> {entry}");
    let verdict = match destination::read(&entry, domain, config.lmtp, &config.transports) {
        Ok(Outcome::Default) => return relayhost(config, &note),
        Ok(Outcome::Hops(hops, settings)) => Verdict {
            settings,
            ..Verdict::all(Decision::hops(hops))
        },
        Ok(Outcome::Usual(settings)) => Verdict {
            settings,
            ..Verdict::all(Decision::Proceed)
        },
        Ok(Outcome::Decision(decision)) => Verdict::all(decision),
        // The file is the administrator's: mail waits until the entry is mended, and the reason
        // stands in the queue. Nothing is guessed, and nothing bounces.
        Err(fault) => Verdict::all(Decision::defer(format!("{note}: {fault}"))),
    };
    Ok(Some(verdict.note(note)))
}

fn relayhost(config: &Config, why: &str) -> Result<Option<Verdict>, HookError> {
    let Some(relayhost) = &config.relayhost else {
        return Ok(None);
    };
    let hops = destination::hops(relayhost, &Transport::default()).map_err(HookError::Broken)?;
    let note = format!("{why}: relayhost {relayhost}");
    Ok(Some(Verdict::all(Decision::hops(hops)).note(note)))
}
