//! Calls and failures of late.

use std::time::Duration;

/// Parts of the window: what was seen counts for its length, give or take a tenth.
const PARTS: u64 = 10;

#[derive(Debug)]
pub(super) struct Window {
    part_ms: u64,
    parts: [Part; PARTS as usize],
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which part, counted from the beginning of time.
    number: u64,
    failed: u64,
    ended: u64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self {
            part_ms: (length / PARTS).max(1),
            parts: [Part::default(); PARTS as usize],
        }
    }

    /// A call ended.
    pub(super) fn ended(&mut self, now_ms: u64, is_failed: bool) {
        let number = now_ms / self.part_ms;
        let at = usize::try_from(number % PARTS).unwrap_or_default();
        let Some(part) = self.parts.get_mut(at) else {
            return;
        };
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part.ended += 1;
        part.failed += u64::from(is_failed);
    }

    /// Failures and calls within the window.
    pub(super) fn sums(&self, now_ms: u64) -> (u64, u64) {
        let newest = now_ms / self.part_ms;
        let recent = self
            .parts
            .iter()
            .filter(|part| part.number + PARTS > newest);
        recent.fold((0, 0), |(failed, ended), part| {
            (failed + part.failed, ended + part.ended)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut window = Window::new(Duration::from_secs(10));
        window.ended(100_000, true);
        window.ended(105_000, false);
        assert_eq!(window.sums(105_000), (1, 2));
        assert_eq!(window.sums(112_000), (0, 1));
        window.ended(200_000, true);
        assert_eq!(window.sums(200_000), (1, 1));
    }
}
