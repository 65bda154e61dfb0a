//! What is asked of the DNS, and what it can say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use smtp::Domain;

/// Longest time for which an address answer is kept that lacks one family
/// because its look-up failed, in seconds.
const PARTIAL_TTL_S: u32 = 30;

/// The record types that delivery asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// Mail exchanges.
    Mx,
    /// A and AAAA together.
    Addresses,
    /// Text.
    Txt,
    /// The name of an address.
    Ptr,
}

impl RecordKind {
    /// A stable word for metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Addresses => "addresses",
            Self::Txt => "txt",
            Self::Ptr => "ptr",
        }
    }
}

/// Records that were found; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// In the order of the answer.
    pub records: Vec<T>,
    /// Seconds for which the answer may be kept: the least over all records and
    /// the aliases that led to them.
    pub ttl_s: u32,
    /// Whether every record and alias was validated by DNSSEC.
    pub secure: bool,
    /// The name at the end of a chain of aliases, where there was one
    /// (RFC 5321 section 5.1 goes on with that name).
    pub canonical_name: Option<Domain>,
}

impl<T> Answer<T> {
    /// An answer without alias that nobody has validated.
    #[must_use]
    pub fn new(records: Vec<T>, ttl_s: u32) -> Self {
        Self {
            records,
            ttl_s,
            secure: false,
            canonical_name: None,
        }
    }
}

/// What an MX record names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MxExchange {
    /// `.`: no host takes this domain's mail (RFC 7505).
    Root,
    /// A host name.
    Host(Domain),
    /// An IP address written where a name must be (RFC 5321 section 5.1).
    Address(IpAddr),
    /// Not a host name at all; as it was given.
    Invalid(Arc<str>),
}

impl MxExchange {
    /// Sorts out the exchange of an MX record, given in presentation format
    /// with or without the trailing dot.
    #[must_use]
    pub fn classify(name: &str) -> Self {
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() {
            return Self::Root;
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Self::Address(address);
        }
        match bare.parse::<Domain>() {
            Ok(domain) if domain.literal().is_none() => Self::Host(domain),
            _ => Self::Invalid(bare.into()),
        }
    }
}

impl fmt::Display for MxExchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("."),
            Self::Host(domain) => formatter.write_str(domain.as_str()),
            Self::Address(address) => address.fmt(formatter),
            Self::Invalid(name) => formatter.write_str(name),
        }
    }
}

/// One MX record (RFC 1035 section 3.3.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MxRecord {
    /// Lower is better.
    pub preference: u16,
    /// Who takes the mail.
    pub exchange: MxExchange,
}

/// Answer to an MX look-up.
pub type MxAnswer = Answer<MxRecord>;
/// Answer to a look-up of addresses, both families.
pub type AddressAnswer = Answer<IpAddr>;
/// Answer to a TXT look-up: one string a record, its parts joined.
pub type TxtAnswer = Answer<String>;
/// Answer to a look-up of an address' names.
pub type PtrAnswer = Answer<Domain>;

/// Why a look-up gave nothing to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemporaryCause {
    /// No server answered in time.
    TimedOut,
    /// SERVFAIL.
    ServerFailure,
    /// REFUSED.
    Refused,
    /// Another response code, or an answer that makes no sense.
    BadResponse,
    /// An answer that was cut, and could not be had whole.
    Truncated,
    /// A chain of aliases without end.
    AliasLoop,
    /// A referral to other servers: the one that was asked does not resolve.
    Referral,
    /// Validation failed (RFC 4035 section 4.3).
    Bogus,
    /// The servers could not be reached.
    Network,
}

impl TemporaryCause {
    /// A stable word for metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::ServerFailure => "server_failure",
            Self::Refused => "refused",
            Self::BadResponse => "bad_response",
            Self::Truncated => "truncated",
            Self::AliasLoop => "alias_loop",
            Self::Referral => "referral",
            Self::Bogus => "bogus",
            Self::Network => "network",
        }
    }
}

