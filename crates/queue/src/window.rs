//! How many attempts a destination may have at once, and when it is left alone.
//!
//! The window opens by one after as many successes as it is wide, so that its
//! growth a round trip is the same at every width. It is halved by a failure, once
//! for all attempts that were under way together: ten connections cut by one
//! restart of the other side are one piece of news. Failures in a row suspend the
//! destination; after that it gets one attempt at a time until one succeeds, and
//! each that fails doubles the suspension.

use crate::{SchedulerLimits, UnixMs};

/// Window and health of one destination.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limit: u32,
    successes: u32,
    failures: u32,
    suspensions: u32,
    suspended_until: Option<UnixMs>,
    /// Attempts that started before this were under way at the last halving.
    halved_at: u64,
    /// Attempts that started before this say nothing about the time after the last
    /// suspension.
    suspended_at: u64,
}

impl Window {
    pub(crate) const fn new(limits: &SchedulerLimits) -> Self {
        Self {
            limit: limits.initial_concurrency,
            successes: 0,
            failures: 0,
            suspensions: 0,
            suspended_until: None,
            halved_at: 0,
            suspended_at: 0,
        }
    }

    /// Attempts allowed at once.
    pub(crate) const fn limit(&self) -> u32 {
        self.limit
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The end of the suspension that holds at `now`.
    pub(crate) fn suspended_until(&self, now: UnixMs) -> Option<UnixMs> {
        self.suspended_until.filter(|&until| until > now)
    }

    /// The destination answered.
    pub(crate) fn succeeded(&mut self, limits: &SchedulerLimits) {
        self.failures = 0;
        self.suspensions = 0;
        self.suspended_until = None;
        self.successes = self.successes.saturating_add(1);
        if self.successes >= self.limit {
            self.successes = 0;
            self.limit = self.limit.saturating_add(1).min(limits.max_concurrency);
        }
    }

    /// An attempt found the destination not working. `started` is its number in the
    /// row of all attempts, `next` the number the next one will get.
    pub(crate) fn failed(
        &mut self,
        limits: &SchedulerLimits,
        started: u64,
        next: u64,
        now: UnixMs,
    ) {
        if started < self.suspended_at || self.suspended_until(now).is_some() {
            return;
        }
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if started >= self.halved_at {
            self.limit = (self.limit / 2).max(1);
            self.halved_at = next;
        }
        if self.failures < limits.failures_to_suspend {
            return;
        }
        let doubled = 1_u64.checked_shl(self.suspensions).unwrap_or(u64::MAX);
        let length_ms = limits
            .suspend_ms
            .saturating_mul(doubled)
            .min(limits.suspend_max_ms);
        self.suspensions = self.suspensions.saturating_add(1);
        self.suspended_until = Some(now.plus_ms(length_ms));
        self.suspended_at = next;
        self.limit = 1;
    }

    /// Ends a suspension early, for one probe.
    pub(crate) const fn resume(&mut self) {
        self.suspended_until = None;
    }

    /// The limits have changed.
    pub(crate) fn fit(&mut self, limits: &SchedulerLimits) {
        self.limit = self.limit.clamp(1, limits.max_concurrency);
    }

    /// Nothing is known that a new window would not know.
    pub(crate) const fn is_pristine(&self, limits: &SchedulerLimits) -> bool {
        self.limit == limits.initial_concurrency
            && self.successes == 0
            && self.failures == 0
            && self.suspended_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn limits() -> SchedulerLimits {
        SchedulerLimits {
            initial_concurrency: 2,
            max_concurrency: 4,
            failures_to_suspend: 3,
            suspend_ms: 100,
            suspend_max_ms: 350,
            ..SchedulerLimits::default()
        }
    }

    #[test]
    fn opens_by_one_after_a_full_window_of_successes() {
        let limits = limits();
        let mut window = Window::new(&limits);
        let mut widths = Vec::new();
        for _ in 0..12 {
            window.succeeded(&limits);
            widths.push(window.limit());
        }
        assert_eq!(widths, [2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn one_blip_halves_once() {
        let limits = SchedulerLimits {
            failures_to_suspend: 100,
            max_concurrency: 16,
            ..limits()
        };
        let mut window = Window {
            limit: 16,
            ..Window::new(&limits)
        };
        for started in 0..16 {
            window.failed(&limits, started, 16, NOW);
        }
        assert_eq!(window.limit(), 8);
        window.failed(&limits, 16, 20, NOW);
        assert_eq!(window.limit(), 4);
        window.failed(&limits, 19, 20, NOW);
        assert_eq!(window.limit(), 4);
        for started in 20..30 {
            window.failed(&limits, started, started + 1, NOW);
        }
        assert_eq!(window.limit(), 1);
    }

    #[test]
    fn failures_in_a_row_suspend_and_a_success_between_does_not() {
        let limits = limits();
        let mut window = Window::new(&limits);
        window.failed(&limits, 0, 1, NOW);
        window.failed(&limits, 1, 2, NOW);
        window.succeeded(&limits);
        window.failed(&limits, 2, 3, NOW);
        window.failed(&limits, 3, 4, NOW);
        assert_eq!(window.suspended_until(NOW), None);
        window.failed(&limits, 4, 5, NOW);
        assert_eq!(window.suspended_until(NOW), Some(NOW.plus_ms(100)));
        assert_eq!(
            window.suspended_until(NOW.plus_ms(99)),
            Some(NOW.plus_ms(100))
        );
        assert_eq!(window.suspended_until(NOW.plus_ms(100)), None);
    }

    #[test]
    fn each_failed_probe_doubles_the_suspension_up_to_the_limit() {
        let limits = limits();
        let mut window = Window::new(&limits);
        let mut now = NOW;
        let mut lengths = Vec::new();
        for started in 0..2 {
            window.failed(&limits, started, started + 1, now);
        }
        for started in 2..80 {
            window.failed(&limits, started, started + 1, now);
            let until = window
                .suspended_until(now)
                .expect("suspended by every failure");
            lengths.push(until.since_ms(now));
            now = until;
            assert_eq!(window.limit(), 1);
        }
        assert_eq!(lengths[..4], [100, 200, 350, 350]);
        assert_eq!(lengths.last(), Some(&350));
        window.succeeded(&limits);
        assert_eq!(window.failures(), 0);
        assert_eq!(window.limit(), 2);
    }

    #[test]
    fn old_attempts_say_nothing_about_the_time_after_a_suspension() {
        let limits = limits();
        let mut window = Window::new(&limits);
        for started in 0..3 {
            window.failed(&limits, started, 10, NOW);
        }
        let after = NOW.plus_ms(100);
        window.failed(&limits, 9, 10, after);
        assert_eq!(window.suspended_until(after), None);
        window.failed(&limits, 10, 11, after);
        assert_eq!(window.suspended_until(after), Some(after.plus_ms(200)));
    }

    #[test]
    fn a_success_during_a_suspension_ends_it() {
        let limits = limits();
        let mut window = Window::new(&limits);
        for started in 0..3 {
            window.failed(&limits, started, 4, NOW);
        }
        window.succeeded(&limits);
        assert_eq!(window.suspended_until(NOW), None);
    }
}
