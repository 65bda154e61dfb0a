//! Whether the log may take mail now, and when it tries again.

use std::time::Duration;

use crate::SpoolError;

/// The log's state of health. A failure is never believed to have passed: only
/// a write and sync into a fresh segment clears it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    error: Option<SpoolError>,
    failure_count: u32,
    retry_at: Duration,
}

impl Health {
    /// A batch was lost. The first retry is at once, further ones wait a tick.
    pub(crate) fn failed(&mut self, error: SpoolError, now: Duration, tick: Duration) {
        self.failure_count = self.failure_count.saturating_add(1);
        self.retry_at = if self.failure_count == 1 {
            now
        } else {
            now + tick
        };
        self.error = Some(error);
    }

    /// Something had to be put off though nothing was lost.
    pub(crate) fn refused(&mut self, error: SpoolError, now: Duration, tick: Duration) {
        self.retry_at = now + tick;
        self.error = Some(error);
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Health::default();
    }

    /// There is room again: what was put off may be tried at once.
    pub(crate) fn room_made(&mut self, now: Duration) {
        if self.is_full() {
            self.retry_at = now;
        }
    }

    pub(crate) fn error(&self) -> Option<&SpoolError> {
        self.error.as_ref()
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self.error, Some(SpoolError::Full))
    }

    /// A batch was lost since the last good sync.
    pub(crate) fn has_lost(&self) -> bool {
        self.failure_count > 0
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.error.is_some() && !self.is_full()
    }

    pub(crate) fn retry_at(&self) -> Duration {
        self.retry_at
    }

    /// The error to answer with, while nothing is to be tried. A full disk is
    /// tried by every batch: to ask for room is cheap.
    pub(crate) fn blocks(&self, now: Duration) -> Option<SpoolError> {
        self.error
            .clone()
            .filter(|_| self.is_failed() && now < self.retry_at)
    }
}
