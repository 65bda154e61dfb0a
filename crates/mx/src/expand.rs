//! Routes that somebody named, resolved where they need it: hops, selections,
//! edits.

use smtp::Domain;

use crate::candidate::{Candidate, CandidateOrigin, DeliveryPlan, Protocol};
use crate::chance::Chance;
use crate::directory::Directory;
use crate::edit::{EditFailure, HopChoice, MxEdit, apply, at, changed};
use crate::hop::{HopEndpoint, HopFault, NextHop};
use crate::plan::{PlanFailureReason, PlanOptions, plan};
use crate::step::Step;

/// Why a named route cannot be used. Mail is then deferred: it never goes by MX
/// instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    /// A list of hops without a hop.
    #[error("the route names no hop")]
    NoHops,
    /// A hop that cannot be used.
    #[error("hop {position}: {fault}")]
    Hop {
        /// Counted from 0.
        position: usize,
        /// What is wrong with it.
        fault: HopFault,
    },
    /// An edit or a choice that cannot be carried out.
    #[error("entry {position}: {failure}")]
    Edit {
        /// Counted from 0.
        position: usize,
        /// What is wrong with it.
        failure: EditFailure,
    },
    /// No hop is left since "MX of" a domain gave none.
    #[error("MX of {domain}: {reason}")]
    Unresolved {
        /// The domain.
        domain: Domain,
        /// Why.
        reason: PlanFailureReason,
    },
}

impl RouteFault {
    /// Whether the same route may work later; otherwise whoever named it is at
    /// fault.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unresolved { reason, .. } if reason.is_temporary())
    }
}

/// Candidates that are tried together, in their order: those of one hop.
struct Block {
    priority: u32,
    weight: u16,
    candidates: Vec<Candidate>,
}

/// A plan of these hops and nothing else: by priority, equal ones in an order
/// by chance and weight as in RFC 2782. The hosts of an "MX of" hop stay
/// together, by preference.
///
/// # Errors
/// [`RouteFault`]. An "MX of" hop that cannot be resolved is left out as long as
/// others are left.
pub async fn expand_hops(
    directory: &Directory,
    hops: &[NextHop],
    origin: CandidateOrigin,
    options: &PlanOptions,
    seed: u64,
) -> Result<DeliveryPlan, RouteFault> {
    let mut expansion = Expansion::new(directory, origin, options, seed);
    let mut blocks = Vec::with_capacity(hops.len());
    for (position, hop) in hops.iter().enumerate() {
        let fault = |fault| RouteFault::Hop { position, fault };
        blocks.extend(expansion.block(hop).await.map_err(fault)?);
    }
    if hops.is_empty() {
        return Err(RouteFault::NoHops);
    }
    let candidates = in_order(blocks, &mut expansion.chance, false);
    expansion.finish(candidates)
}

/// A plan of the chosen candidates of `base` and of other places, by priority.
/// Of equal priority the order of the list counts, unless one of them has a
/// weight: then chance and weight decide, as in [`expand_hops`].
///
/// # Errors
/// [`RouteFault`].
pub async fn select_hops(
    directory: &Directory,
    base: &DeliveryPlan,
    choices: &[HopChoice],
    origin: CandidateOrigin,
    options: &PlanOptions,
    seed: u64,
) -> Result<DeliveryPlan, RouteFault> {
    let mut expansion = Expansion::new(directory, origin, options, seed);
    let mut blocks = Vec::with_capacity(choices.len());
    let mut taken = vec![false; base.candidates.len()];
    for (position, choice) in choices.iter().enumerate() {
        let failed = |failure| RouteFault::Edit { position, failure };
        let candidate = match choice {
            HopChoice::Hop(hop) => {
                let fault = |fault| RouteFault::Hop { position, fault };
                blocks.extend(expansion.block(hop).await.map_err(fault)?);
                continue;
            }
            HopChoice::Candidate(index) => {
                let candidate = at(&base.candidates, *index).map_err(failed)?;
                taken[*index as usize] = true;
                candidate
            }
            HopChoice::Changed(change) => {
                let candidate = changed(&base.candidates, change).map_err(failed)?;
                taken[change.index as usize] = true;
                candidate
            }
        };
        blocks.push(Block {
            priority: candidate.priority,
            weight: candidate.weight,
            candidates: vec![candidate],
        });
    }
    let candidates = in_order(blocks, &mut expansion.chance, true);
    let left_out_count = taken.iter().filter(|&&taken| !taken).count();
    expansion.why.push(Step::Selected {
        taken_count: candidates.len(),
        left_out_count,
    });
    let mut made = expansion.finish(candidates)?;
    made.why.splice(0..0, base.why.iter().cloned());
    Ok(made)
}

