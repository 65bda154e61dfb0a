//! The one door by which plans leave routing: nothing goes to a place that neither the
//! configuration, nor the DNS for the recipient's own domain, nor a granted wish of a plugin
//! names.
//!
//! Plans are made elsewhere ([`mx`], `decision.rs`, `draft.rs`), and the answers of plugins are
//! checked when they are given (crate `plugin`). This check trusts neither: it compares the
//! candidates of a finished plan with what may be tried, worked out anew from the configuration,
//! the base plan, and the verdicts with the grants of whoever gave them. A plan that does not pass
//! is not mended; the mail waits, loudly, since the fault is the relay's.
//!
//! | origin of a candidate | it has to be |
//! |---|---|
//! | `configured` | a smarthost of the configuration, with the TLS promised there |
//! | `mx`, `implicit address`, `literal` | in the plan that the recipient's domain has without plugins, or found by the look-up "MX of" a domain that a plugin named within its grants |
//! | `plugin` | a hop that a plugin named within its grants |
//!
//! The port is that of the place named, or one that a plugin set by changing a candidate. A
//! credential is one that a plugin named, within its grants, for that very place.

use mx::{Candidate, CandidateOrigin, DeliveryPlan, Endpoint, Step};
use plugin::{Decision, Grants, HopChoice, HopPattern, MxEdit, NextHop, Verdict};
use smtp::Domain;

use super::base::Base;
use super::protection;
use crate::config::{Config, SmarthostHost};

/// What plugins have named for some recipients, each within the grants of whoever named it.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    hops: Vec<NextHop>,
    ports: Vec<u16>,
    /// Credentials for candidates that these patterns cover.
    credentials: Vec<(String, Vec<HopPattern>)>,
    pools: Vec<String>,
}

/// A plan that must not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{candidate}: {fault}")]
pub(super) struct Violation {
    /// The candidate, as it would be tried.
    candidate: String,
    fault: String,
}

impl Claims {
    /// Adds what a verdict names and the plugin's grants allow. The rest is left out: a plan
    /// made of it does not pass.
    pub(super) fn add(&mut self, verdict: &Verdict, grants: &Grants) {
        match &verdict.decision {
            Decision::UseHops { hops, .. } => {
                hops.iter().for_each(|hop| self.add_hop(hop, grants));
            }
            Decision::Select { choices } => {
                for choice in choices {
                    match choice {
                        HopChoice::Candidate(_) => {}
                        HopChoice::Changed(change) => {
                            self.ports.extend(change.port);
                            if let Some(name) = granted(change.auth.as_ref(), &grants.credentials) {
                                let patterns = grants.route_hosts.clone();
                                self.credentials.push((name, patterns));
                            }
                            self.add_pool(change.source_pool.as_ref(), grants);
                        }
                        HopChoice::Hop(hop) => self.add_hop(hop, grants),
                    }
                }
            }
            Decision::Edit { edits } => {
                for edit in edits {
                    if let MxEdit::InsertFirst(hop) | MxEdit::Append(hop) = edit {
                        self.add_hop(hop, grants);
                    }
                }
            }
            _ => {}
        }
        let pool = verdict
            .settings
            .as_ref()
            .map(|all| all.source_pool.as_ref());
        self.add_pool(pool.flatten(), grants);
    }

    fn add_hop(&mut self, hop: &NextHop, grants: &Grants) {
        let port = hop.tcp_port();
        let mut patterns = grants.route_hosts.iter();
        let is_granted = match &hop.endpoint {
            plugin::Endpoint::Host(name) | plugin::Endpoint::MxOf(name) => {
                patterns.any(|one| one.covers_host(name, port))
            }
            plugin::Endpoint::Address(ip) => patterns.any(|one| one.covers_address(*ip, port)),
            plugin::Endpoint::UnixSocket(path) => grants.route_unix.contains(path),
        };
        let has_credential = match &hop.auth {
            Some(name) => grants.credentials.contains(name),
            None => true,
        };
        if is_granted && has_credential {
            self.add_pool(hop.source_pool.as_ref(), grants);
            self.hops.push(hop.clone());
        }
    }

    fn add_pool(&mut self, pool: Option<&String>, grants: &Grants) {
        self.pools.extend(granted(pool, &grants.source_pools));
    }
}

fn granted(name: Option<&String>, grants: &[String]) -> Option<String> {
    name.filter(|name| grants.contains(name)).cloned()
}

/// Lets a plan out, or says why not.
pub(super) async fn check(
    base: &Base,
    claims: &Claims,
    plan: &DeliveryPlan,
) -> Result<(), Violation> {
    if plan.candidates.is_empty() {
        return Err(Violation {
            candidate: "the plan".to_owned(),
            fault: "it has no candidate".to_owned(),
        });
    }
    let config = &base.settings.config;
    for candidate in &plan.candidates {
        let fault = |fault: String| Violation {
            candidate: candidate.to_string(),
            fault,
        };
        let within = Within {
            candidate,
            claims,
            plan,
        };
        let is_known = match candidate.origin {
            CandidateOrigin::Configured => within.is_configured(config),
            CandidateOrigin::Mx | CandidateOrigin::ImplicitAddress | CandidateOrigin::Literal => {
                // The recipient's domain is looked up only where its hosts are in the plan.
                within.is_mx_of_a_named_domain(config)
                    || base
                        .plan()
                        .await
                        .is_ok_and(|known| within.is_of(&known.candidates))
            }
            CandidateOrigin::Plugin => within.is_named(config),
        };
        if !is_known {
            let origin = candidate.origin;
            return Err(fault(format!(
                "nobody may send mail there (origin: {origin})"
            )));
        }
        within.check_credential(config).map_err(fault)?;
    }
    let violation = |fault: String| Violation {
        candidate: "the plan".to_owned(),
        fault,
    };
    protection::check(base, plan).await.map_err(violation)
}