impl fmt::Display for TemporaryCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TimedOut => "no answer in time",
            Self::ServerFailure => "SERVFAIL",
            Self::Refused => "REFUSED",
            Self::BadResponse => "unusable response",
            Self::Truncated => "truncated response",
            Self::AliasLoop => "aliases without end",
            Self::Referral => "referral instead of an answer",
            Self::Bogus => "DNSSEC validation failed",
            Self::Network => "name servers unreachable",
        })
    }
}

/// A look-up without records. The difference between the first two and the
/// third decides between a bounce and a deferral, so it is never blurred: what
/// is not proven is [`LookupError::Temporary`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// NXDOMAIN: the name does not exist.
    #[error("no such domain")]
    NoSuchDomain {
        /// Seconds for which this may be kept (RFC 2308 section 5).
        ttl_s: u32,
    },
    /// The name exists and has no record of this type.
    #[error("no records of this type")]
    NoRecords {
        /// Seconds for which this may be kept (RFC 2308 section 5).
        ttl_s: u32,
    },
    /// Nothing is known; later it may be.
    #[error("{cause}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Temporary {
        /// What went wrong.
        cause: TemporaryCause,
        /// More about it, for logs: a server, an error of the system. May be
        /// empty.
        detail: Arc<str>,
    },
}

impl LookupError {
    /// A temporary failure.
    #[must_use]
    pub fn temporary(cause: TemporaryCause, detail: impl Into<Arc<str>>) -> Self {
        Self::Temporary {
            cause,
            detail: detail.into(),
        }
    }

    /// Whether asking later may give another answer.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary { .. })
    }

    /// A stable word for metric labels.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoSuchDomain { .. } => "no_such_domain",
            Self::NoRecords { .. } => "no_records",
            Self::Temporary { .. } => "temporary",
        }
    }
}

/// Asks the DNS. Without a cache of its own: that is [`crate::Directory`]'s.
///
/// Names are asked for as they are: no search list, no hosts file.
pub trait Resolver: Send + Sync {
    /// MX records of a domain, aliases followed.
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<MxAnswer, LookupError>>;

    /// Addresses of a host, both families, aliases followed. See
    /// [`merge_addresses`] for what is made of two answers that disagree.
    fn addresses<'a>(
        &'a self,
        name: &'a Domain,
    ) -> BoxFuture<'a, Result<AddressAnswer, LookupError>>;

    /// Text records of a name, aliases followed.
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<TxtAnswer, LookupError>>;

    /// Names of an address.
    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Result<PtrAnswer, LookupError>>;
}

/// Makes one answer of those for A and AAAA.
///
/// Records of one family are enough, whatever became of the other: some servers
/// fail for AAAA (RFC 4074). Such an answer is kept for half a minute at most.
/// Without any record a temporary failure outweighs a proven absence, and
/// "no records" outweighs "no such domain", which the other answer disproves.
///
/// # Errors
/// Where neither family has records.
pub fn merge_addresses(
    v4: Result<Answer<Ipv4Addr>, LookupError>,
    v6: Result<Answer<Ipv6Addr>, LookupError>,
) -> Result<AddressAnswer, LookupError> {
    match (v4.map(widen), v6.map(widen)) {
        (Ok(mut v4), Ok(v6)) => {
            v4.records.extend(v6.records);
            v4.ttl_s = v4.ttl_s.min(v6.ttl_s);
            v4.secure &= v6.secure;
            v4.canonical_name = v4.canonical_name.or(v6.canonical_name);
            Ok(v4)
        }
        (Ok(mut answer), Err(error)) | (Err(error), Ok(mut answer)) => {
            answer.ttl_s = match error {
                LookupError::Temporary { .. } => answer.ttl_s.min(PARTIAL_TTL_S),
                // The absence of the other family may end before the records do.
                LookupError::NoRecords { ttl_s } if ttl_s > 0 => answer.ttl_s.min(ttl_s),
                _ => answer.ttl_s,
            };
            Ok(answer)
        }
        (Err(v4), Err(v6)) => Err(weightier(v4, v6)),
    }
}

