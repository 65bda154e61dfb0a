//! What all calls of one loaded plugin share: its name, configuration, limits
//! and grants, and the bounds that hold over calls.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::config_tree::ConfigTree;
use crate::digest::Digest;
use crate::grants::Grants;
use crate::host::{Clock, PluginSpec};
use crate::limits::Limits;

/// A loaded plugin, without its code.
pub(crate) struct Profile {
    pub(crate) name: String,
    /// Which component this is, for log lines.
    pub(crate) short_digest: String,
    pub(crate) config: ConfigTree,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    pub(crate) clock: Clock,
    pub(crate) log_bucket: LogBucket,
    pub(crate) series: SeriesSet,
}

impl Profile {
    pub(crate) fn new(spec: PluginSpec, sha256: Digest, clock: Clock) -> Self {
        Self {
            log_bucket: LogBucket::new(spec.limits.log_lines_per_second),
            series: SeriesSet::new(spec.limits.metric_series),
            name: spec.name,
            short_digest: sha256.to_string().chars().take(12).collect(),
            config: ConfigTree::new(spec.config),
            limits: spec.limits,
            grants: spec.grants,
            clock,
        }
    }
}

/// A token bucket of log lines: so many a second, with a burst of as many.
#[derive(Debug)]
pub(crate) struct LogBucket {
    per_second: u64,
    /// Thousandths of a line, and when they were counted.
    level: Mutex<(u64, u64)>,
}

impl LogBucket {
    fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self {
            per_second,
            level: Mutex::new((per_second * 1000, 0)),
        }
    }

    /// Whether a line may be written now.
    pub(crate) fn take(&self, now_ms: u64) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (milli_lines, counted_at_ms) = *level;
        // One line a second is one thousandth a millisecond.
        let gained = now_ms
            .saturating_sub(counted_at_ms)
            .saturating_mul(self.per_second);
        let available = milli_lines
            .saturating_add(gained)
            .min(self.per_second * 1000);
        let taken = available >= 1000;
        *level = (if taken { available - 1000 } else { available }, now_ms);
        taken
    }
}

/// The distinct metric series of a plugin, bounded.
#[derive(Debug)]
pub(crate) struct SeriesSet {
    most: usize,
    known: Mutex<HashSet<String>>,
}

impl SeriesSet {
    fn new(most: usize) -> Self {
        Self {
            most,
            known: Mutex::default(),
        }
    }

    /// Whether a series is known or there is room for it.
    pub(crate) fn admit(&self, name: &str, labels: &[(String, String)]) -> bool {
        let mut key = name.to_owned();
        for (label, value) in labels {
            // NUL is in neither names nor values.
            key.push('\0');
            key.push_str(label);
            key.push('\0');
            key.push_str(value);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&key) {
            return true;
        }
        known.len() < self.most && known.insert(key)
    }

    /// Whether any series of this name has these labels, whatever their values.
    /// The names of labels are the plugin's to choose, too: without this each new
    /// one would make a series.
    pub(crate) fn knows_shape(&self, name: &str, labels: &[(String, String)]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|key| {
            let mut parts = key.split('\0');
            parts.next() == Some(name) && parts.step_by(2).eq(labels.iter().map(|(label, _)| label))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_fills_with_time() {
        let bucket = LogBucket::new(2);
        assert!(bucket.take(1_000_000));
        assert!(bucket.take(1_000_000));
        assert!(!bucket.take(1_000_000));
        assert!(!bucket.take(1_000_499));
        assert!(bucket.take(1_000_500));
        assert!(!bucket.take(1_000_500));
        // A clock that steps back gives nothing and takes nothing.
        assert!(!bucket.take(900_000));
    }

    #[test]
    fn series_are_bounded() {
        let set = SeriesSet::new(2);
        let label = |value: &str| [("a".to_owned(), value.to_owned())];
        assert!(set.admit("x", &label("1")));
        assert!(set.admit("x", &label("2")));
        assert!(!set.admit("x", &label("3")));
        assert!(set.admit("x", &label("1")));
        assert!(set.knows_shape("x", &label("3")));
        assert!(!set.knows_shape("x", &[("b".to_owned(), "1".to_owned())]));
        assert!(!set.knows_shape("x", &[]));
        assert!(!set.knows_shape("y", &label("1")));
    }
}
