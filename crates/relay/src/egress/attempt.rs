//! One delivery attempt: hosts in the order of the plan, until every recipient has an outcome
//! or no host is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use mx::{AddressRefusal, Candidate, DeliveryPlan, DialAddresses, LookupError};
use queue::{
    AttemptOutcome, AttemptRecord, Deferral, DeferralKind, QueuedMessage, RecipientOutcome,
};
use smtp::{Reply, Stage, TransactionOutcome};

use super::target::{Exchange, NotTried, Parcel, Target};
use super::tries::{Aftermath, Tries, Try};
use crate::addresses;
use crate::clock::{self, Stopwatch};
use crate::core::{Core, Settings};

/// After this long no other host, address or transaction is begun. One that is under way goes on:
/// every reply of it has a time-out of its own, and so has every block of the content, and a peer
/// that is slow and honest would be cut each time at the same place.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(60 * 60);
/// What is kept of a reply's text, in octets: it is stored for every recipient.
const TEXT_LIMIT_BYTES: usize = 512;

/// Delivers to these recipients by this plan. `is_heard`: some plugin is told how it went, with
/// what comes second.
pub(crate) async fn attempt(
    core: &Arc<Core>,
    message: &QueuedMessage,
    recipients: &[u32],
    (destination, plan): (&str, &DeliveryPlan),
    is_heard: bool,
) -> (AttemptOutcome, Option<Aftermath>) {
    let watch = Stopwatch::start();
    let mut run = Run::new(core, message, recipients, watch);
    run.tries = is_heard.then(Tries::default);
    let turns_taken = run.try_hosts(plan).await;
    let aftermath = run.tries.take().map(|tries| Aftermath {
        tries: tries.into_all(),
        rest: run.rest(plan, turns_taken),
    });
    let outcome = run.finish(destination, watch.elapsed_ms());
    report(core, message, destination, &outcome, watch);
    (outcome, aftermath)
}

/// What is known for one recipient.
#[derive(Debug, Clone)]
enum Fate {
    /// The next host may take it; what the last one said, if there was one.
    Open(Option<Deferral>),
    Decided(RecipientOutcome),
}

/// What a candidate's addresses turned out to be.
type Found = Result<DialAddresses, LookupError>;

struct Run<'a> {
    core: &'a Arc<Core>,
    settings: Arc<Settings>,
    message: &'a QueuedMessage,
    recipients: &'a [u32],
    watch: Stopwatch,
    /// One for each recipient, in their order.
    fates: Vec<Fate>,
    /// What becomes of those of whom no host has said anything.
    excuse: Deferral,
    /// Every candidate so far is proven to have no address that may be used.
    unreachable: Option<Reply>,
    /// Some candidate may work another time: the mail must not bounce for want of hosts.
    unknown: bool,
    /// Where it was tried last.
    host: Option<String>,
    address: Option<SocketAddr>,
    stage: &'static str,
    /// A host was spoken to that did not fail as such.
    reached: bool,
    dialled: usize,
    /// A host of the plan is this relay.
    loops: bool,
    /// For plugins that are told; none: there are none.
    tries: Option<Tries>,
}

impl<'a> Run<'a> {
    fn new(
        core: &'a Arc<Core>,
        message: &'a QueuedMessage,
        recipients: &'a [u32],
        watch: Stopwatch,
    ) -> Self {
        Self {
            core,
            settings: core.settings.load_full(),
            message,
            recipients,
            watch,
            fates: vec![Fate::Open(None); recipients.len()],
            excuse: Deferral::local(Reply::new(451, (4, 4, 0), "No host was tried")),
            unreachable: None,
            unknown: false,
            host: None,
            address: None,
            stage: "resolve",
            reached: false,
            dialled: 0,
            loops: false,
            tries: None,
        }
    }

