//! An environment that asks another one, and writes down what it said.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Asked, Exchange, Octets, Tape, Told};
use crate::call::LogLevel;
use crate::environment::{
    Answer, AuthSummary, CallEnvironment, Candidate, HeaderField, LookupFailure, Peer, Question,
    Sender,
};
use crate::host::Clock;
use crate::http::{HttpFailure, HttpRequest, HttpResponse};
use crate::request::Recipient;
use crate::shared::{StateEntry, StateFailure, StateStore};
use crate::table::{Table, TableFailure};

/// Writes the [`Tape`] of one call.
pub struct Recorder {
    inner: Arc<dyn CallEnvironment>,
    clock: Clock,
    seed: u64,
    notes: Arc<Notes>,
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<Exchange>>);

impl Notes {
    fn add(&self, asked: Asked, told: Told) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(Exchange { asked, told });
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records what `inner` says. `clock` and `seed` are used where it leaves the
    /// time and the random numbers to the host.
    ///
    /// What the message is about, its envelope, is written down at once, asked or
    /// not: another version of the plugin may want to know.
    pub fn new(inner: Arc<dyn CallEnvironment>, clock: Clock, seed: u64) -> Self {
        let seed = inner.seed().unwrap_or(seed);
        let recorder = Self {
            inner,
            clock,
            seed,
            notes: Arc::default(),
        };
        recorder.attributes();
        recorder.origin();
        recorder.envelope_sender();
        recorder.envelope_recipients();
        recorder
    }

    /// What was said so far.
    pub fn tape(&self) -> Tape {
        let notes = self.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
        Tape {
            seed: self.seed,
            exchanges: notes.clone(),
        }
    }

    fn note<T: Clone>(&self, asked: Asked, answer: T, told: impl FnOnce(T) -> Told) -> T {
        self.notes.add(asked, told(answer.clone()));
        answer
    }
}

impl CallEnvironment for Recorder {
    fn message_id(&self) -> String {
        self.note(Asked::MessageId, self.inner.message_id(), Told::Text)
    }

    fn received_at_ms(&self) -> u64 {
        self.note(Asked::ReceivedAt, self.inner.received_at_ms(), Told::Number)
    }

    fn message_size_bytes(&self) -> u64 {
        let size = self.inner.message_size_bytes();
        self.note(Asked::MessageSize, size, Told::Number)
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        self.note(Asked::Attributes, self.inner.attributes(), Told::Attributes)
    }

    fn origin(&self) -> Option<Peer> {
        self.note(Asked::Origin, self.inner.origin(), Told::Origin)
    }

    fn envelope_sender(&self) -> Option<Sender> {
        self.note(
            Asked::EnvelopeSender,
            self.inner.envelope_sender(),
            Told::Sender,
        )
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        let recipients = self.inner.envelope_recipients();
        self.note(Asked::EnvelopeRecipients, recipients, Told::Recipients)
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async {
            let headers = self.inner.headers().await;
            self.note(Asked::Headers, headers, Told::Headers)
        })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let body = self.inner.body(offset, limit).await;
            self.note(Asked::Body { offset, limit }, body, |body| {
                Told::Body(body.map(Octets))
            })
        })
    }

    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        Box::pin(async {
            let summary = self.inner.authentication().await;
            self.note(Asked::Authentication, summary, Told::Authentication)
        })
    }

    fn candidates(
        &self,
        with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(async move {
            let candidates = self.inner.candidates(with_addresses).await;
            let asked = Asked::Candidates { with_addresses };
            self.note(asked, candidates, Told::Candidates)
        })
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async {
            let mode = self.inner.mta_sts_mode().await;
            self.note(Asked::MtaStsMode, mode, Told::Mode)
        })
    }

    fn queued_count(&self) -> u64 {
        self.note(Asked::QueuedCount, self.inner.queued_count(), Told::Number)
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(async move {
            let answer = self.inner.lookup(question.clone()).await;
            self.note(Asked::Lookup(question), answer, Told::Lookup)
        })
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        let found = self.inner.table(name);
        let told = Told::Table(found.as_ref().map(|_| ()).map_err(Clone::clone));
        self.notes.add(Asked::Table(name.to_owned()), told);
        Ok(Arc::new(RecordedTable {
            name: name.to_owned(),
            inner: found?,
            notes: Arc::clone(&self.notes),
        }))
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        let store = self.inner.state();
        self.notes.add(Asked::State, Told::Flag(store.is_some()));
        Some(Arc::new(RecordedState {
            inner: store?,
            notes: Arc::clone(&self.notes),
        }))
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        Box::pin(async move {
            let response = self.inner.http(request.clone()).await;
            self.note(Asked::Http(request), response, Told::Http)
        })
    }

    fn now_ms(&self) -> Option<u64> {
        let now = self.inner.now_ms().unwrap_or_else(|| (self.clock)());
        Some(self.note(Asked::Now, now, Told::Number))
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn remaining_ms(&self, measured: u32) -> u32 {
        let remaining = self.inner.remaining_ms(measured);
        self.notes
            .add(Asked::Remaining, Told::Number(remaining.into()));
        remaining
    }

    fn is_log_enabled(&self, level: LogLevel, filtered: bool) -> bool {
        let enabled = self.inner.is_log_enabled(level, filtered);
        self.note(Asked::LogEnabled(level), enabled, Told::Flag)
    }

    fn wants_log(&self) -> bool {
        self.inner.wants_log()
    }

    fn is_repetition(&self) -> bool {
        self.inner.is_repetition()
    }
}

