//! The addresses of one candidate, chosen when its turn comes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::candidate::{AddressFamily, Candidate};
use crate::chance::Chance;

/// What this relay may connect to.
#[derive(Clone, Debug)]
pub struct AddressRules {
    /// Addresses that this relay listens on. A candidate that the world named
    /// and that has one of these addresses, with the same port, is ourselves. An
    /// unspecified address stands for loopback only: for the others give the
    /// addresses of the interfaces.
    pub own_addresses: Vec<SocketAddr>,
    /// Let MX records point to loopback: for tests and closed networks.
    pub allow_loopback_mx: bool,
    /// Use only this family; none: both.
    pub only: Option<AddressFamily>,
    /// Which family goes first; they alternate from there (RFC 8305 section 4).
    pub first: AddressFamily,
}

impl Default for AddressRules {
    fn default() -> Self {
        Self {
            own_addresses: Vec::new(),
            allow_loopback_mx: false,
            only: None,
            first: AddressFamily::V6,
        }
    }
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum AddressRefusal {
    /// 127.0.0.0/8, ::1.
    #[error("loopback address")]
    Loopback,
    /// 0.0.0.0/8, ::.
    #[error("unspecified address")]
    Unspecified,
    /// One address for many hosts.
    #[error("multicast or broadcast address")]
    Multicast,
    /// 169.254.0.0/16, fe80::/10: means another host on every link, among them
    /// the metadata services of clouds.
    #[error("link-local address")]
    LinkLocal,
    /// We listen there: mail would come back.
    #[error("this relay's own address")]
    Own,
    /// Left out by a wish for the other family.
    #[error("not of the wanted address family")]
    Family,
}

/// An address that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedAddress {
    /// As it was found.
    pub address: IpAddr,
    /// Why.
    pub reason: AddressRefusal,
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.address, self.reason)
    }
}

/// Where to connect for one candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialAddresses {
    /// In the order in which they are to be tried; may be empty.
    pub targets: Vec<SocketAddr>,
    /// What was left out.
    pub refused: Vec<RefusedAddress>,
    /// The candidate is this relay. No target is given; of the plan nothing may
    /// be tried that is not more preferred
    /// ([`crate::DeliveryPlan::cut_at_ourselves`]).
    pub is_ourselves: bool,
}

/// Chooses among the addresses of a candidate: those it may use, both families
/// in turn, each family in an order by chance (RFC 5321 section 5.1 lets a
/// multihomed host's addresses be tried in any). For an endpoint that is an
/// address give that one.
///
/// Loopback, own and other addresses that no mail host can have are refused
/// only where the world named the candidate
/// ([`crate::CandidateOrigin::is_foreign`]).
#[must_use]
pub fn dial_addresses(
    candidate: &Candidate,
    addresses: &[IpAddr],
    rules: &AddressRules,
    seed: u64,
) -> DialAddresses {
    let mut dial = DialAddresses::default();
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for &given in addresses {
        let address = given.to_canonical();
        match refusal(candidate, address, rules) {
            Some(reason) => {
                dial.is_ourselves |= reason == AddressRefusal::Own;
                dial.refused.push(RefusedAddress {
                    address: given,
                    reason,
                });
            }
            None => {
                let family = if address.is_ipv4() { &mut v4 } else { &mut v6 };
                let target = SocketAddr::new(address, candidate.port);
                if !family.contains(&target) {
                    family.push(target);
                }
            }
        }
    }
    if dial.is_ourselves {
        return dial;
    }
    let mut chance = Chance::new(seed);
    chance.shuffle(&mut v4);
    chance.shuffle(&mut v6);
    let (first, second) = match rules.first {
        AddressFamily::V4 => (v4, v6),
        AddressFamily::V6 => (v6, v4),
    };
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return dial;
        }
        dial.targets.extend(pair.into_iter().flatten());
    }
}

fn refusal(candidate: &Candidate, address: IpAddr, rules: &AddressRules) -> Option<AddressRefusal> {
    if candidate.origin.is_foreign() {
        let own = |own: &SocketAddr| {
            let ip = own.ip().to_canonical();
            own.port() == candidate.port
                && (ip == address || (ip.is_unspecified() && address.is_loopback()))
        };
        if rules.own_addresses.iter().any(own) {
            return Some(AddressRefusal::Own);
        }
        if let Some(reason) = never_a_mail_host(address)
            && !(reason == AddressRefusal::Loopback && rules.allow_loopback_mx)
        {
            return Some(reason);
        }
    }
    let family = AddressFamily::of(address);
    let unwanted = |only: Option<AddressFamily>| only.is_some_and(|only| only != family);
    (unwanted(rules.only) || unwanted(candidate.family)).then_some(AddressRefusal::Family)
}