    /// Candidates that the world named with equal preference are looked up together: if one of
    /// them is this relay, all of them and all less preferred are out (RFC 5321 section 5.1),
    /// in whatever order chance has put them. Others stay: somebody we know named them.
    ///
    /// Gives the number of candidates that have had their turn.
    async fn try_hosts(&mut self, plan: &DeliveryPlan) -> usize {
        let limit = self.settings.config.delivery.hosts_limit_count;
        let mut rest = &plan.candidates[..plan.candidates.len().min(limit)];
        let mut turns_taken = 0;
        while let Some(first) = rest.first() {
            let (group, later) = rest.split_at(equals(rest));
            rest = later;
            let after_group = turns_taken + group.len();
            if self.loops && first.origin.is_foreign() {
                turns_taken = after_group;
                continue;
            }
            let found = future::join_all(group.iter().map(|one| self.resolve(one))).await;
            if found.iter().any(is_ourselves) {
                self.loops = true;
                turns_taken = after_group;
                continue;
            }
            for (candidate, found) in group.iter().zip(found) {
                if self.dialled == self.settings.config.delivery.addresses_limit_count {
                    return turns_taken;
                }
                turns_taken += 1;
                if !self.try_host(candidate, found).await {
                    return turns_taken;
                }
            }
        }
        self.fail_if_hopeless();
        turns_taken
    }

    /// Candidates whose turn has not come. Where one of the plan is this relay, those that the
    /// world prefers less stay out.
    fn rest(&self, plan: &DeliveryPlan, turns_taken: usize) -> Vec<Candidate> {
        let later = plan.candidates.iter().skip(turns_taken);
        let may_be_tried = |candidate: &&Candidate| !self.loops || !candidate.origin.is_foreign();
        later.filter(may_be_tried).cloned().collect()
    }

    /// No host is left. Where it is proven that none can be used, the mail does not wait.
    fn fail_if_hopeless(&mut self) {
        if self.dialled > 0 || self.unknown {
            return;
        }
        if self.loops {
            let text = "Mail for this domain loops back to this relay";
            self.fail_all(&Reply::new(554, (5, 4, 6), text));
        } else if let Some(reply) = self.unreachable.take() {
            self.fail_all(&reply);
        }
    }

    async fn resolve(&self, candidate: &Candidate) -> Found {
        let addresses = addresses::of(&self.settings.directory, &candidate.endpoint).await?;
        let seed = self.message.id.get() ^ clock::random_seed();
        let rules = &self.settings.address_rules;
        Ok(mx::dial_addresses(candidate, &addresses, rules, seed))
    }

    /// Tries a host's addresses in turn. False when the attempt is over.
    async fn try_host(&mut self, candidate: &Candidate, found: Found) -> bool {
        let limit = self.settings.config.delivery.addresses_limit_count;
        for address in self.targets(candidate, found) {
            if self.dialled == limit || self.is_too_long() {
                return false;
            }
            let another_address = match self.try_address(candidate, address).await {
                Ok(another_address) => another_address,
                // Our fault and not the host's: it counts as not dialled. From the next of its
                // addresses it may be otherwise.
                Err(why @ NotTried::NoSource(_)) => {
                    self.no_source(candidate, why.reply());
                    true
                }
                Err(why) => {
                    self.excuse = Deferral::local(why.reply());
                    return false;
                }
            };
            if self.open().is_empty() {
                return false;
            }
            if !another_address {
                break;
            }
        }
        true
    }

    /// The addresses to dial; where there are none it is noted why.
    fn targets(&mut self, candidate: &Candidate, found: Found) -> Vec<SocketAddr> {
        let dial = match found {
            Ok(dial) => dial,
            Err(error) => {
                let text = format!("address of {}: {error}", candidate.endpoint);
                self.not_usable(candidate, text, error.is_temporary());
                return Vec::new();
            }
        };
        if dial.targets.is_empty() {
            let why: Vec<String> = dial.refused.iter().map(ToString::to_string).collect();
            let text = format!(
                "{}: no usable address ({})",
                candidate.endpoint,
                why.join(", ")
            );
            // The family is a wish of ours, and says nothing of the host.
            let is_wish = |reason| reason == AddressRefusal::Family;
            let by_wish = dial.refused.iter().any(|refused| is_wish(refused.reason));
            self.not_usable(candidate, text, by_wish);
        }
        dial.targets
    }