/// The plan `base` with these edits, applied in order.
///
/// # Errors
/// [`RouteFault`].
pub async fn edit_plan(
    directory: &Directory,
    base: DeliveryPlan,
    edits: &[MxEdit],
    origin: CandidateOrigin,
    options: &PlanOptions,
    seed: u64,
) -> Result<DeliveryPlan, RouteFault> {
    let DeliveryPlan {
        mut candidates,
        why,
    } = base;
    let mut expansion = Expansion::new(directory, origin, options, seed);
    expansion.why = why;
    for (position, edit) in edits.iter().enumerate() {
        let inserted = match edit {
            MxEdit::InsertFirst(hop) | MxEdit::Append(hop) => {
                let hop = NextHop {
                    priority: 0,
                    ..hop.clone()
                };
                let fault = |fault| RouteFault::Hop { position, fault };
                let block = expansion.block(&hop).await.map_err(fault)?;
                block.map_or_else(Vec::new, |block| block.candidates)
            }
            _ => Vec::new(),
        };
        let failed = |failure| RouteFault::Edit { position, failure };
        let step = apply(&mut candidates, edit, inserted).map_err(failed)?;
        expansion.why.push(step);
    }
    expansion.finish(candidates)
}

/// One route being worked out.
struct Expansion<'a> {
    directory: &'a Directory,
    origin: CandidateOrigin,
    options: &'a PlanOptions,
    chance: Chance,
    why: Vec<Step>,
    unresolved: Option<(Domain, PlanFailureReason)>,
}

impl<'a> Expansion<'a> {
    fn new(
        directory: &'a Directory,
        origin: CandidateOrigin,
        options: &'a PlanOptions,
        seed: u64,
    ) -> Self {
        let (chance, why) = (Chance::new(seed), Vec::new());
        Self {
            directory,
            origin,
            options,
            chance,
            why,
            unresolved: None,
        }
    }

    /// The candidates of one hop; none where "MX of" gave none.
    async fn block(&mut self, hop: &NextHop) -> Result<Option<Block>, HopFault> {
        let candidates = match (hop.candidate(self.origin, self.options)?, &hop.endpoint) {
            (Some(candidate), _) => {
                self.why.push(Step::Hop {
                    hop: candidate.to_string(),
                });
                vec![candidate]
            }
            (None, HopEndpoint::MxOf(domain)) => match self.mx_of(hop, domain).await {
                Some(candidates) => candidates,
                None => return Ok(None),
            },
            (None, _) => return Ok(None),
        };
        Ok(Some(Block {
            priority: u32::from(hop.priority),
            weight: hop.weight,
            candidates,
        }))
    }

    async fn mx_of(&mut self, hop: &NextHop, domain: &Domain) -> Option<Vec<Candidate>> {
        let port = match (hop.port, hop.protocol) {
            (Some(port), _) => port,
            (None, Protocol::Smtp) => self.options.port,
            (None, Protocol::Lmtp) => Protocol::Lmtp.default_port(),
        };
        let options = PlanOptions {
            port,
            ..self.options.clone()
        };
        match plan(self.directory, domain, &options, self.chance.next_u64()).await {
            Ok(plan) => {
                self.why.extend(plan.why);
                let mut candidates = plan.candidates;
                for candidate in &mut candidates {
                    hop.settle(candidate, self.options);
                    candidate.priority = u32::from(hop.priority);
                }
                Some(candidates)
            }
            Err(failure) => {
                self.why.extend(failure.why);
                let reason = failure.reason.to_string();
                self.why.push(Step::HopUnresolved {
                    domain: domain.clone(),
                    reason,
                });
                // A temporary failure is the better reason to give: it may pass.
                if !matches!(&self.unresolved, Some((_, known)) if known.is_temporary()) {
                    self.unresolved = Some((domain.clone(), failure.reason));
                }
                None
            }
        }
    }

    fn finish(self, candidates: Vec<Candidate>) -> Result<DeliveryPlan, RouteFault> {
        let mut distinct: Vec<Candidate> = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if !distinct.iter().any(|known| known.same_place(&candidate)) {
                distinct.push(candidate);
            }
        }
        if distinct.is_empty() {
            return Err(match self.unresolved {
                Some((domain, reason)) => RouteFault::Unresolved { domain, reason },
                None => RouteFault::Edit {
                    position: 0,
                    failure: EditFailure::NothingLeft,
                },
            });
        }
        Ok(DeliveryPlan {
            candidates: distinct,
            why: self.why,
        })
    }
}

fn in_order(mut blocks: Vec<Block>, chance: &mut Chance, listed: bool) -> Vec<Candidate> {
    blocks.sort_by_key(|block| block.priority);
    for equals in blocks.chunk_by_mut(|one, other| one.priority == other.priority) {
        if !listed || equals.iter().any(|block| block.weight > 0) {
            chance.shuffle_weighted(equals, |block| block.weight);
        }
    }
    blocks
        .into_iter()
        .flat_map(|block| block.candidates)
        .collect()
}
