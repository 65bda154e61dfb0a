//! Time: the only file of the workspace that reads a clock.
//!
//! Everything else is handed a [`Clock`], so that a test decides what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use queue::UnixMs;

/// A source of wall-clock time, cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only when told to, and the handle that moves it.
    #[must_use]
    pub fn manual(start: UnixMs) -> (Self, ManualClock) {
        let cell = Arc::new(AtomicU64::new(start.0));
        (Self(Source::Manual(Arc::clone(&cell))), ManualClock(cell))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the one place
    pub fn now(&self) -> UnixMs {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(cell) => UnixMs(cell.load(Ordering::Relaxed)),
        }
    }
}

/// Moves a manual clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Measures how long something takes: for metrics, logs and the time-outs of a connection,
/// never for what is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the one place
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds since the start.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The moment that comes `limit` from now: a deadline for what waits on a peer.
#[must_use]
pub fn after(limit: Duration) -> tokio::time::Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    tokio::time::Instant::now() + limit.min(FAR)
}

/// A seed that differs from call to call, from the operating system's randomness by way of
/// the hasher keys of the standard library.
#[must_use]
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
