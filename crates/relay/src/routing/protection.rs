//! What the operator wrote about TLS holds for the places that the operator named: a plugin may
//! ask for more there, never for less.

use mx::{Candidate, CandidateOrigin, DeliveryPlan, Endpoint, TlsPolicy};

use super::base::Base;

/// Refuses a plan in which a place of the configuration is protected less than it says there.
pub(super) async fn check(base: &Base, plan: &DeliveryPlan) -> Result<(), String> {
    if !base.is_configured() {
        return Ok(());
    }
    let Ok(configured) = base.plan().await else {
        // Without a plan of the configuration nothing in this one comes from it.
        return Ok(());
    };
    let ours = |candidate: &&Candidate| candidate.origin == CandidateOrigin::Configured;
    match plan
        .candidates
        .iter()
        .filter(ours)
        .find(|candidate| !keeps_promise(candidate, &configured.candidates))
    {
        None => Ok(()),
        Some(candidate) => Err(format!(
            "weakens the configured TLS policy of {}",
            candidate.endpoint
        )),
    }
}

/// Whether a candidate is protected as one of the configured places is that it may stand for.
/// On a port that the configuration does not name, as all of those of its host.
fn keeps_promise(candidate: &Candidate, configured: &[Candidate]) -> bool {
    let here = |one: &&Candidate| one.endpoint == candidate.endpoint;
    let mut same_port = configured
        .iter()
        .filter(here)
        .filter(|one| one.port == candidate.port)
        .peekable();
    if same_port.peek().is_some() {
        return same_port.any(|one| !weakens(candidate, &one.tls));
    }
    configured
        .iter()
        .filter(here)
        .all(|one| !weakens(candidate, &one.tls))
}

fn weakens(candidate: &Candidate, promised: &TlsPolicy) -> bool {
    let least = level(promised);
    if level(&candidate.tls) < least {
        return true;
    }
    if least < CHECKED {
        return false;
    }
    // Another name in the certificate is another peer.
    let allowed = checked_names(promised, &candidate.endpoint);
    checked_names(&candidate.tls, &candidate.endpoint)
        .iter()
        .any(|name| !allowed.contains(name))
}

/// The certificate is checked.
const CHECKED: u8 = 3;

/// How much a policy insists on by itself: DANE counts for what it does where the destination
/// publishes nothing.
fn level(policy: &TlsPolicy) -> u8 {
    match policy {
        TlsPolicy::Off => 0,
        TlsPolicy::Opportunistic | TlsPolicy::Dane | TlsPolicy::Destination => 1,
        TlsPolicy::Encrypt | TlsPolicy::DaneOnly => 2,
        TlsPolicy::Verify(_) | TlsPolicy::Implicit => CHECKED,
    }
}

fn checked_names(policy: &TlsPolicy, endpoint: &Endpoint) -> Vec<String> {
    match policy {
        TlsPolicy::Verify(names) if !names.is_empty() => {
            names.iter().map(ToString::to_string).collect()
        }
        _ => vec![endpoint.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16, tls: TlsPolicy) -> Candidate {
        let endpoint = Endpoint::Host("smart.example".parse().expect("a domain"));
        let mut candidate = Candidate::new(endpoint, port, CandidateOrigin::Configured);
        candidate.tls = tls;
        candidate
    }

    fn verify(names: &[&str]) -> TlsPolicy {
        let names = names.iter().map(|name| name.parse().expect("a domain"));
        TlsPolicy::Verify(names.collect())
    }

    #[test]
    fn only_more_protection_is_let_through() {
        let own = verify(&[]);
        for (promised, asked, kept) in [
            (TlsPolicy::Off, TlsPolicy::Off, true),
            (TlsPolicy::Opportunistic, TlsPolicy::Off, false),
            (TlsPolicy::Opportunistic, TlsPolicy::Encrypt, true),
            (TlsPolicy::Encrypt, TlsPolicy::Opportunistic, false),
            (TlsPolicy::Encrypt, TlsPolicy::Dane, false),
            (TlsPolicy::Encrypt, verify(&["other.example"]), true),
            (own.clone(), TlsPolicy::Encrypt, false),
            (own.clone(), TlsPolicy::DaneOnly, false),
            (own.clone(), own.clone(), true),
            (own.clone(), TlsPolicy::Implicit, true),
            (own.clone(), verify(&["smart.example"]), true),
            (own, verify(&["smart.example", "other.example"]), false),
            (verify(&["a.example"]), TlsPolicy::Implicit, false),
        ] {
            let configured = [place(587, promised.clone())];
            let candidate = place(587, asked.clone());
            assert_eq!(
                keeps_promise(&candidate, &configured),
                kept,
                "{promised} to {asked}"
            );
        }
    }

    #[test]
    fn another_port_of_a_configured_host_keeps_every_promise() {
        let configured = [place(587, verify(&[])), place(25, TlsPolicy::Off)];
        assert!(keeps_promise(&place(25, TlsPolicy::Off), &configured));
        assert!(!keeps_promise(&place(587, TlsPolicy::Off), &configured));
        assert!(!keeps_promise(&place(2525, TlsPolicy::Off), &configured));
        assert!(keeps_promise(&place(2525, verify(&[])), &configured));
    }
}
