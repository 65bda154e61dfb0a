//! Between the words of the plugin contract and those of the plan.
//!
//! The two are kept apart on purpose: the contract is frozen for years, the plan is not.

use smtp::Domain;

/// A hop of a verdict as the plan names it.
pub(crate) fn hop(hop: &plugin::NextHop) -> mx::NextHop {
    let endpoint = match &hop.endpoint {
        plugin::Endpoint::Host(domain) => mx::HopEndpoint::Host(domain.clone()),
        plugin::Endpoint::MxOf(domain) => mx::HopEndpoint::MxOf(domain.clone()),
        plugin::Endpoint::Address(address) => mx::HopEndpoint::Address(*address),
        plugin::Endpoint::UnixSocket(path) => mx::HopEndpoint::UnixSocket(path.clone()),
    };
    let implicit = matches!(hop.tls, Some(plugin::TlsPolicy::Implicit));
    mx::NextHop {
        // RFC 8314 section 7.3.
        port: hop.port.or(implicit.then_some(465)),
        priority: hop.priority,
        weight: hop.weight,
        protocol: match hop.protocol {
            plugin::Protocol::Smtp => mx::Protocol::Smtp,
            plugin::Protocol::Lmtp => mx::Protocol::Lmtp,
        },
        tls: hop.tls.as_ref().map(tls),
        auth: hop.auth.clone(),
        source_pool: hop.source_pool.clone(),
        site: hop.site.clone(),
        ..mx::NextHop::new(endpoint)
    }
}

pub(crate) fn tls(policy: &plugin::TlsPolicy) -> mx::TlsPolicy {
    match policy {
        plugin::TlsPolicy::Off => mx::TlsPolicy::Off,
        plugin::TlsPolicy::Opportunistic => mx::TlsPolicy::Opportunistic,
        plugin::TlsPolicy::Encrypt => mx::TlsPolicy::Encrypt,
        plugin::TlsPolicy::Verify(names) => mx::TlsPolicy::Verify(names.clone()),
        plugin::TlsPolicy::Dane => mx::TlsPolicy::Dane,
        plugin::TlsPolicy::DaneOnly => mx::TlsPolicy::DaneOnly,
        plugin::TlsPolicy::Destination => mx::TlsPolicy::Destination,
        plugin::TlsPolicy::Implicit => mx::TlsPolicy::Implicit,
    }
}

pub(crate) fn choice(choice: &plugin::HopChoice) -> mx::HopChoice {
    match choice {
        plugin::HopChoice::Candidate(index) => mx::HopChoice::Candidate(*index),
        plugin::HopChoice::Changed(change) => mx::HopChoice::Changed(mx::CandidateChange {
            index: change.index,
            priority: change.priority,
            port: change.port,
            tls: change.tls.as_ref().map(tls),
            auth: change.auth.clone(),
            source_pool: change.source_pool.clone(),
        }),
        plugin::HopChoice::Hop(next) => mx::HopChoice::Hop(hop(next)),
    }
}

pub(crate) fn edit(edit: &plugin::MxEdit) -> mx::MxEdit {
    match edit {
        plugin::MxEdit::Drop(names) => mx::MxEdit::Drop(pattern(names)),
        plugin::MxEdit::Keep(names) => mx::MxEdit::Keep(names.iter().map(pattern).collect()),
        plugin::MxEdit::Prefer(names) => mx::MxEdit::Prefer(pattern(names)),
        plugin::MxEdit::Demote(names) => mx::MxEdit::Demote(pattern(names)),
        plugin::MxEdit::InsertFirst(next) => mx::MxEdit::InsertFirst(hop(next)),
        plugin::MxEdit::Append(next) => mx::MxEdit::Append(hop(next)),
        plugin::MxEdit::SetTls(names, policy) => mx::MxEdit::SetTls(pattern(names), tls(policy)),
        plugin::MxEdit::AddressFamily(family) => mx::MxEdit::AddressFamily(match family {
            plugin::AddressFamily::V4 => mx::AddressFamily::V4,
            plugin::AddressFamily::V6 => mx::AddressFamily::V6,
        }),
    }
}

fn pattern(pattern: &plugin::HostPattern) -> mx::HostPattern {
    match pattern {
        plugin::HostPattern::Exact(domain) => mx::HostPattern::Exact(domain.clone()),
        plugin::HostPattern::Below(domain) => mx::HostPattern::Below(domain.clone()),
    }
}

/// A candidate as a plugin sees it.
pub(crate) fn candidate(candidate: &mx::Candidate) -> Option<plugin::Candidate> {
    let host: Domain = match &candidate.endpoint {
        mx::Endpoint::Host(domain) => domain.clone(),
        mx::Endpoint::Address(address) => literal(*address)?,
        // The contract has no word for a socket among candidates.
        mx::Endpoint::UnixSocket(_) => "localhost".parse().ok()?,
    };
    Some(plugin::Candidate {
        preference: u16::try_from(candidate.priority).unwrap_or(u16::MAX),
        host,
        addresses: Vec::new(),
        port: candidate.port,
        origin: match candidate.origin {
            mx::CandidateOrigin::Mx => plugin::CandidateOrigin::Mx,
            mx::CandidateOrigin::ImplicitAddress | mx::CandidateOrigin::Literal => {
                plugin::CandidateOrigin::ImplicitAddress
            }
            mx::CandidateOrigin::Configured => plugin::CandidateOrigin::Configured,
            mx::CandidateOrigin::Plugin => plugin::CandidateOrigin::Plugin,
        },
        secure: candidate.secure,
        health: plugin::HostHealth::default(),
    })
}

fn literal(address: std::net::IpAddr) -> Option<Domain> {
    match address {
        std::net::IpAddr::V4(v4) => format!("[{v4}]").parse().ok(),
        std::net::IpAddr::V6(v6) => format!("[IPv6:{v6}]").parse().ok(),
    }
}

/// Why there are no candidates.
pub(crate) fn plan_failure(failure: &mx::PlanFailure) -> plugin::LookupFailure {
    match failure.reason {
        mx::PlanFailureReason::NoSuchDomain => plugin::LookupFailure::NoSuchDomain,
        mx::PlanFailureReason::NullMx => plugin::LookupFailure::NullMx,
        mx::PlanFailureReason::NoAddresses
        | mx::PlanFailureReason::UnusableMx
        | mx::PlanFailureReason::Loop => plugin::LookupFailure::NoRecords,
        mx::PlanFailureReason::Temporary(_) => plugin::LookupFailure::Temporary,
    }
}

pub(crate) fn lookup_failure(error: &mx::LookupError) -> plugin::LookupFailure {
    match error {
        mx::LookupError::NoSuchDomain { .. } => plugin::LookupFailure::NoSuchDomain,
        mx::LookupError::NoRecords { .. } => plugin::LookupFailure::NoRecords,
        mx::LookupError::Temporary { .. } => plugin::LookupFailure::Temporary,
    }
}
