//! Where a message would go and every step of why; nothing is sent.
//!
//! The decision is [`crate::routing::decide`], the same function that the dispatcher acts on.

use std::fmt;
use std::sync::Arc;

use queue::{Disposition, History, Origin, QueuedMessage, QueuedRecipient, UnixMs};
use serde::Serialize;
use smtp::{Domain, ForwardPath, MailParameters, Mailbox, QueueId, RcptParameters, ReversePath};

use crate::app::StartError;
use crate::clock::{self, Clock};
use crate::config::{CandidateMode, Config};
use crate::content::Content;
use crate::core::{Settings, Snapshot};
use crate::policy::attribution::CallTrace;
use crate::policy::candidate::Candidate;
use crate::policy::chain::{Chain, Link};
use crate::policy::host::Host;
use crate::policy::resources::Resources;
use crate::reception::mailbox;
use crate::routing::{self, Group, Lanes, Subject};
use crate::{addresses, setup, trace};

/// A message that might be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The sender.
    pub from: ReversePath,
    /// The recipients; the postmaster without a domain is that of this host.
    pub to: Vec<ForwardPath>,
    /// Listener by which it would come; none: the first.
    pub listener: Option<String>,
    /// Octets of content.
    pub size_bytes: u64,
    /// Attempts made before.
    pub attempt: u32,
    /// Header section that plugins see, CRLF at the end of each line.
    pub header: String,
}

/// What would happen, by groups of recipients that are treated alike.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The reverse-path; empty: null.
    pub from: String,
    /// In the order of the recipients' domains.
    pub routes: Vec<ExplainedRoute>,
    /// What may decide otherwise in the running relay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What would happen to some recipients.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedRoute {
    /// Their mailboxes.
    pub recipients: Vec<String>,
    /// `deliver`, `defer`, `reject`, `discard`, `hold`.
    pub result: &'static str,
    /// The reply or reason, where it is not a delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The unit of concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// What would be tried, in order.
    pub candidates: Vec<ExplainedCandidate>,
    /// Every step, in order.
    pub why: Vec<ExplainedStep>,
    /// Every plugin call, in order.
    pub plugins: Vec<CallTrace>,
}

/// One place that would be tried.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedCandidate {
    /// As the plan has it.
    #[serde(flatten)]
    pub candidate: mx::Candidate,
    /// Where it would be dialled, in order.
    pub addresses: Vec<String>,
    /// What keeps it from being dialled, or addresses that would not be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Nothing can be dialled now, but that may pass.
    #[serde(skip)]
    is_unknown: bool,
    #[serde(skip)]
    text: String,
}

/// One step with its words.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedStep {
    /// For people.
    pub text: String,
    /// For programs.
    #[serde(flatten)]
    pub step: mx::Step,
}

/// Works out what would happen.
///
/// # Errors
/// When the plugins or the resolver of the configuration cannot be used.
pub async fn explain(
    config: Config,
    clock: &Clock,
    request: Request,
) -> Result<Explanation, StartError> {
    let (settings, _host) = settings(config, clock).await?;
    check_request(&settings, &request)?;
    let now = clock.now();
    let hostname = &settings.config.hostname;
    let to = request.to.iter();
    let to: Vec<Mailbox> = to.map(|path| mailbox(path, hostname)).collect();
    let mut domains: Vec<Domain> = Vec::new();
    for mailbox in &to {
        if !domains.contains(mailbox.domain()) {
            domains.push(mailbox.domain().clone());
        }
    }
    let message = Arc::new(message(&settings, &request, &to, now));
    let snapshot = Snapshot::of(Arc::clone(&settings));
    let content: Content = vec![bytes::Bytes::from(format!("{}\r\n", request.header))].into();
    let mut explanation = Explanation {
        from: request.from.to_string(),
        routes: Vec::new(),
        notes: canaries(&settings.config),
    };
    for domain in domains {
        let positions = (0_u32..).zip(&to);
        let here = positions.filter(|(_, mailbox)| *mailbox.domain() == domain);
        let content = Arc::clone(&content);
        let subject = Subject {
            recipients: here.map(|(position, _)| position).collect(),
            message: Arc::clone(&message),
            domain,
            attempt: request.attempt,
            now,
            content: Arc::new(move || {
                let content = Arc::clone(&content);
                Box::pin(async move { Ok(content) })
            }),
            lanes: Lanes::default(),
            wants_log: true,
        };
        for group in routing::decide(&snapshot, &subject).await.groups {
            explanation
                .routes
                .push(explained(&settings, &to, group).await);
        }
    }
    Ok(explanation)
}

/// Which message a canary decides about hangs on its id, and how many on the operator: neither is
/// known here.
fn canaries(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
        if let Some(candidate) = &plugin.candidate
            && candidate.mode == CandidateMode::Canary
        {
            let (name, share) = (&plugin.name, candidate.percent);
            notes.push(format!(
                "plugin {name} has a canary, for {share} of the messages by the configuration: this \
                 is what the version in force decides; `waypost plugin candidate {name}` tells more"
            ));
        }
    }
    notes
}

