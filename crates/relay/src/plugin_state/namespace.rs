//! The entries of one plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plugin::{StateEntry, StateFailure, StateStore};
use serde::{Deserialize, Serialize};

use super::rules::{self, KEY_MAX_BYTES};
use crate::telemetry;

/// Expired entries that one write gives back, wanted or not.
const RECLAIMED_PER_WRITE: usize = 8;

/// What a key stands for: a value and a bucket may have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Kind {
    Value,
    Bucket,
}

/// An entry as it is written and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) key: Arc<str>,
    /// None: removed.
    pub(super) held: Option<Held>,
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Empty for a bucket.
    pub(super) octets: Arc<[u8]>,
    /// Of a value; of a bucket the moment at which it is full, in nanoseconds.
    pub(super) number: u64,
    pub(super) expires_at_ms: u64,
}

struct Slot {
    held: Held,
    /// The log has this key, or is about to.
    is_logged: bool,
}

/// One plugin's state. Whoever has it may use it at any time from any thread.
pub(crate) struct Namespace {
    plugin: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    quota_bytes: usize,
    used_bytes: usize,
    slots: BTreeMap<(Kind, Arc<str>), Slot>,
    expiries: BTreeSet<(u64, Kind, Arc<str>)>,
    last_version: u64,
    /// Whether changes are noted for the log.
    is_logged: bool,
    changed: BTreeSet<(Kind, Arc<str>)>,
}

impl Namespace {
    /// An empty one.
    pub(crate) fn new(plugin: &str, quota_bytes: usize) -> Self {
        Self {
            plugin: plugin.to_owned(),
            inner: Mutex::new(Inner {
                quota_bytes,
                ..Inner::default()
            }),
        }
    }

    /// Name of the plugin.
    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Octets in use, as the quota counts them, and entries, expired ones included.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.used_bytes, inner.slots.len())
    }

    /// Another quota. What is over it stays, and nothing is added to it.
    pub(super) fn set_quota(&self, bytes: usize) {
        self.lock().quota_bytes = bytes;
    }

    /// Whether changes are noted for [`Namespace::take_changes`] from now on.
    pub(super) fn set_logged(&self, is_logged: bool) {
        let mut inner = self.lock();
        inner.is_logged = is_logged;
        if !is_logged {
            inner.forget_log();
        }
    }

    /// The log that there was is of no use any more: one with all entries takes its place. What
    /// it has and no longer should need not be noted.
    pub(super) fn forget_log(&self) {
        self.lock().forget_log();
    }

    /// Takes over what a log had.
    pub(super) fn restore(&self, records: Vec<Record>, now_ms: u64) {
        let mut inner = self.lock();
        for record in records {
            let key = (record.kind, record.key);
            inner.forget(&key);
            if let Some(held) = record.held
                && held.expires_at_ms > now_ms
            {
                if key.0 == Kind::Value {
                    inner.last_version = inner.last_version.max(held.number);
                }
                inner.insert(key, held, true);
            }
        }
        inner.changed.clear();
    }

    /// Some of what has changed since it was last asked.
    pub(super) fn take_changes(&self, most: usize) -> Vec<Record> {
        let mut inner = self.lock();
        let mut records = Vec::new();
        while records.len() < most
            && let Some((kind, key)) = inner.changed.pop_first()
        {
            let slot = inner.slots.get_mut(&(kind, Arc::clone(&key)));
            let held = slot.map(|slot| {
                slot.is_logged = true;
                slot.held.clone()
            });
            records.push(Record { kind, key, held });
        }
        records
    }

    /// The entries that follow `after` in the order of the keys, `most` of them.
    pub(super) fn entries_after(
        &self,
        after: Option<&Record>,
        most: usize,
        now_ms: u64,
    ) -> Vec<Record> {
        let mut inner = self.lock();
        let from = match after {
            Some(record) => Bound::Excluded((record.kind, Arc::clone(&record.key))),
            None => Bound::Unbounded,
        };
        let slots = inner.slots.range_mut((from, Bound::Unbounded));
        let live = slots.filter(|(_, slot)| slot.held.expires_at_ms > now_ms);
        live.take(most)
            .map(|((kind, key), slot)| {
                slot.is_logged = true;
                Record {
                    kind: *kind,
                    key: Arc::clone(key),
                    held: Some(slot.held.clone()),
                }
            })
            .collect()
    }

    /// What is kept under a key and has not expired.
    pub(super) fn held(&self, kind: Kind, key: &str, now_ms: u64) -> Option<Held> {
        self.lock().held(&(kind, Arc::from(key)), now_ms).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused<T>(&self, result: Result<T, StateFailure>) -> Result<T, StateFailure> {
        if matches!(result, Err(StateFailure::Quota)) {
            telemetry::state_refused(&self.plugin);
        }
        result
    }
}

impl Inner {
    /// The log has no entry, and is told of none but those that change from now on.
    fn forget_log(&mut self) {
        self.changed.clear();
        for slot in self.slots.values_mut() {
            slot.is_logged = false;
        }
    }

    fn held(&self, key: &(Kind, Arc<str>), now_ms: u64) -> Option<&Held> {
        let slot = self.slots.get(key)?;
        (slot.held.expires_at_ms > now_ms).then_some(&slot.held)
    }

