//! What the operations mean, apart from where entries are kept. Pure.

use plugin::StateFailure;

/// Octets that an entry costs beside its key and its value: what the maps and the allocator take,
/// 213 for one that expires.
pub(super) const OVERHEAD_BYTES: usize = 224;

/// Longest key in octets.
pub(super) const KEY_MAX_BYTES: usize = 1024;

/// Gains above this count as this; the clock of a call has milliseconds.
const PER_SECOND_MAX: f64 = 1e6;

const NANOS_PER_SECOND: f64 = 1e9;
const NANOS_PER_MS: u64 = 1_000_000;

/// Never expires.
pub(super) const NEVER_MS: u64 = u64::MAX;

/// What an entry costs of the quota.
pub(super) fn cost(key: &str, value_bytes: usize) -> usize {
    OVERHEAD_BYTES
        .saturating_add(key.len())
        .saturating_add(value_bytes)
}

/// When an entry that is made now expires.
pub(super) fn expiry(ttl_ms: Option<u64>, now_ms: u64) -> u64 {
    ttl_ms.map_or(NEVER_MS, |ttl| now_ms.saturating_add(ttl))
}

/// The version after `last`: above it, and above all that were given in earlier lives of the
/// relay, as long as its clock did not go back.
pub(super) fn next_version(last: u64, now_ms: u64) -> u64 {
    last.saturating_add(1).max(now_ms.saturating_mul(1 << 10))
}

/// A counter is kept as its decimal text. The sum stays within 64 bits with sign.
pub(super) fn sum(current: Option<&[u8]>, by: i64) -> Result<i64, StateFailure> {
    let Some(current) = current else {
        return Ok(by);
    };
    let number = std::str::from_utf8(current).ok();
    let number: Option<i64> = number.and_then(|text| text.parse().ok());
    match number {
        Some(number) => Ok(number.saturating_add(by)),
        None => Err(StateFailure::Unavailable(
            "the value of this key is no whole number".to_owned(),
        )),
    }
}

/// A token bucket, kept as the moment at which it is full again (GCRA): none where it is full.
/// Gives whether the tokens were there, and that moment, in nanoseconds since the Unix epoch,
/// where it has changed.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // spans of time: not negative, and a nanosecond in a million seconds does not matter
pub(super) fn take(
    full_at_ns: Option<u64>,
    cost: u32,
    per_second: f64,
    burst: u32,
    now_ms: u64,
) -> Result<Option<u64>, StateFailure> {
    if !per_second.is_finite() || per_second <= 0.0 {
        let message = "a bucket gains more than 0 a second";
        return Err(StateFailure::Unavailable(message.to_owned()));
    }
    let token_ns = NANOS_PER_SECOND / per_second.min(PER_SECOND_MAX);
    let now_ns = now_ms.saturating_mul(NANOS_PER_MS);
    let whole_ns = f64::from(burst) * token_ns;
    // A bucket that would take longer than that to fill was filled by another rule, or the clock
    // went back.
    let missing_ns = (full_at_ns.unwrap_or(0).saturating_sub(now_ns) as f64).min(whole_ns);
    let wanted_ns = missing_ns + f64::from(cost) * token_ns;
    // Sums of rounded fractions may be over by a nanosecond each.
    if wanted_ns > whole_ns + token_ns * 1e-3 {
        return Ok(None);
    }
    Ok(Some(now_ns.saturating_add(wanted_ns.round() as u64)))
}

/// When a bucket that is full then can be forgotten.
pub(super) fn bucket_expiry(full_at_ns: u64) -> u64 {
    full_at_ns.div_ceil(NANOS_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `cost` and keeps the bucket.
    fn take_from(bucket: &mut Option<u64>, cost: u32, rate: f64, burst: u32, now_ms: u64) -> bool {
        match take(*bucket, cost, rate, burst, now_ms).expect("a possible rate") {
            Some(full_at) => {
                *bucket = Some(full_at);
                true
            }
            None => false,
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = None;
        let now = 1_800_000_000_000;
        let at_once = (0..10)
            .filter(|_| take_from(&mut bucket, 1, 3.0, 5, now))
            .count();
        assert_eq!(at_once, 5);
        let mut given = 0;
        for tick in 1..=10_000 {
            given += u32::from(take_from(&mut bucket, 1, 3.0, 5, now + tick));
        }
        assert_eq!(given, 30);
        // Full again after as long as it takes, and no fuller.
        let later = now + 10_000 + 60_000;
        assert!(!take_from(&mut bucket, 6, 3.0, 5, later));
        assert!(take_from(&mut bucket, 5, 3.0, 5, later));
        assert!(take_from(&mut bucket, 0, 3.0, 5, later));
        assert!(!take_from(&mut bucket, 1, 3.0, 5, later));
    }

    #[test]
    fn any_rate_keeps_its_burst() {
        for rate in [1e-9, 0.1, 7.3, 1e6, 1e12] {
            let mut bucket = None;
            let given = (0..100).filter(|_| take_from(&mut bucket, 1, rate, 10, 5_000));
            assert_eq!(given.count(), 10, "{rate}");
        }
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(take(None, 1, rate, 10, 5_000).is_err(), "{rate}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_close_a_bucket_for_long() {
        let mut bucket = None;
        assert!(take_from(&mut bucket, 10, 1.0, 10, 1_000_000_000));
        assert!(!take_from(&mut bucket, 1, 1.0, 10, 1_000));
        let mut waited = 1_000;
        while !take_from(&mut bucket, 1, 1.0, 10, waited) {
            bucket = bucket.map(|full: u64| full.min(waited * 1_000_000 + 10_000_000_000));
            waited += 1_000;
        }
        assert!(waited <= 20_000, "{waited}");
    }

    #[test]
    fn counters_stay_within_bounds() {
        assert_eq!(sum(None, 5), Ok(5));
        assert_eq!(sum(Some(b"-3"), 5), Ok(2));
        assert_eq!(sum(Some(i64::MAX.to_string().as_bytes()), 5), Ok(i64::MAX));
        assert!(sum(Some(b"three"), 5).is_err());
    }

    #[test]
    fn versions_only_go_up() {
        let first = next_version(0, 1_000);
        assert!(next_version(first, 1_000) > first);
        assert!(next_version(first, 10) > first);
        assert!(next_version(0, 2_000) > first + 900);
    }
}
