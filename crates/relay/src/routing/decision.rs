//! What one decision of a plugin makes of where things stand.

use std::sync::Arc;

use mx::{CandidateOrigin, DeliveryPlan, PlanFailure, RouteFault, Step};
use plugin::Decision;
use queue::{Deferral, Disposition, UnixMs};
use smtp::Reply;

use super::Planned;
use super::base::{Base, plan_options};
use super::draft::Stand;
use crate::policy::convert;

/// A decision that cannot be carried out.
pub(super) enum Obstacle {
    /// The plugin asked for something impossible: its answer is invalid.
    Plugin(String),
    /// What the plugin named cannot be found out now; later it may be.
    Later {
        /// Why the mail waits.
        reply: Reply,
        /// What was tried.
        why: Vec<Step>,
    },
    /// What the plugin would have changed does not exist, by the DNS.
    Base(PlanFailure),
}

/// What a decision makes of where things stand; none: it changes nothing.
pub(super) async fn carry_out(
    decision: &Decision,
    base: &Base,
    stand: &Stand,
    plugin: &str,
) -> Result<Option<Stand>, Obstacle> {
    let options = plan_options(&base.settings.config);
    let directory = &base.settings.directory;
    let (seed, origin) = (base.seed, CandidateOrigin::Plugin);
    let current = || async {
        match stand {
            Stand::Made(plan) => Ok(Arc::clone(plan)),
            Stand::Base | Stand::Settled(_) => base.plan().await.map_err(Obstacle::Base),
        }
    };
    let made = match decision {
        Decision::Proceed => return Ok(None),
        Decision::Hold { .. } if base.was_released => return Ok(None),
        Decision::UseHops {
            hops,
            fall_back_to_mx,
        } => use_hops(base, hops, *fall_back_to_mx).await?,
        Decision::Select { choices } => {
            let current = current().await?;
            let choices: Vec<mx::HopChoice> = choices.iter().map(convert::choice).collect();
            mx::select_hops(directory, &current, &choices, origin, &options, seed)
                .await
                .map_err(|fault| obstacle(&fault))?
        }
        Decision::Edit { edits } => {
            let current = DeliveryPlan::clone(&*current().await?);
            let edits: Vec<mx::MxEdit> = edits.iter().map(convert::edit).collect();
            mx::edit_plan(directory, current, &edits, origin, &options, seed)
                .await
                .map_err(|fault| obstacle(&fault))?
        }
        final_decision => {
            let settled = settled(final_decision, plugin, base.now);
            return Ok(Some(Stand::Settled(settled)));
        }
    };
    Ok(Some(Stand::Made(Arc::new(made))))
}

/// A plan of these hops; with the fall-back, also where "MX of" a domain gave none of them.
async fn use_hops(
    base: &Base,
    hops: &[plugin::NextHop],
    fall_back_to_mx: bool,
) -> Result<DeliveryPlan, Obstacle> {
    let options = plan_options(&base.settings.config);
    let directory = &base.settings.directory;
    let origin = CandidateOrigin::Plugin;
    let hops: Vec<mx::NextHop> = hops.iter().map(convert::hop).collect();
    let made = mx::expand_hops(directory, &hops, origin, &options, base.seed).await;
    if !fall_back_to_mx {
        return made.map_err(|fault| obstacle(&fault));
    }
    match (made, base.plan().await) {
        (Ok(mut plan), Ok(fall_back)) => {
            plan.fall_back_to(DeliveryPlan::clone(&fall_back));
            Ok(plan)
        }
        (Ok(plan), Err(_)) => Ok(plan),
        (Err(fault @ RouteFault::Unresolved { .. }), Ok(fall_back)) => {
            let mut plan = DeliveryPlan::clone(&fall_back);
            let note = Step::note(format!(
                "{fault}; falling back to the way without the plugin"
            ));
            plan.why.insert(0, note);
            Ok(plan)
        }
        // Not a fault of the plugin as long as nobody knows what its fall-back would give.
        (Err(RouteFault::Unresolved { .. }), Err(failure)) if failure.is_temporary() => {
            Err(Obstacle::Base(failure))
        }
        (Err(fault), _) => Err(obstacle(&fault)),
    }
}

/// A domain that the plugin named is the plugin's affair: the recipient's own domain may be in
/// the best of health, so mail never bounces for it.
fn obstacle(fault: &RouteFault) -> Obstacle {
    match fault {
        RouteFault::Unresolved { domain, reason } if fault.is_temporary() => Obstacle::Later {
            reply: reason.reply(domain),
            why: vec![Step::note(fault.to_string())],
        },
        _ => Obstacle::Plugin(fault.to_string()),
    }
}

/// The decisions after which there is nothing to deliver now.
fn settled(decision: &Decision, plugin: &str, now: UnixMs) -> Disposition<Planned> {
    match decision {
        Decision::Defer {
            reason,
            retry_after_seconds,
        } => {
            let text = format!("deferred by {plugin}: {reason}");
            Disposition::Defer(Deferral {
                retry_after_ms: retry_after_seconds.map(|seconds| u64::from(seconds) * 1000),
                ..Deferral::local(Reply::new(451, (4, 7, 1), text))
            })
        }
        Decision::Reject { reply } => Disposition::Reject(reply.clone()),
        Decision::Discard { reason } => Disposition::Discard(format!("{plugin}: {reason}")),
        Decision::Hold {
            reason,
            release_after_seconds,
        } => Disposition::Hold {
            reason: format!("{plugin}: {reason}"),
            release_at: release_after_seconds.map(|s| now.plus_ms(u64::from(s) * 1000)),
        },
        Decision::Proceed
        | Decision::UseHops { .. }
        | Decision::Select { .. }
        | Decision::Edit { .. } => {
            let text = "a routing decision was not carried out";
            Disposition::Defer(Deferral::local(Reply::new(451, (4, 3, 0), text)))
        }
    }
}
