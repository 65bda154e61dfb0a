//! An environment that answers from a tape.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::replay_stores::{ReplayedState, ReplayedTable};
use super::{Asked, Octets, ScratchOverlay, Tape, Told};
use crate::call::LogLevel;
use crate::environment::{
    Answer, AuthSummary, CallEnvironment, Candidate, HeaderField, LookupFailure, Peer, Question,
    Sender,
};
use crate::http::{HttpFailure, HttpMethod, HttpRequest, HttpResponse};
use crate::request::Recipient;
use crate::shared::StateStore;
use crate::table::{Table, TableFailure};

/// Questions beyond a tape that are remembered by their words.
const NEWS_MAX: usize = 20;

/// Gives every question the answer that is on the tape. The same question asked
/// several times gets its answers in their order, and the last one again when
/// they are used up. What is not on the tape is [news](Replay::news).
pub struct Replay {
    seed: u64,
    pub(super) book: Arc<Book>,
    live: Option<Live>,
}

/// The real world behind a tape, for a trial that may look and not touch.
#[derive(Clone)]
pub struct Live {
    /// Answers what is not on the tape. Of its HTTP only GET and HEAD are used.
    pub environment: Arc<dyn CallEnvironment>,
    /// Takes what the trial writes to the state.
    pub scratch: ScratchOverlay,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// The answers by question, and what was asked beyond them.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    answers: HashMap<Asked, Page>,
    news: Vec<String>,
    unheard: usize,
}

#[derive(Debug, Default)]
struct Page {
    told: Vec<Told>,
    used: usize,
}

impl Book {
    /// The next answer to a question; the flag: it has been given before.
    pub(super) fn next(&self, asked: &Asked) -> Option<(Told, bool)> {
        let mut pages = self.lock();
        let page = pages.answers.get_mut(asked)?;
        let is_repeated = page.used >= page.told.len();
        let at = page.used.min(page.told.len().checked_sub(1)?);
        page.used += 1;
        page.told.get(at).map(|told| (told.clone(), is_repeated))
    }

