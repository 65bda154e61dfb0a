//! One delivery attempt: hosts in the order of the plan, until every recipient has an outcome
//! or no host is left.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mx::{AddressRules, Candidate, DeliveryPlan, DialAddresses, Endpoint, LookupError};
use queue::{AttemptOutcome, AttemptRecord, Deferral, QueuedMessage, RecipientOutcome};
use smtp::{ClientTransaction, ForwardPath, Recipient, Reply, Stage, TransactionOutcome};

use super::target::Target;
use crate::clock::Stopwatch;
use crate::content::{self, Content};
use crate::core::{Core, Settings};

/// Delivers to these recipients by this plan.
pub async fn attempt(
    core: &Arc<Core>,
    message: &QueuedMessage,
    recipients: &[u32],
    destination: &str,
    plan: &DeliveryPlan,
) -> AttemptOutcome {
    let watch = Stopwatch::start();
    let mut run = Run::new(core, message, recipients);
    match core.content(message.id).await {
        Ok(content) => run.try_hosts(plan, &content).await,
        Err(error) => {
            tracing::error!(id = %message.id, %error, "cannot read a message's content");
            let reply = Reply::new(451, (4, 3, 0), "The message cannot be read from the spool");
            run.last_word = Deferral::local(reply);
        }
    }
    let outcome = run.finish(destination, watch.elapsed_ms());
    report(core, message, destination, &outcome, watch);
    outcome
}

struct Run<'a> {
    core: &'a Arc<Core>,
    settings: Arc<Settings>,
    message: &'a QueuedMessage,
    recipients: &'a [u32],
    /// One for each recipient, in their order; none: not decided yet.
    outcomes: Vec<Option<RecipientOutcome>>,
    /// What becomes of those who stay undecided.
    last_word: Deferral,
    /// Every candidate so far is proven to have no address that may be used.
    unreachable: Option<Reply>,
    /// The addresses of some candidate could not be found out: that must not bounce the mail.
    unknown: bool,
    host: Option<String>,
    address: Option<SocketAddr>,
    stage: &'static str,
    /// A host was spoken to that did not fail as such.
    reached: bool,
    dialled: usize,
}

impl<'a> Run<'a> {
    fn new(core: &'a Arc<Core>, message: &'a QueuedMessage, recipients: &'a [u32]) -> Self {
        Self {
            core,
            settings: core.settings.load_full(),
            message,
            recipients,
            outcomes: vec![None; recipients.len()],
            last_word: Deferral::local(Reply::new(451, (4, 4, 0), "No host was tried")),
            unreachable: None,
            unknown: false,
            host: None,
            address: None,
            stage: "resolve",
            reached: false,
            dialled: 0,
        }
    }

    async fn try_hosts(&mut self, plan: &DeliveryPlan, content: &Content) {
        let delivery = &self.settings.config.delivery;
        let (hosts_limit, addresses_limit) =
            (delivery.hosts_limit_count, delivery.addresses_limit_count);
        for (position, candidate) in plan.candidates.iter().take(hosts_limit).enumerate() {
            let dial = self.addresses(candidate).await;
            let Some(dial) = dial else { continue };
            if dial.is_ourselves {
                // RFC 5321 section 5.1: nothing that is not more preferred may be tried.
                if position == 0 {
                    let text = "Mail for this domain loops back to this relay";
                    self.fail_all(&Reply::new(554, (5, 4, 6), text));
                }
                return;
            }
            for address in dial.targets {
                if self.dialled == addresses_limit {
                    return;
                }
                self.dialled += 1;
                let another_address = self.try_address(candidate, address, content).await;
                if self.outcomes.iter().all(Option::is_some) {
                    return;
                }
                if !another_address {
                    break;
                }
            }
        }
        if self.dialled == 0
            && !self.unknown
            && let Some(reply) = self.unreachable.take()
        {
            self.fail_all(&reply);
        }
    }

    /// The addresses to dial; none when there are none, and then `last_word` says why.
    async fn addresses(&mut self, candidate: &Candidate) -> Option<DialAddresses> {
        self.host = Some(candidate.endpoint.to_string());
        let addresses: Vec<IpAddr> = match &candidate.endpoint {
            Endpoint::Address(address) => vec![*address],
            Endpoint::Host(host) => match self.settings.directory.addresses(host).await.outcome {
                Ok(answer) => answer.records.clone(),
                Err(error) => {
                    self.no_address(candidate, &error);
                    return None;
                }
            },
            Endpoint::UnixSocket(_) => Vec::new(),
        };
        let seed = self.message.id.get() ^ crate::clock::random_seed();
        let dial = mx::dial_addresses(
            candidate,
            &addresses,
            &address_rules(&self.settings, &addresses),
            seed,
        );
        if dial.targets.is_empty() && !dial.is_ourselves {
            let why: Vec<String> = dial.refused.iter().map(ToString::to_string).collect();
            let text = format!(
                "{}: no usable address ({})",
                candidate.endpoint,
                why.join(", ")
            );
            self.not_usable(candidate, text);
            return None;
        }
        Some(dial)
    }

    fn no_address(&mut self, candidate: &Candidate, error: &LookupError) {
        let text = format!("address of {}: {error}", candidate.endpoint);
        if error.is_temporary() {
            self.last_word = Deferral::local(Reply::new(451, (4, 4, 3), text));
            self.unknown = true;
        } else {
            self.not_usable(candidate, text);
        }
    }

    /// A host that can never be dialled. Where the world named it, and all the others are of
    /// that kind, the mail bounces; a hop of the configuration or of a plugin makes it wait.
    fn not_usable(&mut self, candidate: &Candidate, text: String) {
        if self.dialled == 0 {
            self.last_word = Deferral::local(Reply::new(451, (4, 4, 4), text.clone()));
        }
        if candidate.origin.is_foreign() {
            self.unreachable = Some(Reply::new(550, (5, 4, 4), text));
        }
    }

