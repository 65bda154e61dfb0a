//! What a case's plugin can see: the fixtures of the case, nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::format::{
    Case, Failure, Fixtures, RawAnswer, RawAuthentication, RawCandidates, RawResponse, Step,
};
use super::stores::{self, CaseState, StatedTable};
use crate::attempt::{AttemptOutcome, AttemptReport};
use crate::environment::{
    Answer, AuthSummary, CallEnvironment, Candidate, CandidateOrigin, HeaderField, HostHealth,
    Ingress, LookupFailure, Peer, Question, Sender, TlsFacts,
};
use crate::http::{HttpFailure, HttpRequest, HttpResponse};
use crate::phase::{Input, MailFrom, Phase};
use crate::request::{Recipient, RouteRequest};
use crate::shared::StateStore;
use crate::table::{Table, TableFailure};

type Answers = HashMap<Question, Result<Answer, LookupFailure>>;

/// What the steps of a case share.
pub(super) struct Shared {
    answers: Answers,
    tables: BTreeMap<String, Arc<StatedTable>>,
    http: BTreeMap<String, RawResponse>,
    pub(super) state: Arc<CaseState>,
    /// By message.
    attributes: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Of a message that no step has changed.
    stated_attributes: BTreeMap<String, String>,
}

impl Shared {
    /// What a case begins with.
    ///
    /// # Errors
    /// What is wrong with the fixtures, for the author.
    pub(super) fn of(case: &Case) -> Result<Self, String> {
        let fixtures = &case.fixtures;
        for (key, response) in &fixtures.http {
            stores::check_response(key, response)?;
        }
        let tables = fixtures.tables.iter();
        Ok(Self {
            answers: answers(fixtures)?,
            tables: tables
                .map(|(name, keys)| (name.clone(), Arc::new(StatedTable(keys.clone()))))
                .collect(),
            http: fixtures.http.clone(),
            state: Arc::new(CaseState::new(&fixtures.state)),
            attributes: Mutex::default(),
            stated_attributes: case.attributes.clone(),
        })
    }

    /// The attributes of a message.
    pub(super) fn attributes(&self, message_id: &str) -> BTreeMap<String, String> {
        let attributes = self
            .attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = attributes.get(message_id);
        found.unwrap_or(&self.stated_attributes).clone()
    }

    /// What a call that was used has changed.
    pub(super) fn apply(&self, message_id: &str, changes: &[(String, Option<String>)]) {
        let mut now = self.attributes(message_id);
        for (name, value) in changes {
            match value {
                Some(value) => drop(now.insert(name.clone(), value.clone())),
                None => drop(now.remove(name)),
            }
        }
        let mut attributes = self
            .attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        attributes.insert(message_id.to_owned(), now);
    }
}

fn answers(fixtures: &Fixtures) -> Result<Answers, String> {
    let answers = fixtures.dns.iter().map(|(key, answer)| {
        let (question, records) = question(key)?;
        let answer = match answer {
            RawAnswer::Failure(failure) => Err((*failure).into()),
            RawAnswer::Records(texts) => Ok(records(texts)
                .map_err(|text| format!("dns.{key:?}: {text:?} is no such record"))?),
        };
        Ok((question, answer))
    });
    answers.collect()
}

/// The environment of one step.
pub(super) struct World {
    shared: Arc<Shared>,
    message_id: String,
    received_at_ms: u64,
    size_bytes: u64,
    attributes: Arc<[(String, String)]>,
    peer: Peer,
    candidates: Result<Vec<Candidate>, LookupFailure>,
    headers: Arc<[HeaderField]>,
    body: Bytes,
    recipients: Arc<[Recipient]>,
    sender: Sender,
    authentication: Option<AuthSummary>,
    mta_sts_mode: Option<String>,
    queued_count: u64,
    now_ms: u64,
    seed: u64,
}

impl World {
    /// Whether all of a case can be understood.
    pub(super) fn check(case: &Case) -> Result<(), String> {
        let shared = Arc::new(Shared::of(case)?);
        for step in &case.steps {
            Self::of(step, &shared)?;
            if step.expect_faults.is_none() {
                input(step, &shared)?;
            }
        }
        Ok(())
    }

    /// The fixtures of a step.
    ///
    /// # Errors
    /// What is wrong with them, for the author.
    pub(super) fn of(step: &Step, shared: &Arc<Shared>) -> Result<Self, String> {
        let (headers, body) = split_message(&step.message)?;
        Ok(Self {
            shared: Arc::clone(shared),
            message_id: step.message_id.clone(),
            received_at_ms: step.received_at_ms,
            size_bytes: step.size_bytes,
            attributes: shared.attributes(&step.message_id).into_iter().collect(),
            peer: peer(step),
            candidates: candidates(step),
            headers: headers.into(),
            body,
            recipients: recipients(step).into(),
            sender: sender(step)?,
            authentication: step.authentication.as_ref().map(summary),
            mta_sts_mode: step.mta_sts_mode.clone(),
            queued_count: step.queued_count,
            now_ms: step.now_ms,
            seed: step.seed,
        })
    }
}