fn widen<T: Into<IpAddr>>(answer: Answer<T>) -> AddressAnswer {
    Answer {
        records: answer.records.into_iter().map(Into::into).collect(),
        ttl_s: answer.ttl_s,
        secure: answer.secure,
        canonical_name: answer.canonical_name,
    }
}

fn weightier(v4: LookupError, v6: LookupError) -> LookupError {
    use LookupError::{NoRecords, NoSuchDomain, Temporary};
    match (v4, v6) {
        (error @ Temporary { .. }, _) | (_, error @ Temporary { .. }) => error,
        (NoSuchDomain { ttl_s: one }, NoSuchDomain { ttl_s: two }) => NoSuchDomain {
            ttl_s: one.min(two),
        },
        (
            NoRecords { ttl_s: one } | NoSuchDomain { ttl_s: one },
            NoRecords { ttl_s: two } | NoSuchDomain { ttl_s: two },
        ) => NoRecords {
            ttl_s: one.min(two),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_sorted_out() {
        for (given, expected) in [
            (".", MxExchange::Root),
            ("", MxExchange::Root),
            (
                "192.0.2.1.",
                MxExchange::Address("192.0.2.1".parse().unwrap()),
            ),
            (
                "2001:db8::1",
                MxExchange::Address("2001:db8::1".parse().unwrap()),
            ),
            (
                "Mail.Example.",
                MxExchange::Host("mail.example".parse().unwrap()),
            ),
            ("[192.0.2.1]", MxExchange::Invalid("[192.0.2.1]".into())),
            (
                "two words.example.",
                MxExchange::Invalid("two words.example".into()),
            ),
        ] {
            assert_eq!(MxExchange::classify(given), expected, "{given:?}");
        }
    }

    fn v4(ttl_s: u32) -> Result<Answer<Ipv4Addr>, LookupError> {
        Ok(Answer::new(vec![Ipv4Addr::new(192, 0, 2, 1)], ttl_s))
    }

    fn v6(ttl_s: u32) -> Result<Answer<Ipv6Addr>, LookupError> {
        Ok(Answer::new(vec![Ipv6Addr::LOCALHOST], ttl_s))
    }

    #[test]
    fn one_family_is_enough_but_not_for_long_if_the_other_failed() {
        let failed = || LookupError::temporary(TemporaryCause::ServerFailure, "");
        assert_eq!(merge_addresses(v4(300), v6(60)).unwrap().ttl_s, 60);
        assert_eq!(merge_addresses(v4(300), v6(60)).unwrap().records.len(), 2);
        assert_eq!(
            merge_addresses(v4(300), Err(failed())).unwrap().ttl_s,
            PARTIAL_TTL_S
        );
        assert_eq!(merge_addresses(Err(failed()), v6(10)).unwrap().ttl_s, 10);
        let absent = || LookupError::NoRecords { ttl_s: 120 };
        assert_eq!(merge_addresses(v4(300), Err(absent())).unwrap().ttl_s, 120);
        let broken = LookupError::NoSuchDomain { ttl_s: 5 };
        assert_eq!(merge_addresses(v4(300), Err(broken)).unwrap().ttl_s, 300);
    }

    #[test]
    fn an_absence_counts_only_when_both_families_prove_it() {
        let failed = || LookupError::temporary(TemporaryCause::TimedOut, "");
        let absent = |ttl_s| LookupError::NoRecords { ttl_s };
        let unknown = |ttl_s| LookupError::NoSuchDomain { ttl_s };
        for (v4, v6, expected) in [
            (absent(9), failed(), failed()),
            (failed(), unknown(9), failed()),
            (absent(9), absent(4), absent(4)),
            (unknown(9), unknown(4), unknown(4)),
            (unknown(9), absent(4), absent(4)),
        ] {
            assert_eq!(merge_addresses(Err(v4), Err(v6)), Err(expected));
        }
    }
}
