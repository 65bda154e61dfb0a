//! Jobs that wait for their destination.

use std::collections::VecDeque;

use crate::JobId;

/// The order in which waiting jobs get their turn: first come, first served. This
/// type is the one place to change when senders are to be served in turns.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue(VecDeque<JobId>);

impl ReadyQueue {
    pub(crate) fn push(&mut self, job: JobId) {
        self.0.push_back(job);
    }

    pub(crate) fn pop(&mut self) -> Option<JobId> {
        let job = self.0.pop_front();
        if self.0.is_empty() {
            // A burst must not leave its high-water mark with every destination.
            self.0.shrink_to(16);
        }
        job
    }

    pub(crate) fn peek(&self) -> Option<JobId> {
        self.0.front().copied()
    }

    /// Calls a job back; linear, for operators and expiry only.
    pub(crate) fn remove(&mut self, job: JobId) {
        self.0.retain(|&waiting| waiting != job);
    }

    pub(crate) fn drain(&mut self) -> VecDeque<JobId> {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
