//! A bounded table of answers with an end, and of questions under way.
//!
//! One mutex guards both, held for a few instructions and never across an
//! await: so a question is either answered, or being asked, or free to be
//! asked, and no two callers see different states of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, Shared, WeakShared};

/// A look-up under way that many may wait for. It goes on for as long as one of
/// them waits.
pub(crate) type Flight<V> = Shared<BoxFuture<'static, V>>;

/// What [`Cache::begin`] found.
pub(crate) enum Turn<V> {
    /// An answer and the milliseconds that it still holds.
    Hit(V, u64),
    /// Somebody is asking already: wait with them.
    Join(Flight<V>),
    /// The caller's own flight took off.
    Lead(Flight<V>),
}

/// Answers by key: at most `entries_max`, the least used go first (CLOCK), with
/// those that have ended before them.
pub(crate) struct Cache<K, V> {
    entries_max: usize,
    table: Mutex<Table<K, V>>,
}

struct Table<K, V> {
    positions: HashMap<K, usize>,
    ring: Vec<Slot<K, V>>,
    hand: usize,
    in_flight: HashMap<K, (u64, WeakShared<BoxFuture<'static, V>>)>,
    flights_count: u64,
    evicted_count: u64,
}

struct Slot<K, V> {
    key: K,
    value: V,
    ends_at_ms: u64,
    used: bool,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        let table = Table {
            positions: HashMap::new(),
            ring: Vec::new(),
            hand: 0,
            in_flight: HashMap::new(),
            flights_count: 0,
            evicted_count: 0,
        };
        Self {
            entries_max: entries_max.max(1),
            table: Mutex::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<K, V>> {
        // No code that can panic runs under the lock but the standard library's
        // own, so a poisoned table is still a whole one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that holds at `now_ms`, and for how many milliseconds yet.
    pub(crate) fn get(&self, key: &K, now_ms: u64) -> Option<(V, u64)> {
        self.lock().get(key, now_ms)
    }

    /// An answer, a flight to join, or one that `take_off` makes; it is given
    /// the number to end the flight with.
    pub(crate) fn begin(
        &self,
        key: &K,
        now_ms: u64,
        take_off: impl FnOnce(u64) -> Flight<V>,
    ) -> Turn<V> {
        let mut table = self.lock();
        if let Some((value, left_ms)) = table.get(key, now_ms) {
            return Turn::Hit(value, left_ms);
        }
        if let Some((_, flight)) = table.in_flight.get(key)
            && let Some(flight) = flight.upgrade()
        {
            return Turn::Join(flight);
        }
        table.flights_count += 1;
        let number = table.flights_count;
        let flight = take_off(number);
        if let Some(weak) = flight.downgrade() {
            table.in_flight.insert(key.clone(), (number, weak));
        }
        Turn::Lead(flight)
    }

    /// Ends a flight with what it found. `ends_at_ms` of none: not to be kept.
    /// A flight that was overtaken by a flush leaves nothing behind.
    pub(crate) fn land(
        &self,
        key: &K,
        number: u64,
        value: V,
        now_ms: u64,
        ends_at_ms: Option<u64>,
    ) {
        let mut table = self.lock();
        if table
            .in_flight
            .get(key)
            .is_none_or(|(current, _)| *current != number)
        {
            return;
        }
        table.in_flight.remove(key);
        if let Some(ends_at_ms) = ends_at_ms {
            table.insert(key, value, now_ms, ends_at_ms, self.entries_max);
        }
    }

    /// Forgets a flight that everybody has left.
    pub(crate) fn abandon(&self, key: &K, number: u64) {
        let mut table = self.lock();
        if table
            .in_flight
            .get(key)
            .is_some_and(|(current, _)| *current == number)
        {
            table.in_flight.remove(key);
        }
    }

    /// Forgets one answer. A flight under way goes on for those who wait for it,
    /// but later callers ask anew.
    pub(crate) fn flush(&self, key: &K) -> bool {
        let mut table = self.lock();
        table.in_flight.remove(key);
        table.remove(key)
    }

    /// Forgets everything; gives the number of answers that were kept.
    pub(crate) fn flush_all(&self) -> usize {
        let mut table = self.lock();
        let flushed_count = table.ring.len();
        table.in_flight.clear();
        table.positions.clear();
        table.ring.clear();
        table.hand = 0;
        flushed_count
    }

    pub(crate) fn entries_count(&self) -> usize {
        self.lock().ring.len()
    }

    pub(crate) fn evicted_count(&self) -> u64 {
        self.lock().evicted_count
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Table<K, V> {
    fn get(&mut self, key: &K, now_ms: u64) -> Option<(V, u64)> {
        let slot = &mut self.ring[*self.positions.get(key)?];
        let left_ms = slot
            .ends_at_ms
            .checked_sub(now_ms)
            .filter(|&left_ms| left_ms > 0)?;
        slot.used = true;
        Some((slot.value.clone(), left_ms))
    }

    fn insert(&mut self, key: &K, value: V, now_ms: u64, ends_at_ms: u64, entries_max: usize) {
        let slot = Slot {
            key: key.clone(),
            value,
            ends_at_ms,
            used: false,
        };
        if let Some(&position) = self.positions.get(key) {
            self.ring[position] = slot;
        } else if self.ring.len() < entries_max {
            self.positions.insert(key.clone(), self.ring.len());
            self.ring.push(slot);
        } else {
            let position = self.victim(now_ms);
            self.positions.remove(&self.ring[position].key);
            self.positions.insert(key.clone(), position);
            self.ring[position] = slot;
        }
    }

    /// Sweeps on to a slot that has ended or was not used since the last sweep:
    /// two rounds at most, since the first one takes every mark away.
    fn victim(&mut self, now_ms: u64) -> usize {
        loop {
            let position = self.hand % self.ring.len();
            self.hand = (position + 1) % self.ring.len();
            let slot = &mut self.ring[position];
            if slot.ends_at_ms <= now_ms {
                return position;
            }
            if !slot.used {
                self.evicted_count += 1;
                return position;
            }
            slot.used = false;
        }
    }

    fn remove(&mut self, key: &K) -> bool {
        let Some(position) = self.positions.remove(key) else {
            return false;
        };
        self.ring.swap_remove(position);
        if let Some(moved) = self.ring.get(position) {
            self.positions.insert(moved.key.clone(), position);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn ready(value: u32) -> Flight<u32> {
        (Box::pin(async move { value }) as BoxFuture<'static, u32>).shared()
    }

    fn put(cache: &Cache<u32, u32>, key: u32, now_ms: u64, ends_at_ms: u64) {
        let mut taken = 0;
        let turn = cache.begin(&key, now_ms, |number| {
            taken = number;
            ready(key * 10)
        });
        // Held until it has landed: a flight that nobody waits for is gone.
        let Turn::Lead(_flight) = turn else {
            panic!("key {key} is there already");
        };
        cache.land(&key, taken, key * 10, now_ms, Some(ends_at_ms));
    }

    #[test]
    fn an_answer_holds_until_its_end() {
        let cache = Cache::new(10);
        put(&cache, 1, 0, 100);
        assert_eq!(cache.get(&1, 0), Some((10, 100)));
        assert_eq!(cache.get(&1, 99), Some((10, 1)));
        assert_eq!(cache.get(&1, 100), None);
        assert_eq!(cache.get(&2, 0), None);
    }

    #[test]
    fn a_full_table_drops_what_ended_then_what_is_not_used() {
        let cache = Cache::new(3);
        put(&cache, 1, 0, 1000);
        put(&cache, 2, 0, 10);
        put(&cache, 3, 0, 1000);
        assert!(cache.get(&1, 5).is_some());
        put(&cache, 4, 20, 1000);
        assert_eq!(cache.get(&2, 20), None, "ended");
        assert_eq!(cache.evicted_count(), 0);
        assert!(cache.get(&1, 20).is_some() && cache.get(&4, 20).is_some());
        put(&cache, 5, 20, 1000);
        assert_eq!(cache.get(&3, 20), None, "never used");
        assert_eq!(cache.evicted_count(), 1);
        assert_eq!(cache.entries_count(), 3);
        for key in [1, 4, 5] {
            assert!(cache.get(&key, 20).is_some(), "{key}");
        }
    }

    #[test]
    fn the_table_agrees_with_itself_through_thousands_of_changes() {
        let cache = Cache::new(50);
        let mut chance = crate::Chance::new(3);
        for now_ms in 0..5000 {
            let key = chance.below(200) as u32;
            match chance.below(10) {
                0 => drop(cache.flush(&key)),
                _ if cache.get(&key, now_ms).is_none() => {
                    put(&cache, key, now_ms, now_ms + 1 + chance.below(300));
                }
                _ => {}
            }
            let table = cache.lock();
            assert!(table.ring.len() <= 50);
            assert_eq!(table.ring.len(), table.positions.len());
            assert!(
                table
                    .positions
                    .iter()
                    .all(|(key, &at)| table.ring[at].key == *key)
            );
        }
    }

    #[test]
    fn a_flushed_flight_leaves_nothing_behind() {
        let cache: Cache<u32, u32> = Cache::new(10);
        let begin = || cache.begin(&1, 0, |_| ready(1));
        let Turn::Lead(_first) = begin() else {
            panic!("the first leads")
        };
        let Turn::Join(_) = begin() else {
            panic!("the second joins")
        };
        cache.flush(&1);
        let Turn::Lead(_third) = begin() else {
            panic!("the third leads anew")
        };
        cache.land(&1, 1, 1, 0, Some(100));
        assert_eq!(cache.get(&1, 0), None);
        cache.land(&1, 2, 2, 0, Some(100));
        assert_eq!(cache.get(&1, 0), Some((2, 100)));
        assert_eq!(cache.flush_all(), 1);
        assert_eq!(cache.entries_count(), 0);
    }
}