/// One candidate beside what may be tried.
struct Within<'a> {
    candidate: &'a Candidate,
    claims: &'a Claims,
    plan: &'a DeliveryPlan,
}

impl Within<'_> {
    fn is_configured(&self, config: &Config) -> bool {
        config.smarthosts.iter().any(|smarthost| {
            let endpoint = match &smarthost.host {
                SmarthostHost::Name(name) => Endpoint::Host(name.clone()),
                SmarthostHost::Address(address) => Endpoint::Address(*address),
            };
            endpoint == self.candidate.endpoint && self.has_port(&[smarthost.port])
        })
    }

    fn is_of(&self, known: &[Candidate]) -> bool {
        known.iter().any(|one| {
            one.origin == self.candidate.origin
                && one.endpoint == self.candidate.endpoint
                && one.protocol == self.candidate.protocol
                && self.has_port(&[one.port])
        })
    }

    fn is_named(&self, config: &Config) -> bool {
        let mut hops = self.claims.hops.iter();
        hops.any(|hop| self.is_at(hop) && self.has_port_of(hop, config))
    }

    /// The plan's own record of the look-ups is the witness: asked again, the DNS might have
    /// changed its mind.
    fn is_mx_of_a_named_domain(&self, config: &Config) -> bool {
        let Endpoint::Host(host) = &self.candidate.endpoint else {
            return false;
        };
        let mut hops = self.claims.hops.iter();
        hops.any(|hop| match &hop.endpoint {
            plugin::Endpoint::MxOf(domain) => {
                self.has_port_of(hop, config)
                    && self.plan.why.iter().any(|step| gave(step, domain, host))
            }
            _ => false,
        })
    }

    fn is_at(&self, hop: &NextHop) -> bool {
        match (&hop.endpoint, &self.candidate.endpoint) {
            (plugin::Endpoint::Host(named), Endpoint::Host(name)) => named == name,
            (plugin::Endpoint::Address(named), Endpoint::Address(ip)) => named == ip,
            (plugin::Endpoint::UnixSocket(named), Endpoint::UnixSocket(path)) => named == path,
            _ => false,
        }
    }

    fn has_port_of(&self, hop: &NextHop, config: &Config) -> bool {
        if matches!(hop.endpoint, plugin::Endpoint::UnixSocket(_)) {
            return self.candidate.port == 0;
        }
        // "MX of" without a port is what the configuration says of MX hosts.
        let of_mx = matches!(hop.endpoint, plugin::Endpoint::MxOf(_)) && hop.port.is_none();
        let named = hop.tcp_port().into_iter();
        let named: Vec<u16> = named.chain(of_mx.then_some(config.delivery.port)).collect();
        self.has_port(&named)
    }

    fn has_port(&self, named: &[u16]) -> bool {
        let port = self.candidate.port;
        named.contains(&port) || self.claims.ports.contains(&port)
    }

    /// A secret goes only where somebody who may has said so, and so does a source.
    fn check_credential(&self, config: &Config) -> Result<(), String> {
        let candidate = self.candidate;
        if let Some(name) = &candidate.auth {
            let mut hops = self.claims.hops.iter();
            let by_hop = hops.any(|hop| {
                let is_mx_of = matches!(hop.endpoint, plugin::Endpoint::MxOf(_));
                let is_here = self.is_at(hop) || (is_mx_of && candidate.origin.is_foreign());
                hop.auth.as_ref() == Some(name) && is_here && self.has_port_of(hop, config)
            });
            let mut changes = self.claims.credentials.iter();
            let by_change = changes.any(|(granted, patterns)| {
                granted == name && patterns.iter().any(|pattern| self.is_covered(pattern))
            });
            if !by_hop && !by_change {
                return Err(format!("nobody may use the credential {name:?} there"));
            }
        }
        match &candidate.source_pool {
            Some(pool) if !self.claims.pools.contains(pool) => {
                Err(format!("nobody may send from the pool {pool:?}"))
            }
            _ => Ok(()),
        }
    }

    fn is_covered(&self, pattern: &HopPattern) -> bool {
        match &self.candidate.endpoint {
            Endpoint::Host(name) => pattern.covers_host(name, Some(self.candidate.port)),
            Endpoint::Address(ip) => pattern.covers_address(*ip, Some(self.candidate.port)),
            Endpoint::UnixSocket(_) => false,
        }
    }
}

/// Whether this look-up for `domain` gave `host`.
fn gave(step: &Step, domain: &Domain, host: &Domain) -> bool {
    match step {
        Step::MxFound {
            domain: of,
            records,
            ..
        } => {
            let is_host = |exchange: &str| exchange.parse().is_ok_and(|name: Domain| name == *host);
            of == domain && records.iter().any(|record| is_host(&record.exchange))
        }
        Step::ImplicitMx { domain: of } => of == domain && of == host,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
