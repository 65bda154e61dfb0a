//! Chance from a seed, so that a plan can be made again exactly.

/// A small deterministic generator (SplitMix64). Not for secrets: it spreads
/// load, nothing else.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same seed gives the same sequence, on every machine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`, each equally likely; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Rejecting the first `2^64 mod bound` values leaves a whole number of
        // rounds: a plain remainder would favour the low ones.
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let drawn = self.next_u64();
            if drawn >= rejected {
                return drawn % bound;
            }
        }
    }

    /// Every order equally likely (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }

    /// Orders by chance in proportion to weight, as RFC 2782 orders SRV records
    /// of equal priority: a weight of 0 has a very small chance to come first
    /// beside others; where all are 0 every order is equally likely.
    pub fn shuffle_weighted<T>(&mut self, items: &mut [T], weight: impl Fn(&T) -> u16) {
        self.shuffle(items);
        let mut placed = 0;
        while placed + 1 < items.len() {
            let rest = &items[placed..];
            let sum: u64 = rest.iter().map(|item| u64::from(weight(item))).sum();
            if sum == 0 {
                return;
            }
            // RFC 2782 puts those of weight 0 first and draws from 0..=sum, so
            // that 0 selects one of them.
            let drawn = self.below(sum + 1);
            let chosen = if drawn == 0 {
                rest.iter().position(|item| weight(item) == 0)
            } else {
                None
            };
            let chosen = chosen.unwrap_or_else(|| {
                let mut running = 0;
                rest.iter()
                    .position(|item| {
                        running += u64::from(weight(item));
                        running >= drawn && weight(item) > 0
                    })
                    .unwrap_or(0)
            });
            // Rotating, not swapping, keeps the shuffled order of the rest.
            items[placed..=placed + chosen].rotate_right(1);
            placed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut chance = Chance::new(7);
        let mut seen = [0_u32; 5];
        for _ in 0..5000 {
            seen[chance.below(5) as usize] += 1;
        }
        assert!(
            seen.iter().all(|&count| (850..1150).contains(&count)),
            "{seen:?}"
        );
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.below(1), 0);
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut orders = std::collections::HashMap::new();
        for seed in 0..6000 {
            let mut items = [1, 2, 3];
            Chance::new(seed).shuffle(&mut items);
            *orders.entry(items).or_insert(0_u32) += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(
            orders.values().all(|count| (850..1150).contains(count)),
            "{orders:?}"
        );
    }

    #[test]
    fn weights_give_shares_of_the_first_place() {
        let mut first = [0_u32; 3];
        for seed in 0..6000 {
            let mut items = [(0, 60_u16), (1, 30), (2, 10)];
            Chance::new(seed).shuffle_weighted(&mut items, |item| item.1);
            first[items[0].0] += 1;
        }
        assert!((3300..3900).contains(&first[0]), "{first:?}");
        assert!((1600..2000).contains(&first[1]), "{first:?}");
        assert!((450..750).contains(&first[2]), "{first:?}");
    }

    #[test]
    fn weight_zero_comes_last_nearly_always_and_equal_zeros_spread() {
        let mut first = 0_u32;
        let mut spread = [0_u32; 2];
        for seed in 0..2000 {
            let mut items = [("zero", 0_u16), ("heavy", 1000)];
            Chance::new(seed).shuffle_weighted(&mut items, |item| item.1);
            first += u32::from(items[0].0 == "zero");
            let mut zeros = [(0, 0_u16), (1, 0)];
            Chance::new(seed).shuffle_weighted(&mut zeros, |item| item.1);
            spread[zeros[0].0] += 1;
        }
        assert!(first < 20, "{first}");
        assert!(spread.iter().all(|&count| count > 850), "{spread:?}");
    }
}