    /// A host that cannot be dialled now, or never. Where the world named it, it is never, and
    /// all the others are of that kind, the mail bounces; a hop of the configuration or of a
    /// plugin makes it wait.
    fn not_usable(&mut self, candidate: &Candidate, text: String, may_pass: bool) {
        let detail = if may_pass { 3 } else { 4 };
        let reply = capped(Reply::new(451, (4, 4, detail), text));
        let open = self.positions(&self.open());
        if let Some(tries) = &mut self.tries {
            tries.push(Try::unresolved(candidate, &open, &reply.text));
        }
        if may_pass || !candidate.origin.is_foreign() {
            self.unknown = true;
        } else {
            self.unreachable = Some(Reply::new(550, (5, 4, 4), reply.text.clone()));
        }
        self.excuse = Deferral::local(reply);
    }

    /// There is no address of ours to go out from: the mail waits for one.
    fn no_source(&mut self, candidate: &Candidate, reply: Reply) {
        let open = self.positions(&self.open());
        if let Some(tries) = &mut self.tries {
            tries.push(Try::unresolved(candidate, &open, &reply.text));
        }
        self.unknown = true;
        self.excuse = Deferral::local(capped(reply));
    }

    /// Sends to one address those recipients that have no outcome yet. True when the host's
    /// other addresses are worth trying: this one was not reached.
    async fn try_address(
        &mut self,
        candidate: &Candidate,
        address: SocketAddr,
    ) -> Result<bool, NotTried> {
        let before = (self.host.take(), self.address.take(), self.stage);
        self.host = Some(candidate.endpoint.to_string());
        self.address = Some(address);
        self.stage = stage_name(Stage::Greeting);
        self.dialled += 1;
        let core = self.core;
        let settings = Arc::clone(&self.settings);
        let target = Target {
            core,
            settings: &settings,
            candidate,
            address,
            is_heard: self.tries.is_some(),
        };
        if let Some(tries) = &mut self.tries {
            tries.begin();
        }
        let mut open = self.open();
        let mut another_address = false;
        let mut is_tried = false;
        while !open.is_empty() {
            if is_tried && self.is_too_long() {
                break;
            }
            let positions = self.positions(&open);
            let parcel = Parcel {
                message: self.message,
                recipients: &positions,
            };
            match target.deliver(&parcel).await {
                Ok(Exchange { outcome, session }) => {
                    is_tried = true;
                    if let Some(tries) = &mut self.tries {
                        tries.note((candidate, address), &positions, &outcome, session);
                    }
                    another_address = outcome.try_next_host && outcome.stage <= Stage::Greeting;
                    open = self.take(&open, outcome);
                }
                Err(why) => {
                    // What went before at this address did happen.
                    if !is_tried {
                        (self.host, self.address, self.stage) = before;
                        self.dialled -= 1;
                    }
                    return Err(why);
                }
            }
        }
        Ok(another_address)
    }

    /// Their positions in the message's list of recipients.
    fn positions(&self, of: &[usize]) -> Vec<u32> {
        let known = of.iter().filter_map(|&at| self.recipients.get(at));
        known.copied().collect()
    }

    /// Those that have no outcome yet.
    fn open(&self) -> Vec<usize> {
        let numbered = self.fates.iter().enumerate();
        numbered
            .filter_map(|(at, fate)| matches!(fate, Fate::Open(_)).then_some(at))
            .collect()
    }

