//! Sender-dependent smarthosts: who sends decides which host takes the mail, as with Postfix's
//! `sender_dependent_relayhost_maps`.
//!
//! ```toml
//! [plugin.config.senders]
//! "news@example.com" = "bulk.provider.example:587"
//! "example.com" = { host = "smtp.provider.example", port = 587, tls = "verify" }
//! "*.example.org" = "[192.0.2.25]:587"
//! "<>" = "bounces.provider.example"
//! ```
//!
//! Closest first: the address, its domain, a parent domain (`*.parent`), `*`. The null
//! reverse-path is `<>`. A sender that nothing matches goes where it would have gone.

use std::collections::BTreeMap;

use waypost_sdk::{
    AddressPattern, Decision, HookError, Mailbox, Place, Plugin, Request, Router, Verdict,
    keys_for_domain, quote_key, read_config,
};

struct SenderSmarthost;

impl Plugin for SenderSmarthost {
    fn check_config() -> Vec<String> {
        let senders = match read_config::<Option<BTreeMap<String, serde_json::Value>>>("senders") {
            Ok(Some(senders)) if !senders.is_empty() => senders,
            Ok(_) => return vec!["senders: no entry; a table of senders is wanted".into()],
            Err(error) => return vec![format!("senders: {error}")],
        };
        let mut faults = Vec::new();
        for (key, value) in senders {
            if let Err(fault) = key.parse::<AddressPattern>() {
                faults.push(format!("senders: {fault}"));
            } else if key.to_lowercase() != key {
                faults.push(format!("senders.{key:?}: write it in lower case"));
            }
            if let Err(fault) = Place::from_value(value) {
                faults.push(format!("senders.{key:?}: {fault}"));
            }
        }
        faults
    }
}

impl Router for SenderSmarthost {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        for key in keys_for(request.sender.as_ref()) {
            let path = format!("senders.{}", quote_key(&key));
            if let Some(place) = read_config::<Option<Place>>(&path)? {
                let verdict = Verdict::all(Decision::hops([place.hop()]));
                return Ok(vec![verdict.note(format!("sender {key} -> {place}"))]);
            }
        }
        Ok(Vec::new())
    }
}

waypost_sdk::export!(SenderSmarthost: Router);

/// The keys that match a sender, the closest first.
fn keys_for(sender: Option<&Mailbox>) -> Vec<String> {
    let Some(sender) = sender else {
        return vec!["<>".into()];
    };
    let mut keys = vec![sender.key()];
    keys.extend(keys_for_domain(&sender.domain.to_lowercase()));
    keys
}
