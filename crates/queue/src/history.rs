//! The story of a message: its newest attempts, for the operator to read.

use serde::{Deserialize, Serialize};

use crate::UnixMs;

/// What happened in one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When it ended.
    pub at: UnixMs,
    /// Where it was to go: the destination, or the recipients' domain when it
    /// never got one.
    pub destination: String,
    /// The host, as far as it came.
    pub host: Option<String>,
    /// Its address, as far as it came.
    pub address: Option<String>,
    /// How far it came: `route`, `connect`, `greeting`, `mail-from`, …
    pub stage: String,
    /// The reply, or what went wrong.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// The newest [`History::LIMIT`] attempts, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<AttemptRecord>);

impl History {
    /// More than this many records are not kept: the metadata of a message that
    /// waits for days must stay small.
    pub const LIMIT: usize = 16;

    /// Adds a record, dropping the oldest beyond the limit.
    pub fn push(&mut self, record: AttemptRecord) {
        if self.0.len() >= Self::LIMIT {
            let surplus = self.0.len() - Self::LIMIT + 1;
            self.0.drain(..surplus);
        }
        self.0.push(record);
    }
}

impl std::ops::Deref for History {
    type Target = [AttemptRecord];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let mut history = History::default();
        for at in 0..40 {
            history.push(AttemptRecord {
                at: UnixMs(at),
                ..AttemptRecord::default()
            });
        }
        let kept: Vec<u64> = history.iter().map(|record| record.at.get()).collect();
        assert_eq!(kept, (24..40).collect::<Vec<u64>>());
    }
}
