//! Changes that could not be written, until they can.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::RecordId;
use crate::queue::Lazy;

/// The last change of each id that is yet to be written. A removal ends what an
/// update before it has said, and none can follow it: mail is accepted again
/// only when the backlog is empty.
#[derive(Default)]
pub(crate) struct Backlog {
    removals: BTreeMap<RecordId, Removal>,
    updates: BTreeMap<RecordId, Update>,
}

struct Removal {
    ticket: u64,
    target: Option<u32>,
}

struct Update {
    due_at_ms: u64,
    meta: Bytes,
    ticket: u64,
}

/// What a change that came later has made of one before it.
#[derive(Default)]
pub(crate) struct Superseded {
    /// It need not be written any more.
    pub(crate) change: Option<Lazy>,
    /// A segment with a put of the id which the removal that is left does not
    /// name.
    pub(crate) copy_in: Option<u32>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.updates.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.removals.len() + self.updates.len()
    }

    pub(crate) fn has_removal(&self, id: RecordId) -> bool {
        self.removals.contains_key(&id)
    }

    /// Adds a change that was made after all that are here.
    pub(crate) fn push(&mut self, change: Lazy) -> Superseded {
        match change {
            Lazy::Update { id, .. } if self.removals.contains_key(&id) => Superseded {
                change: Some(change),
                copy_in: None,
            },
            Lazy::Update {
                id,
                due_at_ms,
                meta,
                ticket,
            } => {
                let update = Update {
                    due_at_ms,
                    meta,
                    ticket,
                };
                let before = self.updates.insert(id, update);
                Superseded {
                    change: before.map(|before| before.into_lazy(id)),
                    copy_in: None,
                }
            }
            Lazy::Remove { id, ticket, target } => self.push_removal(id, ticket, target),
        }
    }

    fn push_removal(&mut self, id: RecordId, ticket: u64, target: Option<u32>) -> Superseded {
        let update = self.updates.remove(&id).map(|update| update.into_lazy(id));
        let before = self.removals.insert(id, Removal { ticket, target });
        let Some(before) = before else {
            return Superseded {
                change: update,
                copy_in: None,
            };
        };
        let removal = self.removals.get_mut(&id).expect("it was just inserted");
        removal.target = target.or(before.target);
        Superseded {
            copy_in: before.target.filter(|_| before.target != removal.target),
            change: Some(before.into_lazy(id)),
        }
    }

    /// The next removal to write, or, if `updates` may be written, the next
    /// update after all removals.
    pub(crate) fn pop(&mut self, removals: bool, updates: bool) -> Option<Lazy> {
        if removals && let Some((id, removal)) = self.removals.pop_first() {
            return Some(removal.into_lazy(id));
        }
        let (id, update) = updates.then(|| self.updates.pop_first()).flatten()?;
        Some(update.into_lazy(id))
    }

    /// Takes out what `id` was to become, which a removal makes obsolete.
    pub(crate) fn take_update(&mut self, id: RecordId) -> Option<Lazy> {
        self.updates.remove(&id).map(|update| update.into_lazy(id))
    }
}

impl Update {
    fn into_lazy(self, id: RecordId) -> Lazy {
        Lazy::Update {
            id,
            due_at_ms: self.due_at_ms,
            meta: self.meta,
            ticket: self.ticket,
        }
    }
}

impl Removal {
    fn into_lazy(self, id: RecordId) -> Lazy {
        Lazy::Remove {
            id,
            ticket: self.ticket,
            target: self.target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(id: u64, ticket: u64) -> Lazy {
        Lazy::Update {
            id: RecordId(id),
            due_at_ms: ticket,
            meta: Bytes::new(),
            ticket,
        }
    }

    fn removal(id: u64, ticket: u64, target: Option<u32>) -> Lazy {
        Lazy::Remove {
            id: RecordId(id),
            ticket,
            target,
        }
    }

    fn tickets(backlog: &mut Backlog) -> Vec<(u64, u64)> {
        let next = || backlog.pop(true, true);
        let changes = std::iter::from_fn(next);
        changes.map(|lazy| (lazy.id().0, lazy.ticket())).collect()
    }

    #[test]
    fn only_the_last_change_of_an_id_is_kept_and_removals_come_first() {
        let mut backlog = Backlog::default();
        assert!(backlog.push(update(1, 1)).change.is_none());
        let before = backlog.push(update(1, 2)).change;
        assert_eq!(before.map(|lazy| lazy.ticket()), Some(1));
        backlog.push(update(2, 3));
        let ended = backlog.push(removal(2, 4, None)).change;
        assert_eq!(ended.map(|lazy| lazy.ticket()), Some(3));
        let late = backlog.push(update(2, 5)).change;
        assert_eq!(late.map(|lazy| lazy.ticket()), Some(5));
        backlog.push(removal(3, 6, Some(9)));
        assert_eq!(backlog.len(), 3);
        assert_eq!(tickets(&mut backlog), [(2, 4), (3, 6), (1, 2)]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_second_removal_remembers_where_else_a_put_may_be() {
        let mut backlog = Backlog::default();
        backlog.push(removal(1, 1, Some(4)));
        assert_eq!(backlog.push(removal(1, 2, None)).copy_in, None);
        assert_eq!(backlog.push(removal(1, 0, Some(5))).copy_in, Some(4));
        let left = backlog.pop(true, false);
        assert!(matches!(
            left,
            Some(Lazy::Remove {
                target: Some(5),
                ..
            })
        ));
    }
}
