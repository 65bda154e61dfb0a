//! The story of a message: its newest attempts, for the operator to read.

use serde::{Deserialize, Serialize};

use crate::{PolicyDecision, UnixMs};

/// What happened in one attempt, or in place of one.
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
    /// Positions of the first [`AttemptRecord::RECIPIENTS_LIMIT`] recipients it was about.
    pub recipients: Vec<u32>,
    /// How many it was about; 0: not known (a record of an earlier version).
    pub recipient_count: u32,
    /// Which plugins decided about it, in the order in which they were asked; at most
    /// [`AttemptRecord::DECISIONS_LIMIT`], the newest.
    pub decisions: Vec<PolicyDecision>,
    /// By advice of a plugin the next attempt followed at once.
    pub prompt: bool,
}

impl AttemptRecord {
    /// More recipients than this are counted, not listed.
    pub const RECIPIENTS_LIMIT: usize = 16;
    /// More decisions than this are not kept.
    pub const DECISIONS_LIMIT: usize = 8;
    /// Stage of a record that tells how the message came in: no attempt, and kept as long as
    /// the message is.
    pub const RECEPTION: &str = "reception";

    /// What plugins decided while the message came in.
    #[must_use]
    pub fn of_reception(at: UnixMs, decisions: Vec<PolicyDecision>) -> Self {
        Self {
            at,
            stage: Self::RECEPTION.to_owned(),
            outcome: "accepted".to_owned(),
            decisions: decisions.into_iter().map(PolicyDecision::cut).collect(),
            ..Self::default()
        }
    }

    /// Whether it tells how the message came in.
    #[must_use]
    pub fn is_reception(&self) -> bool {
        self.stage == Self::RECEPTION
    }

    /// Notes whom it is about.
    pub(crate) fn about(&mut self, recipients: &[u32]) {
        let listed = recipients.iter().take(Self::RECIPIENTS_LIMIT);
        self.recipients = listed.copied().collect();
        self.recipient_count = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
    }

    /// Notes who decided about it.
    pub(crate) fn decided(&mut self, decisions: impl IntoIterator<Item = PolicyDecision>) {
        let cut = decisions.into_iter().map(PolicyDecision::cut);
        self.decisions.extend(cut);
        let surplus = self.decisions.len().saturating_sub(Self::DECISIONS_LIMIT);
        self.decisions.drain(..surplus);
    }
}

/// The newest [`History::LIMIT`] attempts, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<AttemptRecord>);

impl History {
    /// More than this many records are not kept: the metadata of a message that
    /// waits for days must stay small.
    pub const LIMIT: usize = 16;

    /// Adds a record, dropping the oldest beyond the limit, but not the one that tells how the
    /// message came in.
    pub fn push(&mut self, record: AttemptRecord) {
        if self.0.len() >= Self::LIMIT {
            let kept = usize::from(self.0.first().is_some_and(AttemptRecord::is_reception));
            let surplus = self.0.len() - Self::LIMIT + 1;
            self.0.drain(kept..kept + surplus);
        }
        self.0.push(record);
    }

    /// The newest record about this recipient.
    pub(crate) fn newest_about(&mut self, position: u32) -> Option<&mut AttemptRecord> {
        let mut newest_first = self.0.iter_mut().rev();
        newest_first.find(|record| {
            record.recipients.contains(&position)
                || record.recipient_count as usize > record.recipients.len()
        })
    }

    /// How many of these attempts were followed by another at once, by advice of a plugin.
    pub(crate) fn prompt_count(&self) -> usize {
        self.0.iter().filter(|record| record.prompt).count()
    }
}

impl FromIterator<AttemptRecord> for History {
    fn from_iter<I: IntoIterator<Item = AttemptRecord>>(records: I) -> Self {
        let mut history = Self::default();
        records.into_iter().for_each(|record| history.push(record));
        history
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

    #[test]
    fn how_a_message_came_in_is_not_forgotten() {
        let mut history = History::default();
        history.push(AttemptRecord::of_reception(UnixMs(1), Vec::new()));
        for at in 2..40 {
            history.push(AttemptRecord {
                at: UnixMs(at),
                ..AttemptRecord::default()
            });
        }
        assert_eq!(history.len(), History::LIMIT);
        let kept: Vec<u64> = history.iter().map(|record| record.at.get()).collect();
        assert_eq!((kept[0], kept[1], kept[15]), (1, 25, 39));
    }

    #[test]
    fn a_record_is_bounded_and_found_by_its_recipients() {
        let mut history = History::default();
        let many: Vec<u32> = (0..1000).collect();
        for (at, recipients) in [(1, &many[..]), (2, &[3]), (3, &[4])] {
            let mut record = AttemptRecord {
                at: UnixMs(at),
                ..AttemptRecord::default()
            };
            record.about(recipients);
            record.decided((0..20).map(|number| PolicyDecision {
                policy: number.to_string(),
                ..PolicyDecision::default()
            }));
            history.push(record);
        }
        assert_eq!(history[0].recipients.len(), AttemptRecord::RECIPIENTS_LIMIT);
        assert_eq!(history[0].recipient_count, 1000);
        let kept = history[0].decisions.iter();
        let kept: Vec<&str> = kept.map(|decision| decision.policy.as_str()).collect();
        assert_eq!(kept, ["12", "13", "14", "15", "16", "17", "18", "19"]);
        let mut at = |position| history.newest_about(position).map(|record| record.at.get());
        assert_eq!([at(3), at(4), at(900)], [Some(2), Some(3), Some(1)]);
    }
}
