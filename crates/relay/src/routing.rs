//! From a set of recipients to plans, with every step of why.
//!
//! This is the only implementation: the dispatcher acts on what it gives, `waypost explain`
//! prints it. The base is what the configuration or the DNS says; each routing plugin, in
//! order, sees what was decided so far and may change it for all or some of the recipients.
//! Recipients that are treated alike stay together in a [`Group`].

mod base;
mod decision;
mod draft;
mod exit;
mod itinerary;
mod lanes;
mod protection;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use plugin::{Call, CallStats, Decision, Flow, Output, Phase, Verdict};
use queue::{Deferral, Disposition, QueuedMessage, UnixMs};
use smtp::Domain;

use self::base::Base;
use self::decision::{Obstacle, carry_out};
pub(crate) use self::draft::destination;
use self::draft::{Draft, Stand, failure_disposition, supported};
pub use self::itinerary::{Itinerary, Planned};
pub use self::lanes::Lanes;
use crate::config::Config;
use crate::core::{Core, Snapshot};
use crate::dispatch::Plan;
use crate::policy::attribution::CallTrace;
use crate::policy::call::{self, NoAnswer};
use crate::policy::chain::Link;
use crate::policy::environment::{ContentSource, RouteEnvironment};
use crate::policy::gate::About;

/// Whom a routing decision is about.
#[derive(Clone)]
pub struct Subject {
    /// The message.
    pub message: Arc<QueuedMessage>,
    /// The domain of these recipients.
    pub domain: Domain,
    /// Positions in the message's recipient list.
    pub recipients: Vec<u32>,
    /// Attempts made before.
    pub attempt: u32,
    /// The time.
    pub now: UnixMs,
    /// The message's content, for plugins that look at it.
    pub content: ContentSource,
    /// Turns at looking things up.
    pub lanes: Lanes,
    /// Keep the plugins' log lines for showing.
    pub wants_log: bool,
}

/// Recipients that are treated alike, and how.
#[derive(Debug, Clone)]
pub struct Group {
    /// Positions in the message's recipient list.
    pub recipients: Vec<u32>,
    /// What is decided.
    pub disposition: Disposition<Planned>,
    /// Steps that led to a failure; those of a plan are in the plan.
    pub why: Vec<mx::Step>,
    /// Given up after this many seconds since reception, by advice of a plugin.
    pub expires_after_seconds: Option<u32>,
    /// Every plugin call on the way.
    pub calls: Vec<CallTrace>,
    /// It is not delivered since the DNS gave no plan.
    pub is_unresolved: bool,
}

/// Attributes that plugins set, to be kept with the message.
pub type Attributes = Vec<(String, Option<String>)>;

/// What routing gives: groups that cover the subject's recipients, and attributes to keep.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Each recipient is in exactly one.
    pub groups: Vec<Group>,
    /// In the order in which they were set.
    pub attributes: Attributes,
}

/// A job of the queue, routed.
#[derive(Debug, Default)]
pub struct RoutedJob {
    /// They cover the job's recipients.
    pub routes: Vec<queue::Route<Plan>>,
    /// Positions in `routes` of those that are not delivered since the DNS gave no plan.
    pub unresolved: Vec<usize>,
    /// In the order in which they were set.
    pub attributes: Attributes,
}

/// Routes a job of the queue, by one snapshot of the settings.
pub async fn route_job(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    message: Arc<QueuedMessage>,
    domain: Domain,
    recipients: Vec<u32>,
    attempt: u32,
) -> RoutedJob {
    let received_at = message.received_at;
    let content = content_source(core, &message);
    let subject = Subject {
        message,
        domain,
        recipients,
        attempt,
        now: core.now(),
        content,
        lanes: core.lanes.clone(),
        wants_log: false,
    };
    let Routing { groups, attributes } = decide(snapshot, &subject).await;
    let numbered = groups.iter().enumerate();
    let unresolved = numbered.filter(|(_, group)| group.is_unresolved);
    let unresolved = unresolved.map(|(at, _)| at).collect();
    let routes = groups.into_iter().map(|group| {
        let expires_ms = group
            .expires_after_seconds
            .map(|seconds| u64::from(seconds) * 1000);
        queue::Route {
            decisions: itinerary::kept(&group),
            recipients: group.recipients,
            expires_at: expires_ms.map(|ms| received_at.plus_ms(ms)),
            disposition: itinerary::bound(group.disposition, group.calls),
        }
    });
    RoutedJob {
        routes: routes.collect(),
        unresolved,
        attributes,
    }
}

fn content_source(core: &Arc<Core>, message: &QueuedMessage) -> ContentSource {
    let (core, id) = (Arc::clone(core), message.id);
    Arc::new(move || {
        let core = Arc::clone(&core);
        Box::pin(async move { core.content(id).await })
    })
}

/// Destinations that a message may be waiting for: where it has been tried, and where it would be
/// tried if no plugin said anything.
pub(crate) fn likely_destinations(config: &Config, message: &QueuedMessage) -> Vec<String> {
    let tried = message
        .history
        .iter()
        .map(|record| record.destination.clone());
    let pending = message
        .recipients
        .iter()
        .filter(|one| !one.state.is_final());
    let domains = pending.map(|one| one.mailbox.domain().to_string());
    let mut names: Vec<String> = base::configured_destination(config).into_iter().collect();
    names.extend(tried);
    names.extend(domains);
    names.sort_unstable();
    names.dedup();
    names
}

