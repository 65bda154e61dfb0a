//! What a plugin may do. Nothing unless granted.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smtp::{Domain, Mailbox};

use crate::http::Origin;

/// What a plugin may do besides computing. The default grants nothing: such a
/// plugin can still reorder, filter, defer, reject, discard and hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// DNS look-ups.
    pub dns: bool,
    /// Octets of the body it may read, from its start; 0: none.
    pub body_bytes: u64,
    /// The next hops it may name. Without this a routing plugin would be a way
    /// to carry mail out.
    pub route_hosts: Vec<HopPattern>,
    /// Domains of the mailboxes that it may put in place of a sender or of
    /// recipients: an alias sends mail out just as a next hop does.
    pub rewrite_domains: Vec<HopPattern>,
    /// Local sockets it may name as a next hop.
    pub route_unix: Vec<PathBuf>,
    /// Credentials it may name.
    pub credentials: Vec<String>,
    /// Pools of source addresses it may name.
    pub source_pools: Vec<String>,
    /// Traffic classes it may name.
    pub traffic_classes: Vec<String>,
    /// Tables it may read, by name.
    pub tables: Vec<String>,
    /// Octets of shared state it may keep; `None`: no state.
    pub state_bytes: Option<usize>,
    /// Whether its state outlives the relay.
    pub state_durable: bool,
    /// Services it may ask by HTTP.
    pub http: Vec<Origin>,
}

impl Grants {
    /// Whether mail may be sent to or from this mailbox because the plugin says so.
    pub fn covers_mailbox(&self, mailbox: &Mailbox) -> bool {
        let domain = mailbox.domain();
        let mut patterns = self.rewrite_domains.iter();
        match domain.literal() {
            Some(address) => patterns.any(|pattern| pattern.covers_address(address, None)),
            None => patterns.any(|pattern| pattern.covers_host(domain, None)),
        }
    }
}

/// Next hops that a plugin may name: `relay.example`, `*.example`, `192.0.2.7`,
/// `2001:db8::/32` or `*`, each with an optional `:port`; an IPv6 address with a
/// port has brackets, `[2001:db8::1]:25`. Without a port any port will do.
///
/// A name covers only itself: that it resolves to an address within a granted
/// network is of no account, nor the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HopPattern {
    hosts: HopHosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HopHosts {
    Any,
    Exact(Domain),
    Below(Domain),
    Network(IpNet),
}

/// A text that is no [`HopPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern for next hops: {fault}")]
pub struct HopPatternError {
    /// As given.
    pub text: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl HopPattern {
    /// Whether it covers this name at this port. `None` for the port: one that
    /// is not known beforehand; only a pattern without a port covers that.
    pub fn covers_host(&self, host: &Domain, port: Option<u16>) -> bool {
        let name = match &self.hosts {
            HopHosts::Any => true,
            HopHosts::Exact(domain) => domain == host,
            HopHosts::Below(suffix) => is_below(host.as_str(), suffix.as_str()),
            HopHosts::Network(_) => false,
        };
        name && self.covers_port(port)
    }

    /// Whether it covers this address at this port.
    pub fn covers_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        let host = match &self.hosts {
            HopHosts::Any => true,
            HopHosts::Network(network) => network.contains(&address.to_canonical()),
            HopHosts::Exact(_) | HopHosts::Below(_) => false,
        };
        host && self.covers_port(port)
    }

    fn covers_port(&self, port: Option<u16>) -> bool {
        self.port.is_none() || self.port == port
    }
}

/// Whether `name` is a proper sub-domain of `suffix`; both canonical.
pub(crate) fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|head| head.ends_with('.') && head.len() > 1)
}

impl FromStr for HopPattern {
    type Err = HopPatternError;

    fn from_str(text: &str) -> Result<Self, HopPatternError> {
        let fail = |fault| HopPatternError {
            text: text.to_owned(),
            fault,
        };
        let (host, port) = split_port(text).ok_or_else(|| fail("the port is not 1 to 65535"))?;
        let hosts = if host == "*" {
            HopHosts::Any
        } else if let Ok(address) = host.parse::<IpAddr>() {
            HopHosts::Network(address.to_canonical().into())
        } else if host.contains('/') {
            HopHosts::Network(host.parse().map_err(|_| fail("no such network"))?)
        } else if let Some(suffix) = host.strip_prefix("*.") {
            HopHosts::Below(name(suffix).ok_or_else(|| fail("no domain follows `*.`"))?)
        } else {
            HopHosts::Exact(name(host).ok_or_else(|| {
                fail("a host, `*.suffix`, an address, a network or `*` is wanted")
            })?)
        };
        Ok(Self { hosts, port })
    }
}