/// What the plugin is asked in a step.
///
/// # Errors
/// What is wrong with the step, for the author.
pub(super) fn input(step: &Step, shared: &Shared) -> Result<Input, String> {
    let wanted = || "`recipients` is wanted, at least one".to_owned();
    Ok(match step.phase {
        Phase::Sender => Input::MailFrom(MailFrom {
            peer: peer(step),
            sender: sender(step)?,
        }),
        Phase::Recipient => {
            let rcpt = step.rcpt.clone().ok_or("`rcpt` is wanted")?;
            Input::Rcpt(rcpt.into())
        }
        Phase::Message => Input::Message,
        Phase::Routing => Input::Route(Arc::new(RouteRequest {
            message_id: step.message_id.clone(),
            domain: domain(step).ok_or_else(wanted)?,
            sender: sender(step)?.mailbox,
            recipients: recipients(step),
            size_bytes: step.size_bytes,
            received_at_ms: step.received_at_ms,
            attempt: step.attempt,
            listener: step.listener.clone(),
            user: step.user.clone(),
            headers: step.headers.clone(),
            attributes: shared.attributes(&step.message_id).into_iter().collect(),
        })),
        Phase::Delivery => Input::Delivery(Arc::new(AttemptReport {
            message_id: step.message_id.clone(),
            domain: domain(step).ok_or_else(wanted)?,
            recipients: recipients(step),
            outcome: outcome(step)?,
            stage: step.stage,
            host: step.host.clone(),
            address: step.address,
            source: step.source,
            tls: None,
            attempts: step.attempts,
            elapsed_ms: step.elapsed_ms,
            first_attempt_at_ms: step.first_attempt_at_ms,
        })),
    })
}

fn domain(step: &Step) -> Option<smtp::Domain> {
    let of_first = || Some(step.recipients.first()?.domain().clone());
    step.domain.clone().or_else(of_first)
}

fn recipients(step: &Step) -> Vec<Recipient> {
    step.recipients.iter().cloned().map(Into::into).collect()
}

fn sender(step: &Step) -> Result<Sender, String> {
    let mailbox = match step.sender.as_str() {
        "" => None,
        text => {
            let parsed = text.parse();
            Some(parsed.map_err(|error| format!("sender {text:?}: {error}"))?)
        }
    };
    Ok(Sender {
        mailbox,
        declared_size_bytes: None,
        body: step.body_type,
        smtputf8: step.smtputf8,
        requiretls: step.requiretls,
        ..Sender::default()
    })
}

fn peer(step: &Step) -> Peer {
    let raw = &step.peer;
    let listener = if raw.listener.is_empty() {
        &step.listener
    } else {
        &raw.listener
    };
    Peer {
        ip: raw.ip,
        port: raw.port,
        listener: listener.clone(),
        ingress: raw.ingress.unwrap_or(Ingress::Smtp),
        helo: raw.helo.clone(),
        fcrdns: raw.fcrdns.clone(),
        user: raw.user.clone().or_else(|| step.user.clone()),
        tls: raw.tls.clone().map(|tls| TlsFacts {
            version: tls.version,
            cipher: tls.cipher,
            sni: tls.sni,
            verified_names: tls.verified_names,
        }),
    }
}

fn summary(raw: &RawAuthentication) -> AuthSummary {
    AuthSummary {
        spf: raw.spf,
        spf_domain: raw.spf_domain.clone(),
        dkim_pass_domains: raw.dkim_pass_domains.clone(),
        dmarc: raw.dmarc,
    }
}

fn candidates(step: &Step) -> Result<Vec<Candidate>, LookupFailure> {
    match &step.candidates {
        None => Err(LookupFailure::NoSuchDomain),
        Some(RawCandidates::Failure(failure)) => Err((*failure).into()),
        Some(RawCandidates::Hosts(hosts)) => Ok(hosts
            .iter()
            .map(|host| Candidate {
                preference: host.preference,
                host: host.host.clone(),
                addresses: host.addresses.clone(),
                port: host.port.unwrap_or(25),
                origin: CandidateOrigin::Mx,
                secure: host.secure,
                health: HostHealth::default(),
            })
            .collect()),
    }
}

/// `outcome = { temporary = "450 4.2.1 busy" }`.
fn outcome(step: &Step) -> Result<AttemptOutcome, String> {
    let fault = || {
        "`outcome` is one of { delivered = \"250 2.0.0 ok\" }, temporary, permanent, and { failed = \"why\" }"
            .to_owned()
    };
    let mut stated = step.outcome.iter();
    let (Some((kind, text)), None) = (stated.next(), stated.next()) else {
        return Err(fault());
    };
    if kind == "failed" {
        return Ok(AttemptOutcome::Failed(text.clone()));
    }
    let reply = reply(text).ok_or_else(|| format!("outcome: {text:?} is no reply"))?;
    match kind.as_str() {
        "delivered" => Ok(AttemptOutcome::Delivered(reply)),
        "temporary" => Ok(AttemptOutcome::Temporary(reply)),
        "permanent" => Ok(AttemptOutcome::Permanent(reply)),
        _ => Err(fault()),
    }
}

