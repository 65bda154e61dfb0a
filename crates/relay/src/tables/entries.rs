//! Keys with their values in one piece of memory, found by hash.
//!
//! A record is the lengths of key and value, then both. Beside the records there are five octets
//! a slot: where the record begins and eight bits of its hash, so that a probe that misses seldom
//! touches a record. Half more slots than entries keep probes short.

use std::hash::{DefaultHasher, Hasher};

use super::fault::TableFault;

/// The records and the way to them.
pub(super) struct Entries {
    records: Box<[u8]>,
    tags: Box<[u8]>,
    starts: Box<[u32]>,
    count: usize,
}

/// Takes records one by one.
#[derive(Default)]
pub(super) struct EntriesBuilder {
    records: Vec<u8>,
    /// Where each record begins, and the line it came from.
    starts: Vec<(u32, u32)>,
}

impl EntriesBuilder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            records: Vec::with_capacity(bytes),
            starts: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Adds one; `line` is for the report of duplicates.
    pub(super) fn push(&mut self, key: &str, value: &str, line: u32) -> Result<(), &'static str> {
        let start = u32::try_from(self.records.len()).map_err(|_| "the table is over 4 GiB")?;
        push_length(&mut self.records, key.len());
        push_length(&mut self.records, value.len());
        self.records.extend_from_slice(key.as_bytes());
        self.records.extend_from_slice(value.as_bytes());
        self.starts.push((start, line));
        Ok(())
    }

    /// The entries, and one note for each key that came again: as in Postfix the first counts.
    pub(super) fn finish(self) -> (Entries, Vec<TableFault>) {
        let slots = self.starts.len() + self.starts.len() / 2 + 1;
        let mut entries = Entries {
            records: self.records.into_boxed_slice(),
            tags: vec![0; slots].into_boxed_slice(),
            starts: vec![0; slots].into_boxed_slice(),
            count: 0,
        };
        let mut repeated = Vec::new();
        for (start, line) in self.starts {
            let Some((key, _)) = entries.record(start) else {
                continue;
            };
            let (mut slot, tag) = entries.place_of(key);
            let free = loop {
                match entries.tags.get(slot) {
                    Some(0) => break Some(slot),
                    Some(found) if *found == tag && entries.key_at(slot) == Some(key) => {
                        let shown = String::from_utf8_lossy(key);
                        let message = format!("{shown:?} is there already; the first counts");
                        repeated.push(TableFault { line, message });
                        break None;
                    }
                    Some(_) => slot += 1,
                    None => slot = 0,
                }
            };
            if let Some(slot) = free
                && let (Some(tag_at), Some(start_at)) =
                    (entries.tags.get_mut(slot), entries.starts.get_mut(slot))
            {
                (*tag_at, *start_at) = (tag, start);
                entries.count += 1;
            }
        }
        (entries, repeated)
    }
}

impl Entries {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let key = key.as_bytes();
        let (mut slot, tag) = self.place_of(key);
        loop {
            match self.tags.get(slot) {
                Some(0) => return None,
                Some(found) if *found == tag => {
                    let (here, value) = self.record(*self.starts.get(slot)?)?;
                    if here == key {
                        // What was pushed was text.
                        return std::str::from_utf8(value).ok();
                    }
                    slot += 1;
                }
                Some(_) => slot += 1,
                // The end; there is a free slot somewhere, so this ends too.
                None => slot = 0,
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        self.records.len() + self.tags.len() + self.starts.len() * size_of::<u32>()
    }

    fn key_at(&self, slot: usize) -> Option<&[u8]> {
        Some(self.record(*self.starts.get(slot)?)?.0)
    }

    fn record(&self, start: u32) -> Option<(&[u8], &[u8])> {
        let rest = self.records.get(start as usize..)?;
        let (key, rest) = split_length(rest)?;
        let (value, rest) = split_length(rest)?;
        let (key, rest) = rest.split_at_checked(key)?;
        Some((key, rest.get(..value)?))
    }

    /// The first slot to look at, and the tag, which is never 0.
    fn place_of(&self, key: &[u8]) -> (usize, u8) {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let hash = hasher.finish();
        let slot = (u128::from(hash) * self.tags.len() as u128) >> 64;
        let tag = u8::try_from(hash & 0xff).unwrap_or(0).max(1);
        (usize::try_from(slot).unwrap_or(0), tag)
    }
}

/// Seven bits an octet, the lowest first.
pub(super) fn push_length(to: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        to.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    to.push(u8::try_from(length).unwrap_or(0));
}

pub(super) fn split_length(octets: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (at, octet) in octets.iter().enumerate().take(5) {
        length |= usize::from(octet & 0x7f) << (7 * at);
        if octet & 0x80 == 0 {
            return Some((length, octets.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_found_and_nothing_else() {
        let mut builder = EntriesBuilder::default();
        for number in 0..5000_u32 {
            let key = format!("key-{number}.example");
            builder
                .push(&key, &"v".repeat(number as usize % 300), number)
                .expect("it fits");
        }
        let (entries, repeated) = builder.finish();
        assert!(repeated.is_empty());
        assert_eq!(entries.len(), 5000);
        for number in 0..5000_usize {
            let value = entries.get(&format!("key-{number}.example"));
            assert_eq!(value.map(str::len), Some(number % 300));
            assert_eq!(entries.get(&format!("key-{number}.exampl")), None);
        }
    }

    #[test]
    fn the_first_of_two_counts() {
        let mut builder = EntriesBuilder::default();
        builder.push("a", "1", 1).expect("it fits");
        builder.push("a", "2", 2).expect("it fits");
        let (entries, repeated) = builder.finish();
        assert_eq!((entries.get("a"), entries.len()), (Some("1"), 1));
        assert_eq!(repeated.len(), 1);
        assert_eq!(repeated[0].line, 2);
    }

    #[test]
    fn an_empty_table_is_one() {
        let (entries, _) = EntriesBuilder::default().finish();
        assert_eq!(entries.get(""), None);
    }
}
