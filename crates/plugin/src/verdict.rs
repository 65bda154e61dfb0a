//! What a routing plugin decided, after the host has checked it: plain values
//! that hold no name, port, pool or credential the plugin may not use.
//!
//! They serialise to the kebab-case words of the contract; test cases and
//! `explain --json` show that form.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smtp::{Domain, Reply};

use crate::grants::is_below;

/// A decision for some of the recipients of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// Positions in [`RouteRequest::recipients`](crate::RouteRequest), ascending.
    /// Never empty: the host has put in the positions that "all others" stands
    /// for. Each position of the request is in exactly one verdict of a call.
    pub recipients: Vec<u32>,
    /// What to do with them.
    #[serde(flatten)]
    pub decision: Decision,
    /// How to deliver, whatever the next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// Whether later plugins are asked. Always `Stop` after defer, reject,
    /// discard and hold.
    pub flow: Flow,
    /// For the log and for `waypost explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a plugin wants done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// No opinion: the next plugin, in the end MX. Also what the host puts in
    /// for recipients that no verdict names.
    Proceed,
    /// Use these next hops and nothing else.
    #[serde(rename_all = "kebab-case")]
    UseHops {
        /// Never empty.
        hops: Vec<NextHop>,
        /// After all of them failed temporarily: the MX-based list.
        fall_back_to_mx: bool,
    },
    /// Use this selection of the candidates and other places.
    Select {
        /// Never empty.
        choices: Vec<HopChoice>,
    },
    /// Use the MX-based list with these edits, in order.
    Edit {
        /// Empty: the list as it is.
        edits: Vec<MxEdit>,
    },
    /// Not now.
    #[serde(rename_all = "kebab-case")]
    Defer {
        /// One line of printable text.
        reason: String,
        /// Seconds; `None`: by the queue's own schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// Never: bounce with this reply.
    Reject {
        /// Always 5xx and well-formed.
        reply: Reply,
    },
    /// Drop without a bounce.
    Discard {
        /// One line of printable text.
        reason: String,
    },
    /// Keep aside until released.
    #[serde(rename_all = "kebab-case")]
    Hold {
        /// One line of printable text.
        reason: String,
        /// Seconds after which it goes on by itself; `None`: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release_after_seconds: Option<u32>,
    },
}

impl Decision {
    /// The word of the contract: `proceed`, `use-hops`, … Stable, for labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proceed => "proceed",
            Self::UseHops { .. } => "use-hops",
            Self::Select { .. } => "select",
            Self::Edit { .. } => "edit",
            Self::Defer { .. } => "defer",
            Self::Reject { .. } => "reject",
            Self::Discard { .. } => "discard",
            Self::Hold { .. } => "hold",
        }
    }
}

/// What the chain does after this plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Ask the next plugin too; it sees what was decided so far.
    Next,
    /// Later plugins are not asked about these recipients.
    Stop,
}

/// Where to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// A and AAAA records of this name, no MX look-up. Never a literal.
    Host(Domain),
    /// The MX records of this name. Never a literal.
    MxOf(Domain),
    /// This address.
    Address(IpAddr),
    /// Absolute path of a local socket.
    UnixSocket(PathBuf),
}

