//! The steps that lead to a plan, as `waypost explain` shows them.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use smtp::Domain;

use crate::resolver::{LookupError, RecordKind};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// Asked for just now.
    Fresh,
    /// Remembered.
    Cached {
        /// Milliseconds until it is asked for again.
        left_ms: u64,
    },
}

impl fmt::Display for Freshness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => formatter.write_str("fresh"),
            Self::Cached { left_ms } => write!(formatter, "cached, {} s left", left_ms / 1000),
        }
    }
}

/// One MX record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MxLine {
    /// Lower is better.
    pub preference: u16,
    /// As the record had it.
    pub exchange: String,
}

/// Why a record was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// `.` beside other records (RFC 7505 section 3 forbids it).
    RootBesideOthers,
    /// An address where a name must be (RFC 5321 section 5.1).
    AddressAsName,
    /// Not a host name.
    NotAHostName,
    /// Named before, with a preference as good or better.
    Duplicate,
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RootBesideOthers => "a null MX beside other records means nothing (RFC 7505)",
            Self::AddressAsName => "an MX record names a host, not an address (RFC 5321 5.1)",
            Self::NotAHostName => "not a host name",
            Self::Duplicate => "listed before",
        })
    }
}

/// One step on the way to a plan. `Display` is for people, `Serialize` for
/// programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The domain is an address literal: nothing to look up.
    AddressLiteral {
        /// As in the recipient.
        domain: Domain,
        /// What it says.
        address: IpAddr,
    },
    /// MX records were found.
    MxFound {
        /// Whose.
        domain: Domain,
        /// In order of preference.
        records: Vec<MxLine>,
        /// Seconds, as the DNS gave it.
        ttl_s: u32,
        /// New or remembered.
        freshness: Freshness,
        /// Validated by DNSSEC.
        secure: bool,
        /// The name that the domain is an alias of.
        canonical_name: Option<Domain>,
    },
    /// Addresses were found.
    AddressesFound {
        /// Whose.
        domain: Domain,
        /// In the order of the answer.
        addresses: Vec<IpAddr>,
        /// Seconds, as the DNS gave it.
        ttl_s: u32,
        /// New or remembered.
        freshness: Freshness,
    },
    /// A look-up gave no records.
    LookupFailed {
        /// Of what type.
        kind: RecordKind,
        /// Whose.
        domain: Domain,
        /// `no_such_domain`, `no_records`, `temporary`.
        outcome: &'static str,
        /// For people.
        detail: String,
        /// New or remembered.
        freshness: Freshness,
    },
    /// The domain takes no mail (RFC 7505).
    NullMx {
        /// Whose.
        domain: Domain,
    },
    /// A record was not used.
    RecordDropped {
        /// Its preference.
        preference: u16,
        /// What it named.
        exchange: String,
        /// Why not.
        reason: DropReason,
    },
    /// No MX record, proven: the domain's own addresses (RFC 5321 section 5.1).
    ImplicitMx {
        /// Whose.
        domain: Domain,
    },
    /// Hosts of equal preference were put in an order by chance.
    Shuffled {
        /// The preference they share.
        preference: u32,
        /// In the order in which they will be tried.
        hosts: Vec<String>,
    },
    /// A host is this relay: it and all that are not more preferred were cut
    /// (RFC 5321 section 5.1).
    CutAtOurselves {
        /// Our name in the list.
        host: String,
        /// Its preference.
        preference: u32,
        /// Candidates cut, ourselves included.
        dropped_count: usize,
    },
    /// There were more candidates than the limit allows.
    Limited {
        /// Kept.
        kept_count: usize,
        /// Left out, the least preferred ones.
        dropped_count: usize,
    },
    /// A hop named by the configuration or a plugin.
    Hop {
        /// As it will be tried.
        hop: String,
    },
    /// A hop "MX of" some domain could not be resolved and was left out.
    HopUnresolved {
        /// The domain.
        domain: Domain,
        /// For people.
        reason: String,
    },
    /// One edit of the list and what came of it.
    Edited {
        /// What was asked for.
        edit: String,
        /// Candidates it touched.
        affected_count: usize,
    },
    /// Candidates were selected from the list, others left out.
    Selected {
        /// Candidates taken, hops added included.
        taken_count: usize,
        /// Candidates left out.
        left_out_count: usize,
    },
    /// Something that another part has to say, for example a plugin's note.
    Note {
        /// One line.
        text: String,
    },
}

