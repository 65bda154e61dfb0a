//! Edits and selections that a plugin makes of a list of candidates: the pure
//! part.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use smtp::Domain;

use crate::candidate::{AddressFamily, Candidate, Endpoint, TlsPolicy, shift_behind};
use crate::hop::{HopFault, NextHop, check_name, check_tls};
use crate::step::Step;

/// A pattern for hosts: a name, an address, or `*.suffix` for every name below
/// `suffix` (not `suffix` itself).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// This name.
    Exact(Domain),
    /// Every name below this one.
    Below(Domain),
    /// This address.
    Address(IpAddr),
}

impl HostPattern {
    /// Whether a place matches. Local sockets never do.
    #[must_use]
    pub fn matches(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint) {
            (Self::Exact(name), Endpoint::Host(host)) => name == host,
            (Self::Below(suffix), Endpoint::Host(host)) => host
                .as_str()
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Address(address), Endpoint::Address(other)) => address == other,
            _ => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = EditFailure;

    fn from_str(text: &str) -> Result<Self, EditFailure> {
        let invalid = || EditFailure::InvalidPattern {
            given: text.to_owned(),
        };
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let domain: Domain = name.parse().map_err(|_| invalid())?;
        match domain.literal() {
            Some(address) if !below => Ok(Self::Address(address)),
            _ if domain.is_literal() => Err(invalid()),
            _ if below => Ok(Self::Below(domain)),
            _ => Ok(Self::Exact(domain)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name.as_str()),
            Self::Below(suffix) => write!(formatter, "*.{suffix}"),
            Self::Address(address) => address.fmt(formatter),
        }
    }
}

/// A standing edit of the MX-based list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MxEdit {
    /// Drop candidates that match.
    Drop(HostPattern),
    /// Drop candidates that match none.
    Keep(Vec<HostPattern>),
    /// Try matching candidates first.
    Prefer(HostPattern),
    /// Try matching candidates last.
    Demote(HostPattern),
    /// Before all candidates; of two such edits the later comes first. The
    /// hop's priority does not count.
    InsertFirst(NextHop),
    /// After all candidates. The hop's priority does not count.
    Append(NextHop),
    /// TLS policy for matching candidates.
    SetTls(HostPattern, TlsPolicy),
    /// Use only addresses of this family.
    AddressFamily(AddressFamily),
}

impl fmt::Display for MxEdit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(pattern) => write!(formatter, "drop {pattern}"),
            Self::Keep(patterns) => {
                formatter.write_str("keep only")?;
                patterns
                    .iter()
                    .try_for_each(|pattern| write!(formatter, " {pattern}"))
            }
            Self::Prefer(pattern) => write!(formatter, "prefer {pattern}"),
            Self::Demote(pattern) => write!(formatter, "demote {pattern}"),
            Self::InsertFirst(hop) => write!(formatter, "insert first {}", hop.endpoint),
            Self::Append(hop) => write!(formatter, "append {}", hop.endpoint),
            Self::SetTls(pattern, tls) => write!(formatter, "TLS of {pattern}: {tls}"),
            Self::AddressFamily(family) => write!(formatter, "{family} only"),
        }
    }
}

/// A candidate used otherwise than the list says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CandidateChange {
    /// Position in the list.
    pub index: u32,
    /// Lower is tried first.
    pub priority: Option<u16>,
    /// Another port.
    pub port: Option<u16>,
    /// Another TLS policy.
    pub tls: Option<TlsPolicy>,
    /// Name of a credential.
    pub auth: Option<String>,
    /// Name of a pool of source addresses.
    pub source_pool: Option<String>,
}

/// One entry of an explicit selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HopChoice {
    /// That candidate, as it is.
    Candidate(u32),
    /// That candidate, changed.
    Changed(CandidateChange),
    /// Another place.
    Hop(NextHop),
}