/// Protocol spoken with a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// How a connection is to be protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsPolicy {
    /// Plaintext.
    Off,
    /// STARTTLS where offered, certificate not checked (RFC 7435).
    Opportunistic,
    /// STARTTLS or fail, certificate not checked.
    Encrypt,
    /// STARTTLS or fail; a chain valid for one of these names, or for the hop's
    /// own name where the list is empty.
    Verify(Vec<Domain>),
    /// DANE (RFC 7672) where there are secure TLSA records.
    Dane,
    /// DANE or fail.
    DaneOnly,
    /// What MTA-STS (RFC 8461) and DANE call for at the destination.
    Destination,
    /// TLS from the first octet, certificate checked.
    Implicit,
}

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NextHop {
    /// Where; covered by the grant `route_hosts` or `route_unix`.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Never 0. `None`: the protocol's own, 25 or 24, or 465 with implicit TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Lower is tried first.
    pub priority: u16,
    /// Among equal priorities; 0 counts as 1.
    pub weight: u16,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// `None`: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPolicy>,
    /// Name of a granted credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Name of a granted source pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pool: Option<String>,
    /// Groups connections and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

impl NextHop {
    /// The port to connect to: the one named, or that of the protocol. `None`
    /// for a local socket.
    pub fn tcp_port(&self) -> Option<u16> {
        if matches!(self.endpoint, Endpoint::UnixSocket(_)) {
            return None;
        }
        Some(self.port.unwrap_or(match (self.protocol, &self.tls) {
            (Protocol::Lmtp, _) => 24,
            // RFC 8314 section 7.3.
            (Protocol::Smtp, Some(TlsPolicy::Implicit)) => 465,
            (Protocol::Smtp, _) => 25,
        }))
    }
}

/// One entry of an explicit selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopChoice {
    /// That candidate as it is; position in the list the call was given.
    Candidate(u32),
    /// That candidate, changed.
    Changed(CandidateChange),
    /// Another place.
    Hop(NextHop),
}

/// A change to the way one candidate is used; `None`: as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CandidateChange {
    /// Position in the list the call was given.
    pub index: u32,
    /// Lower is tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Never 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How it is protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPolicy>,
    /// Name of a granted credential; only for a host within `route_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Name of a granted source pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pool: Option<String>,
}

/// A standing edit of the MX-based list: applied again whenever the destination
/// is resolved anew. Patterns are canonical (lower case, A-labels): a host name,
/// or `*.suffix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MxEdit {
    /// Drop candidates that match.
    Drop(HostPattern),
    /// Drop candidates that match none of these.
    Keep(Vec<HostPattern>),
    /// Try matching candidates first.
    Prefer(HostPattern),
    /// Try matching candidates last.
    Demote(HostPattern),
    /// Before all candidates.
    InsertFirst(NextHop),
    /// After all candidates.
    Append(NextHop),
    /// TLS policy for matching candidates.
    SetTls(HostPattern, TlsPolicy),
    /// Only addresses of this family.
    AddressFamily(AddressFamily),
}

/// A pattern for host names: exact, or any name below a suffix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// This name.
    Exact(Domain),
    /// `*.suffix`: any name below the suffix, not the suffix itself.
    Below(Domain),
}

impl HostPattern {
    /// Whether a host matches. An address literal matches no pattern.
    pub fn matches(&self, host: &Domain) -> bool {
        match self {
            Self::Exact(domain) => domain == host,
            Self::Below(suffix) => is_below(host.as_str(), suffix.as_str()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let parse = |name: &str| {
            let domain: Option<Domain> = name.parse().ok();
            domain
                .filter(|domain| !domain.is_literal())
                .ok_or(HostPatternError)
        };
        match text.strip_prefix("*.") {
            Some(suffix) => parse(suffix).map(Self::Below),
            None => parse(text).map(Self::Exact),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;

    fn try_from(text: String) -> Result<Self, HostPatternError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(domain) => domain.as_str().to_owned(),
            HostPattern::Below(suffix) => format!("*.{}", suffix.as_str()),
        }
    }
}

/// A text that is no [`HostPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a host name nor `*.suffix`")]
pub struct HostPatternError;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How to deliver, whatever the next hop; `None`: as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// How connections are protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPolicy>,
    /// Name of a granted source pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pool: Option<String>,
    /// Name of a granted traffic class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_class: Option<String>,
    /// Given up after this many seconds since reception.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after_seconds: Option<u32>,
    /// Ask this plugin again before each retry.
    pub reroute_on_retry: bool,
    /// Settings that this version has no field for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<(String, String)>,
}
