//! What a plan is made of: places to try, and how.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use smtp::Domain;

use crate::step::Step;

/// The language of the next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033.
    Lmtp,
}

impl Protocol {
    /// 25 for SMTP, 24 for LMTP.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Lmtp => 24,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Smtp => "smtp",
            Self::Lmtp => "lmtp",
        })
    }
}

/// How a connection is to be protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsPolicy {
    /// Plaintext, even where STARTTLS is offered.
    Off,
    /// STARTTLS where offered, certificate not checked (RFC 7435).
    #[default]
    Opportunistic,
    /// STARTTLS or fail, certificate not checked.
    Encrypt,
    /// STARTTLS or fail; a valid chain for one of these names, or for the hop's
    /// own name where the list is empty.
    Verify(Vec<Domain>),
    /// DANE (RFC 7672) where there are secure TLSA records, otherwise
    /// opportunistic.
    Dane,
    /// DANE or fail.
    DaneOnly,
    /// What MTA-STS (RFC 8461) and DANE call for at the destination.
    Destination,
    /// TLS from the first octet (port 465 style), certificate checked.
    Implicit,
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Opportunistic => formatter.write_str("opportunistic"),
            Self::Encrypt => formatter.write_str("encrypt"),
            Self::Verify(names) if names.is_empty() => formatter.write_str("verify"),
            Self::Verify(names) => {
                formatter.write_str("verify as ")?;
                for (position, name) in names.iter().enumerate() {
                    let separator = if position == 0 { "" } else { " or " };
                    write!(formatter, "{separator}{}", name.as_str())?;
                }
                Ok(())
            }
            Self::Dane => formatter.write_str("dane"),
            Self::DaneOnly => formatter.write_str("dane-only"),
            Self::Destination => formatter.write_str("destination"),
            Self::Implicit => formatter.write_str("implicit"),
        }
    }
}

/// An address family to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// From the number that people know it by: 4 or 6.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Where a candidate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A host whose addresses are looked up when its turn comes.
    Host(Domain),
    /// An address.
    Address(IpAddr),
    /// The absolute path of a local socket.
    UnixSocket(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(domain) => formatter.write_str(domain.as_str()),
            Self::Address(address) => address.fmt(formatter),
            Self::UnixSocket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Who named a candidate. What the world names (the first three) may not lead
/// to ourselves; what an administrator or a plugin names may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateOrigin {
    /// An MX record.
    Mx,
    /// RFC 5321 section 5.1: no MX, the domain's own address.
    ImplicitAddress,
    /// An address literal in the recipient's domain.
    Literal,
    /// A static route in the configuration.
    Configured,
    /// A plugin.
    Plugin,
}

impl CandidateOrigin {
    /// Whether the address was chosen by somebody whom we do not know.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Mx | Self::ImplicitAddress | Self::Literal)
    }
}

impl fmt::Display for CandidateOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mx => "mx",
            Self::ImplicitAddress => "implicit address",
            Self::Literal => "address literal",
            Self::Configured => "configured",
            Self::Plugin => "plugin",
        })
    }
}

/// One place to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Candidate {
    /// Where it is.
    pub endpoint: Endpoint,
    /// TCP port; 0 for a local socket.
    pub port: u16,
    /// Lower is tried first: the preference of an MX record, or the priority of
    /// a hop. The order of the plan already follows it.
    pub priority: u32,
    /// Share among hops of equal priority (RFC 2782); 0 for MX hosts.
    pub weight: u16,
    /// Who named it.
    pub origin: CandidateOrigin,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// How to protect the connection.
    pub tls: TlsPolicy,
    /// Use only addresses of this family.
    pub family: Option<AddressFamily>,
    /// Name of a credential to authenticate with.
    pub auth: Option<String>,
    /// Name of the pool of source addresses to send from.
    pub source_pool: Option<String>,
    /// Groups connections and limits; none: made from endpoint and port.
    pub site: Option<String>,
    /// Whether the records that led here were validated by DNSSEC.
    pub secure: bool,
}

impl Candidate {
    /// A candidate with the defaults of `origin`: SMTP on port 25, opportunistic
    /// TLS, nothing else.
    #[must_use]
    pub fn new(endpoint: Endpoint, port: u16, origin: CandidateOrigin) -> Self {
        Self {
            endpoint,
            port,
            priority: 0,
            weight: 0,
            origin,
            protocol: Protocol::Smtp,
            tls: TlsPolicy::default(),
            family: None,
            auth: None,
            source_pool: None,
            site: None,
            secure: false,
        }
    }

    /// Whether the two are one place: a message need not be tried at both.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
            && self.port == other.port
            && self.protocol == other.protocol
            && self.tls == other.tls
            && self.family == other.family
            && self.auth == other.auth
            && self.source_pool == other.source_pool
    }
}

