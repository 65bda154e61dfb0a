//! Messages on disk: one small record each, ordered by when they are due.

use std::collections::{BTreeSet, VecDeque};

use smtp::QueueId;

use crate::UnixMs;
use crate::hash::{IdMap, IdSet};

/// The resting messages. About 55 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    by_due: BTreeSet<(UnixMs, QueueId)>,
    by_id: IdMap<QueueId, UnixMs>,
    held: IdSet<QueueId>,
    /// Wanted by an operator, ahead of everything that is merely due. May name
    /// messages that do not rest any more.
    urgent: VecDeque<QueueId>,
}

impl Resting {
    /// Adds a message, or changes when it is due.
    pub(crate) fn insert(&mut self, id: QueueId, due_at: UnixMs, held: bool) {
        if let Some(old) = self.by_id.insert(id, due_at) {
            self.by_due.remove(&(old, id));
        }
        self.by_due.insert((due_at, id));
        // A due time of never can only be a hold: everything else expires.
        if held || due_at == UnixMs::NEVER {
            self.held.insert(id);
        } else {
            self.held.remove(&id);
        }
    }

    pub(crate) fn remove(&mut self, id: QueueId) -> Option<UnixMs> {
        let due_at = self.by_id.remove(&id)?;
        self.by_due.remove(&(due_at, id));
        self.held.remove(&id);
        Some(due_at)
    }

    pub(crate) fn contains(&self, id: QueueId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn due_at(&self, id: QueueId) -> Option<UnixMs> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn is_held(&self, id: QueueId) -> bool {
        self.held.contains(&id)
    }

    /// Makes `id` the next to be taken, whatever its due time.
    pub(crate) fn hurry(&mut self, id: QueueId) {
        self.urgent.push_back(id);
    }

    /// Makes all that are not held due at `now` at the latest. One pass, so that an
    /// operator can do it to a million.
    pub(crate) fn all_due(&mut self, now: UnixMs) {
        let later = self.by_due.split_off(&(now.plus_ms(1), QueueId::new(0)));
        let moved: BTreeSet<(UnixMs, QueueId)> = later
            .into_iter()
            .map(|(due_at, id)| {
                if self.held.contains(&id) {
                    (due_at, id)
                } else {
                    (now, id)
                }
            })
            .collect();
        for &(due_at, id) in &moved {
            self.by_id.insert(id, due_at);
        }
        self.by_due.extend(moved);
    }

    /// Takes what an operator wants, else the longest overdue; with its due time.
    pub(crate) fn take_due(&mut self, now: UnixMs) -> Option<(QueueId, UnixMs)> {
        while let Some(id) = self.urgent.pop_front() {
            if let Some(due_at) = self.remove(id) {
                return Some((id, due_at));
            }
        }
        let &(due_at, id) = self.by_due.first()?;
        if due_at > now {
            return None;
        }
        self.remove(id);
        Some((id, due_at))
    }

    /// When the first is due; a hold without an end is never.
    pub(crate) fn first_due_at(&self) -> Option<UnixMs> {
        self.by_due
            .first()
            .map(|&(due_at, _)| due_at)
            .filter(|&due_at| due_at != UnixMs::NEVER)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// In the order they are due.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, UnixMs)> + '_ {
        self.by_due.iter().map(|&(due_at, id)| (id, due_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> QueueId {
        QueueId::new(number)
    }

    #[test]
    fn the_longest_overdue_comes_first() {
        let mut resting = Resting::default();
        resting.insert(id(1), UnixMs(30), false);
        resting.insert(id(2), UnixMs(10), false);
        resting.insert(id(3), UnixMs(20), false);
        resting.insert(id(2), UnixMs(25), false);
        assert_eq!(resting.first_due_at(), Some(UnixMs(20)));
        assert_eq!(resting.take_due(UnixMs(25)), Some((id(3), UnixMs(20))));
        assert_eq!(resting.take_due(UnixMs(25)), Some((id(2), UnixMs(25))));
        assert_eq!(resting.take_due(UnixMs(25)), None);
        assert_eq!(resting.len(), 1);
    }

    #[test]
    fn what_is_wanted_comes_before_what_is_due() {
        let mut resting = Resting::default();
        resting.insert(id(1), UnixMs(1), false);
        resting.insert(id(2), UnixMs(90), false);
        resting.hurry(id(2));
        resting.hurry(id(7));
        assert_eq!(resting.take_due(UnixMs(5)), Some((id(2), UnixMs(90))));
        assert_eq!(resting.take_due(UnixMs(5)), Some((id(1), UnixMs(1))));
        assert_eq!(resting.take_due(UnixMs(5)), None);
    }

    #[test]
    fn holds_are_counted_and_not_woken() {
        let mut resting = Resting::default();
        resting.insert(id(1), UnixMs::NEVER, false);
        resting.insert(id(2), UnixMs(50), true);
        resting.insert(id(3), UnixMs(70), false);
        assert_eq!(resting.held_count(), 2);
        resting.all_due(UnixMs(10));
        assert_eq!(resting.due_at(id(2)), Some(UnixMs(50)));
        assert_eq!(resting.due_at(id(3)), Some(UnixMs(10)));
        resting.remove(id(2));
        resting.remove(id(3));
        assert_eq!(resting.first_due_at(), None);
        assert_eq!(resting.held_count(), 1);
    }
}
