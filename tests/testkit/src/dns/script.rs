//! What a stand-in for the DNS does: zones, faults, counts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{LowerName, Name, RecordType};

use super::zone::{Finding, Zone, Zones};

/// What goes wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NXDOMAIN, whatever the zone has.
    NxDomain,
    /// NOERROR without records and without SOA, as some caches say "no data".
    BareNoData,
    /// A referral to other name servers, as a server gives that does not
    /// resolve.
    Referral,
    /// No answer at all.
    Silent,
    /// Over UDP an empty answer with the TC bit; over TCP the whole one.
    Truncate,
    /// The TC bit even over TCP.
    TruncateAlways,
    /// The right answer, later.
    Delay(Duration),
}

/// Zones, faults and counts; shared by a server and its test.
#[derive(Debug, Default)]
pub struct Script {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    zones: Zones,
    faults: HashMap<LowerName, Vec<Planted>>,
    counts: HashMap<(LowerName, RecordType), u64>,
    tcp_count: u64,
    is_silent: bool,
    leaves_aliases: bool,
}

#[derive(Debug)]
struct Planted {
    wanted: Option<RecordType>,
    fault: Fault,
    left_count: Option<u32>,
}

impl Script {
    /// A script with these zones.
    #[must_use]
    pub fn new(zones: impl IntoIterator<Item = Zone>) -> Self {
        let script = Self::default();
        zones.into_iter().for_each(|zone| script.set_zone(zone));
        script
    }

    /// Adds a zone, in place of one with the same origin.
    pub fn set_zone(&self, zone: Zone) {
        self.lock().zones.set(zone);
    }

    /// Takes a zone away.
    pub fn remove_zone(&self, origin: &str) {
        self.lock().zones.remove(&name_of(origin));
    }

    /// From now on this goes wrong with questions about `name`. `wanted` is a
    /// record type as in a zone, or `ANY` for all.
    pub fn set_fault(&self, name: &str, wanted: &str, fault: Fault) {
        self.plant(name, wanted, fault, None);
    }

    /// As [`Self::set_fault`], for the next `times` questions that it applies
    /// to.
    pub fn set_fault_times(&self, name: &str, wanted: &str, fault: Fault, times: u32) {
        self.plant(name, wanted, fault, Some(times));
    }

    /// Ends all faults of a name.
    pub fn clear_faults(&self, name: &str) {
        self.lock().faults.remove(&name_of(name));
    }

    /// Answers nothing at all until it is told otherwise: a dead server.
    pub fn set_silent(&self, is_silent: bool) {
        self.lock().is_silent = is_silent;
    }

    /// Gives aliases without the records that they lead to.
    pub fn leave_aliases(&self) {
        self.lock().leaves_aliases = true;
    }

    /// How many times was asked for a name and type, faults included.
    #[must_use]
    pub fn count(&self, name: &str, wanted: &str) -> u64 {
        let key = (name_of(name), type_of(wanted));
        self.lock().counts.get(&key).copied().unwrap_or(0)
    }

    /// How many questions there were in all.
    #[must_use]
    pub fn count_all(&self) -> u64 {
        self.lock().counts.values().sum()
    }

    /// How many of them came over TCP.
    #[must_use]
    pub fn count_tcp(&self) -> u64 {
        self.lock().tcp_count
    }

    fn plant(&self, name: &str, wanted: &str, fault: Fault, left_count: Option<u32>) {
        let wanted = (wanted != "ANY").then(|| type_of(wanted));
        let planted = Planted {
            wanted,
            fault,
            left_count,
        };
        self.lock()
            .faults
            .entry(name_of(name))
            .or_default()
            .push(planted);
    }

    /// Counts a question and says what is to go wrong with it.
    pub(super) fn ask(&self, name: &LowerName, wanted: RecordType, is_tcp: bool) -> Option<Fault> {
        let mut state = self.lock();
        *state.counts.entry((name.clone(), wanted)).or_insert(0) += 1;
        state.tcp_count += u64::from(is_tcp);
        if state.is_silent {
            return Some(Fault::Silent);
        }
        let planted = state.faults.get_mut(name)?.iter_mut().find(|planted| {
            planted.wanted.is_none_or(|of| of == wanted) && planted.left_count != Some(0)
        })?;
        if let Some(left_count) = &mut planted.left_count {
            *left_count -= 1;
        }
        Some(planted.fault)
    }

    pub(super) fn find(&self, name: &LowerName, wanted: RecordType) -> Finding {
        let state = self.lock();
        state.zones.find(name, wanted, !state.leaves_aliases)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(text: &str) -> LowerName {
    let mut name =
        Name::from_ascii(text).unwrap_or_else(|error| panic!("{text:?} is no name: {error}"));
    name.set_fqdn(true);
    LowerName::new(&name)
}

fn type_of(text: &str) -> RecordType {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?} is no record type: {error}"))
}
