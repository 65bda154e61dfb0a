//! Answers of the DNS, remembered for as long as they may be.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smtp::Domain;

use crate::cache::{Cache, Flight, Turn};
use crate::resolver::{Answer, LookupError, MxRecord, RecordKind, Resolver};
use crate::step::Freshness;

/// The time since some fixed moment; it must not go backwards.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Is told of every question that went to the resolver.
pub type LookupObserver = Arc<dyn Fn(&LookupReport) + Send + Sync>;

/// One question that went to the resolver.
#[derive(Clone, Copy, Debug)]
pub struct LookupReport {
    /// Of what type.
    pub kind: RecordKind,
    /// `found`, `no_such_domain`, `no_records` or `temporary`.
    pub outcome: &'static str,
    /// How long it took.
    pub elapsed: Duration,
}

/// How long to remember, and how much.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Most answers kept of each type.
    pub entries_max: usize,
    /// An answer is kept this long even if its TTL is shorter, so that a TTL of
    /// 0 does not cause a question per message.
    pub ttl_floor: Duration,
    /// And no longer than this even if its TTL is longer.
    pub ttl_ceiling: Duration,
    /// A proven absence is kept no longer than this: it makes mail bounce, and
    /// RFC 2308 section 5 asks for a limit.
    pub negative_ttl_ceiling: Duration,
    /// A temporary failure is kept this long, so that a thousand waiting
    /// messages ask once. Zero: not at all.
    pub temporary_ttl: Duration,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            entries_max: 100_000,
            ttl_floor: Duration::from_secs(5),
            ttl_ceiling: Duration::from_secs(86_400),
            negative_ttl_ceiling: Duration::from_secs(600),
            temporary_ttl: Duration::from_secs(5),
        }
    }
}

/// Numbers to watch. All but `entries_count` only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStats {
    /// Questions answered from memory.
    pub hits_count: u64,
    /// Questions that went to the resolver.
    pub misses_count: u64,
    /// Questions that waited for one that was under way.
    pub joined_count: u64,
    /// Look-ups by the resolver that failed temporarily.
    pub temporary_failures_count: u64,
    /// Answers dropped before their end for want of room.
    pub evicted_count: u64,
    /// Answers kept now.
    pub entries_count: usize,
}

/// An answer, shared, and where it came from.
#[derive(Clone, Debug)]
pub struct Lookup<T> {
    /// What the DNS says.
    pub outcome: Result<Arc<Answer<T>>, LookupError>,
    /// New or remembered.
    pub freshness: Freshness,
}

type Outcome<T> = Result<Arc<Answer<T>>, LookupError>;

/// A cache over a [`Resolver`]. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Directory {
    shelves: Arc<Shelves>,
}

struct Shelves {
    mx: Shelf<Domain, MxRecord>,
    addresses: Shelf<Domain, IpAddr>,
    txt: Shelf<Domain, String>,
    ptr: Shelf<IpAddr, Domain>,
    desk: Arc<Desk>,
}

/// What all look-ups share.
struct Desk {
    resolver: Arc<dyn Resolver>,
    options: DirectoryOptions,
    clock: Clock,
    observer: Option<LookupObserver>,
    hits_count: AtomicU64,
    misses_count: AtomicU64,
    joined_count: AtomicU64,
    temporary_failures_count: AtomicU64,
}

/// How a shelf's questions are put to a resolver.
type Ask<K, T> = fn(Arc<dyn Resolver>, K) -> BoxFuture<'static, Result<Answer<T>, LookupError>>;

struct Shelf<K, T> {
    kind: RecordKind,
    cache: Arc<Cache<K, Outcome<T>>>,
    ask: Ask<K, T>,
}