    /// Notes what became of these. Gives those that the host would take in another transaction.
    fn take(&mut self, open: &[usize], outcome: TransactionOutcome) -> Vec<usize> {
        self.stage = stage_name(outcome.stage);
        self.reached |= outcome.host_failure.is_none();
        // The message may have been taken without our hearing of it: another host now would
        // make a duplicate likely; later, the same host may know it.
        let uncertain = outcome.host_failure.is_some() && !outcome.try_next_host;
        let mut surplus = Vec::new();
        let mut is_delivered = false;
        for (&at, result) in open.iter().zip(outcome.recipients) {
            self.fates[at] = match result {
                smtp::RecipientOutcome::Delivered(reply) => {
                    is_delivered = true;
                    Fate::Decided(RecipientOutcome::Delivered(capped(reply)))
                }
                smtp::RecipientOutcome::Failed(reply) => {
                    Fate::Decided(RecipientOutcome::Failed(capped(reply)))
                }
                smtp::RecipientOutcome::Deferred(reply) => {
                    if is_too_many(&reply) {
                        surplus.push(at);
                    }
                    let deferral = Deferral::remote(capped(reply));
                    if uncertain {
                        Fate::Decided(RecipientOutcome::Deferred(deferral))
                    } else {
                        Fate::Open(Some(deferral))
                    }
                }
            };
        }
        if is_delivered && outcome.host_failure.is_none() {
            surplus
        } else {
            Vec::new()
        }
    }

    fn fail_all(&mut self, reply: &Reply) {
        let open = self.positions(&self.open());
        if let Some(tries) = &mut self.tries {
            tries.push(Try::hopeless(&open, reply));
        }
        for at in self.open() {
            self.fates[at] = Fate::Decided(RecipientOutcome::Failed(reply.clone()));
        }
    }

    /// The attempt has taken its time. What the hosts have said stands; who has heard nothing of
    /// any learns this.
    fn is_too_long(&mut self) -> bool {
        let is_too_long = self.watch.elapsed() >= ATTEMPT_LIMIT;
        if is_too_long {
            let reply = Reply::new(451, (4, 4, 2), "The attempt took too long");
            self.excuse = Deferral::local(reply);
        }
        is_too_long
    }

    fn finish(self, destination: &str, duration_ms: u64) -> AttemptOutcome {
        let excuse = self.excuse;
        let fates = self.fates.into_iter().map(|fate| match fate {
            Fate::Decided(outcome) => outcome,
            Fate::Open(last) => RecipientOutcome::Deferred(last.unwrap_or_else(|| excuse.clone())),
        });
        let recipients: Vec<RecipientOutcome> = fates.collect();
        AttemptOutcome {
            destination_failed: self.dialled > 0 && !self.reached,
            record: AttemptRecord {
                at: self.core.now(),
                destination: destination.to_owned(),
                host: self.host.clone(),
                address: self.address.map(|address| address.to_string()),
                stage: self.stage.to_owned(),
                outcome: telling(&recipients).map_or_else(String::new, ToString::to_string),
                duration_ms,
                ..AttemptRecord::default()
            },
            awaits_advice: false,
            host: self.host,
            recipients,
        }
    }
}

/// How many candidates at the front are of one preference, as far as the world named them.
fn equals(candidates: &[Candidate]) -> usize {
    let Some(first) = candidates.first() else {
        return 0;
    };
    let is_equal = |candidate: &&Candidate| {
        candidate.origin.is_foreign() && candidate.priority == first.priority
    };
    candidates.iter().take_while(is_equal).count().max(1)
}

fn is_ourselves(found: &Found) -> bool {
    found.as_ref().is_ok_and(|dial| dial.is_ourselves)
}

/// RCPT was refused because the transaction has enough recipients, and not for the recipient's
/// sake (RFC 5321 section 4.5.3.1.10, RFC 3463 X.5.3).
fn is_too_many(reply: &Reply) -> bool {
    let enhanced = reply.enhanced.map(|code| (code.subject, code.detail));
    matches!(reply.code, 452 | 552) && enhanced.is_none_or(|code| code == (5, 3))
}

/// A reply whose text is short enough to be stored.
fn capped(mut reply: Reply) -> Reply {
    if reply.text.len() > TEXT_LIMIT_BYTES {
        let end = reply.text.floor_char_boundary(TEXT_LIMIT_BYTES);
        reply.text.truncate(end);
        reply.text.push('…');
        reply.text.shrink_to_fit();
    }
    reply
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Greeting => "connect",
        Stage::Hello => "ehlo",
        Stage::Tls => "tls",
        Stage::Mail => "mail-from",
        Stage::Rcpt => "rcpt-to",
        Stage::Data => "data",
        Stage::Content => "content",
        Stage::EndOfData => "end-of-data",
    }
}

