//! Mail for the domains of a table goes to the hosts that the table names.

use std::collections::BTreeMap;

use waypost_sdk::{
    Decision, HookError, NextHop, Plugin, Request, Router, Verdict, quote_key, read_config,
};

struct Policy;

impl Plugin for Policy {
    /// Every fault of the configuration; any refuses it.
    fn check_config() -> Vec<String> {
        match read_config::<BTreeMap<String, String>>("routes") {
            Ok(routes) if !routes.is_empty() => Vec::new(),
            _ => vec!["routes: a table of domains is wanted".into()],
        }
    }
}

impl Router for Policy {
    /// No verdict means no opinion: the mail goes where it would have gone.
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let domain = &request.domain;
        let path = format!("routes.{}", quote_key(domain));
        let Some(host) = read_config::<Option<String>>(&path)? else {
            return Ok(Vec::new());
        };
        let note = format!("{domain} -> {host}");
        let decision = Decision::hops([NextHop::host(host)]);
        Ok(vec![Verdict::all(decision).note(note)])
    }
}

waypost_sdk::export!(Policy: Router);
