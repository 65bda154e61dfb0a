//! A resolver that answers from a table and can be made to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mx::{
    AddressAnswer, Answer, Clock, Directory, DirectoryOptions, Freshness, Lookup, LookupError,
    MxAnswer, MxExchange, MxRecord, PtrAnswer, Resolver, TemporaryCause, TxtAnswer,
};
use smtp::Domain;
use tokio::sync::Semaphore;

/// Answers by name; what is not in the table does not exist.
#[derive(Default)]
pub(crate) struct TableResolver {
    mx: Mutex<HashMap<String, Result<MxAnswer, LookupError>>>,
    addresses: Mutex<HashMap<String, Result<AddressAnswer, LookupError>>>,
    asked_count: AtomicU64,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl TableResolver {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// `records` as in `10 a.example, 20 b.example`; empty: none.
    pub(crate) fn mx(&self, name: &str, records: &str, ttl_s: u32) {
        let outcome = match mx_records(records) {
            none if none.is_empty() => Err(LookupError::NoRecords { ttl_s }),
            records => Ok(Answer::new(records, ttl_s)),
        };
        self.mx.lock().unwrap().insert(name.to_owned(), outcome);
    }

    /// `records` as in `192.0.2.1, 2001:db8::1`; empty: none.
    pub(crate) fn addresses(&self, name: &str, records: &str, ttl_s: u32) {
        let outcome = match addresses(records) {
            none if none.is_empty() => Err(LookupError::NoRecords { ttl_s }),
            records => Ok(Answer::new(records, ttl_s)),
        };
        self.addresses
            .lock()
            .unwrap()
            .insert(name.to_owned(), outcome);
    }

    pub(crate) fn fail(&self, name: &str, error: &LookupError) {
        self.mx
            .lock()
            .unwrap()
            .insert(name.to_owned(), Err(error.clone()));
        self.addresses
            .lock()
            .unwrap()
            .insert(name.to_owned(), Err(error.clone()));
    }

    pub(crate) fn asked_count(&self) -> u64 {
        self.asked_count.load(Ordering::Relaxed)
    }

    /// From now on every question waits for a permit.
    pub(crate) fn close_gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    async fn answer<T: Clone>(
        &self,
        table: &Mutex<HashMap<String, Result<T, LookupError>>>,
        name: &Domain,
    ) -> Result<T, LookupError> {
        self.asked_count.fetch_add(1, Ordering::Relaxed);
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let found = table.lock().unwrap().get(name.as_str()).cloned();
        found.unwrap_or(Err(LookupError::NoSuchDomain { ttl_s: 60 }))
    }
}

impl Resolver for TableResolver {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<MxAnswer, LookupError>> {
        Box::pin(self.answer(&self.mx, name))
    }

    fn addresses<'a>(
        &'a self,
        name: &'a Domain,
    ) -> BoxFuture<'a, Result<AddressAnswer, LookupError>> {
        Box::pin(self.answer(&self.addresses, name))
    }

    fn txt<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<TxtAnswer, LookupError>> {
        Box::pin(async { Err(LookupError::NoRecords { ttl_s: 60 }) })
    }

    fn ptr(&self, _: IpAddr) -> BoxFuture<'_, Result<PtrAnswer, LookupError>> {
        Box::pin(async { Err(LookupError::NoRecords { ttl_s: 60 }) })
    }
}

pub(crate) fn mx_records(text: &str) -> Vec<MxRecord> {
    let records = text
        .split(',')
        .map(str::trim)
        .filter(|record| !record.is_empty());
    records
        .map(|record| {
            let (preference, exchange) = record.split_once(' ').expect("preference and exchange");
            let exchange = MxExchange::classify(exchange);
            MxRecord {
                preference: preference.parse().unwrap(),
                exchange,
            }
        })
        .collect()
}

pub(crate) fn addresses(text: &str) -> Vec<IpAddr> {
    let addresses = text
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty());
    addresses.map(|address| address.parse().unwrap()).collect()
}

pub(crate) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

pub(crate) fn temporary() -> LookupError {
    LookupError::temporary(TemporaryCause::ServerFailure, "")
}

pub(crate) fn fresh<T>(outcome: Result<Answer<T>, LookupError>) -> Lookup<T> {
    Lookup {
        outcome: outcome.map(Arc::new),
        freshness: Freshness::Fresh,
    }
}

/// A clock that stands until it is moved.
#[derive(Default)]
pub(crate) struct HandClock {
    now_ms: AtomicU64,
}

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        let hand = Arc::clone(self);
        Arc::new(move || Duration::from_millis(hand.now_ms.load(Ordering::Relaxed)))
    }
}

/// A directory over a table whose clock stands at zero.
pub(crate) fn directory(table: &Arc<TableResolver>) -> Directory {
    let resolver = Arc::clone(table) as Arc<dyn Resolver>;
    Directory::new(
        resolver,
        DirectoryOptions::default(),
        HandClock::new().clock(),
        None,
    )
}
