//! Next hops as the configuration and plugins name them, and what is wrong with
//! those that cannot be used.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use smtp::Domain;

use crate::candidate::{Candidate, CandidateOrigin, Endpoint, Protocol, TlsPolicy};
use crate::plan::PlanOptions;

/// Longest path of a local socket in octets: `sun_path` of Linux, without the
/// final NUL.
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// Longest name of a credential, pool or site.
const NAME_MAX_BYTES: usize = 64;

/// Where a hop is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HopEndpoint {
    /// A and AAAA records of this name. No MX look-up.
    Host(Domain),
    /// The MX records of this name.
    MxOf(Domain),
    /// An address.
    Address(IpAddr),
    /// Absolute path of a local socket.
    UnixSocket(PathBuf),
}

impl HopEndpoint {
    /// A host from text. An address or an address literal is taken for what it
    /// is.
    ///
    /// # Errors
    /// [`HopFault::InvalidHost`].
    pub fn host(given: &str) -> Result<Self, HopFault> {
        if let Ok(address) = IpAddr::from_str(given) {
            return Ok(Self::Address(address));
        }
        let fault = || HopFault::InvalidHost {
            given: given.to_owned(),
        };
        let domain: Domain = given.parse().map_err(|_| fault())?;
        match domain.literal() {
            Some(address) => Ok(Self::Address(address)),
            None if domain.is_literal() => Err(fault()),
            None => Ok(Self::Host(domain)),
        }
    }

    /// "MX of" a domain from text.
    ///
    /// # Errors
    /// [`HopFault::InvalidMxDomain`], also for an address, which has no MX.
    pub fn mx_of(given: &str) -> Result<Self, HopFault> {
        let fault = || HopFault::InvalidMxDomain {
            given: given.to_owned(),
        };
        if IpAddr::from_str(given).is_ok() {
            return Err(fault());
        }
        let domain: Domain = given.parse().map_err(|_| fault())?;
        if domain.is_literal() {
            return Err(fault());
        }
        Ok(Self::MxOf(domain))
    }

    /// An address from text, with or without brackets.
    ///
    /// # Errors
    /// [`HopFault::InvalidAddress`].
    pub fn address(given: &str) -> Result<Self, HopFault> {
        let bare = given
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(given);
        bare.parse()
            .map(Self::Address)
            .map_err(|_| HopFault::InvalidAddress {
                given: given.to_owned(),
            })
    }
}

impl fmt::Display for HopEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(domain) => formatter.write_str(domain.as_str()),
            Self::MxOf(domain) => write!(formatter, "MX of {domain}"),
            Self::Address(address) => address.fmt(formatter),
            Self::UnixSocket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// One place to try, as somebody named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NextHop {
    /// Where.
    pub endpoint: HopEndpoint,
    /// None: the protocol's own, 25 or 24.
    pub port: Option<u16>,
    /// Lower is tried first; equal ones are shuffled by weight.
    pub priority: u16,
    /// Share among equals (RFC 2782).
    pub weight: u16,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// None: the default of the route.
    pub tls: Option<TlsPolicy>,
    /// Name of a credential.
    pub auth: Option<String>,
    /// Name of a pool of source addresses.
    pub source_pool: Option<String>,
    /// Groups connections and limits.
    pub site: Option<String>,
}

impl NextHop {
    /// A hop with nothing but a place.
    #[must_use]
    pub fn new(endpoint: HopEndpoint) -> Self {
        Self {
            endpoint,
            port: None,
            priority: 0,
            weight: 0,
            protocol: Protocol::Smtp,
            tls: None,
            auth: None,
            source_pool: None,
            site: None,
        }
    }

