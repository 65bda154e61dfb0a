//! What a case's plugin can see: the fixtures of the case, nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Failure, RawAnswer, RawCandidates, RawCase};
use crate::environment::{
    Answer, CallEnvironment, Candidate, CandidateOrigin, HeaderField, HostHealth, LookupFailure,
    Question, Sender,
};
use crate::request::{Recipient, RouteRequest};

/// A case's environment.
pub(super) struct World {
    candidates: Result<Vec<Candidate>, LookupFailure>,
    answers: HashMap<Question, Result<Answer, LookupFailure>>,
    headers: Arc<[HeaderField]>,
    body: Bytes,
    recipients: Arc<[Recipient]>,
    sender: Sender,
    mta_sts_mode: Option<String>,
    queued_count: u64,
    now_ms: u64,
    seed: u64,
}

impl World {
    /// The fixtures of a case.
    ///
    /// # Errors
    /// What is wrong with them, for the author.
    pub(super) fn of(case: &RawCase) -> Result<Self, String> {
        let (headers, body) = split_message(&case.message)?;
        let answers = case.dns.iter().map(|(key, answer)| {
            let (question, records) = question(key)?;
            let answer = match answer {
                RawAnswer::Failure(failure) => Err((*failure).into()),
                RawAnswer::Records(texts) => Ok(records(texts)
                    .map_err(|text| format!("dns.{key:?}: {text:?} is no such record"))?),
            };
            Ok::<_, String>((question, answer))
        });
        Ok(Self {
            answers: answers.collect::<Result<_, _>>()?,
            candidates: match &case.candidates {
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
            },
            headers: headers.into(),
            body,
            recipients: case
                .recipients
                .iter()
                .cloned()
                .map(Recipient::from)
                .collect(),
            sender: Sender {
                mailbox: sender(case)?,
                ..Sender::default()
            },
            mta_sts_mode: case.mta_sts_mode.clone(),
            queued_count: case.queued_count,
            now_ms: case.now_ms,
            seed: case.seed,
        })
    }
}

/// The request of a case that has recipients.
pub(super) fn request(case: &RawCase) -> Result<RouteRequest, String> {
    let first = case.recipients.first().ok_or("there is no recipient")?;
    let domain = case
        .domain
        .clone()
        .unwrap_or_else(|| first.domain().clone());
    Ok(RouteRequest {
        message_id: "CASE000000001".to_owned(),
        domain,
        sender: sender(case)?,
        recipients: case
            .recipients
            .iter()
            .cloned()
            .map(Recipient::from)
            .collect(),
        size_bytes: case.size_bytes,
        received_at_ms: case.received_at_ms,
        attempt: case.attempt,
        listener: case.listener.clone(),
        user: case.user.clone(),
        headers: case.headers.clone(),
        attributes: case.attributes.clone().into_iter().collect(),
    })
}

fn sender(case: &RawCase) -> Result<Option<smtp::Mailbox>, String> {
    if case.sender.is_empty() {
        return Ok(None);
    }
    let mailbox = case.sender.parse();
    mailbox
        .map(Some)
        .map_err(|error| format!("sender {:?}: {error}", case.sender))
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
        let answer = self.answers.get(&question).cloned();
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
