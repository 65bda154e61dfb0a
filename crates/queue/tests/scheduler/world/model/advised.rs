//! Jobs whose attempt is over and about which policies are heard.

use std::collections::BTreeSet;

use queue::{Advice, Event, JobId};
use smtp::QueueId;

use super::super::answers;
use super::{World, pick};

impl World {
    pub(super) fn answer_advice(&mut self, a: u16, b: u16) {
        let jobs: BTreeSet<JobId> = self.advised.keys().copied().collect();
        let Some(&job) = pick(&jobs, a) else {
            return;
        };
        let open = self.advised.remove(&job).expect("just picked");
        let advice = answers::advice(&open.recipients, a, b);
        let known = self
            .known
            .get_mut(&open.message)
            .expect("jobs are of living messages");
        for one in &advice {
            if matches!(one.advice, Advice::GiveUp(_)) {
                known.may_fail.extend(&one.recipients);
            }
        }
        self.apply(Event::Advised { job, advice });
    }

    /// The jobs of a message that have not come to an end, those awaiting advice included.
    pub(super) fn has_jobs(&self, id: QueueId) -> bool {
        let mut all = self.jobs.values().chain(self.advised.values());
        all.any(|open| open.message == id)
    }
}
