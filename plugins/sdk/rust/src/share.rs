//! Sharing out by a stable hash: the same key goes to the same place as long as that is there, and
//! when a place goes or comes only its own share moves.

/// A stable hash of some parts (FNV-1a over parts and their borders, then mixed): the same in
/// every version of the SDK, on every machine.
///
/// ```
/// use waypost_sdk::sticky_hash;
///
/// assert_ne!(sticky_hash(&["ab", "c"]), sticky_hash(&["a", "bc"]));
/// assert_eq!(sticky_hash(&["a"]), sticky_hash(&["a"]));
/// ```
pub fn sticky_hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for octet in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // FNV's high bits are weak for short texts; SplitMix64's finish spreads them.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Positions of weighted places in the order in which a key should try them: each is first for its
/// share of keys (weighted rendezvous hashing). A weight of 0 puts a place last, after all others.
///
/// ```
/// use waypost_sdk::sticky_order;
///
/// let places = [("a.example", 3.0), ("b.example", 1.0), ("spare.example", 0.0)];
/// let order = sticky_order("customer-7", &places);
/// assert_eq!(order, sticky_order("customer-7", &places));
/// assert_eq!(order.last(), Some(&2));
/// let firsts = (0..4000).filter(|n| sticky_order(&n.to_string(), &places)[0] == 0).count();
/// assert!((2800..3200).contains(&firsts), "{firsts}");
/// ```
pub fn sticky_order(key: &str, places: &[(&str, f64)]) -> Vec<usize> {
    let mut scored: Vec<(f64, usize)> = places
        .iter()
        .enumerate()
        .map(|(index, &(name, weight))| (score(key, name, weight), index))
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
    scored.into_iter().map(|(_, index)| index).collect()
}

fn score(key: &str, name: &str, weight: f64) -> f64 {
    // 53 bits, so that the number is exact, and never 0 or 1.
    let unit = ((sticky_hash(&[key, name]) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    if weight > 0.0 {
        -weight / unit.ln()
    } else {
        -1.0
    }
}