fn never_a_mail_host(address: IpAddr) -> Option<AddressRefusal> {
    match address {
        _ if address.is_loopback() => Some(AddressRefusal::Loopback),
        _ if address.is_multicast() => Some(AddressRefusal::Multicast),
        // Linux takes the whole of 0.0.0.0/8 for "this host" (RFC 1122 3.2.1.3).
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(AddressRefusal::Unspecified),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(AddressRefusal::Multicast),
        IpAddr::V4(v4) if v4.is_link_local() => Some(AddressRefusal::LinkLocal),
        IpAddr::V6(v6) if v6.is_unspecified() => Some(AddressRefusal::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(AddressRefusal::LinkLocal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{CandidateOrigin, Endpoint};

    fn candidate(origin: CandidateOrigin) -> Candidate {
        Candidate::new(Endpoint::Host("mx.example".parse().unwrap()), 25, origin)
    }

    fn dial(origin: CandidateOrigin, addresses: &[&str], rules: &AddressRules) -> DialAddresses {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        dial_addresses(&candidate(origin), &addresses, rules, 1)
    }

    #[test]
    fn families_alternate_and_duplicates_go() {
        let rules = AddressRules::default();
        let found = dial(
            CandidateOrigin::Mx,
            &[
                "192.0.2.1",
                "192.0.2.1",
                "2001:db8::1",
                "::ffff:192.0.2.1",
                "2001:db8::2",
            ],
            &rules,
        );
        let families: Vec<bool> = found.targets.iter().map(SocketAddr::is_ipv6).collect();
        assert_eq!(families, [true, false, true]);
        let v4_first = AddressRules {
            first: AddressFamily::V4,
            ..rules.clone()
        };
        let found = dial(
            CandidateOrigin::Mx,
            &["2001:db8::1", "192.0.2.1"],
            &v4_first,
        );
        assert!(found.targets[0].is_ipv4());
        let v4_only = AddressRules {
            only: Some(AddressFamily::V4),
            ..rules
        };
        let found = dial(
            CandidateOrigin::Plugin,
            &["2001:db8::1", "192.0.2.1"],
            &v4_only,
        );
        assert_eq!(found.targets, ["192.0.2.1:25".parse().unwrap()]);
        assert_eq!(found.refused[0].reason, AddressRefusal::Family);
    }

    #[test]
    fn addresses_of_one_host_share_the_first_place() {
        let addresses: Vec<IpAddr> = (1..=4)
            .map(|host| IpAddr::from([192, 0, 2, host]))
            .collect();
        let mut first = std::collections::HashMap::new();
        for seed in 0..4000 {
            let candidate = candidate(CandidateOrigin::Mx);
            let found = dial_addresses(&candidate, &addresses, &AddressRules::default(), seed);
            assert_eq!(found.targets.len(), 4);
            *first.entry(found.targets[0]).or_insert(0_u32) += 1;
        }
        assert!(
            first.values().all(|count| (850..1150).contains(count)),
            "{first:?}"
        );
        assert_eq!(first.len(), 4);
    }

    #[test]
    fn what_no_mail_host_has_is_refused_to_the_world_only() {
        use AddressRefusal::{LinkLocal, Loopback, Multicast, Unspecified};
        for (address, reason) in [
            ("127.0.0.1", Loopback),
            ("127.255.0.9", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("224.0.0.1", Multicast),
            ("255.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("169.254.169.254", LinkLocal),
            ("fe80::1", LinkLocal),
        ] {
            let rules = AddressRules::default();
            let loose = AddressRules {
                allow_loopback_mx: true,
                ..rules.clone()
            };
            for origin in [
                CandidateOrigin::Mx,
                CandidateOrigin::ImplicitAddress,
                CandidateOrigin::Literal,
            ] {
                let found = dial(origin, &[address, "192.0.2.1"], &rules);
                assert_eq!(found.targets.len(), 1, "{address}");
                assert_eq!(found.refused[0].reason, reason, "{address}");
                assert!(!found.is_ourselves);
                let found = dial(origin, &[address], &loose);
                assert_eq!(
                    found.targets.len(),
                    usize::from(reason == Loopback),
                    "{address}"
                );
            }
            for origin in [CandidateOrigin::Configured, CandidateOrigin::Plugin] {
                assert_eq!(dial(origin, &[address], &rules).refused, []);
            }
        }
    }

    #[test]
    fn our_own_address_is_ourselves_whatever_else_the_host_has() {
        let rules = AddressRules {
            own_addresses: vec![
                "192.0.2.1:25".parse().unwrap(),
                "0.0.0.0:25".parse().unwrap(),
            ],
            allow_loopback_mx: true,
            ..AddressRules::default()
        };
        for own in ["192.0.2.1", "127.0.0.5"] {
            let found = dial(CandidateOrigin::Mx, &["192.0.2.9", own], &rules);
            assert!(found.is_ourselves && found.targets.is_empty(), "{own}");
            assert_eq!(
                dial(CandidateOrigin::Configured, &[own], &rules)
                    .targets
                    .len(),
                1
            );
        }
        let mut elsewhere = candidate(CandidateOrigin::Mx);
        elsewhere.port = 2525;
        let found = dial_addresses(&elsewhere, &["192.0.2.1".parse().unwrap()], &rules, 0);
        assert_eq!(found.targets.len(), 1, "another port is another server");
    }
}