fn name(text: &str) -> Option<Domain> {
    let domain: Domain = text.parse().ok()?;
    domain.literal().is_none().then_some(domain)
}

/// Host and port; `None`: a port that is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let number = |port: &str| port.parse().ok().filter(|port| *port != 0).map(Some);
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, number(port)?)),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address or network without a port.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, number(port)?)),
        None => Some((text, None)),
    }
}

impl fmt::Display for HopPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = self.port.is_some();
        match &self.hosts {
            HopHosts::Any => f.write_str("*")?,
            HopHosts::Exact(domain) => f.write_str(domain.as_str())?,
            HopHosts::Below(suffix) => write!(f, "*.{}", suffix.as_str())?,
            HopHosts::Network(network) => {
                let single = network.prefix_len() == network.max_prefix_len();
                let text = if single {
                    network.addr().to_string()
                } else {
                    network.to_string()
                };
                if bracket && text.contains(':') {
                    write!(f, "[{text}]")?;
                } else {
                    f.write_str(&text)?;
                }
            }
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for HopPattern {
    type Error = HopPatternError;

    fn try_from(text: String) -> Result<Self, HopPatternError> {
        text.parse()
    }
}

impl From<HopPattern> for String {
    fn from(pattern: HopPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HopPattern {
        text.parse().unwrap()
    }

    fn host(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn names_cover_themselves_or_what_is_below() {
        assert!(pattern("relay.example").covers_host(&host("relay.example"), Some(25)));
        assert!(!pattern("relay.example").covers_host(&host("a.relay.example"), Some(25)));
        assert!(pattern("*.example").covers_host(&host("a.b.example"), None));
        assert!(!pattern("*.example").covers_host(&host("example"), None));
        assert!(!pattern("*.example").covers_host(&host("notexample"), None));
        assert!(pattern("*").covers_host(&host("anything.test"), Some(2525)));
    }

    #[test]
    fn mailboxes_are_covered_by_their_domain() {
        let grants = |patterns: &[&str]| Grants {
            rewrite_domains: patterns.iter().map(|text| pattern(text)).collect(),
            ..Grants::default()
        };
        let mailbox = |text: &str| text.parse::<Mailbox>().unwrap();
        assert!(!grants(&[]).covers_mailbox(&mailbox("a@example.com")));
        let some = grants(&["example.com", "*.example.net", "192.0.2.0/24"]);
        assert!(some.covers_mailbox(&mailbox("a@example.com")));
        assert!(some.covers_mailbox(&mailbox("a@b.example.net")));
        assert!(some.covers_mailbox(&mailbox("a@[192.0.2.7]")));
        assert!(!some.covers_mailbox(&mailbox("a@b.example.com")));
        assert!(!some.covers_mailbox(&mailbox("a@[198.51.100.1]")));
        assert!(grants(&["*"]).covers_mailbox(&mailbox("a@[198.51.100.1]")));
    }

    #[test]
    fn a_port_narrows() {
        let narrow = pattern("relay.example:587");
        assert!(narrow.covers_host(&host("relay.example"), Some(587)));
        assert!(!narrow.covers_host(&host("relay.example"), Some(25)));
        assert!(!narrow.covers_host(&host("relay.example"), None));
    }

    #[test]
    fn networks_cover_addresses_only() {
        let network = pattern("10.0.0.0/8");
        assert!(network.covers_address("10.1.2.3".parse().unwrap(), Some(25)));
        assert!(!network.covers_address("11.0.0.1".parse().unwrap(), Some(25)));
        // An IPv4-mapped address is the IPv4 address, not a way around the grant.
        assert!(network.covers_address("::ffff:10.1.2.3".parse().unwrap(), Some(25)));
        assert!(!network.covers_host(&host("relay.example"), Some(25)));
        assert!(
            pattern("[2001:db8::/32]:25").covers_address("2001:db8::9".parse().unwrap(), Some(25))
        );
        assert!(pattern("2001:db8::1").covers_address("2001:db8::1".parse().unwrap(), Some(24)));
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "*",
            "*:25",
            "relay.example",
            "relay.example:587",
            "*.example",
            "10.0.0.0/8",
            "10.0.0.1:25",
            "2001:db8::/32",
            "[2001:db8::/32]:25",
            "[2001:db8::1]:2525",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        for text in [
            "",
            ":25",
            "relay.example:0",
            "relay.example:x",
            "*.",
            "10.0.0.0/33",
            "[::1",
            "[::1]x",
            "a b",
        ] {
            assert!(text.parse::<HopPattern>().is_err(), "{text:?}");
        }
    }
}
