//! The scheduler's bounds, each with a name and a reason.

use crate::History;

/// Bounds of a [`Scheduler`](crate::Scheduler).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Messages in memory at once: being loaded, routed, waiting in a ready queue or
    /// under way. All others rest as a small record.
    pub active_messages: usize,
    /// Part of `active_messages` that mail loaded from the spool leaves free for mail
    /// that just came in. Without it a long backlog of due mail would make every
    /// fresh message rest first and be read back.
    pub reserved_for_fresh: usize,
    /// Part of `active_messages` that fresh mail leaves free for mail that is due
    /// again. Without it a steady flood would keep older mail waiting for ever.
    pub reserved_for_due: usize,
    /// Recipients of one job; a larger set for one domain becomes several jobs.
    pub recipients_per_job: usize,
    /// Jobs a message has open at once; its other recipients wait for the next turn.
    pub jobs_per_message: usize,
    /// Jobs that may wait for one destination in any case. While active memory is
    /// not full, a destination that works may keep as many waiting as there are free
    /// active slots: one busy smarthost gets half of the memory, and half of the rest
    /// is always there for the others. Jobs beyond that rest, so that a slow
    /// destination cannot fill active memory.
    pub ready_per_destination: usize,
    /// Least time a job rests that found its destination's ready queue full, in
    /// milliseconds. It is as long as jobs wait in that queue at present, plus up to
    /// half of that by chance, to spread them.
    pub overflow_rest_ms: u64,
    /// Longest such rest, in milliseconds, before the addition.
    pub overflow_rest_max_ms: u64,
    /// Attempts at once to a destination we know nothing of.
    pub initial_concurrency: u32,
    /// Attempts at once to a destination, however well it does.
    pub max_concurrency: u32,
    /// Failed attempts in a row until a destination is suspended.
    pub failures_to_suspend: u32,
    /// Length of the first suspension, in milliseconds. It doubles with each probe
    /// that fails.
    pub suspend_ms: u64,
    /// Longest suspension, in milliseconds.
    pub suspend_max_ms: u64,
    /// Destinations without work whose window, failures and suspension are
    /// remembered.
    pub idle_destinations: usize,
    /// A destination without work for this long, in milliseconds, is as good as
    /// unknown.
    pub destination_memory_ms: u64,
    /// Advice to retry earlier than this, in milliseconds, is raised to it.
    pub retry_after_min_ms: u64,
    /// Advice to retry later than this, in milliseconds, is lowered to it.
    pub retry_after_max_ms: u64,
    /// Of the attempts in a message's [`History`](crate::History), so many may have been
    /// followed by another at once, by advice of a policy; further such advice is not heeded.
    /// Two policies that send a message to and fro are stopped by it. 0: none is heeded.
    pub prompt_retries: usize,
    /// Octets of a message's annotations, names and values together. Changes that would make
    /// them grow beyond it are refused as a whole: jobs of one message run beside each other, so
    /// that nobody but the scheduler sees what all of them add up to, and a message that grows
    /// without end could at some time not be saved any more.
    pub attributes_bytes: u64,
    /// How long a message rests that could not be loaded, in milliseconds.
    pub load_retry_ms: u64,
}

impl Default for SchedulerLimits {
    fn default() -> Self {
        const SECOND_MS: u64 = 1_000;
        const MINUTE_MS: u64 = 60 * SECOND_MS;
        const HOUR_MS: u64 = 60 * MINUTE_MS;
        Self {
            active_messages: 20_000,
            reserved_for_fresh: 5_000,
            reserved_for_due: 5_000,
            recipients_per_job: 1_000,
            jobs_per_message: 1_000,
            ready_per_destination: 2_000,
            overflow_rest_ms: SECOND_MS,
            overflow_rest_max_ms: 15 * MINUTE_MS,
            initial_concurrency: 5,
            max_concurrency: 20,
            failures_to_suspend: 5,
            suspend_ms: MINUTE_MS,
            suspend_max_ms: 15 * MINUTE_MS,
            idle_destinations: 10_000,
            destination_memory_ms: HOUR_MS,
            retry_after_min_ms: SECOND_MS,
            retry_after_max_ms: 24 * HOUR_MS,
            prompt_retries: 4,
            attributes_bytes: 64 * 1024,
            load_retry_ms: 30 * SECOND_MS,
        }
    }
}