impl Directory {
    /// An empty directory. The observer is called on the task that asked, after
    /// each look-up by the resolver; it must not block.
    #[must_use]
    pub fn new(
        resolver: Arc<dyn Resolver>,
        options: DirectoryOptions,
        clock: Clock,
        observer: Option<LookupObserver>,
    ) -> Self {
        let entries_max = options.entries_max;
        let desk = Arc::new(Desk {
            resolver,
            options,
            clock,
            observer,
            hits_count: AtomicU64::new(0),
            misses_count: AtomicU64::new(0),
            joined_count: AtomicU64::new(0),
            temporary_failures_count: AtomicU64::new(0),
        });
        let shelves = Shelves {
            mx: Shelf::new(RecordKind::Mx, entries_max, |resolver, name| {
                Box::pin(async move { resolver.mx(&name).await })
            }),
            addresses: Shelf::new(RecordKind::Addresses, entries_max, |resolver, name| {
                Box::pin(async move { resolver.addresses(&name).await })
            }),
            txt: Shelf::new(RecordKind::Txt, entries_max, |resolver, name| {
                Box::pin(async move { resolver.txt(&name).await })
            }),
            ptr: Shelf::new(RecordKind::Ptr, entries_max, |resolver, address| {
                Box::pin(async move { resolver.ptr(address).await })
            }),
            desk,
        };
        Self {
            shelves: Arc::new(shelves),
        }
    }

    /// MX records of a domain.
    pub async fn mx(&self, name: &Domain) -> Lookup<MxRecord> {
        self.shelves.mx.look_up(&self.shelves.desk, name).await
    }

    /// MX records of a domain if they are remembered, without waiting.
    #[must_use]
    pub fn mx_cached(&self, name: &Domain) -> Option<Lookup<MxRecord>> {
        self.shelves.mx.cached(&self.shelves.desk, name)
    }

    /// Addresses of a host, both families.
    pub async fn addresses(&self, name: &Domain) -> Lookup<IpAddr> {
        self.shelves
            .addresses
            .look_up(&self.shelves.desk, name)
            .await
    }

    /// Addresses of a host if they are remembered, without waiting.
    #[must_use]
    pub fn addresses_cached(&self, name: &Domain) -> Option<Lookup<IpAddr>> {
        self.shelves.addresses.cached(&self.shelves.desk, name)
    }

    /// Text records of a name.
    pub async fn txt(&self, name: &Domain) -> Lookup<String> {
        self.shelves.txt.look_up(&self.shelves.desk, name).await
    }

    /// Names of an address.
    pub async fn ptr(&self, address: IpAddr) -> Lookup<Domain> {
        self.shelves.ptr.look_up(&self.shelves.desk, &address).await
    }

    /// Forgets what is known of one name; gives the number of answers dropped.
    pub fn flush(&self, name: &Domain) -> usize {
        usize::from(self.shelves.mx.cache.flush(name))
            + usize::from(self.shelves.addresses.cache.flush(name))
            + usize::from(self.shelves.txt.cache.flush(name))
    }

    /// Forgets everything; gives the number of answers dropped.
    pub fn flush_all(&self) -> usize {
        self.shelves.mx.cache.flush_all()
            + self.shelves.addresses.cache.flush_all()
            + self.shelves.txt.cache.flush_all()
            + self.shelves.ptr.cache.flush_all()
    }

    /// Numbers to watch.
    #[must_use]
    pub fn stats(&self) -> DirectoryStats {
        let Shelves {
            mx,
            addresses,
            txt,
            ptr,
            desk,
        } = &*self.shelves;
        DirectoryStats {
            hits_count: desk.hits_count.load(Ordering::Relaxed),
            misses_count: desk.misses_count.load(Ordering::Relaxed),
            joined_count: desk.joined_count.load(Ordering::Relaxed),
            temporary_failures_count: desk.temporary_failures_count.load(Ordering::Relaxed),
            evicted_count: mx.cache.evicted_count()
                + addresses.cache.evicted_count()
                + txt.cache.evicted_count()
                + ptr.cache.evicted_count(),
            entries_count: mx.cache.entries_count()
                + addresses.cache.entries_count()
                + txt.cache.entries_count()
                + ptr.cache.entries_count(),
        }
    }
}