/// What the listener would not take has no route to explain.
fn check_request(settings: &Settings, request: &Request) -> Result<(), StartError> {
    let names: Vec<&str> = settings
        .config
        .listeners
        .iter()
        .map(|listener| listener.name.as_str())
        .collect();
    if let Some(name) = &request.listener
        && !names.contains(&name.as_str())
    {
        let known = names.join(", ");
        return Err(StartError::Request(format!(
            "there is no listener {name}; there are: {known}"
        )));
    }
    let limit = settings.config.limits.message_size_bytes;
    if request.size_bytes > limit {
        return Err(StartError::Request(format!(
            "a message of {} octets is refused with 552 5.3.4: limits.message_size is {limit}",
            request.size_bytes
        )));
    }
    Ok(())
}

/// Loads everything a configuration names, as a start would, and says what it found.
///
/// # Errors
/// What a start would refuse.
pub async fn check(config: Config, clock: &Clock) -> Result<Vec<String>, StartError> {
    let (settings, host, tables) = made(config, clock).await?;
    let mut facts = Vec::new();
    for listener in &settings.config.listeners {
        let networks: Vec<String> = listener
            .relay_from
            .iter()
            .map(ToString::to_string)
            .collect();
        facts.push(format!(
            "listener {} on {}: {} may relay",
            listener.name,
            listener.address,
            if networks.is_empty() {
                "nobody".to_owned()
            } else {
                networks.join(", ")
            }
        ));
    }
    facts.extend(tables);
    for link in settings.chain.links() {
        let inspection = link.plugin.inspect();
        let identity = match &inspection.identity {
            Some((name, version)) => format!("{name} {version}"),
            None => "no identity".to_owned(),
        };
        let (name, digest, size) = (&link.config.name, &inspection.sha256, inspection.size_bytes);
        facts.push(format!(
            "plugin {name}: {identity}, {size} octets, sha256 {digest}"
        ));
        facts.extend(candidate_fact(&settings, &host, link).await?);
    }
    Ok(facts)
}

/// A relay goes on without a candidate that does not load; who checks wants to know.
async fn candidate_fact(
    settings: &Settings,
    host: &Host,
    link: &Link,
) -> Result<Option<String>, StartError> {
    let (rules, entry) = (&settings.config.plugin_rules, &link.config);
    let Some(candidate) = Candidate::load(host, rules, entry, &link.plugin).await else {
        return Ok(None);
    };
    match candidate.plugin() {
        Some(plugin) => {
            let digest = plugin.inspect().sha256;
            Ok(Some(format!(
                "candidate of {}: sha256 {digest}",
                entry.name
            )))
        }
        None => Err(StartError::Candidate {
            plugin: entry.name.clone(),
            error: candidate.load_error().unwrap_or_default().to_owned(),
        }),
    }
}

/// The host has to live as long as the plugins are called.
pub(crate) async fn settings(
    config: Config,
    clock: &Clock,
) -> Result<(Arc<Settings>, Host), StartError> {
    let (settings, host, _tables) = made(config, clock).await?;
    Ok((settings, host))
}

/// The last part: what tables were read, a line each.
async fn made(
    config: Config,
    clock: &Clock,
) -> Result<(Arc<Settings>, Host, Vec<String>), StartError> {
    config.check_files()?;
    let host = Host::for_looking(&config, clock)?;
    let directory = setup::directory(&config)?;
    let resources = Arc::new(Resources::for_looking(clock));
    let prepared = resources.prepare(&config, &directory).await?;
    let (chain, _origins) = Chain::load(&host, &config, None).await?;
    let chain = chain.furnished(&prepared);
    let settings = setup::settings(config, chain, directory)?;
    Ok((Arc::new(settings), host, prepared.facts()))
}

fn message(settings: &Settings, request: &Request, to: &[Mailbox], now: UnixMs) -> QueuedMessage {
    let first = settings
        .config
        .listeners
        .first()
        .map(|listener| listener.name.clone());
    let recipients = to.iter().cloned();
    QueuedMessage {
        id: QueueId::new(clock::random_seed()),
        received_at: now,
        expires_at: UnixMs::NEVER,
        size_bytes: request.size_bytes,
        origin: Origin {
            listener: request.listener.clone().or(first).unwrap_or_default(),
            ..Origin::default()
        },
        reverse_path: request.from.clone(),
        parameters: MailParameters::default(),
        recipients: recipients
            .map(|mailbox| QueuedRecipient::new(mailbox, RcptParameters::default(), now))
            .collect(),
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    }
}