    /// Puts an entry in the place of whatever is there.
    fn store(
        &mut self,
        key: (Kind, Arc<str>),
        held: Held,
        now_ms: u64,
    ) -> Result<(), StateFailure> {
        if key.1.len() > KEY_MAX_BYTES {
            return Err(StateFailure::Quota);
        }
        for _ in 0..RECLAIMED_PER_WRITE {
            if !self.reclaim_one(now_ms) {
                break;
            }
        }
        let cost = rules::cost(&key.1, held.octets.len());
        let before = self.slots.get(&key);
        let before = before.map_or(0, |slot| rules::cost(&key.1, slot.held.octets.len()));
        let is_over = |used: usize| used.saturating_sub(before).saturating_add(cost);
        // An entry that shrinks is welcome even after the quota was lowered.
        while cost > before && is_over(self.used_bytes) > self.quota_bytes {
            // The entry itself may be what expires: then there is nothing before it, and the
            // sum is the same.
            if self
                .slots
                .get(&key)
                .is_some_and(|s| s.held.expires_at_ms <= now_ms)
            {
                self.drop_entry(&key);
                return self.store(key, held, now_ms);
            }
            if !self.reclaim_one(now_ms) {
                return Err(StateFailure::Quota);
            }
        }
        let is_logged = self.forget(&key) || self.changed.contains(&key);
        if self.is_logged {
            self.changed.insert(key.clone());
        }
        self.insert(key, held, is_logged);
        Ok(())
    }

    fn insert(&mut self, key: (Kind, Arc<str>), held: Held, is_logged: bool) {
        self.used_bytes += rules::cost(&key.1, held.octets.len());
        if held.expires_at_ms != rules::NEVER_MS {
            let expiry = (held.expires_at_ms, key.0, Arc::clone(&key.1));
            self.expiries.insert(expiry);
        }
        self.slots.insert(key, Slot { held, is_logged });
    }

    /// Takes an entry out of memory; whether the log has it.
    fn forget(&mut self, key: &(Kind, Arc<str>)) -> bool {
        let Some(slot) = self.slots.remove(key) else {
            return false;
        };
        let cost = rules::cost(&key.1, slot.held.octets.len());
        self.used_bytes = self.used_bytes.saturating_sub(cost);
        if slot.held.expires_at_ms != rules::NEVER_MS {
            let expiry = (slot.held.expires_at_ms, key.0, Arc::clone(&key.1));
            self.expiries.remove(&expiry);
        }
        slot.is_logged
    }

    /// Takes an entry away for good. What the log never had leaves no trace there, so that a
    /// plugin that makes and removes keys does not fill the memory with what is to be written.
    fn drop_entry(&mut self, key: &(Kind, Arc<str>)) {
        if self.forget(key) {
            self.changed.insert(key.clone());
        } else {
            self.changed.remove(key);
        }
    }

    /// Gives back the entry that expired first; false: none has.
    fn reclaim_one(&mut self, now_ms: u64) -> bool {
        let first = self.expiries.first();
        let Some((_, kind, key)) = first.filter(|(at, _, _)| *at <= now_ms) else {
            return false;
        };
        let key = (*kind, Arc::clone(key));
        self.drop_entry(&key);
        true
    }

    fn put(
        &mut self,
        key: &str,
        octets: &[u8],
        expires_at_ms: u64,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let version = rules::next_version(self.last_version, now_ms);
        let held = Held {
            octets: Arc::from(octets),
            number: version,
            expires_at_ms,
        };
        self.store((Kind::Value, Arc::from(key)), held, now_ms)?;
        self.last_version = version;
        Ok(version)
    }
}

impl StateStore for Namespace {
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        let held = self.held(Kind::Value, key, now_ms);
        Ok(held.map(|held| StateEntry {
            value: held.octets.to_vec(),
            version: held.number,
        }))
    }

    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let expires_at_ms = rules::expiry(ttl_ms, now_ms);
        let result = self.lock().put(key, value, expires_at_ms, now_ms);
        self.refused(result)
    }

    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure> {
        let mut inner = self.lock();
        let found = inner.held(&(Kind::Value, Arc::from(key)), now_ms);
        if found.map_or(0, |held| held.number) != version {
            return Ok(None);
        }
        let result = inner.put(key, value, rules::expiry(ttl_ms, now_ms), now_ms);
        drop(inner);
        self.refused(result).map(Some)
    }

    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure> {
        let mut inner = self.lock();
        let mut was_there = false;
        for kind in [Kind::Value, Kind::Bucket] {
            let key = (kind, Arc::from(key));
            was_there |= inner.held(&key, now_ms).is_some();
            if inner.slots.contains_key(&key) {
                inner.drop_entry(&key);
            }
        }
        Ok(was_there)
    }

    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure> {
        let mut inner = self.lock();
        let found = inner.held(&(Kind::Value, Arc::from(key)), now_ms);
        let expires_at_ms = match found {
            Some(held) => held.expires_at_ms,
            None => rules::expiry(ttl_ms, now_ms),
        };
        let sum = rules::sum(found.map(|held| &*held.octets), by)?;
        let result = inner.put(key, sum.to_string().as_bytes(), expires_at_ms, now_ms);
        drop(inner);
        self.refused(result).map(|_version| sum)
    }

    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure> {
        let key = (Kind::Bucket, Arc::from(key));
        let mut inner = self.lock();
        let full_at_ns = inner.held(&key, now_ms).map(|held| held.number);
        let Some(full_at_ns) = rules::take(full_at_ns, cost, per_second, burst, now_ms)? else {
            return Ok(false);
        };
        let held = Held {
            octets: Arc::from([]),
            number: full_at_ns,
            expires_at_ms: rules::bucket_expiry(full_at_ns),
        };
        let result = inner.store(key, held, now_ms);
        drop(inner);
        self.refused(result).map(|()| true)
    }
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
