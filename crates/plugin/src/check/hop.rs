//! Next hops, choices and edits, checked against syntax and grants.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use smtp::Domain;

use super::{Check, Fault, too_many};
use crate::bindings::routes as wit;
use crate::verdict::{
    AddressFamily, CandidateChange, Endpoint, HopChoice, HostPattern, MxEdit, NextHop, Protocol,
    TlsPolicy,
};

/// Names of one `tls-policy.verify`.
const VERIFY_NAMES_MAX: usize = 16;
/// Patterns of one `keep`.
const PATTERNS_MAX: usize = 64;
/// Octets of a `site`.
const SITE_BYTES: usize = 64;

impl Check<'_> {
    pub(super) fn hop(&self, hop: wit::NextHop) -> Result<NextHop, Fault> {
        let endpoint = endpoint(hop.endpoint).map_err(|fault| fault.within("endpoint"))?;
        if matches!(endpoint, Endpoint::UnixSocket(_)) && hop.port.is_some() {
            return Err(Fault::new("port", "a local socket has none"));
        }
        let hop = NextHop {
            endpoint,
            port: hop.port.map(port).transpose()?,
            priority: hop.priority,
            weight: hop.weight,
            protocol: match hop.protocol {
                wit::Protocol::Smtp => Protocol::Smtp,
                wit::Protocol::Lmtp => Protocol::Lmtp,
            },
            tls: hop.tls.map(tls).transpose()?,
            auth: hop.auth.map(|name| self.credential(name)).transpose()?,
            source_pool: hop
                .source_pool
                .map(|pool| self.source_pool(pool))
                .transpose()?,
            site: hop.site.map(site).transpose()?,
        };
        self.is_granted(&hop)?;
        Ok(hop)
    }

    fn is_granted(&self, hop: &NextHop) -> Result<(), Fault> {
        let patterns = &self.grants.route_hosts;
        let port = hop.tcp_port();
        let (granted, grant, what) = match &hop.endpoint {
            Endpoint::Host(host) | Endpoint::MxOf(host) => (
                patterns.iter().any(|each| each.covers_host(host, port)),
                "route_hosts",
                host.to_string(),
            ),
            Endpoint::Address(address) => (
                patterns
                    .iter()
                    .any(|each| each.covers_address(*address, port)),
                "route_hosts",
                address.to_string(),
            ),
            Endpoint::UnixSocket(path) => (
                self.grants.route_unix.contains(path),
                "route_unix",
                path.display().to_string(),
            ),
        };
        if granted {
            return Ok(());
        }
        let port = port.map_or_else(String::new, |port| format!(" port {port}"));
        Err(Fault::new(
            "endpoint",
            format!("{what}{port} is not covered by the grant {grant}"),
        ))
    }

    pub(super) fn choice(&self, choice: wit::HopChoice) -> Result<HopChoice, Fault> {
        Ok(match choice {
            wit::HopChoice::Candidate(index) => {
                self.candidate(index)
                    .map_err(|fault| fault.within("candidate"))?;
                HopChoice::Candidate(index)
            }
            wit::HopChoice::Changed(change) => HopChoice::Changed(
                self.change(change)
                    .map_err(|fault| fault.within("changed"))?,
            ),
            wit::HopChoice::Hop(hop) => {
                HopChoice::Hop(self.hop(hop).map_err(|fault| fault.within("hop"))?)
            }
        })
    }

    fn change(&self, change: wit::CandidateChange) -> Result<CandidateChange, Fault> {
        let host = self.candidate(change.index)?;
        let change = CandidateChange {
            index: change.index,
            priority: change.priority,
            port: change.port.map(port).transpose()?,
            tls: change.tls.map(tls).transpose()?,
            auth: change.auth.map(|name| self.credential(name)).transpose()?,
            source_pool: change
                .source_pool
                .map(|pool| self.source_pool(pool))
                .transpose()?,
        };
        // Whoever owns the destination's MX records chose that host: it gets a
        // secret only where the administrator named it.
        let covers = |host: &Domain| {
            let patterns = &self.grants.route_hosts;
            patterns.iter().any(|each| match host.literal() {
                Some(address) => each.covers_address(address, change.port),
                None => each.covers_host(host, change.port),
            })
        };
        if change.auth.is_some() && !covers(host) {
            return Err(Fault::new(
                "auth",
                format!("{host} is not covered by the grant route_hosts"),
            ));
        }
        Ok(change)
    }

    /// The host of the candidate at a position.
    fn candidate(&self, index: u32) -> Result<&Domain, Fault> {
        let Some(candidates) = self.candidates else {
            return Err(Fault::new(
                "index",
                format!("{index}, but the call did not ask for the candidates"),
            ));
        };
        candidates.get(index as usize).ok_or_else(|| {
            let count = candidates.len();
            Fault::new(
                "index",
                format!("{index}, but there are {count} candidates"),
            )
        })
    }

    pub(super) fn edit(&self, edit: wit::MxEdit) -> Result<MxEdit, Fault> {
        Ok(match edit {
            wit::MxEdit::Drop(text) => MxEdit::Drop(pattern("drop", &text)?),
            wit::MxEdit::Keep(texts) => {
                if texts.is_empty() {
                    return Err(Fault::new("keep", "empty, this would drop every candidate"));
                }
                if texts.len() > PATTERNS_MAX {
                    return Err(too_many("keep", texts.len(), PATTERNS_MAX));
                }
                let patterns = texts.iter().map(|text| pattern("keep", text));
                MxEdit::Keep(patterns.collect::<Result<_, _>>()?)
            }
            wit::MxEdit::Prefer(text) => MxEdit::Prefer(pattern("prefer", &text)?),
            wit::MxEdit::Demote(text) => MxEdit::Demote(pattern("demote", &text)?),
            wit::MxEdit::InsertFirst(hop) => MxEdit::InsertFirst(
                self.hop(hop)
                    .map_err(|fault| fault.within("insert-first"))?,
            ),
            wit::MxEdit::Append(hop) => {
                MxEdit::Append(self.hop(hop).map_err(|fault| fault.within("append"))?)
            }
            wit::MxEdit::SetTls((text, policy)) => {
                MxEdit::SetTls(pattern("set-tls", &text)?, tls(policy)?)
            }
            wit::MxEdit::AddressFamily(4) => MxEdit::AddressFamily(AddressFamily::V4),
            wit::MxEdit::AddressFamily(6) => MxEdit::AddressFamily(AddressFamily::V6),
            wit::MxEdit::AddressFamily(other) => {
                return Err(Fault::new(
                    "address-family",
                    format!("{other}, 4 or 6 is wanted"),
                ));
            }
        })
    }
}