/// Decides for every recipient of the subject.
pub async fn decide(snapshot: &Snapshot, subject: &Subject) -> Routing {
    let base = Arc::new(Base::new(&snapshot.settings, subject));
    let mut attributes = Attributes::new();
    let mut drafts = vec![Draft::new(subject.recipients.clone())];
    for link in snapshot.versions.of(subject.message.id) {
        if link.plugin.has(Phase::Routing) && link.matches(&subject.message, &subject.domain) {
            let mut next = Vec::with_capacity(drafts.len());
            for draft in drafts {
                if draft.stopped {
                    next.push(draft);
                } else {
                    ask(link, subject, &base, draft, &mut next, &mut attributes).await;
                }
            }
            drafts = next;
        }
    }
    let mut groups = Vec::with_capacity(drafts.len());
    let _turn = subject.lanes.enter(subject.attempt).await;
    for draft in drafts {
        groups.push(draft.finish(&base).await);
    }
    Routing { groups, attributes }
}

/// Asks one plugin about one draft; what comes of it goes to `next`.
async fn ask(
    link: &Link,
    subject: &Subject,
    base: &Arc<Base>,
    draft: Draft,
    next: &mut Vec<Draft>,
    attributes: &mut Attributes,
) {
    let about = About::new(subject.message.id);
    let environment = RouteEnvironment::new(subject, &about, base.settings.directory.clone(), {
        let (base, stand) = (Arc::clone(base), draft.stand.clone());
        Arc::new(move || -> futures_util::future::BoxFuture<'static, _> {
            let (base, stand) = (Arc::clone(&base), stand.clone());
            Box::pin(async move {
                match stand {
                    Stand::Made(plan) => Ok(plan),
                    Stand::Base | Stand::Settled(_) => base.plan().await,
                }
            })
        })
    });
    let place = (&about, environment);
    let answer = match call::route(link, subject, &draft.recipients, attributes, place).await {
        Ok(answer) => answer,
        Err(NoAnswer::Failed(failure)) => return next.push(draft.failed(link, failure)),
        Err(NoAnswer::Unreadable(unread)) => return next.push(draft.unreadable(link, &unread)),
    };
    let limit_bytes = base.settings.config.limits.attributes_bytes;
    let known = call::changed(&subject.message.attributes, attributes);
    if let Some(detail) = call::overgrown(limit_bytes, &known, &answer.call().attributes) {
        return next.push(draft.failed(link, answer.refused(detail)));
    }
    let _turn = subject.lanes.enter(subject.attempt).await;
    match apply_all(link, answer.call(), base, &draft).await {
        Ok(made) => {
            attributes.extend(answer.used().attributes);
            next.extend(made);
        }
        // One verdict that cannot be carried out makes the answer as a whole untrustworthy.
        Err(detail) => next.push(draft.failed(link, answer.refused(detail))),
    }
}

/// What all verdicts of a call make of one draft, or why one of them cannot be carried out.
async fn apply_all(
    link: &Link,
    call: &Call,
    base: &Base,
    draft: &Draft,
) -> Result<Vec<Draft>, String> {
    let Output::Route(verdicts) = &call.output else {
        return Err("the answer is not of the routing phase".to_owned());
    };
    let mut made = Vec::with_capacity(verdicts.len());
    for verdict in verdicts {
        made.push(apply(link, verdict, &call.stats, base, draft).await?);
    }
    Ok(made)
}

/// The draft of one verdict's recipients.
async fn apply(
    link: &Link,
    verdict: &Verdict,
    stats: &CallStats,
    base: &Base,
    draft: &Draft,
) -> Result<Draft, String> {
    let positions = verdict.recipients.iter();
    let mut made = Draft {
        recipients: positions
            .filter_map(|&position| draft.recipients.get(position as usize).copied())
            .collect(),
        ..draft.clone()
    };
    let mut trace = CallTrace::ok(link, verdict, stats, base.is_shown);
    if base.was_released && matches!(verdict.decision, Decision::Hold { .. }) {
        let plugin = &link.config.name;
        tracing::info!(id = %base.id, plugin, "a released message is not held again");
        trace.consequence =
            Some("not carried out: the message was released from a hold".to_owned());
    }
    made.calls.push(trace);
    made.stopped |= verdict.flow == Flow::Stop;
    made.claims.add(verdict, &link.config.grants);
    match carry_out(&verdict.decision, base, &draft.stand, &link.config.name).await {
        Ok(Some(stand)) => made.stand = stand,
        Ok(None) => {}
        Err(Obstacle::Plugin(detail)) => return Err(detail),
        Err(Obstacle::Later { reply, why }) => {
            made.stand = Stand::Settled(Disposition::Defer(Deferral::local(reply)));
            made.why = why;
        }
        Err(Obstacle::Base(failure)) => {
            made.stand = Stand::Settled(failure_disposition(&failure));
            made.why = failure.why;
            made.is_unresolved = true;
        }
    }
    made.stopped |= matches!(made.stand, Stand::Settled(_));
    if let Some(settings) = &verdict.settings {
        made.merge(settings, &base.settings.config)?;
    }
    if let Some(plan) = made.plan_so_far(base).await {
        supported(&plan, &base.settings.config)?;
        protection::check(base, &plan).await?;
    }
    Ok(made)
}
