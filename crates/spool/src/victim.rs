//! Which segment collection empties next.

use std::time::Duration;

use crate::index::{Index, Segment};

/// When to look again at the first of the segments that could not be read.
pub(crate) fn next_retry(index: &Index, now: Duration) -> Option<Duration> {
    let times = index.segments.values();
    times
        .filter_map(|segment| segment.unreadable_until)
        .filter(|at| *at > now && *at < Duration::MAX)
        .min()
}

/// The segment to empty next: one whose collection was interrupted, then one
/// without anything of use, then the emptiest.
pub(crate) fn pick(index: &Index, below_percent: u8, now: Duration) -> Option<u32> {
    let mut best = None;
    for (id, segment) in &index.segments {
        if segment.active || segment.undead {
            continue;
        }
        let needed = index.needed_bytes(*id);
        if needed > 0 && segment.unreadable_until.is_some_and(|until| now < until) {
            continue;
        }
        let has_copies = index.has_copies(*id);
        if !has_copies && !is_worthwhile(segment, needed, below_percent) {
            continue;
        }
        let rank = (
            !has_copies,
            needed.saturating_mul(1000) / segment.size_bytes.max(1),
        );
        if best.is_none_or(|(lowest, _)| rank < lowest) {
            best = Some((rank, *id));
        }
    }
    best.map(|(_, id)| id)
}

fn is_worthwhile(segment: &Segment, needed_bytes: u64, below_percent: u8) -> bool {
    let limit = segment.size_bytes.saturating_mul(u64::from(below_percent)) / 100;
    needed_bytes == 0 || needed_bytes < limit
}