/// No candidate may be chosen twice: it would be tried twice in one attempt.
pub(super) fn check_distinct(choices: &[HopChoice]) -> Result<(), Fault> {
    let mut seen = Vec::new();
    for (at, choice) in choices.iter().enumerate() {
        let index = match choice {
            HopChoice::Candidate(index) => *index,
            HopChoice::Changed(change) => change.index,
            HopChoice::Hop(_) => continue,
        };
        if seen.contains(&index) {
            let problem = format!("candidate {index} is chosen already");
            return Err(Fault::new(format_args!("select[{at}]"), problem));
        }
        seen.push(index);
    }
    Ok(())
}

fn endpoint(endpoint: wit::Endpoint) -> Result<Endpoint, Fault> {
    Ok(match endpoint {
        wit::Endpoint::Host(text) => match domain("host", &text)? {
            literal if literal.is_literal() => match literal.literal() {
                Some(address) => Endpoint::Address(address),
                None => return Err(Fault::new("host", format!("{text:?} is no address"))),
            },
            host => Endpoint::Host(host),
        },
        wit::Endpoint::MxOf(text) => match domain("mx-of", &text)? {
            literal if literal.is_literal() => {
                return Err(Fault::new("mx-of", format!("{text:?} has no MX records")));
            }
            domain => Endpoint::MxOf(domain),
        },
        wit::Endpoint::Address(text) => Endpoint::Address(address(&text)?),
        wit::Endpoint::UnixSocket(text) => {
            if !Path::new(&text).is_absolute() || text.contains('\0') {
                return Err(Fault::new(
                    "unix-socket",
                    format!("{text:?} is no absolute path"),
                ));
            }
            Endpoint::UnixSocket(PathBuf::from(text))
        }
    })
}

fn address(text: &str) -> Result<IpAddr, Fault> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| Fault::new("address", format!("{text:?} is no IP address")))?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err(Fault::new(
            "address",
            format!("{address} is no host's address"),
        ));
    }
    Ok(address)
}

fn domain(field: &str, text: &str) -> Result<Domain, Fault> {
    // `192.0.2.7` would do as a name by syntax alone.
    if text.parse::<IpAddr>().is_ok() {
        let problem = format!("{text:?} is an address, which goes into `address`");
        return Err(Fault::new(field, problem));
    }
    text.parse()
        .map_err(|error| Fault::new(field, format!("{text:?} is no domain: {error}")))
}

fn port(port: u16) -> Result<u16, Fault> {
    if port == 0 {
        return Err(Fault::new("port", "0 is no port"));
    }
    Ok(port)
}

fn site(site: String) -> Result<String, Fault> {
    let plain = site.bytes().all(|byte| byte.is_ascii_graphic());
    if site.is_empty() || site.len() > SITE_BYTES || !plain {
        let problem = format!("{site:?} is not 1 to {SITE_BYTES} printable ASCII characters");
        return Err(Fault::new("site", problem));
    }
    Ok(site)
}

fn pattern(field: &str, text: &str) -> Result<HostPattern, Fault> {
    text.parse()
        .map_err(|error| Fault::new(field, format!("{text:?} is {error}")))
}

pub(super) fn tls(policy: wit::TlsPolicy) -> Result<TlsPolicy, Fault> {
    Ok(match policy {
        wit::TlsPolicy::Off => TlsPolicy::Off,
        wit::TlsPolicy::Opportunistic => TlsPolicy::Opportunistic,
        wit::TlsPolicy::Encrypt => TlsPolicy::Encrypt,
        wit::TlsPolicy::Verify(names) => {
            if names.len() > VERIFY_NAMES_MAX {
                return Err(too_many("tls.verify", names.len(), VERIFY_NAMES_MAX));
            }
            let names = names.iter().map(|name| {
                let name = domain("tls.verify", name)?;
                if name.is_literal() {
                    let problem = format!("{name} is an address, a name is wanted");
                    return Err(Fault::new("tls.verify", problem));
                }
                Ok(name)
            });
            TlsPolicy::Verify(names.collect::<Result<_, _>>()?)
        }
        wit::TlsPolicy::Dane => TlsPolicy::Dane,
        wit::TlsPolicy::DaneOnly => TlsPolicy::DaneOnly,
        wit::TlsPolicy::Destination => TlsPolicy::Destination,
        wit::TlsPolicy::Implicit => TlsPolicy::Implicit,
    })
}
