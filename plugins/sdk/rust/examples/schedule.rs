//! A retry schedule of one's own, and an end of patience with full mailboxes.

use std::time::Duration;

use waypost_sdk::{Advice, Attempt, HookError, OnDeliveryResult, Outcome, Plugin, Reply, ambient};

struct Schedule;

impl Plugin for Schedule {}

const MINUTES: [u64; 6] = [1, 2, 5, 15, 30, 60];

impl OnDeliveryResult for Schedule {
    fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError> {
        let (Outcome::Temporary(_) | Outcome::Failed(_)) = &attempt.outcome else {
            return Ok(Advice::Usual);
        };
        let age_ms = ambient::now().saturating_sub(attempt.first_attempt_at);
        if let Outcome::Temporary(reply) = &attempt.outcome
            && reply.enhanced == "4.2.2"
            && age_ms > 12 * 3_600_000
        {
            let reply = Reply::new(552, "5.2.2", "the mailbox has been full for half a day");
            return Ok(Advice::give_up(reply));
        }
        let step = usize::try_from(attempt.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let minutes = MINUTES.get(step).copied().unwrap_or(60);
        Ok(Advice::retry_after(Duration::from_secs(minutes * 60)))
    }
}

waypost_sdk::export!(Schedule: OnDeliveryResult);

fn main() {}
