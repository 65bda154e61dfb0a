//! From a set of recipients to plans, with every step of why.
//!
//! This is the only implementation: the dispatcher acts on what it gives, `waypost explain`
//! prints it. The base is what the configuration or the DNS says; each routing plugin, in
//! order, sees what was decided so far and may change it for all or some of the recipients.
//! Recipients that are treated alike stay together in a [`Group`].

mod base;
mod draft;

use std::sync::Arc;

use mx::{CandidateOrigin, DeliveryPlan, PlanFailure, RouteFault};
use plugin::{Decision, Flow, RouteCall, Verdict};
use queue::{Deferral, Disposition, QueuedMessage, UnixMs};
use smtp::{Domain, Reply};

use self::base::{Base, plan_options};
use self::draft::{Draft, Stand, failure_disposition, supported};
use crate::core::{Core, Settings, read_content};
use crate::dispatch::Plan;
use crate::policy::call::{self, CallTrace, Failure};
use crate::policy::chain::Link;
use crate::policy::convert;
use crate::policy::environment::ContentSource;

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
    /// Keep the plugins' log lines for showing.
    pub wants_log: bool,
}

/// Recipients that are treated alike, and how.
#[derive(Debug, Clone)]
pub struct Group {
    /// Positions in the message's recipient list.
    pub recipients: Vec<u32>,
    /// What is decided.
    pub disposition: Disposition<Plan>,
    /// Steps that led to a failure; those of a plan are in the plan.
    pub why: Vec<mx::Step>,
    /// Given up after this many seconds since reception, by advice of a plugin.
    pub expires_after_seconds: Option<u32>,
    /// Every plugin call on the way.
    pub calls: Vec<CallTrace>,
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

/// Routes a job of the queue.
pub async fn route_job(
    core: &Arc<Core>,
    message: Arc<QueuedMessage>,
    domain: Domain,
    recipients: Vec<u32>,
    attempt: u32,
) -> (Vec<queue::Route<Plan>>, Attributes) {
    let settings = core.settings.load_full();
    let received_at = message.received_at;
    let content = content_source(core, &message);
    let now = core.now();
    let subject = Subject {
        message,
        domain,
        recipients,
        attempt,
        now,
        content,
        wants_log: false,
    };
    let routing = decide(&settings, &subject).await;
    let routes = routing.groups.into_iter().map(|group| {
        let expires_ms = group
            .expires_after_seconds
            .map(|seconds| u64::from(seconds) * 1000);
        queue::Route {
            recipients: group.recipients,
            expires_at: expires_ms.map(|ms| received_at.plus_ms(ms)),
            disposition: group.disposition,
        }
    });
    (routes.collect(), routing.attributes)
}

fn content_source(core: &Arc<Core>, message: &QueuedMessage) -> ContentSource {
    let (core, id) = (Arc::clone(core), message.id);
    Arc::new(move || {
        let core = Arc::clone(&core);
        Box::pin(async move {
            match core.cache.get(id) {
                Some(content) => Some(content),
                None => read_content(&core.spool, id).await.ok(),
            }
        })
    })
}

/// Decides for every recipient of the subject.
pub async fn decide(settings: &Arc<Settings>, subject: &Subject) -> Routing {
    let base = Arc::new(Base::new(settings, subject));
    let mut attributes = Attributes::new();
    let mut drafts = vec![Draft::new(subject.recipients.clone())];
    for link in settings.chain.links() {
        if link.matches(&subject.message, &subject.domain) {
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
    for draft in drafts {
        groups.push(draft.finish(&base).await);
    }
    Routing { groups, attributes }
}

/// A verdict that cannot be carried out.
enum Obstacle {
    /// The plugin asked for something impossible.
    Plugin(String),
    /// What it would have changed does not exist, by the DNS.
    Base(PlanFailure),
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
    let source = {
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
    };
    let directory = Arc::clone(&base.settings.directory);
    match call::route(link, subject, &draft.recipients, source, directory).await {
        Ok(call) => {
            let mut made = Vec::with_capacity(call.verdicts.len());
            for verdict in &call.verdicts {
                match apply(link, verdict, &call, base, &draft).await {
                    Ok(changed) => made.push(changed),
                    Err(detail) => {
                        // One verdict that cannot be carried out makes the answer as a whole
                        // untrustworthy.
                        let failure = Failure::invalid(&call, detail);
                        next.push(draft.failed(link, failure));
                        return;
                    }
                }
            }
            call::count_ok(link, &call);
            attributes.extend(call.attributes);
            next.extend(made);
        }
        Err(failure) => next.push(draft.failed(link, failure)),
    }
}

/// The draft of one verdict's recipients.
async fn apply(
    link: &Link,
    verdict: &Verdict,
    call: &RouteCall,
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
    made.calls.push(CallTrace::ok(link, verdict, call));
    made.stopped |= verdict.flow == Flow::Stop;
    match carry_out(&verdict.decision, base, &draft.stand, link).await {
        Ok(Some(stand)) => made.stand = stand,
        Ok(None) => {}
        Err(Obstacle::Plugin(detail)) => return Err(detail),
        Err(Obstacle::Base(failure)) => {
            made.stand = Stand::Settled(failure_disposition(&failure));
            made.stopped = true;
        }
    }
    made.stopped |= matches!(made.stand, Stand::Settled(_));
    if let Some(settings) = &verdict.settings {
        made.merge(settings)?;
    }
    if let Stand::Made(plan) = &made.stand {
        supported(plan)?;
    }
    Ok(made)
}

/// What a decision makes of where things stand; none: it changes nothing.
async fn carry_out(
    decision: &Decision,
    base: &Base,
    stand: &Stand,
    link: &Link,
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
        } => {
            let hops: Vec<mx::NextHop> = hops.iter().map(convert::hop).collect();
            let made = mx::expand_hops(directory, &hops, origin, &options, seed).await;
            let mut made = made.map_err(obstacle)?;
            if *fall_back_to_mx && let Ok(fall_back) = base.plan().await {
                made.fall_back_to(DeliveryPlan::clone(&fall_back));
            }
            made
        }
        Decision::Select { choices } => {
            let current = current().await?;
            let choices: Vec<mx::HopChoice> = choices.iter().map(convert::choice).collect();
            mx::select_hops(directory, &current, &choices, origin, &options, seed)
                .await
                .map_err(obstacle)?
        }
        Decision::Edit { edits } => {
            let current = DeliveryPlan::clone(&*current().await?);
            let edits: Vec<mx::MxEdit> = edits.iter().map(convert::edit).collect();
            mx::edit_plan(directory, current, &edits, origin, &options, seed)
                .await
                .map_err(obstacle)?
        }
        final_decision => {
            return Ok(Some(Stand::Settled(settled(
                final_decision,
                link,
                base.now,
            ))));
        }
    };
    Ok(Some(Stand::Made(Arc::new(made))))
}

fn obstacle(fault: RouteFault) -> Obstacle {
    match fault {
        RouteFault::Unresolved { domain, reason } => Obstacle::Base(PlanFailure {
            domain,
            reason,
            why: Vec::new(),
        }),
        other => Obstacle::Plugin(other.to_string()),
    }
}

/// The decisions after which there is nothing to deliver now.
fn settled(decision: &Decision, link: &Link, now: UnixMs) -> Disposition<Plan> {
    let name = &link.config.name;
    match decision {
        Decision::Defer {
            reason,
            retry_after_seconds,
        } => {
            let text = format!("deferred by {name}: {reason}");
            Disposition::Defer(Deferral {
                retry_after_ms: retry_after_seconds.map(|seconds| u64::from(seconds) * 1000),
                ..Deferral::local(Reply::new(451, (4, 7, 1), text))
            })
        }
        Decision::Reject { reply } => Disposition::Reject(reply.clone()),
        Decision::Discard { reason } => Disposition::Discard(format!("{name}: {reason}")),
        Decision::Hold {
            reason,
            release_after_seconds,
        } => Disposition::Hold {
            reason: format!("{name}: {reason}"),
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