async fn explained(settings: &Settings, to: &[Mailbox], group: Group) -> ExplainedRoute {
    let named = group
        .recipients
        .iter()
        .filter_map(|&at| to.get(at as usize));
    let mut route = ExplainedRoute {
        recipients: named.map(ToString::to_string).collect(),
        result: "deliver",
        reason: None,
        destination: None,
        candidates: Vec::new(),
        why: group.why.into_iter().map(explained_step).collect(),
        plugins: group.calls,
    };
    match group.disposition {
        Disposition::Deliver { destination, plan } => {
            route.destination = Some(destination.to_string());
            route.why = plan.why.iter().cloned().map(explained_step).collect();
            for candidate in &plan.candidates {
                route
                    .candidates
                    .push(explained_candidate(settings, candidate).await);
            }
            route.judge_addresses();
        }
        Disposition::Defer(deferral) => {
            route.result = "defer";
            route.reason = Some(deferral.reply.to_string());
        }
        Disposition::Reject(reply) => {
            route.result = "reject";
            route.reason = Some(reply.to_string());
        }
        Disposition::Discard(reason) => {
            route.result = "discard";
            route.reason = Some(reason);
        }
        Disposition::Hold { reason, .. } => {
            route.result = "hold";
            route.reason = Some(reason);
        }
    }
    route
}

impl ExplainedRoute {
    /// A plan without a single address to dial delivers nothing: an attempt would defer the mail,
    /// or bounce it where the world named the hosts and it is proven that they have none.
    fn judge_addresses(&mut self) {
        if self
            .candidates
            .iter()
            .any(|candidate| !candidate.addresses.is_empty())
        {
            return;
        }
        let waits = self.candidates.iter().any(|candidate| candidate.is_unknown);
        self.result = if waits { "defer" } else { "reject" };
        let code = if waits { "451 4.4.4" } else { "550 5.4.4" };
        self.reason = Some(format!(
            "{code} no candidate has an address that may be dialled"
        ));
    }
}

fn explained_step(step: mx::Step) -> ExplainedStep {
    ExplainedStep {
        text: step.to_string(),
        step,
    }
}

async fn explained_candidate(settings: &Settings, candidate: &mx::Candidate) -> ExplainedCandidate {
    let mut notes = Vec::new();
    let found = addresses::of(&settings.directory, &candidate.endpoint).await;
    let is_unknown = matches!(&found, Err(error) if error.is_temporary());
    let found = found.unwrap_or_else(|error| {
        notes.push(format!("no address: {error}"));
        Vec::new()
    });
    let rules = &settings.address_rules;
    let dial = mx::dial_addresses(candidate, &found, rules, clock::random_seed());
    notes.extend(
        dial.refused
            .iter()
            .map(|refused| format!("not used: {refused}")),
    );
    if dial.is_ourselves {
        notes.push(
            "this is ourselves: no host of the same or a lower preference is tried".to_owned(),
        );
    }
    ExplainedCandidate {
        candidate: candidate.clone(),
        addresses: dial.targets.iter().map(ToString::to_string).collect(),
        notes,
        is_unknown: is_unknown || !candidate.origin.is_foreign(),
        text: candidate.to_string(),
    }
}

impl Explanation {
    /// With what every plugin call took and logged.
    #[must_use]
    pub fn with_trace(&self) -> impl fmt::Display + '_ {
        Shown {
            explanation: self,
            is_traced: true,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Shown {
            explanation: self,
            is_traced: false,
        };
        shown.fmt(f)
    }
}

/// An explanation as people read it.
struct Shown<'a> {
    explanation: &'a Explanation,
    is_traced: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from <{}>", self.explanation.from)?;
        for route in &self.explanation.routes {
            writeln!(f)?;
            route.write(f, self.is_traced)?;
        }
        for note in &self.explanation.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

impl ExplainedRoute {
    fn write(&self, f: &mut fmt::Formatter<'_>, is_traced: bool) -> fmt::Result {
        writeln!(f, "to <{}>", self.recipients.join(">, <"))?;
        for call in &self.plugins {
            writeln!(f, "  plugin {}", call.decided())?;
            if is_traced {
                write_trace(f, call)?;
            }
        }
        for step in &self.why {
            writeln!(f, "  {}", step.text)?;
        }
        match (&self.reason, &self.destination) {
            (Some(reason), _) => writeln!(f, "  => {}: {reason}", self.result)?,
            (None, Some(destination)) => {
                writeln!(f, "  => deliver to {destination}, trying in order")?;
            }
            (None, None) => writeln!(f, "  => {}", self.result)?,
        }
        for (position, candidate) in (1..).zip(&self.candidates) {
            let addresses = candidate.addresses.join(", ");
            writeln!(f, "     {position}. {} at {addresses}", candidate.text)?;
            for note in &candidate.notes {
                writeln!(f, "        {note}")?;
            }
        }
        Ok(())
    }
}

fn write_trace(f: &mut fmt::Formatter<'_>, call: &CallTrace) -> fmt::Result {
    writeln!(
        f,
        "    took {} µs CPU, {} µs in all, {} host calls, {} octets of memory",
        call.cpu_us, call.wall_us, call.host_calls, call.memory_peak_bytes
    )?;
    for line in &call.log {
        write!(f, "    log {:?}: {}", line.level, line.text)?;
        for (name, value) in &line.fields {
            write!(f, " {name}={value}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// A moment as people read it.
#[must_use]
pub fn moment(at_ms: u64) -> String {
    if at_ms == UnixMs::NEVER.0 {
        "never".to_owned()
    } else {
        trace::date(UnixMs(at_ms))
    }
}
