//! From the records of a domain to the hosts to try (RFC 5321 section 5.1,
//! RFC 7505).

use std::collections::HashSet;

use smtp::{Domain, Reply};

use crate::candidate::{Candidate, CandidateOrigin, DeliveryPlan, Endpoint, TlsPolicy};
use crate::chance::Chance;
use crate::directory::{Directory, Lookup};
use crate::resolver::{Answer, LookupError, MxExchange, MxRecord, RecordKind};
use crate::step::{DropReason, MxLine, Step};

/// What a plan is made with.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Port to connect to; 25 but in tests and closed networks.
    pub port: u16,
    /// Names by which MX records may call this relay.
    pub own_names: Vec<Domain>,
    /// Most hosts to try in one plan; the most preferred are kept.
    pub hosts_limit: usize,
    /// TLS policy of every candidate.
    pub tls: TlsPolicy,
    /// Pool of source addresses of every candidate.
    pub source_pool: Option<String>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            port: 25,
            own_names: Vec::new(),
            hosts_limit: 20,
            tls: TlsPolicy::default(),
            source_pool: None,
        }
    }
}

impl PlanOptions {
    fn candidate(&self, endpoint: Endpoint, origin: CandidateOrigin) -> Candidate {
        let mut candidate = Candidate::new(endpoint, self.port, origin);
        candidate.tls = self.tls.clone();
        candidate.source_pool.clone_from(&self.source_pool);
        candidate
    }
}

/// Why there is nothing to try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFailureReason {
    /// NXDOMAIN.
    #[error("the domain does not exist")]
    NoSuchDomain,
    /// RFC 7505.
    #[error("the domain takes no mail (null MX)")]
    NullMx,
    /// The name exists, with neither MX nor address records: proven.
    #[error("the domain has neither MX nor address records")]
    NoAddresses,
    /// There are MX records, none of which names a host.
    #[error("no MX record of the domain names a host")]
    UnusableMx,
    /// This relay is the best mail exchange, yet does not take the mail itself.
    #[error("mail for the domain loops back to this relay")]
    Loop,
    /// Nothing is known.
    #[error("DNS look-up failed: {0}")]
    Temporary(LookupError),
}

impl PlanFailureReason {
    /// A stable word for metric labels.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoSuchDomain => "no_such_domain",
            Self::NullMx => "null_mx",
            Self::NoAddresses => "no_addresses",
            Self::UnusableMx => "unusable_mx",
            Self::Loop => "loop",
            Self::Temporary(_) => "temporary",
        }
    }

    /// Whether trying later may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }

    /// The reply that stands for it in the queue and in a bounce.
    #[must_use]
    pub fn reply(&self, domain: &Domain) -> Reply {
        let text = |about: &str| format!("{domain}: {about}");
        match self {
            Self::NoSuchDomain => Reply::new(550, (5, 1, 2), text("domain does not exist")),
            // RFC 7505 section 4.1 gives both codes.
            Self::NullMx => Reply::new(556, (5, 1, 10), text("domain does not accept mail")),
            Self::NoAddresses => Reply::new(
                550,
                (5, 1, 2),
                text("domain has neither MX nor address records"),
            ),
            Self::UnusableMx => Reply::new(550, (5, 4, 4), text("no MX record names a host")),
            Self::Loop => Reply::new(554, (5, 4, 6), text("mail loops back to this relay")),
            Self::Temporary(error) => Reply::new(
                451,
                (4, 4, 3),
                text(&format!("DNS look-up failed: {error}")),
            ),
        }
    }
}

/// No plan, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{domain}: {reason}")]
pub struct PlanFailure {
    /// Whose mail it is.
    pub domain: Domain,
    /// Why.
    pub reason: PlanFailureReason,
    /// Every step that led here.
    pub why: Vec<Step>,
}

impl PlanFailure {
    /// As [`PlanFailureReason::reply`].
    #[must_use]
    pub fn reply(&self) -> Reply {
        self.reason.reply(&self.domain)
    }

    /// As [`PlanFailureReason::is_temporary`].
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.reason.is_temporary()
    }
}

