//! Maps keyed by our own 64-bit ids. SipHash guards against chosen keys; these
//! are chosen by nobody but us, and looked up several times a message.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::random::mix;

pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;
pub(crate) type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// Hashes one `u64`; anything else still works, byte by byte.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn consecutive_ids_spread_over_low_and_high_bits() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let mut low = IdSet::default();
        let mut high = IdSet::default();
        for id in 1_u64..=1024 {
            let hash = build.hash_one(id);
            low.insert(hash & 0xFFF);
            high.insert(hash >> 52);
        }
        // 1024 balls into 4096 bins leave about 906 bins hit.
        assert!(
            low.len() > 850 && high.len() > 850,
            "{} {}",
            low.len(),
            high.len()
        );
    }
}
