//! Telling plugins how an attempt went, and hearing what they advise.
//!
//! Only plugins that take part in the delivery phase and match the mail are told; where there is
//! none nothing here costs anything. By the time anybody is told, the outcome is with the
//! dispatcher, which has handed it to the spool: what a plugin does with the news can neither
//! lose it nor change it. A plugin that fails has no advice, and mail goes its usual way.
//!
//! One attempt may try several places. Each is reported, in order, once for each way in which
//! recipients fared there; every plugin hears every report, in the order of the chain. Advice
//! counts where it is about recipients that this place has left waiting and no later one took up.
//! Of several plugins the first in the chain whose advice is not `usual` is followed.

use std::collections::HashMap;
use std::sync::Arc;

use mx::{Candidate, DeliveryPlan, Step};
use plugin::{
    Advice, AttemptOutcome as Fate, AttemptReport, FailureReason, Input, MAX_RECIPIENTS, Output,
    Phase,
};
use queue::{
    Advised, AttemptOutcome, Disposition, PolicyDecision, QueuedMessage, RecipientOutcome,
    RecipientState,
};
use smtp::Domain;
use spool::SpoolError;
use tokio::sync::OwnedSemaphorePermit;

use super::Plan;
use crate::core::{Core, Settings, Snapshot};
use crate::egress::{Aftermath, Try};
use crate::policy::attribution;
use crate::policy::call::{NoAnswer, changed, overgrown};
use crate::policy::chain::{Link, Versions};
use crate::policy::environment::{ContentSource, RouteEnvironment};
use crate::policy::gate::{self, About};
use crate::policy::meters::CONTENT_UNAVAILABLE;
use crate::policy::words;
use crate::routing::{self, Attributes, Itinerary, RoutedJob, Subject};

/// Ways to fare at one place that are told apart; beyond them those of one kind go together.
const FATES_MAX: usize = 8;

/// What plugins made of an attempt.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What they advise.
    pub(super) advice: Vec<Advised<Plan>>,
    /// What they want kept with the message.
    pub(super) attributes: Attributes,
}

/// Some plugin is told of an attempt.
pub(super) struct Hearing {
    settings: Arc<Settings>,
    versions: Versions,
    subject: Subject,
    plan: Plan,
    /// Candidates whose turn did not come.
    rest: Vec<Candidate>,
    reports: Vec<Report>,
    _turn: OwnedSemaphorePermit,
}

/// One report and whom advice about it concerns.
struct Report {
    report: Arc<AttemptReport>,
    /// Positions in the message's list of recipients.
    advisable: Vec<u32>,
}

/// What the plugins of the chain said to one report.
#[derive(Default)]
struct Said {
    /// The first that is not `usual`, and the place of its decision.
    advice: Option<(usize, Advice)>,
    decisions: Vec<PolicyDecision>,
}

impl Said {
    fn advises(&mut self, mut decision: PolicyDecision, advice: Advice) {
        if self.advice.is_none() {
            self.advice = Some((self.decisions.len(), advice));
        } else {
            decision.consequence = Some("not followed: another was first".to_owned());
        }
        self.decisions.push(decision);
    }

    fn fails(&mut self, mut decision: PolicyDecision) {
        decision.consequence = Some("mail goes its usual way".to_owned());
        self.decisions.push(decision);
    }
}

impl Hearing {
    /// Before an attempt: none where no plugin is told, or too many attempts are being told of.
    pub(super) fn begin(
        core: &Arc<Core>,
        snapshot: &Snapshot,
        message: &Arc<QueuedMessage>,
        recipients: &[u32],
        plan: &Plan,
    ) -> Option<Self> {
        let first = message.recipients.get(*recipients.first()? as usize)?;
        let domain = first.mailbox.domain().clone();
        let Snapshot { settings, versions } = snapshot;
        let mut links = listeners(versions, message, &domain).peekable();
        links.peek()?;
        let Ok(turn) = Arc::clone(&core.feedback).try_acquire_owned() else {
            for link in links {
                link.meters
                    .not_called(Phase::Delivery, FailureReason::Busy.as_str());
            }
            tracing::debug!(id = %message.id, "too many attempts are being told of");
            return None;
        };
        drop(links);
        let attempt = attempts_before(message, recipients);
        let subject = Subject {
            message: Arc::clone(message),
            domain,
            recipients: recipients.to_vec(),
            attempt,
            now: core.now(),
            content: content(core, message),
            lanes: core.lanes.clone(),
            wants_log: false,
        };
        Some(Self {
            settings: Arc::clone(settings),
            versions: versions.clone(),
            subject,
            plan: Arc::clone(plan),
            rest: Vec::new(),
            reports: Vec::new(),
            _turn: turn,
        })
    }

