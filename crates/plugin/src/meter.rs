//! How much CPU time a call uses, and its memory.
//!
//! CPU time is that of the thread, summed over the polls of the call's future:
//! neither waiting for a look-up nor a busy machine counts against a guest.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// CPU time of one call. Shared by the future that runs it and the epoch
/// callback inside; both are on the same thread at any one time.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that have ended.
    spent_ns: AtomicU64,
    /// Thread CPU time at the start of the poll under way; 0: none is.
    poll_start_ns: AtomicU64,
}

impl CpuMeter {
    /// Time used so far, the poll under way included.
    pub(crate) fn spent(&self) -> Duration {
        let start = self.poll_start_ns.load(Ordering::Relaxed);
        let running = if start == 0 {
            0
        } else {
            thread_cpu_ns().saturating_sub(start)
        };
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed) + running)
    }

    /// Runs a future with its polls on the meter.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            let _poll = MeteredPoll::start(self);
            future.as_mut().poll(context)
        })
        .await
    }
}

/// Ends the measurement even when the poll unwinds.
struct MeteredPoll<'a>(&'a CpuMeter);

impl<'a> MeteredPoll<'a> {
    fn start(meter: &'a CpuMeter) -> Self {
        meter
            .poll_start_ns
            .store(thread_cpu_ns().max(1), Ordering::Relaxed);
        Self(meter)
    }
}

impl Drop for MeteredPoll<'_> {
    fn drop(&mut self) {
        let spent = self.0.spent();
        let ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.0.spent_ns.store(ns, Ordering::Relaxed);
        self.0.poll_start_ns.store(0, Ordering::Relaxed);
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

/// Core instances, tables and memories that one component may be made of;
/// compilers need up to a dozen, an interpreter with its library some forty.
pub(crate) const PARTS_MAX: u32 = 64;

/// Memory and tables of one instance: refuses growth beyond the limits and
/// remembers that it did, so that the abort that follows gets its true name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryMeter {
    limit_bytes: usize,
    limit_elements: usize,
    used_bytes: usize,
    used_elements: usize,
    refusal: Option<Refusal>,
}

/// Growth that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    what: &'static str,
    had: usize,
    wanted: usize,
    limit: usize,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            had,
            wanted,
            limit,
        } = self;
        write!(
            f,
            "wanted {wanted} {what} (it had {had}), the limit is {limit}"
        )
    }
}

impl MemoryMeter {
    pub(crate) fn new(limit_bytes: usize, limit_elements: usize) -> Self {
        Self {
            limit_bytes,
            limit_elements,
            used_bytes: 0,
            used_elements: 0,
            refusal: None,
        }
    }

    /// For another call of the same instance: what it has, it keeps.
    pub(crate) fn for_next_call(&self) -> Self {
        Self {
            refusal: None,
            ..*self
        }
    }

    /// Linear memory of the instance; it never shrinks, so this is its peak.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The last growth that was refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own limit, not ours.
            return Ok(false);
        }
        let total = self
            .used_bytes
            .saturating_add(desired.saturating_sub(current));
        if total > self.limit_bytes {
            self.refusal = Some(Refusal {
                what: "octets of memory",
                had: self.used_bytes,
                wanted: total,
                limit: self.limit_bytes,
            });
            return Ok(false);
        }
        self.used_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self
            .used_elements
            .saturating_add(desired.saturating_sub(current));
        if total > self.limit_elements {
            self.refusal = Some(Refusal {
                what: "table elements",
                had: self.used_elements,
                wanted: total,
                limit: self.limit_elements,
            });
            return Ok(false);
        }
        self.used_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX as usize
    }

    fn tables(&self) -> usize {
        PARTS_MAX as usize
    }

    fn memories(&self) -> usize {
        PARTS_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_limit_is_refused_and_remembered() {
        let mut meter = MemoryMeter::new(100, 10);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        // A second memory counts too.
        assert!(!meter.memory_growing(0, 50, None).unwrap());
        assert_eq!(
            meter.refusal().unwrap().to_string(),
            "wanted 110 octets of memory (it had 60), the limit is 100"
        );
        assert_eq!(meter.used_bytes(), 60);
        let next = meter.for_next_call();
        assert_eq!((next.used_bytes(), next.refusal()), (60, None));
    }

    #[test]
    fn the_guests_own_maximum_is_not_our_refusal() {
        let mut meter = MemoryMeter::new(100, 10);
        assert!(!meter.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!meter.table_growing(0, 6, Some(5)).unwrap());
        assert_eq!(meter.refusal(), None);
    }
}
