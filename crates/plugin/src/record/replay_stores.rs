//! Tables and state from a tape.

use std::net::IpAddr;
use std::sync::Arc;

use super::replay::Book;
use super::{Asked, ScratchOverlay, Told};
use crate::shared::{StateEntry, StateFailure, StateStore};
use crate::table::{Table, TableFailure};

pub(super) struct ReplayedTable {
    pub(super) name: String,
    pub(super) book: Arc<Book>,
    pub(super) live: Option<Arc<dyn Table>>,
}

impl ReplayedTable {
    /// What stands in for an answer that the tape does not have.
    fn beyond<T>(
        &self,
        asked: &Asked,
        look: impl FnOnce(&dyn Table) -> Result<Option<T>, TableFailure>,
    ) -> Result<Option<T>, TableFailure> {
        self.book.note(asked);
        match &self.live {
            Some(table) => look(&**table),
            None => Ok(None),
        }
    }
}

impl Table for ReplayedTable {
    fn get(&self, key: &str) -> Result<Option<String>, TableFailure> {
        let asked = Asked::TableKey {
            table: self.name.clone(),
            key: key.to_owned(),
        };
        match self.book.next(&asked) {
            Some((Told::TableValue(value), _)) => value,
            _ => self.beyond(&asked, |table| table.get(key)),
        }
    }

    fn match_domain(&self, name: &str) -> Result<Option<(String, String)>, TableFailure> {
        let asked = Asked::TableDomain {
            table: self.name.clone(),
            name: name.to_owned(),
        };
        match self.book.next(&asked) {
            Some((Told::TableMatch(found), _)) => found,
            _ => self.beyond(&asked, |table| table.match_domain(name)),
        }
    }

    fn match_ip(&self, address: IpAddr) -> Result<Option<(String, String)>, TableFailure> {
        let asked = Asked::TableAddress {
            table: self.name.clone(),
            address,
        };
        match self.book.next(&asked) {
            Some((Told::TableMatch(found), _)) => found,
            _ => self.beyond(&asked, |table| table.match_ip(address)),
        }
    }

    fn revision(&self) -> u64 {
        let asked = Asked::TableRevision(self.name.clone());
        match self.book.next(&asked) {
            Some((Told::Number(revision), _)) => revision,
            _ => {
                self.book.note(&asked);
                self.live.as_ref().map_or(0, |table| table.revision())
            }
        }
    }
}

pub(super) struct ReplayedState {
    pub(super) book: Arc<Book>,
    /// There is no world behind the tape: what the tape says of an entry is kept
    /// for questions that are not on it.
    pub(super) is_alone: bool,
    pub(super) trial: Arc<dyn StateStore>,
    pub(super) scratch: ScratchOverlay,
}

impl ReplayedState {
    /// The answer of the tape. An answer that was given before is none: an
    /// operation that is done once more is another one.
    fn told(&self, asked: &Asked) -> Option<Told> {
        match self.book.next(asked) {
            Some((told, false)) => Some(told),
            _ => {
                self.book.note(asked);
                None
            }
        }
    }

    fn keep(&self, key: &str, entry: impl FnOnce() -> Option<StateEntry>) {
        if self.is_alone {
            self.scratch.seed(key, entry());
        }
    }
}

impl StateStore for ReplayedState {
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        let asked = Asked::StateGet {
            key: key.to_owned(),
        };
        match self.told(&asked) {
            Some(Told::Entry(entry)) => {
                if let Ok(entry) = &entry {
                    self.keep(key, || entry.clone());
                }
                entry
            }
            _ => self.trial.get(key, now_ms),
        }
    }

    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let asked = Asked::StatePut {
            key: key.to_owned(),
            value: value.into(),
            ttl_ms,
        };
        match self.told(&asked) {
            Some(Told::Version(version)) => {
                if let Ok(version) = version {
                    let value = value.to_vec();
                    self.keep(key, || Some(StateEntry { value, version }));
                }
                version
            }
            _ => self.trial.put(key, value, ttl_ms, now_ms),
        }
    }

    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure> {
        let asked = Asked::StatePutIf {
            key: key.to_owned(),
            value: value.into(),
            version,
            ttl_ms,
        };
        match self.told(&asked) {
            Some(Told::Swapped(stored)) => {
                if let Ok(Some(version)) = stored {
                    let value = value.to_vec();
                    self.keep(key, || Some(StateEntry { value, version }));
                }
                stored
            }
            _ => self.trial.put_if(key, value, version, ttl_ms, now_ms),
        }
    }

    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure> {
        let asked = Asked::StateRemove {
            key: key.to_owned(),
        };
        match self.told(&asked) {
            Some(Told::Done(removed)) => {
                if removed.is_ok() {
                    self.keep(key, || None);
                }
                removed
            }
            _ => self.trial.remove(key, now_ms),
        }
    }

    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure> {
        let asked = Asked::StateAdd {
            key: key.to_owned(),
            by,
            ttl_ms,
        };
        match self.told(&asked) {
            Some(Told::Sum(sum)) => {
                if let Ok(sum) = sum {
                    let value = sum.to_string().into_bytes();
                    self.keep(key, || Some(StateEntry { value, version: 1 }));
                }
                sum
            }
            _ => self.trial.add(key, by, ttl_ms, now_ms),
        }
    }

    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure> {
        let asked = Asked::StateTake {
            key: key.to_owned(),
            cost,
            per_second: per_second.to_string(),
            burst,
        };
        match self.told(&asked) {
            Some(Told::Done(taken)) => taken,
            _ => self.trial.take(key, cost, per_second, burst, now_ms),
        }
    }
}
