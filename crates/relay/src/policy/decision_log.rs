//! The decision log: calls of plugins as they were, for `waypost plugin replay`.
//!
//! Recording takes no time of the mail: what is recorded waits in a bounded queue, and one task
//! exchanges what is private for pseudonyms and writes. What finds the queue full is dropped and
//! counted. A record that was not written yet when the relay ends is lost.

mod files;
mod weight;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plugin::Plugin;
use plugin::record::{Privacy, Record, Redactor};
use smtp::QueueId;
use tokio::sync::mpsc;

use self::files::Files;
pub(crate) use self::files::read;
use super::candidate::is_in_share;
use crate::clock::{self, Clock};
use crate::config::{DecisionLogConfig, LogPrivacy};
use crate::telemetry;

/// Records that are written at once.
const BATCH: usize = 64;

/// The way into the log; clones lead to the same one.
#[derive(Debug, Clone)]
pub(crate) struct DecisionLog {
    entries: mpsc::Sender<(Entry, Load)>,
    waiting: Arc<AtomicUsize>,
    config: Arc<DecisionLogConfig>,
}

/// What a record takes of the memory for those that wait; given back with this.
#[derive(Debug)]
struct Load {
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Load {
    /// None: there is no room for it.
    fn take(waiting: &Arc<AtomicUsize>, bytes: usize, limit_bytes: usize) -> Option<Self> {
        let sum = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit_bytes);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        waiting.fetch_update(set, fetch, sum).ok()?;
        telemetry::decision_log_waiting(bytes, true);
        let waiting = Arc::clone(waiting);
        Some(Self { bytes, waiting })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
        telemetry::decision_log_waiting(self.bytes, false);
    }
}

/// A call to be written.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What was called.
    pub(crate) plugin: Plugin,
    /// Names of the header fields that are in a routing request.
    pub(crate) route_headers: Vec<String>,
    /// The call.
    pub(crate) record: Record,
}

impl DecisionLog {
    /// Opens the log; none where it is not wanted. Needs a runtime.
    pub(crate) fn open(config: &DecisionLogConfig, clock: &Clock) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let (sender, receiver) = mpsc::channel(config.waiting_count);
        let privacy = match config.privacy {
            LogPrivacy::Hash => Privacy::Hash,
            LogPrivacy::Domains => Privacy::Domains,
            LogPrivacy::Full => Privacy::Full,
        };
        let redactor = Redactor::new(privacy, random_key(), config.keep_headers.clone());
        let files = Files::new(config, clock.clone());
        tokio::spawn(write(receiver, redactor, files));
        Some(Self {
            entries: sender,
            waiting: Arc::default(),
            config: Arc::new(config.clone()),
        })
    }

    /// What it was opened with.
    pub(crate) fn config(&self) -> &DecisionLogConfig {
        &self.config
    }

    /// Whether the calls about this message are recorded.
    pub(crate) fn has(&self, id: QueueId) -> bool {
        is_in_share("decision-log", id, self.config.sample.millionths())
    }

    /// Takes a record, or drops it where too many wait, or too large ones.
    pub(crate) fn offer(&self, entry: Entry) {
        let bytes = weight::of(&entry.record);
        let load = Load::take(&self.waiting, bytes, self.config.waiting_bytes);
        let is_taken = load.is_some_and(|load| self.entries.try_send((entry, load)).is_ok());
        if !is_taken {
            telemetry::decision_records("dropped", 1);
        }
    }
}

/// A key that nobody has after this process: pseudonyms of one run of the relay can be compared
/// with each other, and be undone by nobody.
fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&clock::random_seed().to_le_bytes());
    }
    key
}

/// Until the last sender is gone.
async fn write(mut entries: mpsc::Receiver<(Entry, Load)>, redactor: Redactor, mut files: Files) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let mut lines = Vec::with_capacity(batch.len());
        // As long as the lines are there.
        let mut loads = Vec::with_capacity(batch.len());
        for (entry, load) in batch.drain(..) {
            loads.push(load);
            lines.extend(line(&redactor, entry).await);
        }
        let written = tokio::task::spawn_blocking(move || {
            let result = files.append(&lines);
            (files, lines.len(), result)
        });
        let Ok((back, count, result)) = written.await else {
            return;
        };
        drop(loads);
        files = back;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        match result {
            Ok(bytes) => {
                telemetry::decision_records("written", count);
                telemetry::decision_log_size(bytes);
            }
            Err(error) => {
                telemetry::decision_records("failed", count);
                tracing::error!(%error, records = count, "cannot write to the decision log");
            }
        }
    }
}

async fn line(redactor: &Redactor, entry: Entry) -> Option<Vec<u8>> {
    let Entry {
        plugin,
        route_headers,
        record,
    } = entry;
    let message = record.message.clone();
    let shown = redactor.record(&plugin, record, &route_headers).await;
    let line = shown
        .map_err(|error| error.to_string())
        .and_then(|record| serde_json::to_vec(&record).map_err(|error| error.to_string()));
    match line {
        Ok(mut line) => {
            line.push(b'\n');
            Some(line)
        }
        Err(error) => {
            telemetry::decision_records("failed", 1);
            tracing::warn!(
                id = message,
                error,
                "a decision is left out of the decision log"
            );
            None
        }
    }
}