impl Step {
    /// A remark of another part.
    #[must_use]
    pub fn note(text: impl Into<String>) -> Self {
        Self::Note { text: text.into() }
    }

    /// A look-up that gave nothing.
    pub(crate) fn lookup_failed(
        kind: RecordKind,
        domain: &Domain,
        error: &LookupError,
        freshness: Freshness,
    ) -> Self {
        Self::LookupFailed {
            kind,
            domain: domain.clone(),
            outcome: error.as_str(),
            detail: error.to_string(),
            freshness,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MxFound { .. } | Self::AddressesFound { .. } | Self::LookupFailed { .. } => {
                self.fmt_lookup(formatter)
            }
            Self::AddressLiteral { domain, address } => {
                write!(formatter, "{domain} is an address literal: {address}")
            }
            Self::NullMx { domain } => {
                write!(
                    formatter,
                    "{domain} has a null MX: it takes no mail (RFC 7505)"
                )
            }
            Self::RecordDropped {
                preference,
                exchange,
                reason,
            } => {
                write!(formatter, "MX {preference} {exchange} not used: {reason}")
            }
            Self::ImplicitMx { domain } => {
                write!(
                    formatter,
                    "{domain} has no MX record: its own addresses (RFC 5321 5.1)"
                )
            }
            Self::Shuffled { preference, hosts } => write!(
                formatter,
                "equal preference {preference}, in an order by chance: {}",
                hosts.join(", ")
            ),
            Self::CutAtOurselves {
                host,
                preference,
                dropped_count,
            } => write!(
                formatter,
                "{host} (preference {preference}) is this relay: {dropped_count} \
                 not more preferred cut (RFC 5321 5.1)"
            ),
            Self::Limited {
                kept_count,
                dropped_count,
            } => {
                write!(
                    formatter,
                    "the first {kept_count} hosts, {dropped_count} beyond the limit"
                )
            }
            Self::Hop { hop } => write!(formatter, "next hop {hop}"),
            Self::HopUnresolved { domain, reason } => {
                write!(formatter, "next hop MX of {domain} left out: {reason}")
            }
            Self::Edited {
                edit,
                affected_count,
            } => {
                write!(formatter, "{edit}: {affected_count} affected")
            }
            Self::Selected {
                taken_count,
                left_out_count,
            } => {
                write!(
                    formatter,
                    "{taken_count} selected, {left_out_count} left out"
                )
            }
            Self::Note { text } => formatter.write_str(text),
        }
    }
}

impl Step {
    fn fmt_lookup(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MxFound {
                domain,
                records,
                ttl_s,
                freshness,
                secure,
                canonical_name,
            } => {
                write!(formatter, "MX of {domain}: ")?;
                if let Some(name) = canonical_name {
                    write!(formatter, "alias of {name}, ")?;
                }
                for record in records {
                    write!(formatter, "{} {}, ", record.preference, record.exchange)?;
                }
                let secure = if *secure { ", DNSSEC" } else { "" };
                write!(formatter, "TTL {ttl_s} ({freshness}{secure})")
            }
            Self::AddressesFound {
                domain,
                addresses,
                ttl_s,
                freshness,
            } => {
                write!(formatter, "addresses of {domain}: ")?;
                for address in addresses {
                    write!(formatter, "{address}, ")?;
                }
                write!(formatter, "TTL {ttl_s} ({freshness})")
            }
            Self::LookupFailed {
                kind,
                domain,
                detail,
                freshness,
                ..
            } => {
                let kind = match kind {
                    RecordKind::Mx => "MX",
                    RecordKind::Addresses => "addresses",
                    RecordKind::Txt => "TXT",
                    RecordKind::Ptr => "PTR",
                };
                write!(formatter, "{kind} of {domain}: {detail} ({freshness})")
            }
            _ => Ok(()),
        }
    }
}