    /// The port it says, or else the protocol's.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.protocol.default_port())
    }

    /// Whether it can be used at all.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), HopFault> {
        match &self.endpoint {
            HopEndpoint::UnixSocket(path) => self.check_socket(path)?,
            HopEndpoint::Host(domain) if domain.is_literal() => {
                return Err(HopFault::InvalidHost {
                    given: domain.to_string(),
                });
            }
            HopEndpoint::MxOf(domain) if domain.is_literal() => {
                return Err(HopFault::InvalidMxDomain {
                    given: domain.to_string(),
                });
            }
            HopEndpoint::Address(address) if address.is_unspecified() || address.is_multicast() => {
                return Err(HopFault::InvalidAddress {
                    given: address.to_string(),
                });
            }
            _ => {}
        }
        if self.port == Some(0) {
            return Err(HopFault::PortZero);
        }
        for (what, name) in [
            ("auth", &self.auth),
            ("source-pool", &self.source_pool),
            ("site", &self.site),
        ] {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        match &self.tls {
            Some(tls) => check_tls(tls),
            None => Ok(()),
        }
    }

    fn check_socket(&self, path: &std::path::Path) -> Result<(), HopFault> {
        let bytes = path.as_os_str().as_encoded_bytes();
        if !path.is_absolute() {
            return Err(HopFault::RelativeSocketPath {
                given: path.to_owned(),
            });
        }
        if bytes.contains(&0) || bytes.len() > SOCKET_PATH_MAX_BYTES {
            return Err(HopFault::UnusableSocketPath {
                given: path.to_owned(),
            });
        }
        if self.port.is_some() {
            return Err(HopFault::PortOfSocket);
        }
        Ok(())
    }

    /// The candidate that a hop with a place of its own stands for, with TLS
    /// policy and source pool from `defaults` where it names none; none for "MX
    /// of", which has to be looked up (see [`crate::expand_hops`]).
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn candidate(
        &self,
        origin: CandidateOrigin,
        defaults: &PlanOptions,
    ) -> Result<Option<Candidate>, HopFault> {
        self.check()?;
        let (endpoint, port) = match &self.endpoint {
            HopEndpoint::Host(domain) => (Endpoint::Host(domain.clone()), self.port_or_default()),
            HopEndpoint::Address(address) => (Endpoint::Address(*address), self.port_or_default()),
            HopEndpoint::UnixSocket(path) => (Endpoint::UnixSocket(path.clone()), 0),
            HopEndpoint::MxOf(_) => return Ok(None),
        };
        let mut candidate = Candidate::new(endpoint, port, origin);
        self.settle(&mut candidate, defaults);
        candidate.priority = u32::from(self.priority);
        Ok(Some(candidate))
    }

    /// Gives a candidate what the hop says beyond the place.
    pub(crate) fn settle(&self, candidate: &mut Candidate, defaults: &PlanOptions) {
        candidate.weight = self.weight;
        candidate.protocol = self.protocol;
        candidate.tls = self.tls.clone().unwrap_or_else(|| defaults.tls.clone());
        candidate.auth.clone_from(&self.auth);
        candidate.source_pool = self
            .source_pool
            .clone()
            .or_else(|| defaults.source_pool.clone());
        candidate.site.clone_from(&self.site);
    }
}

/// Checks a policy that may have come from outside.
pub(crate) fn check_tls(tls: &TlsPolicy) -> Result<(), HopFault> {
    if let TlsPolicy::Verify(names) = tls
        && let Some(name) = names.iter().find(|name| name.is_literal())
    {
        return Err(HopFault::InvalidVerifyName {
            given: name.to_string(),
        });
    }
    Ok(())
}

/// Checks the name of a credential, pool or site.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), HopFault> {
    let printable = |octet: u8| octet.is_ascii_graphic();
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(printable) {
        return Err(HopFault::InvalidName {
            what,
            given: name.to_owned(),
        });
    }
    Ok(())
}