struct RecordedTable {
    name: String,
    inner: Arc<dyn Table>,
    notes: Arc<Notes>,
}

impl RecordedTable {
    fn note<T: Clone>(&self, asked: Asked, answer: T, told: impl FnOnce(T) -> Told) -> T {
        self.notes.add(asked, told(answer.clone()));
        answer
    }
}

impl Table for RecordedTable {
    fn get(&self, key: &str) -> Result<Option<String>, TableFailure> {
        let (table, key) = (self.name.clone(), key.to_owned());
        let value = self.inner.get(&key);
        self.note(Asked::TableKey { table, key }, value, Told::TableValue)
    }

    fn match_domain(&self, name: &str) -> Result<Option<(String, String)>, TableFailure> {
        let (table, name) = (self.name.clone(), name.to_owned());
        let found = self.inner.match_domain(&name);
        self.note(Asked::TableDomain { table, name }, found, Told::TableMatch)
    }

    fn match_ip(&self, address: IpAddr) -> Result<Option<(String, String)>, TableFailure> {
        let table = self.name.clone();
        let found = self.inner.match_ip(address);
        let asked = Asked::TableAddress { table, address };
        self.note(asked, found, Told::TableMatch)
    }

    fn revision(&self) -> u64 {
        let asked = Asked::TableRevision(self.name.clone());
        self.note(asked, self.inner.revision(), Told::Number)
    }
}

struct RecordedState {
    inner: Arc<dyn StateStore>,
    notes: Arc<Notes>,
}

impl RecordedState {
    fn note<T: Clone>(&self, asked: Asked, answer: T, told: impl FnOnce(T) -> Told) -> T {
        self.notes.add(asked, told(answer.clone()));
        answer
    }
}

impl StateStore for RecordedState {
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        let entry = self.inner.get(key, now_ms);
        let key = key.to_owned();
        self.note(Asked::StateGet { key }, entry, Told::Entry)
    }

    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let version = self.inner.put(key, value, ttl_ms, now_ms);
        let (key, value) = (key.to_owned(), value.into());
        let asked = Asked::StatePut { key, value, ttl_ms };
        self.note(asked, version, Told::Version)
    }

    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure> {
        let stored = self.inner.put_if(key, value, version, ttl_ms, now_ms);
        let asked = Asked::StatePutIf {
            key: key.to_owned(),
            value: value.into(),
            version,
            ttl_ms,
        };
        self.note(asked, stored, Told::Swapped)
    }

    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure> {
        let removed = self.inner.remove(key, now_ms);
        let key = key.to_owned();
        self.note(Asked::StateRemove { key }, removed, Told::Done)
    }

    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure> {
        let sum = self.inner.add(key, by, ttl_ms, now_ms);
        let key = key.to_owned();
        self.note(Asked::StateAdd { key, by, ttl_ms }, sum, Told::Sum)
    }

    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure> {
        let taken = self.inner.take(key, cost, per_second, burst, now_ms);
        let asked = Asked::StateTake {
            key: key.to_owned(),
            cost,
            per_second: per_second.to_string(),
            burst,
        };
        self.note(asked, taken, Told::Done)
    }
}
