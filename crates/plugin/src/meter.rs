//! How much CPU time a call uses, and its memory.
//!
//! CPU time is that of the thread, summed over the polls of the call's future:
//! neither waiting for a look-up nor a busy machine counts against a guest, but for
//! a fraction of what it is limited by.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// CPU time of one call. Shared by the future that runs it and the epoch
/// callback inside; both are on the same thread at any one time.
///
/// Asking for the CPU time of a thread is a system call, which costs as much as a
/// small guest. So a poll that is over within a [`GRAIN`] counts by the clock on the
/// wall, and one that begins within a grain of the thread's last reading begins
/// where the thread can have been at most. A guest that computes is measured
/// exactly, at each tick: what it has used is known to a grain for each poll.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that have ended.
    spent_ns: AtomicU64,
    /// Start of the poll under way by the clock; 0: none is.
    poll_clock_ns: AtomicU64,
    /// CPU time of the thread at that moment.
    poll_cpu_ns: AtomicU64,
}

/// How closely short polls are measured, in nanoseconds.
const GRAIN_NS: u64 = 1_000_000;

impl CpuMeter {
    /// Time used so far, the poll under way included.
    pub(crate) fn spent(&self) -> Duration {
        let running = if self.poll_clock_ns.load(Ordering::Relaxed) == 0 {
            0
        } else {
            let cpu_ns = Reading::take(clock_ns(ClockId::Monotonic)).cpu_ns;
            cpu_ns.saturating_sub(self.poll_cpu_ns.load(Ordering::Relaxed))
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
        let now_ns = clock_ns(ClockId::Monotonic).max(1);
        let last = Reading::last(now_ns).unwrap_or_else(|| Reading::take(now_ns));
        let since_ns = now_ns.saturating_sub(last.clock_ns);
        let cpu_ns = last.cpu_ns + since_ns;
        meter.poll_cpu_ns.store(cpu_ns, Ordering::Relaxed);
        meter.poll_clock_ns.store(now_ns, Ordering::Relaxed);
        Self(meter)
    }
}

impl Drop for MeteredPoll<'_> {
    fn drop(&mut self) {
        let started_ns = self.0.poll_clock_ns.load(Ordering::Relaxed);
        let elapsed_ns = clock_ns(ClockId::Monotonic).saturating_sub(started_ns);
        if elapsed_ns <= GRAIN_NS {
            self.0.spent_ns.fetch_add(elapsed_ns, Ordering::Relaxed);
        } else {
            let spent = self.0.spent();
            let ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
            self.0.spent_ns.store(ns, Ordering::Relaxed);
        }
        self.0.poll_clock_ns.store(0, Ordering::Relaxed);
    }
}

/// The CPU time of this thread, and when it was asked for.
#[derive(Clone, Copy)]
struct Reading {
    clock_ns: u64,
    cpu_ns: u64,
}

thread_local! {
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

impl Reading {
    fn take(clock_ns: u64) -> Self {
        let reading = Self {
            clock_ns,
            cpu_ns: self::clock_ns(ClockId::ThreadCPUTime),
        };
        LAST.set(Some(reading));
        reading
    }

    /// The last one, unless it is older than a grain.
    fn last(now_ns: u64) -> Option<Self> {
        LAST.get()
            .filter(|last| now_ns.saturating_sub(last.clock_ns) <= GRAIN_NS)
    }
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
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

    /// Computes for so long by the thread's own time.
    fn burn(ns: u64) {
        let end_ns = clock_ns(ClockId::ThreadCPUTime) + ns;
        while clock_ns(ClockId::ThreadCPUTime) < end_ns {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn what_computes_counts_and_what_waits_does_not() {
        let meter = CpuMeter::default();
        meter
            .measure(async {
                burn(20 * GRAIN_NS);
                tokio::time::sleep(Duration::from_millis(200)).await;
                burn(20 * GRAIN_NS);
            })
            .await;
        // Two long polls, each known to a grain.
        let spent_ns = u64::try_from(meter.spent().as_nanos()).unwrap();
        assert!(spent_ns >= 38 * GRAIN_NS, "{spent_ns}");
        assert!(spent_ns < 120 * GRAIN_NS, "{spent_ns}");
    }

    #[tokio::test]
    async fn many_short_polls_add_up() {
        let meter = CpuMeter::default();
        meter
            .measure(async {
                for _ in 0..200 {
                    burn(GRAIN_NS / 10);
                    tokio::task::yield_now().await;
                }
            })
            .await;
        let spent_ns = u64::try_from(meter.spent().as_nanos()).unwrap();
        assert!(spent_ns >= 20 * GRAIN_NS, "{spent_ns}");
    }

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