/// Where mail for a domain goes by the DNS.
///
/// An address literal is taken by its word. Otherwise the MX records decide; on
/// a proven absence of any, the domain's own addresses. Addresses of MX hosts
/// are not looked up here but when a host's turn comes.
///
/// # Errors
/// [`PlanFailure`]; what is not proven is temporary.
pub async fn plan(
    directory: &Directory,
    domain: &Domain,
    options: &PlanOptions,
    seed: u64,
) -> Result<DeliveryPlan, PlanFailure> {
    if domain.is_literal() {
        return plan_literal(domain, options);
    }
    let mx = directory.mx(domain).await;
    let addresses = match mx.outcome {
        Err(LookupError::NoRecords { .. }) => Some(directory.addresses(domain).await),
        _ => None,
    };
    plan_from_answers(domain, &mx, addresses.as_ref(), options, seed)
}

fn plan_literal(domain: &Domain, options: &PlanOptions) -> Result<DeliveryPlan, PlanFailure> {
    let Some(address) = domain.literal() else {
        // A literal of a kind that nobody has defined yet (RFC 5321 4.1.3).
        let (domain, why) = (domain.clone(), Vec::new());
        return Err(PlanFailure {
            domain,
            reason: PlanFailureReason::NoAddresses,
            why,
        });
    };
    Ok(DeliveryPlan {
        candidates: vec![options.candidate(Endpoint::Address(address), CandidateOrigin::Literal)],
        why: vec![Step::AddressLiteral {
            domain: domain.clone(),
            address,
        }],
    })
}

/// The pure part of [`plan()`]. `addresses` are the domain's own; they count only
/// where `mx` is a proven absence, and their lack then means that nothing is
/// known.
///
/// # Errors
/// As [`plan()`].
pub fn plan_from_answers(
    domain: &Domain,
    mx: &Lookup<MxRecord>,
    addresses: Option<&Lookup<std::net::IpAddr>>,
    options: &PlanOptions,
    seed: u64,
) -> Result<DeliveryPlan, PlanFailure> {
    let mut why = Vec::new();
    let found = match &mx.outcome {
        Ok(answer) => {
            why.push(found_step(domain, answer, mx));
            plan_mx(domain, answer, options, seed, &mut why)
        }
        Err(error) => {
            why.push(Step::lookup_failed(
                RecordKind::Mx,
                domain,
                error,
                mx.freshness,
            ));
            match error {
                LookupError::NoRecords { .. } => {
                    plan_implicit(domain, addresses, options, &mut why)
                }
                LookupError::NoSuchDomain { .. } => Err(PlanFailureReason::NoSuchDomain),
                LookupError::Temporary { .. } => Err(PlanFailureReason::Temporary(error.clone())),
            }
        }
    };
    match found {
        Ok(candidates) => Ok(DeliveryPlan { candidates, why }),
        Err(reason) => Err(PlanFailure {
            domain: domain.clone(),
            reason,
            why,
        }),
    }
}

fn found_step(domain: &Domain, answer: &Answer<MxRecord>, mx: &Lookup<MxRecord>) -> Step {
    let mut records: Vec<MxLine> = answer
        .records
        .iter()
        .map(|record| MxLine {
            preference: record.preference,
            exchange: record.exchange.to_string(),
        })
        .collect();
    records.sort_by_key(|line| line.preference);
    Step::MxFound {
        domain: domain.clone(),
        records,
        ttl_s: answer.ttl_s,
        freshness: mx.freshness,
        secure: answer.secure,
        canonical_name: answer.canonical_name.clone(),
    }
}