/// Limits that contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// With 0 nothing would ever happen.
    #[error("`{name}` must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// The first must not be above the second.
    #[error("`{lower}` must not be greater than `{upper}`")]
    Order {
        /// The field that is too large.
        lower: &'static str,
        /// The field it exceeds.
        upper: &'static str,
    },
    /// More than a message remembers.
    #[error("`prompt_retries` must be less than {}", History::LIMIT)]
    PromptRetries,
    /// Nothing would be left for the other kind of mail.
    #[error(
        "`reserved_for_fresh` and `reserved_for_due` must each be smaller than \
         `active_messages`, and together no larger"
    )]
    ReservedAll,
}

impl SchedulerLimits {
    /// Whether a scheduler can work with these.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), LimitsError> {
        let at_least_one = [
            ("active_messages", self.active_messages as u64),
            ("recipients_per_job", self.recipients_per_job as u64),
            ("jobs_per_message", self.jobs_per_message as u64),
            ("ready_per_destination", self.ready_per_destination as u64),
            ("overflow_rest_ms", self.overflow_rest_ms),
            ("initial_concurrency", u64::from(self.initial_concurrency)),
            ("max_concurrency", u64::from(self.max_concurrency)),
            ("failures_to_suspend", u64::from(self.failures_to_suspend)),
            ("suspend_ms", self.suspend_ms),
            ("retry_after_min_ms", self.retry_after_min_ms),
            ("load_retry_ms", self.load_retry_ms),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|&(_, value)| value == 0) {
            return Err(LimitsError::Zero { name });
        }
        let ordered = [
            (
                ("initial_concurrency", u64::from(self.initial_concurrency)),
                ("max_concurrency", u64::from(self.max_concurrency)),
            ),
            (
                ("overflow_rest_ms", self.overflow_rest_ms),
                ("overflow_rest_max_ms", self.overflow_rest_max_ms),
            ),
            (
                ("suspend_ms", self.suspend_ms),
                ("suspend_max_ms", self.suspend_max_ms),
            ),
            (
                ("retry_after_min_ms", self.retry_after_min_ms),
                ("retry_after_max_ms", self.retry_after_max_ms),
            ),
        ];
        for ((lower, low), (upper, high)) in ordered {
            if low > high {
                return Err(LimitsError::Order { lower, upper });
            }
        }
        // What the history has forgotten is not counted, and one place in it may be taken by how
        // the message came in.
        if self.prompt_retries >= History::LIMIT {
            return Err(LimitsError::PromptRetries);
        }
        let reserved = self
            .reserved_for_fresh
            .saturating_add(self.reserved_for_due);
        let larger = self.reserved_for_fresh.max(self.reserved_for_due);
        if reserved > self.active_messages || larger >= self.active_messages {
            return Err(LimitsError::ReservedAll);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound() {
        assert_eq!(SchedulerLimits::default().check(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let limits = SchedulerLimits {
            suspend_ms: 0,
            ..SchedulerLimits::default()
        };
        assert_eq!(
            limits.check(),
            Err(LimitsError::Zero { name: "suspend_ms" })
        );
        let limits = SchedulerLimits {
            initial_concurrency: 21,
            ..SchedulerLimits::default()
        };
        assert_eq!(
            limits.check(),
            Err(LimitsError::Order {
                lower: "initial_concurrency",
                upper: "max_concurrency"
            })
        );
        let limits = SchedulerLimits {
            reserved_for_fresh: 20_000,
            ..SchedulerLimits::default()
        };
        assert_eq!(limits.check(), Err(LimitsError::ReservedAll));
    }
}
