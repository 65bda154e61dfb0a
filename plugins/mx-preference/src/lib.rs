//! A sample of a plugin that augments: the MX hosts stay what DNS says, but this
//! decides which of them are tried, and in which order.
//!
//! ```toml
//! [plugin.config]
//! prefer = ["*.eu.example.net"]      # try these first
//! demote = ["backup.example.net"]    # and these last
//! drop = ["*.broken.example"]        # never these
//! keep = ["*.example.net"]           # or: only these
//! address_family = 4                 # only IPv4, or 6
//! prefer_secure = true               # DNSSEC-signed hosts before others
//!
//! [plugin.config.domains."example.org"]   # in place of the above, for one domain
//! prefer = ["mx2.example.org"]
//! ```
//!
//! Standing edits are enough for patterns: the relay applies them again whenever
//! it resolves the domain anew. `prefer_secure` needs to look at the candidates,
//! so there the answer is a selection.

mod rules;

use std::collections::BTreeMap;

use rules::Rules;
use waypost_sdk::{
    Candidate, Decision, DnsFailure, HookError, HopChoice, Plugin, Request, Router, Verdict,
    destination, quote_key, read_config,
};

struct MxPreference;

impl Plugin for MxPreference {
    fn check_config() -> Vec<String> {
        let mut whole: serde_json::Value = match read_config("") {
            Ok(whole) => whole,
            Err(error) => return vec![error.to_string()],
        };
        let mut faults = Vec::new();
        if let Some(domains) = whole
            .as_object_mut()
            .and_then(|root| root.remove("domains"))
        {
            match serde_json::from_value::<BTreeMap<String, serde_json::Value>>(domains) {
                Ok(domains) => {
                    for (domain, rules) in domains {
                        Rules::check(rules, &format!("domains.{domain:?}: "), &mut faults);
                    }
                }
                Err(error) => faults.push(format!("domains: {error}")),
            }
        }
        Rules::check(whole, "", &mut faults);
        faults
    }
}

impl Router for MxPreference {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let (rules, of) = rules_for(&request.domain)?;
        if rules.prefer_secure {
            return by_security(&rules, of);
        }
        let edits = rules.edits();
        if edits.is_empty() {
            return Ok(Vec::new());
        }
        let note = format!("{of}: {}", rules.describe());
        Ok(vec![Verdict::all(Decision::Edit(edits)).note(note)])
    }
}

waypost_sdk::export!(MxPreference: Router);

/// The domain's own rules, or the common ones, and what to call them.
fn rules_for(domain: &str) -> Result<(Rules, &'static str), HookError> {
    let path = format!("domains.{}", quote_key(domain));
    let broken = |error: serde_json::Error| HookError::Broken(error.to_string());
    match read_config::<Option<Rules>>(&path).map_err(broken)? {
        Some(rules) => Ok((rules, "rules of the domain")),
        None => Ok((read_config("").map_err(broken)?, "common rules")),
    }
}

/// Chooses among the candidates: first those that DNSSEC vouches for.
fn by_security(rules: &Rules, of: &str) -> Result<Vec<Verdict>, HookError> {
    let candidates = match destination::candidates() {
        Ok(candidates) => candidates,
        // The relay knows what to do when DNS has no answer; we need not.
        Err(failure) => return no_candidates(failure),
    };
    let mut order: Vec<(usize, &Candidate)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| rules.allows(&candidate.host))
        .collect();
    if order.is_empty() {
        let reason = format!("none of {} MX hosts is allowed", candidates.len());
        return Ok(vec![Verdict::all(Decision::defer(reason))]);
    }
    // The sort is stable: within a rank the order of the relay stays.
    order.sort_by_key(|(_, candidate)| (rules.rank(&candidate.host), !candidate.secure));
    let secure_count = order
        .iter()
        .filter(|(_, candidate)| candidate.secure)
        .count();
    let note = format!("{of}: {secure_count} of {} hosts are secure", order.len());
    let choices = order
        .iter()
        .map(|(index, _)| HopChoice::Candidate(*index as u32));
    Ok(vec![
        Verdict::all(Decision::Select(choices.collect())).note(note),
    ])
}

fn no_candidates(failure: DnsFailure) -> Result<Vec<Verdict>, HookError> {
    match failure {
        DnsFailure::Denied => Err(HookError::Broken("the candidates were denied".into())),
        DnsFailure::Temporary
        | DnsFailure::NoSuchDomain
        | DnsFailure::NoData
        | DnsFailure::NullMx => Ok(Vec::new()),
    }
}
