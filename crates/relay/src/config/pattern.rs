//! Networks and patterns: who may relay, which mail a plugin sees.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use smtp::{Domain, ReversePath};

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The set of these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// 127.0.0.0/8 and ::1: who may relay when nobody else is named.
    pub fn loopback() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        Self(vec![v4.into(), IpAddr::from(Ipv6Addr::LOCALHOST).into()])
    }

    /// Whether `address` is in one of them. An IPv4 address that came in
    /// through an IPv6 socket counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The networks.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A pattern for mail domains: `example.com` (that domain), `*.example.com`
/// (everything below it, not itself) or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every domain.
    Any,
    /// This domain.
    Exact(Domain),
    /// The domains below this one.
    Below(Domain),
}

impl DomainPattern {
    /// The pattern in `text`; none where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => host_name(suffix).map(Self::Below),
            None => text.parse().ok().map(Self::Exact),
        }
    }

    /// Whether `domain` matches.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == domain,
            Self::Below(parent) => is_below(domain.as_str(), parent.as_str()),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(domain) => f.write_str(domain.as_str()),
            Self::Below(domain) => write!(f, "*.{}", domain.as_str()),
        }
    }
}

/// A pattern for reverse-paths: `user@example.com`, a [`DomainPattern`] for
/// the domain, or `<>` for the null reverse-path. Local parts are compared
/// octet by octet (RFC 5321 section 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderPattern {
    /// The null reverse-path.
    Null,
    /// One mailbox.
    Mailbox(smtp::Mailbox),
    /// Every mailbox of matching domains; not the null reverse-path.
    Domain(DomainPattern),
}

impl SenderPattern {
    /// The pattern in `text`; none where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "<>" {
            Some(Self::Null)
        } else if text.contains('@') {
            text.parse().ok().map(Self::Mailbox)
        } else {
            DomainPattern::parse(text).map(Self::Domain)
        }
    }

    /// Whether `sender` matches.
    pub fn matches(&self, sender: &ReversePath) -> bool {
        match (self, sender) {
            (Self::Null, ReversePath::Null) => true,
            (Self::Mailbox(wanted), ReversePath::Mailbox(mailbox)) => wanted == mailbox,
            (Self::Domain(pattern), ReversePath::Mailbox(mailbox)) => {
                pattern.matches(mailbox.domain())
            }
            _ => false,
        }
    }
}

/// A domain that is no address literal: there is nothing below one.
fn host_name(text: &str) -> Option<Domain> {
    text.parse()
        .ok()
        .filter(|domain: &Domain| !domain.is_literal())
}

/// Whether `name` ends in a dot and `parent`. Both lower case.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}
