//! State that a trial may write to: what it changes stays here, and what it has
//! not touched is read from the real store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::shared::{StateEntry, StateFailure, StateStore};

/// Entries that an overlay holds; beyond it writes are refused as over the quota.
const ENTRIES_MAX: usize = 100_000;
/// Octets of keys and values that an overlay holds.
const BYTES_MAX: usize = 8 << 20;

/// Writes of a trial, kept apart. Clones share them.
///
/// A counter or bucket that the real store has is not continued here, unless its
/// value can be read as decimal text: a trial's own begin at nothing.
#[derive(Debug, Clone, Default)]
pub struct ScratchOverlay(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    entries: HashMap<String, Held>,
    bytes: usize,
    version: u64,
}

#[derive(Debug, Clone)]
enum Held {
    Removed,
    Entry {
        entry: StateEntry,
        expires_at_ms: Option<u64>,
    },
    Bucket {
        tokens: f64,
        at_ms: u64,
    },
}

impl ScratchOverlay {
    /// The state as a trial sees it: this over `base`, which is only read.
    pub fn over(&self, base: Option<Arc<dyn StateStore>>) -> Arc<dyn StateStore> {
        Arc::new(Overlaid {
            written: self.clone(),
            base,
        })
    }

    /// Puts in an entry that is known to be there.
    pub(super) fn seed(&self, key: &str, entry: Option<StateEntry>) {
        let held = entry.map_or(Held::Removed, |entry| Held::Entry {
            entry,
            expires_at_ms: None,
        });
        // What has no room is found out when it is written again.
        drop(self.with(|written| written.hold(key, held)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Written) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Written {
    /// What is known of a key here; `None`: nothing.
    fn known(&self, key: &str, now_ms: u64) -> Option<Option<StateEntry>> {
        match self.entries.get(key)? {
            Held::Entry {
                expires_at_ms: Some(end),
                ..
            } if *end <= now_ms => Some(None),
            Held::Entry { entry, .. } => Some(Some(entry.clone())),
            Held::Removed | Held::Bucket { .. } => Some(None),
        }
    }

    fn hold(&mut self, key: &str, held: Held) -> Result<(), StateFailure> {
        let size = |key: &str, held: &Held| match held {
            Held::Entry { entry, .. } => key.len() + entry.value.len(),
            Held::Removed | Held::Bucket { .. } => key.len(),
        };
        let old = self.entries.get(key).map_or(0, |old| size(key, old));
        let bytes = self.bytes - old + size(key, &held);
        let is_new = !self.entries.contains_key(key);
        if bytes > BYTES_MAX || (is_new && self.entries.len() >= ENTRIES_MAX) {
            return Err(StateFailure::Quota);
        }
        self.bytes = bytes;
        self.entries.insert(key.to_owned(), held);
        Ok(())
    }

    fn put(
        &mut self,
        key: &str,
        value: Vec<u8>,
        expires_at_ms: Option<u64>,
        above: u64,
    ) -> Result<u64, StateFailure> {
        self.version = self.version.max(above) + 1;
        let version = self.version;
        let entry = StateEntry { value, version };
        self.hold(
            key,
            Held::Entry {
                entry,
                expires_at_ms,
            },
        )?;
        Ok(version)
    }
}

struct Overlaid {
    written: ScratchOverlay,
    base: Option<Arc<dyn StateStore>>,
}

impl Overlaid {
    fn entry(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        if let Some(known) = self.written.with(|written| written.known(key, now_ms)) {
            return Ok(known);
        }
        match &self.base {
            Some(base) => base.get(key, now_ms),
            None => Ok(None),
        }
    }
}

impl StateStore for Overlaid {
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        self.entry(key, now_ms)
    }

    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let before = self.entry(key, now_ms)?.map_or(0, |entry| entry.version);
        let end = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
        self.written
            .with(|written| written.put(key, value.to_vec(), end, before))
    }

    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure> {
        let before = self.entry(key, now_ms)?.map_or(0, |entry| entry.version);
        if before != version {
            return Ok(None);
        }
        self.put(key, value, ttl_ms, now_ms).map(Some)
    }

    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure> {
        let was_there = self.entry(key, now_ms)?.is_some();
        self.written
            .with(|written| written.hold(key, Held::Removed))?;
        Ok(was_there)
    }

    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure> {
        let before = self.entry(key, now_ms)?;
        let number = before.as_ref().and_then(|entry| {
            let text = std::str::from_utf8(&entry.value).ok()?;
            text.parse::<i64>().ok()
        });
        let sum = number.unwrap_or(0).saturating_add(by);
        let version = before.map_or(0, |entry| entry.version);
        let end = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
        let value = sum.to_string().into_bytes();
        self.written
            .with(|written| written.put(key, value, end, version))?;
        Ok(sum)
    }

    #[allow(clippy::cast_precision_loss)] // milliseconds of a call's age are small
    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure> {
        self.written.with(|written| {
            let burst = f64::from(burst);
            let full = match written.entries.get(key) {
                Some(Held::Bucket { tokens, at_ms }) => {
                    let seconds = now_ms.saturating_sub(*at_ms) as f64 / 1000.0;
                    (tokens + seconds * per_second.max(0.0)).min(burst)
                }
                _ => burst,
            };
            let left = full - f64::from(cost);
            let (is_taken, tokens) = if left >= 0.0 {
                (true, left)
            } else {
                (false, full)
            };
            let at_ms = now_ms;
            written.hold(key, Held::Bucket { tokens, at_ms })?;
            Ok(is_taken)
        })
    }
}