/// What is wrong with a hop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopFault {
    /// Not a host name.
    #[error("{given:?} is not a host name")]
    InvalidHost {
        /// As given.
        given: String,
    },
    /// Not a domain that could have MX records.
    #[error("{given:?} is not a domain that could have MX records")]
    InvalidMxDomain {
        /// As given.
        given: String,
    },
    /// Not the address of a host.
    #[error("{given:?} is not the address of a host")]
    InvalidAddress {
        /// As given.
        given: String,
    },
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// A local socket has no port.
    #[error("a local socket has no port")]
    PortOfSocket,
    /// The path depends on where the relay was started.
    #[error("the path of a local socket must be absolute: {given:?}")]
    RelativeSocketPath {
        /// As given.
        given: PathBuf,
    },
    /// Too long, or with a NUL.
    #[error("not a path that a local socket can have: {given:?}")]
    UnusableSocketPath {
        /// As given.
        given: PathBuf,
    },
    /// A certificate is never valid for it.
    #[error("{given:?} is not a name that a certificate could be verified for")]
    InvalidVerifyName {
        /// As given.
        given: String,
    },
    /// Empty, longer than 64 octets, or with blanks or characters outside ASCII.
    #[error("{given:?} cannot be the name of {what}")]
    InvalidName {
        /// `auth`, `source-pool` or `site`.
        what: &'static str,
        /// As given.
        given: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_from_text() {
        let host = |given| HopEndpoint::host(given);
        assert_eq!(
            host("Relay.Example."),
            Ok(HopEndpoint::Host("relay.example".parse().unwrap()))
        );
        assert_eq!(
            host("192.0.2.1"),
            Ok(HopEndpoint::Address("192.0.2.1".parse().unwrap()))
        );
        assert_eq!(
            host("[192.0.2.1]"),
            Ok(HopEndpoint::Address("192.0.2.1".parse().unwrap()))
        );
        for bad in ["", "two words", "[x]", "-", "a..b", "host:25"] {
            assert_eq!(
                host(bad),
                Err(HopFault::InvalidHost {
                    given: bad.to_owned()
                }),
                "{bad}"
            );
        }
        assert!(HopEndpoint::mx_of("example.org").is_ok());
        for bad in ["", "192.0.2.1", "[192.0.2.1]", "a b"] {
            let fault = HopFault::InvalidMxDomain {
                given: bad.to_owned(),
            };
            assert_eq!(HopEndpoint::mx_of(bad), Err(fault), "{bad}");
        }
        assert!(HopEndpoint::address("[2001:db8::1]").is_ok());
        assert!(HopEndpoint::address("relay.example").is_err());
    }

    fn fault(hop: &NextHop) -> HopFault {
        hop.candidate(CandidateOrigin::Plugin, &PlanOptions::default())
            .expect_err("the hop cannot be used")
    }

    #[test]
    fn faults_are_named() {
        let hop = || NextHop::new(HopEndpoint::host("relay.example").unwrap());
        let port_zero = NextHop {
            port: Some(0),
            ..hop()
        };
        assert_eq!(fault(&port_zero), HopFault::PortZero);

        let unspecified = NextHop::new(HopEndpoint::Address("0.0.0.0".parse().unwrap()));
        let given = "0.0.0.0".to_owned();
        assert_eq!(fault(&unspecified), HopFault::InvalidAddress { given });

        let unnamed = NextHop {
            auth: Some(String::new()),
            ..hop()
        };
        let (what, given) = ("auth", String::new());
        assert_eq!(fault(&unnamed), HopFault::InvalidName { what, given });

        let two_lines = NextHop {
            site: Some("a\nb".into()),
            ..hop()
        };
        let (what, given) = ("site", "a\nb".to_owned());
        assert_eq!(fault(&two_lines), HopFault::InvalidName { what, given });

        let literal: Domain = "[192.0.2.1]".parse().unwrap();
        let tls = Some(TlsPolicy::Verify(vec![literal]));
        let given = "[192.0.2.1]".to_owned();
        assert_eq!(
            fault(&NextHop { tls, ..hop() }),
            HopFault::InvalidVerifyName { given }
        );
    }

    #[test]
    fn faults_of_local_sockets_are_named() {
        let socket = |path: &str| NextHop::new(HopEndpoint::UnixSocket(path.into()));
        let given: PathBuf = "run/lmtp.sock".into();
        assert_eq!(
            fault(&socket("run/lmtp.sock")),
            HopFault::RelativeSocketPath { given }
        );

        let long = format!("/{}", "x".repeat(SOCKET_PATH_MAX_BYTES));
        let given: PathBuf = (&long).into();
        assert_eq!(
            fault(&socket(&long)),
            HopFault::UnusableSocketPath { given }
        );

        let with_port = NextHop {
            port: Some(24),
            ..socket("/run/lmtp.sock")
        };
        assert_eq!(fault(&with_port), HopFault::PortOfSocket);
    }

    #[test]
    fn a_hop_becomes_a_candidate() {
        let defaults = PlanOptions {
            tls: TlsPolicy::Encrypt,
            source_pool: Some("warm".into()),
            ..PlanOptions::default()
        };
        let mut hop = NextHop::new(HopEndpoint::host("relay.example").unwrap());
        hop.protocol = Protocol::Lmtp;
        hop.priority = 5;
        let candidate = hop
            .candidate(CandidateOrigin::Configured, &defaults)
            .unwrap()
            .unwrap();
        assert_eq!(candidate.port, 24);
        assert_eq!(candidate.priority, 5);
        assert_eq!(candidate.tls, TlsPolicy::Encrypt);
        assert_eq!(candidate.source_pool.as_deref(), Some("warm"));
        assert_eq!(
            candidate.to_string(),
            "relay.example:24 (priority 5, configured, tls encrypt, lmtp, from warm)"
        );
        hop.tls = Some(TlsPolicy::Off);
        let candidate = hop
            .candidate(CandidateOrigin::Configured, &defaults)
            .unwrap()
            .unwrap();
        assert_eq!(candidate.tls, TlsPolicy::Off);
        let socket = NextHop::new(HopEndpoint::UnixSocket("/run/lmtp.sock".into()));
        let candidate = socket
            .candidate(CandidateOrigin::Configured, &defaults)
            .unwrap()
            .unwrap();
        assert_eq!(candidate.port, 0);
        let mx_of = NextHop::new(HopEndpoint::mx_of("example.org").unwrap());
        assert_eq!(
            mx_of.candidate(CandidateOrigin::Configured, &defaults),
            Ok(None)
        );
    }
}