/// Why an edit or a selection cannot be carried out. The answer of a plugin
/// that asks for it is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditFailure {
    /// No candidate is left.
    #[error("no candidate is left")]
    NothingLeft,
    /// There is no such candidate.
    #[error("candidate {index} of {candidates_count} (they are counted from 0)")]
    IndexOutOfRange {
        /// As given.
        index: u32,
        /// How many there are.
        candidates_count: usize,
    },
    /// Neither a name, nor an address, nor `*.suffix`.
    #[error("{given:?} is not a pattern for hosts")]
    InvalidPattern {
        /// As given.
        given: String,
    },
    /// Neither 4 nor 6.
    #[error("{given} is not an address family: 4 or 6")]
    InvalidFamily {
        /// As given.
        given: u8,
    },
    /// Something about a hop or a change.
    #[error(transparent)]
    Fault(#[from] HopFault),
}

/// Applies one edit. `inserted` are the candidates that the hop of an insertion
/// stands for, in order; empty for other edits.
///
/// # Errors
/// [`EditFailure::NothingLeft`], or a fault of the edit itself; the list is then
/// not to be used.
pub(crate) fn apply(
    candidates: &mut Vec<Candidate>,
    edit: &MxEdit,
    inserted: Vec<Candidate>,
) -> Result<Step, EditFailure> {
    let before = candidates.len();
    let affected_count = match edit {
        MxEdit::Drop(pattern) => {
            candidates.retain(|candidate| !pattern.matches(&candidate.endpoint));
            before - candidates.len()
        }
        MxEdit::Keep(patterns) => {
            let kept = |candidate: &Candidate| {
                patterns
                    .iter()
                    .any(|pattern| pattern.matches(&candidate.endpoint))
            };
            candidates.retain(kept);
            before - candidates.len()
        }
        MxEdit::Prefer(pattern) => move_matching(candidates, pattern, true),
        MxEdit::Demote(pattern) => move_matching(candidates, pattern, false),
        MxEdit::InsertFirst(_) => {
            let rest = std::mem::take(candidates);
            insert(candidates, inserted, rest)
        }
        MxEdit::Append(_) => {
            let rest = std::mem::take(candidates);
            let added_count = inserted.len();
            insert(candidates, rest, inserted);
            added_count
        }
        MxEdit::SetTls(pattern, tls) => {
            check_tls(tls)?;
            let matching = candidates
                .iter_mut()
                .filter(|one| pattern.matches(&one.endpoint));
            matching
                .map(|candidate| candidate.tls = tls.clone())
                .count()
        }
        MxEdit::AddressFamily(family) => {
            candidates.retain(|candidate| match candidate.endpoint {
                Endpoint::Address(address) => AddressFamily::of(address) == *family,
                _ => true,
            });
            candidates
                .iter_mut()
                .map(|candidate| candidate.family = Some(*family))
                .count()
        }
    };
    if candidates.is_empty() {
        return Err(EditFailure::NothingLeft);
    }
    Ok(Step::Edited {
        edit: edit.to_string(),
        affected_count,
    })
}

fn move_matching(candidates: &mut Vec<Candidate>, pattern: &HostPattern, first: bool) -> usize {
    let all = std::mem::take(candidates);
    let (matching, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|candidate| pattern.matches(&candidate.endpoint));
    let affected_count = matching.len();
    if first {
        insert(candidates, matching, others);
    } else {
        insert(candidates, others, matching);
    }
    affected_count
}

/// Makes one list of two; the priorities of the later ones are raised as far as
/// the order calls for. Gives the number of earlier ones.
fn insert(into: &mut Vec<Candidate>, earlier: Vec<Candidate>, later: Vec<Candidate>) -> usize {
    let shift = shift_behind(&earlier, &later);
    let earlier_count = earlier.len();
    into.extend(earlier);
    into.extend(later.into_iter().map(|mut candidate| {
        candidate.priority = candidate.priority.saturating_add(shift);
        candidate
    }));
    earlier_count
}

/// The candidate of an index.
pub(crate) fn at(candidates: &[Candidate], index: u32) -> Result<Candidate, EditFailure> {
    let position = usize::try_from(index).unwrap_or(usize::MAX);
    candidates
        .get(position)
        .cloned()
        .ok_or(EditFailure::IndexOutOfRange {
            index,
            candidates_count: candidates.len(),
        })
}

