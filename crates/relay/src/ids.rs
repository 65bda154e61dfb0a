//! Queue identifiers: unique for the life of a spool, in order of time.

use std::sync::atomic::{AtomicU64, Ordering};

use queue::UnixMs;
use smtp::QueueId;

/// Hands out identifiers: milliseconds in the upper 44 bits, a count within the millisecond in
/// the lower 20. They rise even where the clock goes back.
#[derive(Debug)]
pub struct QueueIds(AtomicU64);

const COUNT_BITS: u32 = 20;

impl QueueIds {
    /// Identifiers above `greatest_seen`, the greatest one in the spool.
    #[must_use]
    pub fn above(greatest_seen: u64) -> Self {
        Self(AtomicU64::new(greatest_seen))
    }

    /// The next identifier.
    pub fn next(&self, now: UnixMs) -> QueueId {
        let floor = now.0 << COUNT_BITS;
        let step = |last: u64| Some(floor.max(last.saturating_add(1)));
        let last = match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
        {
            Ok(last) | Err(last) => last,
        };
        QueueId::new(floor.max(last.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_while_the_clock_goes_back() {
        let ids = QueueIds::above(0);
        let first = ids.next(UnixMs(1_000));
        let second = ids.next(UnixMs(1_000));
        let third = ids.next(UnixMs(10));
        assert!(first < second && second < third);
        assert!(ids.next(UnixMs(2_000)) > third);
    }

    #[test]
    fn starts_above_what_the_spool_holds() {
        let greatest = UnixMs(5_000).0 << COUNT_BITS;
        assert!(QueueIds::above(greatest).next(UnixMs(10)).get() > greatest);
    }
}