fn plan_mx(
    domain: &Domain,
    answer: &Answer<MxRecord>,
    options: &PlanOptions,
    seed: u64,
    why: &mut Vec<Step>,
) -> Result<Vec<Candidate>, PlanFailureReason> {
    // RFC 7505 wants one record of preference 0. A domain with nothing but "."
    // in another shape cannot mean anything else.
    if answer
        .records
        .iter()
        .all(|record| record.exchange == MxExchange::Root)
    {
        why.push(Step::NullMx {
            domain: domain.clone(),
        });
        return Err(PlanFailureReason::NullMx);
    }
    let mut hosts = usable_hosts(answer, why);
    if hosts.is_empty() {
        return Err(PlanFailureReason::UnusableMx);
    }
    let ours = hosts
        .iter()
        .find(|(_, host)| options.own_names.contains(host));
    if let Some((preference, host)) = ours.cloned() {
        let before = hosts.len();
        hosts.retain(|(other, _)| *other < preference);
        why.push(Step::CutAtOurselves {
            host: host.to_string(),
            preference: u32::from(preference),
            dropped_count: before - hosts.len(),
        });
        if hosts.is_empty() {
            return Err(PlanFailureReason::Loop);
        }
    }
    shuffle_equals(&mut hosts, seed, why);
    if hosts.len() > options.hosts_limit.max(1) {
        let kept_count = options.hosts_limit.max(1);
        why.push(Step::Limited {
            kept_count,
            dropped_count: hosts.len() - kept_count,
        });
        hosts.truncate(kept_count);
    }
    let candidates = hosts.into_iter().map(|(preference, host)| {
        let mut candidate = options.candidate(Endpoint::Host(host), CandidateOrigin::Mx);
        candidate.priority = u32::from(preference);
        candidate.secure = answer.secure;
        candidate
    });
    Ok(candidates.collect())
}

/// The hosts among the records, by preference, each once.
fn usable_hosts(answer: &Answer<MxRecord>, why: &mut Vec<Step>) -> Vec<(u16, Domain)> {
    let mut records: Vec<&MxRecord> = answer.records.iter().collect();
    records.sort_by_key(|record| record.preference);
    let mut seen = HashSet::new();
    let mut hosts = Vec::with_capacity(records.len());
    for record in records {
        let reason = match &record.exchange {
            MxExchange::Host(host) => {
                if seen.insert(host) {
                    hosts.push((record.preference, host.clone()));
                    continue;
                }
                DropReason::Duplicate
            }
            MxExchange::Root => DropReason::RootBesideOthers,
            MxExchange::Address(_) => DropReason::AddressAsName,
            MxExchange::Invalid(_) => DropReason::NotAHostName,
        };
        why.push(Step::RecordDropped {
            preference: record.preference,
            exchange: record.exchange.to_string(),
            reason,
        });
    }
    hosts
}

/// Spreads load over hosts of equal preference (RFC 5321 section 5.1).
fn shuffle_equals(hosts: &mut [(u16, Domain)], seed: u64, why: &mut Vec<Step>) {
    let mut chance = Chance::new(seed);
    for equals in hosts.chunk_by_mut(|one, other| one.0 == other.0) {
        if equals.len() < 2 {
            continue;
        }
        chance.shuffle(equals);
        why.push(Step::Shuffled {
            preference: u32::from(equals[0].0),
            hosts: equals.iter().map(|(_, host)| host.to_string()).collect(),
        });
    }
}

fn plan_implicit(
    domain: &Domain,
    addresses: Option<&Lookup<std::net::IpAddr>>,
    options: &PlanOptions,
    why: &mut Vec<Step>,
) -> Result<Vec<Candidate>, PlanFailureReason> {
    let Some(lookup) = addresses else {
        let cause = crate::resolver::TemporaryCause::BadResponse;
        let error = LookupError::temporary(cause, "addresses were not looked up");
        return Err(PlanFailureReason::Temporary(error));
    };
    let answer = match &lookup.outcome {
        Ok(answer) => answer,
        Err(error) => {
            why.push(Step::lookup_failed(
                RecordKind::Addresses,
                domain,
                error,
                lookup.freshness,
            ));
            return Err(match error {
                LookupError::NoRecords { .. } => PlanFailureReason::NoAddresses,
                LookupError::NoSuchDomain { .. } => PlanFailureReason::NoSuchDomain,
                LookupError::Temporary { .. } => PlanFailureReason::Temporary(error.clone()),
            });
        }
    };
    why.push(Step::ImplicitMx {
        domain: domain.clone(),
    });
    why.push(Step::AddressesFound {
        domain: domain.clone(),
        addresses: answer.records.clone(),
        ttl_s: answer.ttl_s,
        freshness: lookup.freshness,
    });
    if options.own_names.contains(domain) {
        why.push(Step::CutAtOurselves {
            host: domain.to_string(),
            preference: 0,
            dropped_count: 1,
        });
        return Err(PlanFailureReason::Loop);
    }
    let endpoint = Endpoint::Host(domain.clone());
    let mut candidate = options.candidate(endpoint, CandidateOrigin::ImplicitAddress);
    candidate.secure = answer.secure;
    Ok(vec![candidate])
}
