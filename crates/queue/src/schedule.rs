//! When a deferred recipient is tried again.

use crate::random::SplitMix64;

/// Intervals between attempts. The n-th interval follows the n-th deferral; the
/// last one repeats until the message expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    intervals_ms: Vec<u64>,
    jitter_percent: u8,
}

/// A schedule nobody can follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There must be an interval to repeat.
    #[error("the retry schedule has no interval")]
    Empty,
    /// An attempt would follow the last one without a pause.
    #[error("interval {position} of the retry schedule is 0")]
    ZeroInterval {
        /// Counting from 0.
        position: usize,
    },
    /// Beyond 50 % a later attempt could come sooner than an earlier one.
    #[error("a jitter of {percent} % is more than 50 %")]
    Jitter {
        /// As given.
        percent: u8,
    },
}

impl RetrySchedule {
    /// A schedule of `intervals_ms`, each spread by up to `jitter_percent` both ways
    /// so that mail deferred together does not come back together.
    ///
    /// # Errors
    /// No interval, one of 0, or a jitter above 50 %.
    pub fn new(intervals_ms: Vec<u64>, jitter_percent: u8) -> Result<Self, ScheduleError> {
        if intervals_ms.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if let Some(position) = intervals_ms.iter().position(|&interval| interval == 0) {
            return Err(ScheduleError::ZeroInterval { position });
        }
        if jitter_percent > 50 {
            return Err(ScheduleError::Jitter {
                percent: jitter_percent,
            });
        }
        Ok(Self {
            intervals_ms,
            jitter_percent,
        })
    }

    /// The intervals, in milliseconds, without jitter.
    #[must_use]
    pub fn intervals_ms(&self) -> &[u64] {
        &self.intervals_ms
    }

    /// Pause after the `deferrals`-th deferral (counting from 1), in milliseconds;
    /// at least 1.
    pub(crate) fn interval_ms(&self, deferrals: u32, random: &mut SplitMix64) -> u64 {
        let last = self.intervals_ms.len() - 1; // `new` refuses an empty list.
        let interval = self.intervals_ms[(deferrals.max(1) as usize - 1).min(last)];
        if self.jitter_percent == 0 {
            return interval;
        }
        let spread = u128::from(interval) * u128::from(self.jitter_percent) / 100;
        let spread = u64::try_from(spread).expect("at most half of a u64");
        (interval - spread)
            .saturating_add(random.up_to(2 * spread))
            .max(1)
    }
}

impl Default for RetrySchedule {
    /// 2, 5, 10, 20, 40 minutes, then 1, 1, 2, 2 hours and every 4 hours, ±10 %:
    /// greylisting passes at the second or third attempt, a broken host is asked six
    /// times a day.
    fn default() -> Self {
        const MINUTES: [u64; 10] = [2, 5, 10, 20, 40, 60, 60, 120, 120, 240];
        Self {
            intervals_ms: MINUTES.iter().map(|minutes| minutes * 60_000).collect(),
            jitter_percent: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_interval_repeats() {
        let schedule = RetrySchedule::new(vec![10, 20, 40], 0).unwrap();
        let mut random = SplitMix64::new(1);
        let intervals: Vec<u64> = [0, 1, 2, 3, 4, u32::MAX]
            .map(|n| schedule.interval_ms(n, &mut random))
            .to_vec();
        assert_eq!(intervals, [10, 10, 20, 40, 40, 40]);
    }

    #[test]
    fn jitter_spreads_both_ways_and_no_further() {
        let schedule = RetrySchedule::new(vec![1000], 10).unwrap();
        let mut random = SplitMix64::new(1);
        let seen: Vec<u64> = (0..500)
            .map(|_| schedule.interval_ms(1, &mut random))
            .collect();
        assert!(seen.iter().all(|interval| (900..=1100).contains(interval)));
        assert!(seen.iter().any(|&interval| interval < 920));
        assert!(seen.iter().any(|&interval| interval > 1080));
        let huge = RetrySchedule::new(vec![u64::MAX], 50).unwrap();
        assert!(huge.interval_ms(1, &mut random) >= u64::MAX / 2);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(RetrySchedule::new(vec![], 0), Err(ScheduleError::Empty));
        assert_eq!(
            RetrySchedule::new(vec![1, 0], 0),
            Err(ScheduleError::ZeroInterval { position: 1 })
        );
        assert_eq!(
            RetrySchedule::new(vec![1], 51),
            Err(ScheduleError::Jitter { percent: 51 })
        );
    }
}