/// A reply as a server writes it: code, enhanced code if there is one, text.
fn reply(text: &str) -> Option<smtp::Reply> {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let enhanced = first.parse().ok();
    Some(smtp::Reply {
        code,
        text: if enhanced.is_some() { tail } else { rest }.to_owned(),
        enhanced,
    })
}

/// Header fields and body of a mail file; lines may end in LF alone.
fn split_message(text: &str) -> Result<(Vec<HeaderField>, Bytes), String> {
    let text = text.replace("\r\n", "\n");
    let (header, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in header.lines().filter(|line| !line.is_empty()) {
        match (
            fields.last_mut(),
            line.starts_with([' ', '\t']),
            line.split_once(':'),
        ) {
            (Some((_, value)), true, _) => {
                value.push_str("\r\n");
                value.push_str(line);
            }
            (_, false, Some((name, value))) => fields.push((name.to_owned(), value.to_owned())),
            _ => return Err(format!("message: {line:?} is no header field")),
        }
    }
    let fields = fields.into_iter().map(|(name, value)| HeaderField {
        name,
        value: value.into(),
    });
    Ok((fields.collect(), Bytes::from(body.replace('\n', "\r\n"))))
}

type Records = fn(&[String]) -> Result<Answer, String>;

/// The question that a key of the `dns` table stands for, and how its records
/// are read.
fn question(key: &str) -> Result<(Question, Records), String> {
    let fault =
        || format!("dns.{key:?}: `mx name`, `txt name`, `address name` or `ptr address` is wanted");
    let (kind, of) = key.split_once(' ').ok_or_else(fault)?;
    let domain = || of.parse::<smtp::Domain>().map_err(|_| fault());
    Ok(match kind {
        "mx" => (Question::Mx(domain()?), mx_records),
        "txt" => (Question::Txt(domain()?), |texts| {
            Ok(Answer::Txt(texts.to_vec()))
        }),
        "address" => (Question::Address(domain()?), |texts| {
            parse_each(texts).map(Answer::Address)
        }),
        "ptr" => (Question::Ptr(of.parse().map_err(|_| fault())?), |texts| {
            parse_each(texts).map(Answer::Ptr)
        }),
        _ => return Err(fault()),
    })
}

fn parse_each<T: std::str::FromStr>(texts: &[String]) -> Result<Vec<T>, String> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| text.clone()))
        .collect()
}

fn mx_records(texts: &[String]) -> Result<Answer, String> {
    let record = |text: &String| {
        let (preference, host) = text.split_once(' ')?;
        Some((preference.parse().ok()?, host.parse().ok()?))
    };
    let records = texts
        .iter()
        .map(|text| record(text).ok_or_else(|| text.clone()));
    records.collect::<Result<_, _>>().map(Answer::Mx)
}

impl From<Failure> for LookupFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchDomain => Self::NoSuchDomain,
            Failure::NoRecords => Self::NoRecords,
            Failure::NullMx => Self::NullMx,
            Failure::Temporary => Self::Temporary,
        }
    }
}

impl CallEnvironment for World {
    fn message_id(&self) -> String {
        self.message_id.clone()
    }

    fn received_at_ms(&self) -> u64 {
        self.received_at_ms
    }

    fn message_size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        Arc::clone(&self.attributes)
    }

    fn origin(&self) -> Option<Peer> {
        Some(self.peer.clone())
    }

    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        Box::pin(async { self.authentication.clone() })
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        match self.shared.tables.get(name) {
            Some(table) => Ok(Arc::clone(table) as Arc<dyn Table>),
            None => Err(TableFailure::Unknown(name.to_owned())),
        }
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        Some(Arc::clone(&self.shared.state) as Arc<dyn StateStore>)
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        Box::pin(async move { stores::respond(&self.shared.http, &request) })
    }

    fn envelope_sender(&self) -> Option<Sender> {
        Some(self.sender.clone())
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        Arc::clone(&self.recipients)
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async { Arc::clone(&self.headers) })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        let length = self.body.len();
        let start = usize::try_from(offset).unwrap_or(length).min(length);
        let end = start.saturating_add(limit as usize).min(length);
        Box::pin(async move { Some(self.body.slice(start..end)) })
    }

    fn candidates(
        &self,
        with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        let mut candidates = self.candidates.clone();
        if !with_addresses && let Ok(candidates) = &mut candidates {
            candidates
                .iter_mut()
                .for_each(|candidate| candidate.addresses.clear());
        }
        Box::pin(async { candidates })
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { self.mta_sts_mode.clone() })
    }

    fn queued_count(&self) -> u64 {
        self.queued_count
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        let answer = self.shared.answers.get(&question).cloned();
        Box::pin(async { answer.unwrap_or(Err(LookupFailure::NoSuchDomain)) })
    }

    fn now_ms(&self) -> Option<u64> {
        Some(self.now_ms)
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn wants_log(&self) -> bool {
        true
    }
}
