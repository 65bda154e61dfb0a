//! Time as the scheduler sees it: a number the caller passes in.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
///
/// The scheduler never asks a clock; every event comes with its `now`. A clock
/// that jumps backwards is harmless: whatever is due stays due later.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The due time of what waits for an operator, not for the clock.
    pub const NEVER: Self = Self(u64::MAX);

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This much later; stops at [`UnixMs::NEVER`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long after `earlier` this is; 0 when it is not after.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::fmt::Display for UnixMs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(UnixMs(5).plus_ms(7), UnixMs(12));
        assert_eq!(UnixMs::NEVER.plus_ms(1), UnixMs::NEVER);
        assert_eq!(UnixMs(5).since_ms(UnixMs(3)), 2);
        assert_eq!(UnixMs(3).since_ms(UnixMs(5)), 0);
    }
}