    /// After the attempt.
    pub(super) fn take(&mut self, outcome: &AttemptOutcome, aftermath: Aftermath) {
        let Aftermath { tries, rest } = aftermath;
        self.rest = rest;
        let waiting: Vec<u32> = self
            .subject
            .recipients
            .iter()
            .zip(&outcome.recipients)
            .filter(|(_, result)| matches!(result, RecipientOutcome::Deferred(_)))
            .map(|(&position, _)| position)
            .collect();
        let mut last_try: HashMap<u32, usize> = HashMap::new();
        for (number, made) in tries.iter().enumerate() {
            let here = made.recipients.iter().map(|&(position, _)| position);
            last_try.extend(here.map(|position| (position, number)));
        }
        for (number, made) in tries.iter().enumerate() {
            for (fate, positions) in by_fate(&made.recipients) {
                let counts = matches!(fate, Fate::Temporary(_) | Fate::Failed(_));
                let advisable = positions.iter().copied().filter(|position| {
                    counts && last_try.get(position) == Some(&number) && waiting.contains(position)
                });
                self.reports.push(Report {
                    advisable: advisable.collect(),
                    report: Arc::new(self.report(made, fate, &positions)),
                });
            }
        }
    }

    /// In place of an attempt.
    fn take_unresolved(&mut self, route: &queue::Route<Plan>) {
        let (fate, waits) = match &route.disposition {
            Disposition::Defer(deferral) => (Fate::Failed(deferral.reply.text.clone()), true),
            Disposition::Reject(reply) => (Fate::Permanent(reply.clone()), false),
            _ => return,
        };
        let made = Try::nowhere();
        let advisable = if waits {
            route.recipients.clone()
        } else {
            Vec::new()
        };
        self.reports.push(Report {
            report: Arc::new(self.report(&made, fate, &route.recipients)),
            advisable,
        });
    }

    fn report(&self, made: &Try, outcome: Fate, positions: &[u32]) -> AttemptReport {
        let message = &self.subject.message;
        let named = positions.iter().take(MAX_RECIPIENTS);
        let named = named.filter_map(|&at| message.recipients.get(at as usize));
        let now = self.subject.now;
        // As far back as the history goes.
        let attempts = message.history.iter().filter(|one| one.host.is_some());
        let first = attempts.map(|record| record.at).min();
        AttemptReport {
            message_id: message.id.to_string(),
            domain: self.subject.domain.clone(),
            recipients: named
                .map(|one| plugin::Recipient::from(one.mailbox.clone()))
                .collect(),
            outcome,
            stage: made.stage,
            host: made.host.clone(),
            address: made.address,
            source: made.source,
            tls: made.tls.clone(),
            attempts: attempts_before(message, positions).saturating_add(1),
            elapsed_ms: u32::try_from(made.elapsed_ms).unwrap_or(u32::MAX),
            first_attempt_at_ms: first.map_or(now.0, |at| at.0.min(now.0)),
        }
    }

    /// Whether advice may come of it.
    pub(super) fn may_advise(&self) -> bool {
        self.reports.iter().any(|one| !one.advisable.is_empty())
    }

    /// Tells every plugin, in order.
    pub(super) async fn hear(self) -> Heard {
        let mut heard = Heard::default();
        for Report { report, advisable } in &self.reports {
            let mut said = Said::default();
            for link in listeners(&self.versions, &self.subject.message, &self.subject.domain) {
                // Each sees what those before it have noted.
                let mut subject = self.subject.clone();
                if !heard.attributes.is_empty() {
                    let message = Arc::make_mut(&mut subject.message);
                    message.attributes = changed(&message.attributes, &heard.attributes);
                }
                let told = self.tell((link, &subject), report, &mut said);
                heard.attributes.extend(told.await);
            }
            if !advisable.is_empty() && !said.decisions.is_empty() {
                heard.advice.push(self.advised(advisable.clone(), said));
            }
        }
        heard
    }

    /// Gives what the plugin wants kept with the message.
    async fn tell(
        &self,
        (link, subject): (&Link, &Subject),
        report: &Arc<AttemptReport>,
        said: &mut Said,
    ) -> Attributes {
        let about = About::new(self.subject.message.id);
        let plan = Arc::clone(&self.plan.plan);
        let environment = RouteEnvironment::new(
            subject,
            &about,
            Arc::clone(&self.settings.directory),
            Arc::new(move || {
                let plan = Arc::clone(&plan);
                Box::pin(async move { Ok(plan) })
            }),
        );
        let input = Input::Delivery(Arc::clone(report));
        let decide =
            |result: &str, text| attribution::decision(link, Phase::Delivery, result, text);
        let input = std::future::ready(Ok(input));
        let limit_bytes = self.settings.config.limits.attributes_bytes;
        match gate::ask(link, &about, Phase::Delivery, input, environment).await {
            Ok(answer) => {
                let changes = &answer.call().attributes;
                if let Some(detail) = overgrown(limit_bytes, &subject.message.attributes, changes) {
                    let failure = answer.refused(detail);
                    said.fails(decide(failure.reason.as_str(), failure.detail));
                    return Attributes::new();
                }
                let call = answer.used();
                if let Output::Delivery(advice) = call.output
                    && advice != Advice::Usual
                {
                    said.advises(decide(PolicyDecision::OK, words::advice(&advice)), advice);
                }
                call.attributes
            }
            Err(NoAnswer::Failed(failure)) => {
                said.fails(decide(failure.reason.as_str(), failure.detail));
                Attributes::new()
            }
            Err(NoAnswer::Unreadable(unread)) => {
                said.fails(decide(CONTENT_UNAVAILABLE, unread.error.to_string()));
                Attributes::new()
            }
        }
    }