    /// Sends to one address those recipients that have no outcome yet. True when the host's
    /// other addresses are worth trying: this one was not reached.
    async fn try_address(
        &mut self,
        candidate: &Candidate,
        address: SocketAddr,
        content: &Content,
    ) -> bool {
        let open: Vec<usize> = (0..self.outcomes.len())
            .filter(|&at| self.outcomes.get(at).is_some_and(Option::is_none))
            .collect();
        let transaction = self.transaction(&open, content);
        self.address = Some(address);
        let target = Target {
            core: self.core,
            settings: &self.settings,
            candidate,
            address,
        };
        let outcome = target.deliver(&transaction, content).await;
        self.take(&open, outcome)
    }

    fn transaction(&self, open: &[usize], content: &Content) -> ClientTransaction {
        let listed = open.iter().filter_map(|&at| {
            let position = *self.recipients.get(at)?;
            let recipient = self.message.recipients.get(position as usize)?;
            Some(Recipient {
                path: ForwardPath::Mailbox(recipient.mailbox.clone()),
                parameters: recipient.parameters.clone(),
            })
        });
        ClientTransaction {
            reverse_path: self.message.reverse_path.clone(),
            parameters: self.message.parameters.clone(),
            recipients: listed.collect(),
            size_bytes: content::size_bytes(content),
        }
    }

    fn take(&mut self, open: &[usize], outcome: TransactionOutcome) -> bool {
        self.stage = stage_name(outcome.stage);
        self.reached |= outcome.host_failure.is_none();
        // The message may have been taken without our hearing of it: another host now would
        // make a duplicate likely; later, the same host may know it.
        let uncertain = outcome.stage >= Stage::Content && outcome.host_failure.is_some();
        for (&at, result) in open.iter().zip(outcome.recipients) {
            let slot = &mut self.outcomes[at];
            match result {
                smtp::RecipientOutcome::Delivered(reply) => {
                    *slot = Some(RecipientOutcome::Delivered(reply));
                }
                smtp::RecipientOutcome::Failed(reply) => {
                    *slot = Some(RecipientOutcome::Failed(reply));
                }
                smtp::RecipientOutcome::Deferred(reply) => {
                    self.last_word = Deferral::remote(reply.clone());
                    if uncertain {
                        *slot = Some(RecipientOutcome::Deferred(Deferral::remote(reply)));
                    }
                }
            }
        }
        outcome.try_next_host && outcome.stage <= Stage::Greeting
    }

    fn fail_all(&mut self, reply: &Reply) {
        for slot in self.outcomes.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(RecipientOutcome::Failed(reply.clone()));
        }
    }

    fn finish(self, destination: &str, duration_ms: u64) -> AttemptOutcome {
        let last_word = self.last_word;
        let recipients: Vec<RecipientOutcome> = self
            .outcomes
            .into_iter()
            .map(|slot| slot.unwrap_or_else(|| RecipientOutcome::Deferred(last_word.clone())))
            .collect();
        let outcome = recipients
            .first()
            .map_or_else(String::new, |first| reply_of(first).to_string());
        AttemptOutcome {
            recipients,
            destination_failed: self.dialled > 0 && !self.reached,
            record: AttemptRecord {
                at: self.core.now(),
                destination: destination.to_owned(),
                host: self.host.clone(),
                address: self.address.map(|address| address.to_string()),
                stage: self.stage.to_owned(),
                outcome,
                duration_ms,
            },
            host: self.host,
        }
    }
}

/// What may be dialled, of these addresses.
pub(crate) fn address_rules(settings: &Settings, found: &[IpAddr]) -> AddressRules {
    let mut own_addresses = Vec::new();
    for listener in &settings.config.listeners {
        own_addresses.push(listener.address);
        if listener.address.ip().is_unspecified() {
            let local = found.iter().filter(|address| is_local(**address));
            own_addresses.extend(local.map(|ip| SocketAddr::new(*ip, listener.address.port())));
        }
    }
    AddressRules {
        own_addresses,
        allow_loopback_mx: settings.config.dns.loopback_mx,
        ..AddressRules::default()
    }
}

/// Whether an address is this machine's: only then can a socket be bound to it.
fn is_local(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
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

fn reply_of(outcome: &RecipientOutcome) -> &Reply {
    match outcome {
        RecipientOutcome::Delivered(reply) | RecipientOutcome::Failed(reply) => reply,
        RecipientOutcome::Deferred(deferral) => &deferral.reply,
    }
}

/// Metrics and the log line of an attempt.
fn report(
    core: &Core,
    message: &QueuedMessage,
    destination: &str,
    outcome: &AttemptOutcome,
    watch: Stopwatch,
) {
    let mut delivered = 0_u64;
    let mut deferred = 0_u64;
    for recipient in &outcome.recipients {
        match recipient {
            RecipientOutcome::Delivered(_) => delivered += 1,
            RecipientOutcome::Deferred(_) => deferred += 1,
            RecipientOutcome::Failed(_) => {}
        }
    }
    core.meters.delivered.increment(delivered);
    let all = outcome.recipients.len() as u64;
    let result = match (delivered, deferred) {
        (count, _) if count == all => "delivered",
        (_, count) if count == all => "deferred",
        (0, 0) => "failed",
        _ => "mixed",
    };
    core.meters.attempt(result, watch.elapsed());
    let record = &outcome.record;
    tracing::info!(
        id = %message.id,
        result,
        recipients = all,
        delivered,
        destination,
        host = outcome.host,
        address = record.address,
        stage = record.stage,
        reply = record.outcome,
        ms = record.duration_ms,
        "attempt"
    );
}