    /// Notes a question that the tape cannot answer.
    pub(super) fn note(&self, asked: &Asked) {
        let mut pages = self.lock();
        if pages.news.len() >= NEWS_MAX {
            pages.unheard += 1;
            return;
        }
        let words = asked.in_words();
        if !pages.news.contains(&words) {
            pages.news.push(words);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer of the expected kind; a tape that was tampered with has none.
macro_rules! told {
    ($replay:ident, $asked:expr, $kind:path) => {
        match $replay.book.next(&$asked) {
            Some(($kind(answer), _)) => Some(answer),
            _ => {
                $replay.note(&$asked);
                None
            }
        }
    };
}

/// From the tape, else from the live environment, else what stands for nothing.
macro_rules! answer {
    ($replay:ident, $asked:expr, $kind:path, $live:expr, $nothing:expr) => {
        match told!($replay, $asked, $kind) {
            Some(answer) => answer,
            None => match &$replay.live {
                Some(live) => {
                    #[allow(clippy::redundant_closure_call)]
                    let answer = ($live)(&*live.environment);
                    answer
                }
                None => $nothing,
            },
        }
    };
}

impl Replay {
    /// Answers from the tape alone.
    pub fn new(tape: &Tape) -> Self {
        let mut pages = Pages::default();
        for exchange in &tape.exchanges {
            let page = pages.answers.entry(exchange.asked.clone()).or_default();
            page.told.push(exchange.told.clone());
        }
        Self {
            seed: tape.seed,
            book: Arc::new(Book(Mutex::new(pages))),
            live: None,
        }
    }

    /// Answers from the tape, and what is not there from the world as it is.
    pub fn over(tape: &Tape, live: Live) -> Self {
        Self {
            live: Some(live),
            ..Self::new(tape)
        }
    }

    /// Questions that the tape has no answer to, in their order and each once.
    pub fn news(&self) -> Vec<String> {
        let pages = self.book.lock();
        let mut news = pages.news.clone();
        if pages.unheard > 0 {
            news.push(format!("and {} more", pages.unheard));
        }
        news
    }

    fn note(&self, asked: &Asked) {
        self.book.note(asked);
    }

    /// The candidates with or without addresses, where the other kind is on the
    /// tape: the nearest there is.
    fn other_candidates(
        &self,
        with_addresses: bool,
    ) -> Option<Result<Vec<Candidate>, LookupFailure>> {
        let other = Asked::Candidates {
            with_addresses: !with_addresses,
        };
        let Some((Told::Candidates(mut candidates), _)) = self.book.next(&other) else {
            return None;
        };
        if let Ok(list) = &mut candidates {
            list.iter_mut()
                .for_each(|candidate| candidate.addresses.clear());
        }
        Some(candidates)
    }
}

impl CallEnvironment for Replay {
    fn message_id(&self) -> String {
        let live = |world: &dyn CallEnvironment| world.message_id();
        answer!(self, Asked::MessageId, Told::Text, live, String::new())
    }

    fn received_at_ms(&self) -> u64 {
        let live = |world: &dyn CallEnvironment| world.received_at_ms();
        answer!(self, Asked::ReceivedAt, Told::Number, live, 0)
    }

    fn message_size_bytes(&self) -> u64 {
        let live = |world: &dyn CallEnvironment| world.message_size_bytes();
        answer!(self, Asked::MessageSize, Told::Number, live, 0)
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        let live = |world: &dyn CallEnvironment| world.attributes();
        let nothing = Arc::new([]);
        answer!(self, Asked::Attributes, Told::Attributes, live, nothing)
    }

    fn origin(&self) -> Option<Peer> {
        let live = |world: &dyn CallEnvironment| world.origin();
        answer!(self, Asked::Origin, Told::Origin, live, None)
    }

    fn envelope_sender(&self) -> Option<Sender> {
        let live = |world: &dyn CallEnvironment| world.envelope_sender();
        answer!(self, Asked::EnvelopeSender, Told::Sender, live, None)
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        let live = |world: &dyn CallEnvironment| world.envelope_recipients();
        let asked = Asked::EnvelopeRecipients;
        answer!(self, asked, Told::Recipients, live, Arc::new([]))
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async {
            match (told!(self, Asked::Headers, Told::Headers), &self.live) {
                (Some(headers), _) => headers,
                (None, Some(live)) => live.environment.headers().await,
                (None, None) => Arc::from([]),
            }
        })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let asked = Asked::Body { offset, limit };
            match (told!(self, asked, Told::Body), &self.live) {
                (Some(body), _) => body.map(|Octets(octets)| octets),
                (None, Some(live)) => live.environment.body(offset, limit).await,
                (None, None) => None,
            }
        })
    }

    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        Box::pin(async {
            let told = told!(self, Asked::Authentication, Told::Authentication);
            match (told, &self.live) {
                (Some(summary), _) => summary,
                (None, Some(live)) => live.environment.authentication().await,
                (None, None) => None,
            }
        })
    }

    fn candidates(
        &self,
        with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(async move {
            let asked = Asked::Candidates { with_addresses };
            match (told!(self, asked, Told::Candidates), &self.live) {
                (Some(candidates), _) => candidates,
                (None, Some(live)) => live.environment.candidates(with_addresses).await,
                (None, None) => self
                    .other_candidates(with_addresses)
                    .unwrap_or(Err(LookupFailure::Temporary)),
            }
        })
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async {
            match (told!(self, Asked::MtaStsMode, Told::Mode), &self.live) {
                (Some(mode), _) => mode,
                (None, Some(live)) => live.environment.mta_sts_mode().await,
                (None, None) => None,
            }
        })
    }

    fn queued_count(&self) -> u64 {
        let live = |world: &dyn CallEnvironment| world.queued_count();
        answer!(self, Asked::QueuedCount, Told::Number, live, 0)
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(async move {
            let asked = Asked::Lookup(question.clone());
            match (told!(self, asked, Told::Lookup), &self.live) {
                (Some(answer), _) => answer,
                (None, Some(live)) => live.environment.lookup(question).await,
                (None, None) => Err(LookupFailure::Temporary),
            }
        })
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        let told = told!(self, Asked::Table(name.to_owned()), Told::Table);
        let live = self.live.as_ref();
        let live = live.map(|live| live.environment.table(name));
        let live = match (told, live) {
            (Some(Err(failure)), _) | (None, Some(Err(failure))) => return Err(failure),
            // Nothing else knows whether there is such a table.
            (None, None) => return Err(TableFailure::Unknown(name.to_owned())),
            (_, live) => live.and_then(Result::ok),
        };
        Ok(Arc::new(ReplayedTable {
            name: name.to_owned(),
            book: Arc::clone(&self.book),
            live,
        }))
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        let told = told!(self, Asked::State, Told::Flag);
        if told == Some(false) {
            return None;
        }
        let scratch = match &self.live {
            Some(live) => live.scratch.clone(),
            None => ScratchOverlay::default(),
        };
        let base = self.live.as_ref().map(|live| live.environment.state());
        // Live, and the relay has no state to look at.
        if told.is_none() && matches!(base, Some(None)) {
            return None;
        }
        Some(Arc::new(ReplayedState {
            book: Arc::clone(&self.book),
            is_alone: self.live.is_none(),
            trial: scratch.over(base.flatten()),
            scratch,
        }))
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        Box::pin(async move {
            if let Some(response) = told!(self, Asked::Http(request.clone()), Told::Http) {
                return response;
            }
            match &self.live {
                Some(live) if matches!(request.method, HttpMethod::Get | HttpMethod::Head) => {
                    live.environment.http(request).await
                }
                Some(_) => Err(HttpFailure::Denied(
                    "a plugin on trial may only GET what the active one has not asked".to_owned(),
                )),
                None => Err(HttpFailure::Connect(
                    "the record has no answer to this request".to_owned(),
                )),
            }
        })
    }

    fn now_ms(&self) -> Option<u64> {
        match self.book.next(&Asked::Now) {
            Some((Told::Number(now), _)) => Some(now),
            // The record was made by a version that did not look at the clock.
            _ => match &self.live {
                Some(live) => live.environment.now_ms(),
                None => {
                    self.note(&Asked::Now);
                    Some(0)
                }
            },
        }
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn remaining_ms(&self, measured: u32) -> u32 {
        match self.book.next(&Asked::Remaining) {
            Some((Told::Number(left), _)) => u32::try_from(left).unwrap_or(measured),
            // What is left of the time is no fact about the message.
            _ => measured,
        }
    }

    fn is_log_enabled(&self, level: LogLevel, filtered: bool) -> bool {
        match self.book.next(&Asked::LogEnabled(level)) {
            Some((Told::Flag(is_enabled), _)) => is_enabled,
            _ => filtered,
        }
    }

    fn is_repetition(&self) -> bool {
        self.live.is_none()
    }
}