impl fmt::Display for Candidate {
    /// `mx1.example:25 (priority 10, mx, tls opportunistic)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Host(domain) => write!(formatter, "{}:{}", domain.as_str(), self.port)?,
            Endpoint::Address(IpAddr::V4(address)) => write!(formatter, "{address}:{}", self.port)?,
            Endpoint::Address(IpAddr::V6(address)) => {
                write!(formatter, "[{address}]:{}", self.port)?;
            }
            Endpoint::UnixSocket(_) => write!(formatter, "{}", self.endpoint)?,
        }
        write!(
            formatter,
            " (priority {}, {}, tls {}",
            self.priority, self.origin, self.tls
        )?;
        if self.protocol == Protocol::Lmtp {
            formatter.write_str(", lmtp")?;
        }
        if let Some(family) = self.family {
            write!(formatter, ", {family} only")?;
        }
        if let Some(auth) = &self.auth {
            write!(formatter, ", auth {auth}")?;
        }
        if let Some(pool) = &self.source_pool {
            write!(formatter, ", from {pool}")?;
        }
        formatter.write_str(")")
    }
}

/// What to try, in order, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryPlan {
    /// In the order in which they are to be tried; never empty as the functions
    /// of this crate give it.
    pub candidates: Vec<Candidate>,
    /// Every step that led here: what `waypost explain` prints.
    pub why: Vec<Step>,
}

impl DeliveryPlan {
    /// Drops the candidate at `position` and all later ones that the world
    /// named: what RFC 5321 section 5.1 calls for when that candidate turns out
    /// to be this relay. Candidates that the configuration or a plugin named
    /// stay. Gives the number dropped.
    pub fn cut_at_ourselves(&mut self, position: usize) -> usize {
        let Some(ourselves) = self.candidates.get(position) else {
            return 0;
        };
        let (host, preference) = (ourselves.endpoint.to_string(), ourselves.priority);
        let before = self.candidates.len();
        let mut index = 0;
        self.candidates.retain(|candidate| {
            index += 1;
            index <= position || (index > position + 1 && !candidate.origin.is_foreign())
        });
        let dropped_count = before - self.candidates.len();
        self.why.push(Step::CutAtOurselves {
            host,
            preference,
            dropped_count,
        });
        dropped_count
    }

    /// Adds another plan's candidates after all of these, in their order: what
    /// "fall back to MX" means.
    pub fn fall_back_to(&mut self, other: Self) {
        let shift = shift_behind(&self.candidates, &other.candidates);
        self.why.extend(other.why);
        for mut candidate in other.candidates {
            if !self
                .candidates
                .iter()
                .any(|known| known.same_place(&candidate))
            {
                candidate.priority = candidate.priority.saturating_add(shift);
                self.candidates.push(candidate);
            }
        }
    }
}

/// What must be added to the priorities of `later` for all of them to come
/// after `earlier`.
pub(crate) fn shift_behind(earlier: &[Candidate], later: &[Candidate]) -> u32 {
    let last = earlier.iter().map(|candidate| candidate.priority).max();
    let first = later.iter().map(|candidate| candidate.priority).min();
    match (last, first) {
        (Some(last), Some(first)) if first <= last => (last - first).saturating_add(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(host: &str, priority: u32, origin: CandidateOrigin) -> Candidate {
        let mut candidate = Candidate::new(Endpoint::Host(host.parse().unwrap()), 25, origin);
        candidate.priority = priority;
        candidate
    }

    fn hosts(plan: &DeliveryPlan) -> Vec<String> {
        let named = plan.candidates.iter();
        named
            .map(|candidate| format!("{} {}", candidate.priority, candidate.endpoint))
            .collect()
    }

    #[test]
    fn what_follows_ourselves_is_cut_unless_somebody_we_know_named_it() {
        use CandidateOrigin::{Mx, Plugin};
        let candidates = vec![
            candidate("a.example", 10, Mx),
            candidate("us.example", 20, Mx),
            candidate("b.example", 20, Mx),
            candidate("c.example", 30, Plugin),
            candidate("d.example", 40, Mx),
        ];
        let mut plan = DeliveryPlan {
            candidates,
            why: Vec::new(),
        };
        assert_eq!(plan.cut_at_ourselves(9), 0);
        assert_eq!(plan.cut_at_ourselves(1), 3);
        assert_eq!(hosts(&plan), ["10 a.example", "30 c.example"]);
        assert_eq!(plan.why.len(), 1);
        assert_eq!(plan.cut_at_ourselves(0), 1);
        assert_eq!(hosts(&plan), ["30 c.example"]);
    }

    #[test]
    fn a_fall_back_comes_after_everything_and_repeats_nothing() {
        use CandidateOrigin::{Mx, Plugin};
        let mut plan = DeliveryPlan {
            candidates: vec![candidate("relay.example", 50, Plugin)],
            why: vec![Step::note("plugin")],
        };
        plan.fall_back_to(DeliveryPlan {
            candidates: vec![
                candidate("a.example", 10, Mx),
                candidate("relay.example", 15, Mx),
                candidate("b.example", 20, Mx),
            ],
            why: vec![Step::note("mx")],
        });
        assert_eq!(
            hosts(&plan),
            ["50 relay.example", "51 a.example", "61 b.example"]
        );
        assert_eq!(plan.why, [Step::note("plugin"), Step::note("mx")]);
    }
}