/// The reply that tells most of an attempt: the first bad one.
fn telling(outcomes: &[RecipientOutcome]) -> Option<&Reply> {
    let is_bad = |outcome: &&RecipientOutcome| !matches!(outcome, RecipientOutcome::Delivered(_));
    let outcome = outcomes.iter().find(is_bad).or_else(|| outcomes.first())?;
    Some(match outcome {
        RecipientOutcome::Delivered(reply) | RecipientOutcome::Failed(reply) => reply,
        RecipientOutcome::Deferred(deferral) => &deferral.reply,
    })
}

/// Metrics and the log line of an attempt.
fn report(
    core: &Core,
    message: &QueuedMessage,
    destination: &str,
    outcome: &AttemptOutcome,
    watch: Stopwatch,
) {
    let (mut delivered, mut failed, mut remote, mut local) = (0_u64, 0_u64, 0_u64, 0_u64);
    for recipient in &outcome.recipients {
        match recipient {
            RecipientOutcome::Delivered(_) => delivered += 1,
            RecipientOutcome::Failed(_) => failed += 1,
            RecipientOutcome::Deferred(deferral) => match deferral.kind {
                DeferralKind::Remote => remote += 1,
                DeferralKind::Local => local += 1,
            },
        }
    }
    core.meters.delivered.increment(delivered);
    core.meters.deferred_remote.increment(remote);
    core.meters.deferred_local.increment(local);
    let deferred = remote + local;
    let result = match (delivered > 0, deferred > 0, failed > 0) {
        (true, false, false) => "delivered",
        (false, false, true) => "failed",
        (false, _, false) => "deferred",
        _ => "mixed",
    };
    core.meters.attempt(result, watch.elapsed());
    let record = &outcome.record;
    tracing::info!(
        id = %message.id,
        result,
        recipients = outcome.recipients.len(),
        delivered,
        deferred,
        failed,
        destination,
        host = outcome.host,
        address = record.address,
        stage = record.stage,
        reply = record.outcome,
        ms = record.duration_ms,
        "attempt"
    );
}

#[cfg(test)]
mod tests {
    use mx::{CandidateOrigin, Endpoint};

    use super::*;

    #[test]
    fn a_long_reply_is_cut_between_characters() {
        let text = "é".repeat(100_000);
        let cut = capped(Reply::new(451, (4, 0, 0), format!("a{text}")));
        assert!(cut.text.len() <= TEXT_LIMIT_BYTES + '…'.len_utf8());
        assert!(cut.text.starts_with("aé") && cut.text.ends_with("é…"));
        let short = Reply::new(451, (4, 0, 0), "as it is");
        assert_eq!(capped(short.clone()), short);
    }

    #[test]
    fn only_too_many_recipients_may_follow_in_another_transaction() {
        for (is, reply) in [
            (true, Reply::bare(452, "too many recipients")),
            (true, Reply::bare(552, "too many recipients")),
            (true, Reply::new(452, (4, 5, 3), "too many")),
            (false, Reply::new(452, (4, 2, 2), "mailbox full")),
            (false, Reply::new(452, (4, 3, 1), "disk full")),
            (false, Reply::new(450, (4, 5, 3), "later")),
        ] {
            assert_eq!(is_too_many(&reply), is, "{reply}");
        }
    }

    #[test]
    fn equal_preference_is_a_matter_of_those_whom_the_world_named() {
        let candidate = |priority, origin| {
            let host = Endpoint::Host("mx.example".parse().expect("a name"));
            let mut candidate = Candidate::new(host, 25, origin);
            candidate.priority = priority;
            candidate
        };
        let (mx, known) = (CandidateOrigin::Mx, CandidateOrigin::Configured);
        let plan = [
            candidate(10, mx),
            candidate(10, mx),
            candidate(20, mx),
            candidate(20, known),
            candidate(20, known),
        ];
        let counts: Vec<usize> = (0..=plan.len()).map(|from| equals(&plan[from..])).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 0]);
    }
}
