//! A plan on its way from routing to delivery, with who decided it.

use std::sync::Arc;

use mx::DeliveryPlan;
use queue::{Disposition, PolicyDecision};

use super::Group;
use crate::dispatch::Plan;
use crate::policy::attribution::CallTrace;

/// A plan as routing makes it.
pub type Planned = Arc<DeliveryPlan>;

/// A plan as the queue carries it to the attempt.
#[derive(Debug, Clone)]
pub struct Itinerary {
    /// Where to.
    pub plan: Planned,
    /// Every plugin call that led there. Put into words only where something is left to tell:
    /// most mail is delivered at once.
    pub calls: Vec<CallTrace>,
}

impl Default for Itinerary {
    /// Nowhere.
    fn default() -> Self {
        let (candidates, why) = (Vec::new(), Vec::new());
        Self {
            plan: Arc::new(DeliveryPlan { candidates, why }),
            calls: Vec::new(),
        }
    }
}

impl Itinerary {
    /// Who decided, as it is kept with the message.
    #[must_use]
    pub fn decisions(&self) -> Vec<PolicyDecision> {
        decisions(&self.calls)
    }
}

fn decisions(calls: &[CallTrace]) -> Vec<PolicyDecision> {
    calls.iter().map(CallTrace::decided).collect()
}

/// Who decided about recipients that are not delivered to now; the others' plan says it.
pub(super) fn kept(group: &Group) -> Vec<PolicyDecision> {
    match group.disposition {
        Disposition::Deliver { .. } => Vec::new(),
        _ => decisions(&group.calls),
    }
}

/// As the queue takes it.
pub(super) fn bound(disposition: Disposition<Planned>, calls: Vec<CallTrace>) -> Disposition<Plan> {
    match disposition {
        Disposition::Deliver { destination, plan } => Disposition::Deliver {
            destination,
            plan: Arc::new(Itinerary { plan, calls }),
        },
        Disposition::Defer(deferral) => Disposition::Defer(deferral),
        Disposition::Reject(reply) => Disposition::Reject(reply),
        Disposition::Discard(reason) => Disposition::Discard(reason),
        Disposition::Hold { reason, release_at } => Disposition::Hold { reason, release_at },
    }
}