/// The candidate of a change, changed.
pub(crate) fn changed(
    candidates: &[Candidate],
    change: &CandidateChange,
) -> Result<Candidate, EditFailure> {
    let mut candidate = at(candidates, change.index)?;
    if let Some(priority) = change.priority {
        candidate.priority = u32::from(priority);
    }
    if let Some(port) = change.port {
        if port == 0 {
            return Err(HopFault::PortZero.into());
        }
        if matches!(candidate.endpoint, Endpoint::UnixSocket(_)) {
            return Err(HopFault::PortOfSocket.into());
        }
        candidate.port = port;
    }
    if let Some(tls) = &change.tls {
        check_tls(tls)?;
        candidate.tls = tls.clone();
    }
    if let Some(auth) = &change.auth {
        check_name("auth", auth)?;
        candidate.auth = Some(auth.clone());
    }
    if let Some(pool) = &change.source_pool {
        check_name("source-pool", pool)?;
        candidate.source_pool = Some(pool.clone());
    }
    Ok(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::CandidateOrigin;
    use crate::hop::HopEndpoint;

    fn list() -> Vec<Candidate> {
        [
            ("a.mx.example", 10),
            ("b.mx.example", 10),
            ("c.other.example", 20),
        ]
        .into_iter()
        .map(|(host, priority)| {
            let endpoint = Endpoint::Host(host.parse().unwrap());
            let mut candidate = Candidate::new(endpoint, 25, CandidateOrigin::Mx);
            candidate.priority = priority;
            candidate
        })
        .collect()
    }

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    fn hop(host: &str) -> NextHop {
        NextHop::new(HopEndpoint::host(host).unwrap())
    }

    fn shown(candidates: &[Candidate]) -> String {
        let shown: Vec<String> = candidates
            .iter()
            .map(|candidate| format!("{} {}", candidate.priority, candidate.endpoint))
            .collect();
        shown.join(", ")
    }

    #[test]
    fn patterns_match_names_below_and_addresses() {
        let host = |name: &str| Endpoint::Host(name.parse().unwrap());
        for (text, endpoint, expected) in [
            ("a.example", host("a.example"), true),
            ("A.Example.", host("a.example"), true),
            ("a.example", host("b.a.example"), false),
            ("*.example", host("a.example"), true),
            ("*.example", host("x.a.example"), true),
            ("*.example", host("example"), false),
            ("*.example", host("anexample"), false),
            (
                "192.0.2.1",
                Endpoint::Address("192.0.2.1".parse().unwrap()),
                true,
            ),
            (
                "[192.0.2.1]",
                Endpoint::Address("192.0.2.1".parse().unwrap()),
                true,
            ),
            ("192.0.2.1", host("a.example"), false),
            (
                "*.example",
                Endpoint::UnixSocket("/x.example".into()),
                false,
            ),
        ] {
            assert_eq!(
                pattern(text).matches(&endpoint),
                expected,
                "{text} {endpoint}"
            );
        }
        for bad in [
            "",
            "*",
            "*.",
            "*.*.example",
            "a*.example",
            "a..b",
            "*.[192.0.2.1]",
        ] {
            let invalid = EditFailure::InvalidPattern {
                given: bad.to_owned(),
            };
            assert_eq!(bad.parse::<HostPattern>(), Err(invalid), "{bad}");
        }
    }

    #[test]
    fn each_edit_does_what_it_says() {
        let inserted = |host: &str| {
            let options = crate::PlanOptions::default();
            vec![
                hop(host)
                    .candidate(CandidateOrigin::Plugin, &options)
                    .unwrap()
                    .unwrap(),
            ]
        };
        let cases = [
            (
                MxEdit::Drop(pattern("b.mx.example")),
                "10 a.mx.example, 20 c.other.example",
                1,
            ),
            (MxEdit::Drop(pattern("zzz.example")), LIST, 0),
            (
                MxEdit::Keep(vec![pattern("*.mx.example")]),
                "10 a.mx.example, 10 b.mx.example",
                1,
            ),
            (
                MxEdit::Prefer(pattern("c.other.example")),
                "20 c.other.example, 21 a.mx.example, 21 b.mx.example",
                1,
            ),
            (
                MxEdit::Demote(pattern("a.mx.example")),
                "10 b.mx.example, 20 c.other.example, 21 a.mx.example",
                1,
            ),
            (MxEdit::Prefer(pattern("*.mx.example")), LIST, 2),
            (
                MxEdit::InsertFirst(hop("gw.example")),
                "0 gw.example, 10 a.mx.example, 10 b.mx.example, 20 c.other.example",
                1,
            ),
            (
                MxEdit::Append(hop("gw.example")),
                "10 a.mx.example, 10 b.mx.example, 20 c.other.example, 21 gw.example",
                1,
            ),
        ];
        for (edit, expected, expected_count) in cases {
            let mut candidates = list();
            let inserted = match &edit {
                MxEdit::InsertFirst(_) | MxEdit::Append(_) => inserted("gw.example"),
                _ => Vec::new(),
            };
            let step = apply(&mut candidates, &edit, inserted).unwrap();
            assert_eq!(shown(&candidates), expected, "{edit}");
            let edit = edit.to_string();
            assert_eq!(
                step,
                Step::Edited {
                    edit,
                    affected_count: expected_count
                }
            );
        }
    }

    const LIST: &str = "10 a.mx.example, 10 b.mx.example, 20 c.other.example";

    #[test]
    fn settings_reach_the_candidates_meant() {
        let mut candidates = list();
        let edit = MxEdit::SetTls(pattern("*.mx.example"), TlsPolicy::Encrypt);
        apply(&mut candidates, &edit, Vec::new()).unwrap();
        assert_eq!(candidates[0].tls, TlsPolicy::Encrypt);
        assert_eq!(candidates[2].tls, TlsPolicy::Opportunistic);

        let address = Endpoint::Address("192.0.2.1".parse().unwrap());
        candidates.push(Candidate::new(address, 25, CandidateOrigin::Plugin));
        apply(
            &mut candidates,
            &MxEdit::AddressFamily(AddressFamily::V6),
            Vec::new(),
        )
        .unwrap();
        assert_eq!(
            candidates.len(),
            3,
            "an address of the other family is no use"
        );
        assert!(
            candidates
                .iter()
                .all(|one| one.family == Some(AddressFamily::V6))
        );
    }

    #[test]
    fn an_edit_that_leaves_nothing_fails() {
        for edit in [
            MxEdit::Drop(pattern("*.example")),
            MxEdit::Keep(Vec::new()),
            MxEdit::Keep(vec![pattern("zzz.example")]),
        ] {
            let failure = apply(&mut list(), &edit, Vec::new());
            assert_eq!(failure, Err(EditFailure::NothingLeft), "{edit}");
        }
    }

    #[test]
    fn changes_are_checked() {
        let candidates = list();
        let change = CandidateChange {
            index: 2,
            priority: Some(1),
            port: Some(2525),
            tls: Some(TlsPolicy::Verify(Vec::new())),
            auth: Some("smarthost".into()),
            source_pool: Some("warm".into()),
        };
        let candidate = changed(&candidates, &change).unwrap();
        assert_eq!(
            candidate.to_string(),
            "c.other.example:2525 (priority 1, mx, tls verify, auth smarthost, from warm)"
        );
        let out_of_range = EditFailure::IndexOutOfRange {
            index: 3,
            candidates_count: 3,
        };
        assert_eq!(at(&candidates, 3), Err(out_of_range));
        let zero = CandidateChange {
            port: Some(0),
            ..CandidateChange::default()
        };
        assert_eq!(changed(&candidates, &zero), Err(HopFault::PortZero.into()));
        let unnamed = CandidateChange {
            auth: Some(String::new()),
            ..CandidateChange::default()
        };
        let fault = HopFault::InvalidName {
            what: "auth",
            given: String::new(),
        };
        assert_eq!(changed(&candidates, &unnamed), Err(fault.into()));
    }
}
