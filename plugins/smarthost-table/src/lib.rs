//! A sample of a plugin that overrides: a table of recipient domains, each with
//! the host that takes its mail instead of what DNS says.
//!
//! ```toml
//! [plugin.config.routes]
//! "example.com" = "relay.example.net:2525"
//! "*.example.org" = { host = "10.0.0.25", tls = "encrypt", auth = "partner" }
//! "*" = "smarthost.example.net"
//! ```
//!
//! An exact entry wins over a suffix, a longer suffix over a shorter one, and any
//! of them over `*`. A domain that no entry matches goes where it would have gone.

use std::collections::BTreeMap;

use waypost_sdk::{
    Decision, DomainPattern, HookError, Place, Plugin, Request, Router, Verdict, keys_for_domain,
    quote_key, read_config,
};

struct SmarthostTable;

impl Plugin for SmarthostTable {
    fn check_config() -> Vec<String> {
        // Values rather than entries, so that each bad one gets its own line.
        let routes = match read_config::<Option<BTreeMap<String, serde_json::Value>>>("routes") {
            Ok(Some(routes)) if !routes.is_empty() => routes,
            Ok(_) => return vec!["routes: no entry; a table of domains is wanted".into()],
            Err(error) => return vec![format!("routes: {error}")],
        };
        let mut faults = Vec::new();
        for (key, value) in routes {
            if !is_key(&key) {
                faults.push(format!(
                    "routes.{key:?}: a domain in lower case, `*.domain` or `*` is wanted"
                ));
            }
            if let Err(fault) = Place::from_value(value) {
                faults.push(format!("routes.{key:?}: {fault}"));
            }
        }
        faults
    }
}

impl Router for SmarthostTable {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        for key in keys_for_domain(&request.domain) {
            // Only the entry that matters is read: a call costs the same with a
            // table of ten thousand domains.
            let path = format!("routes.{}", quote_key(&key));
            let Some(place) = read_config::<Option<Place>>(&path)? else {
                continue;
            };
            let verdict = Verdict::all(Decision::hops([place.hop()]));
            return Ok(vec![verdict.note(format!("{key} -> {place}"))]);
        }
        Ok(Vec::new())
    }
}

waypost_sdk::export!(SmarthostTable: Router);

/// Domains are told in lower case, so an entry that is not would never be found.
fn is_key(key: &str) -> bool {
    key.parse::<DomainPattern>().is_ok() && key.to_lowercase() == key
}