impl<K, T> Shelf<K, T>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn new(kind: RecordKind, entries_max: usize, ask: Ask<K, T>) -> Self {
        Self {
            kind,
            cache: Arc::new(Cache::new(entries_max)),
            ask,
        }
    }

    fn cached(&self, desk: &Desk, key: &K) -> Option<Lookup<T>> {
        let (outcome, left_ms) = self.cache.get(key, desk.now_ms())?;
        desk.hits_count.fetch_add(1, Ordering::Relaxed);
        Some(Lookup {
            outcome,
            freshness: Freshness::Cached { left_ms },
        })
    }

    async fn look_up(&self, desk: &Arc<Desk>, key: &K) -> Lookup<T> {
        let turn = self.cache.begin(key, desk.now_ms(), |number| {
            self.take_off(Arc::clone(desk), key.clone(), number)
        });
        match turn {
            Turn::Hit(outcome, left_ms) => {
                desk.hits_count.fetch_add(1, Ordering::Relaxed);
                Lookup {
                    outcome,
                    freshness: Freshness::Cached { left_ms },
                }
            }
            Turn::Join(flight) => {
                desk.joined_count.fetch_add(1, Ordering::Relaxed);
                Lookup {
                    outcome: flight.await,
                    freshness: Freshness::Fresh,
                }
            }
            Turn::Lead(flight) => {
                desk.misses_count.fetch_add(1, Ordering::Relaxed);
                Lookup {
                    outcome: flight.await,
                    freshness: Freshness::Fresh,
                }
            }
        }
    }

    fn take_off(&self, desk: Arc<Desk>, key: K, number: u64) -> Flight<Outcome<T>> {
        let (kind, ask) = (self.kind, self.ask);
        let boarding = Boarding {
            cache: Arc::clone(&self.cache),
            key,
            number,
        };
        let flight: BoxFuture<'static, Outcome<T>> = Box::pin(async move {
            let started = (desk.clock)();
            let outcome = ask(Arc::clone(&desk.resolver), boarding.key.clone()).await;
            let now = (desk.clock)();
            desk.report(kind, &outcome, now.saturating_sub(started));
            let now_ms = millis(now);
            let keep_ms = desk.keep_ms(&outcome);
            let ends_at_ms = (keep_ms > 0).then(|| now_ms.saturating_add(keep_ms));
            let outcome = outcome.map(Arc::new);
            boarding
                .cache
                .land(&boarding.key, number, outcome.clone(), now_ms, ends_at_ms);
            outcome
        });
        flight.shared()
    }
}

/// Takes a flight off the list when everybody who waited for it is gone.
struct Boarding<K: Clone + Eq + Hash, V: Clone> {
    cache: Arc<Cache<K, V>>,
    key: K,
    number: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Boarding<K, V> {
    fn drop(&mut self) {
        self.cache.abandon(&self.key, self.number);
    }
}

impl Desk {
    fn now_ms(&self) -> u64 {
        millis((self.clock)())
    }

    fn report<T>(
        &self,
        kind: RecordKind,
        outcome: &Result<Answer<T>, LookupError>,
        elapsed: Duration,
    ) {
        if matches!(outcome, Err(error) if error.is_temporary()) {
            self.temporary_failures_count
                .fetch_add(1, Ordering::Relaxed);
        }
        if let Some(observer) = &self.observer {
            let outcome = outcome
                .as_ref()
                .map_or_else(LookupError::as_str, |_| "found");
            observer(&LookupReport {
                kind,
                outcome,
                elapsed,
            });
        }
    }

    /// For how many milliseconds an outcome is kept.
    fn keep_ms<T>(&self, outcome: &Result<Answer<T>, LookupError>) -> u64 {
        let options = &self.options;
        let between = |ttl_s: u32, ceiling: Duration| {
            // The ceiling wins where an administrator set it below the floor.
            Duration::from_secs(u64::from(ttl_s))
                .max(options.ttl_floor)
                .min(ceiling)
        };
        millis(match outcome {
            Ok(answer) => between(answer.ttl_s, options.ttl_ceiling),
            Err(LookupError::NoSuchDomain { ttl_s } | LookupError::NoRecords { ttl_s }) => {
                between(*ttl_s, options.negative_ttl_ceiling)
            }
            Err(LookupError::Temporary { .. }) => options.temporary_ttl,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
