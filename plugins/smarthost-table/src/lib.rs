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

mod entry;

use std::collections::BTreeMap;

use entry::Entry;
use waypost_sdk::{
    Decision, HookError, Request, Router, Verdict, export_router, quote_key, read_config,
};

struct SmarthostTable;

impl Router for SmarthostTable {
    const NAME: &'static str = "smarthost-table";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

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
            if let Err(fault) = Entry::parse(value).and_then(|entry| entry.hop()) {
                faults.push(format!("routes.{key:?}: {fault}"));
            }
        }
        faults
    }

    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        for key in keys_for(&request.domain) {
            // Only the entry that matters is read: a call costs the same with a
            // table of ten thousand domains.
            let path = format!("routes.{}", quote_key(&key));
            let value: serde_json::Value = read_config(&path).map_err(broken)?;
            if value.is_null() {
                continue;
            }
            let entry = Entry::parse(value).map_err(broken)?;
            let hop = entry.hop().map_err(broken)?;
            let verdict = Verdict::all(Decision::hops(vec![hop]));
            return Ok(vec![verdict.note(format!("{key} -> {entry}"))]);
        }
        Ok(Vec::new())
    }
}

export_router!(SmarthostTable);

/// What has been checked cannot be wrong, unless the check is.
fn broken(fault: impl ToString) -> HookError {
    HookError::Broken(fault.to_string())
}

/// The keys that match a domain, the closest first.
fn keys_for(domain: &str) -> Vec<String> {
    let mut keys = vec![domain.to_owned()];
    let mut rest = domain;
    while let Some((_, parent)) = rest.split_once('.') {
        keys.push(format!("*.{parent}"));
        rest = parent;
    }
    keys.push("*".to_owned());
    keys
}

fn is_key(key: &str) -> bool {
    let name = key.strip_prefix("*.").unwrap_or(key);
    key == "*" || (!name.is_empty() && name.split('.').all(is_label))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}