    /// The advice that is followed, as the queue takes it.
    fn advised(&self, recipients: Vec<u32>, said: Said) -> Advised<Plan> {
        let Said {
            advice,
            mut decisions,
        } = said;
        let Some((followed, advice)) = advice else {
            return Advised {
                recipients,
                advice: queue::Advice::Usual,
                decisions,
                followed: None,
            };
        };
        let decision = decisions.get_mut(followed);
        let plugin = decision.as_ref().map_or("", |one| one.policy.as_str());
        let advice = self.followed(advice, plugin).unwrap_or_else(|why| {
            if let Some(decision) = decision {
                decision.consequence = Some(format!("not carried out: {why}"));
            }
            queue::Advice::Usual
        });
        Advised {
            recipients,
            advice,
            decisions,
            followed: Some(followed),
        }
    }

    /// What advice comes to, or why it cannot be followed.
    fn followed(&self, advice: Advice, plugin: &str) -> Result<queue::Advice<Plan>, &'static str> {
        Ok(match advice {
            Advice::Usual => queue::Advice::Usual,
            Advice::RetryAfter { seconds } => {
                queue::Advice::RetryAfter(u64::from(seconds).saturating_mul(1000))
            }
            Advice::NextHopNow => self.next_hop().ok_or("no next hop is left")?,
            Advice::Reroute => queue::Advice::Reroute,
            Advice::GiveUp(reply) => queue::Advice::GiveUp(reply),
            Advice::Hold(_) if self.subject.message.released_at.is_some() => {
                return Err("the message was released from a hold");
            }
            Advice::Hold(reason) => queue::Advice::Hold {
                reason: format!("{plugin}: {reason}"),
            },
        })
    }

    /// The candidates of the plan whose turn did not come: nothing that was not in it.
    fn next_hop(&self) -> Option<queue::Advice<Plan>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut why = self.plan.plan.why.clone();
        why.push(Step::note("the next hop, by advice after an attempt"));
        let plan = DeliveryPlan {
            candidates: self.rest.clone(),
            why,
        };
        Some(queue::Advice::Retry {
            destination: routing::destination(&plan, &self.subject.domain),
            plan: Arc::new(Itinerary {
                plan: Arc::new(plan),
                calls: self.plan.calls.clone(),
            }),
        })
    }
}

/// Tells plugins of recipients for whom the DNS gives no plan. Nothing has been tried, so nothing
/// has to be safe before they are heard, and what they advise is done in place of the deferral.
/// Who wants them routed again is heeded once.
pub(super) async fn unresolved(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    message: &Arc<QueuedMessage>,
    (domain, attempt): (Domain, u32),
    mut routed: RoutedJob,
) -> RoutedJob {
    let here = |at: &usize| routed.routes.get(*at);
    let told: Vec<u32> = routed
        .unresolved
        .iter()
        .filter_map(here)
        .flat_map(|route| route.recipients.iter().copied())
        .collect();
    let nowhere = Arc::new(Itinerary::default());
    // They see, and are measured by, what has just been noted at routing.
    let mut noted = QueuedMessage::clone(message);
    noted.attributes = changed(&noted.attributes, &routed.attributes);
    let Some(mut hearing) = Hearing::begin(core, snapshot, &Arc::new(noted), &told, &nowhere)
    else {
        return routed;
    };
    for route in routed.unresolved.iter().filter_map(here) {
        hearing.take_unresolved(route);
    }
    let heard = hearing.hear().await;
    routed.attributes.extend(heard.attributes);
    let mut again = Vec::new();
    for advised in heard.advice {
        let is_meant = |route: &&mut queue::Route<Plan>| route.recipients == advised.recipients;
        let Some(route) = routed.routes.iter_mut().find(is_meant) else {
            continue;
        };
        route.decisions.extend(advised.decisions);
        match advised.advice {
            queue::Advice::RetryAfter(pause_ms) => {
                if let Disposition::Defer(deferral) = &mut route.disposition {
                    deferral.retry_after_ms = Some(pause_ms);
                }
            }
            queue::Advice::GiveUp(reply) => route.disposition = Disposition::Reject(reply),
            queue::Advice::Hold { reason } => {
                let release_at = None;
                route.disposition = Disposition::Hold { reason, release_at };
            }
            queue::Advice::Reroute => again.extend(advised.recipients),
            queue::Advice::Usual | queue::Advice::Retry { .. } => {}
        }
    }
    if again.is_empty() {
        return routed;
    }
    let mut marked = QueuedMessage::clone(message);
    marked.attributes = changed(&marked.attributes, &routed.attributes);
    let other = routing::route_job(core, snapshot, Arc::new(marked), domain, again, attempt).await;
    // The first route that names a recipient counts.
    let mut routes = other.routes;
    routes.append(&mut routed.routes);
    routed.attributes.extend(other.attributes);
    RoutedJob { routes, ..routed }
}

