//! How many routing jobs may look things up at a time.
//!
//! After a restart, or when a large destination comes back, thousands of jobs are due at once;
//! without a bound each would put its question to the resolver in the same moment, and the
//! resolver's time-outs would be taken for those of the domains.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Jobs of one lane that look things up at a time: as many questions as one resolver thread of
/// the usual kinds keeps open, and so few that a burst is over before the first of them times out.
const JOBS_PER_LANE: usize = 512;

/// Turns at looking things up. Retries have a lane of their own, so that a queue full of dead
/// domains does not stand before new mail.
#[derive(Debug, Clone)]
pub struct Lanes {
    first: Arc<Semaphore>,
    later: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        let lane = || Arc::new(Semaphore::new(JOBS_PER_LANE));
        Self {
            first: lane(),
            later: lane(),
        }
    }
}

impl Lanes {
    /// Waits for a turn of a job with so many attempts behind it. Not to be held while waiting
    /// for a plugin: a slow one would keep the mail of others from being routed.
    pub(super) async fn enter(&self, attempt: u32) -> SemaphorePermit<'_> {
        let lane = if attempt == 0 {
            &self.first
        } else {
            &self.later
        };
        lane.acquire()
            .await
            .expect("nobody closes these semaphores")
    }
}