/// The plugins that are told, in the order of the chain.
fn listeners<'a>(
    versions: &'a Versions,
    message: &'a QueuedMessage,
    domain: &'a Domain,
) -> impl Iterator<Item = &'a Link> {
    let links = versions.of(message.id);
    links.filter(move |link| link.plugin.has(Phase::Delivery) && link.matches(message, domain))
}

/// A message that was delivered is not in the spool any more, and a plugin that asks for its
/// header late is shown none.
fn content(core: &Arc<Core>, message: &QueuedMessage) -> ContentSource {
    let (core, id) = (Arc::clone(core), message.id);
    let cached = core.cache.get(id);
    Arc::new(move || {
        let (core, cached) = (Arc::clone(&core), cached.clone());
        Box::pin(async move {
            match cached {
                Some(content) => Ok(content),
                None => match core.content(id).await {
                    Err(SpoolError::NotFound(_)) => Ok(Vec::new().into()),
                    read => read,
                },
            }
        })
    })
}

/// The most attempts that were made for any of these before.
fn attempts_before(message: &QueuedMessage, positions: &[u32]) -> u32 {
    let known = positions
        .iter()
        .filter_map(|&at| message.recipients.get(at as usize));
    let attempts = known.filter_map(|one| match one.state {
        RecipientState::Pending { attempts, .. } => Some(attempts),
        _ => None,
    });
    attempts.max().unwrap_or(0)
}

/// Recipients that fared alike, in the order in which they come first.
fn by_fate(recipients: &[(u32, Fate)]) -> Vec<(Fate, Vec<u32>)> {
    let mut groups: Vec<(Fate, Vec<u32>)> = Vec::new();
    for (position, fate) in recipients {
        let is_alike = |known: &Fate| key(known) == key(fate);
        let same_kind = |known: &Fate| key(known).0 == key(fate).0;
        let found = match groups.iter().position(|(known, _)| is_alike(known)) {
            None if groups.len() >= FATES_MAX => {
                groups.iter().rposition(|(known, _)| same_kind(known))
            }
            found => found,
        };
        match found.and_then(|at| groups.get_mut(at)) {
            Some((_, positions)) => positions.push(*position),
            None => groups.push((fate.clone(), vec![*position])),
        }
    }
    groups
}

/// Kind, and what tells replies of one kind apart: not the text, which may name the recipient.
fn key(fate: &Fate) -> (u8, u16, Option<smtp::EnhancedStatusCode>) {
    match fate {
        Fate::Delivered(reply) => (0, reply.code, reply.enhanced),
        Fate::Temporary(reply) => (1, reply.code, reply.enhanced),
        Fate::Permanent(reply) => (2, reply.code, reply.enhanced),
        Fate::Failed(_) => (3, 0, None),
    }
}

#[cfg(test)]
mod tests {
    use smtp::Reply;

    use super::*;

    #[test]
    fn who_fared_alike_goes_together_and_kinds_never_mix() {
        let refused = |code, text: &str| Fate::Temporary(Reply::new(code, (4, 2, 0), text));
        let gone = Fate::Failed("closed".to_owned());
        let some = [
            (0, refused(450, "a")),
            (1, gone.clone()),
            (2, refused(450, "b")),
            (3, refused(451, "a")),
        ];
        let groups: Vec<Vec<u32>> = by_fate(&some).into_iter().map(|(_, all)| all).collect();
        assert_eq!(groups, [vec![0, 2], vec![1], vec![3]]);
        let mut many: Vec<(u32, Fate)> = (0..40)
            .map(|at| (at, refused(400 + u16::try_from(at).expect("small"), "x")))
            .collect();
        many.push((40, gone));
        let groups = by_fate(&many);
        assert_eq!(groups.len(), FATES_MAX + 1);
        assert_eq!(groups.last().expect("the last").1, [40]);
        let all: usize = groups.iter().map(|(_, all)| all.len()).sum();
        assert_eq!(all, 41);
    }
}
