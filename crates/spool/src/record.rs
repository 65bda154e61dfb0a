//! The bytes of a record, of a segment's index and of the seal at its end.
//!
//! All numbers are little endian; records start at multiples of 8 bytes.
//!
//! | record header, 56 B | bytes | |
//! |---|---|---|
//! | head checksum | 0..4 | crc32 of bytes 4..56 and the metadata |
//! | body checksum | 4..8 | crc32 of the body |
//! | stamp | 8..16 | the segment's random identity |
//! | sequence | 16..24 | order of all records of the spool |
//! | id | 24..32 | |
//! | due | 32..40 | Unix ms; of a tombstone: the segment of the put it buries |
//! | metadata length | 40..44 | bytes |
//! | body length | 44..48 | bytes |
//! | durable | 48..52 | how far this segment was synced when this was written, in 8 B |
//! | kind, version, 0, 0 | 52..56 | |
//!
//! Then metadata, body, and zeros up to the next multiple of 8.
//!
//! The stamp is 64 random bits that only the file's name tells. It refuses the
//! stale bytes of a recycled file, and whatever a sender of mail puts into a
//! body that looks like a record, should a scan ever stumble into one.

use crate::RecordId;

/// Size of a record's header.
pub(crate) const HEADER_BYTES: usize = 56;
/// Size of an entry in a segment's index.
pub(crate) const ENTRY_BYTES: usize = 40;
/// Size of the seal, the last bytes of a sealed segment's file.
pub(crate) const SEAL_BYTES: usize = 48;
/// Records begin at multiples of this; places are counted in it.
pub(crate) const UNIT_BYTES: u64 = 8;

/// What a disk writes whole or garbles whole. What has been synced shares no
/// sector with what is written after it.
pub(crate) const SECTOR_BYTES: u64 = 512;

const VERSION: u8 = 1;
const SEAL_MAGIC: u64 = u64::from_le_bytes(*b"WPSEAL01");

/// What a record says about its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The message: metadata and body.
    Put,
    /// Newer metadata; the body is in the put.
    Update,
    /// Gone: every record of this id with a smaller sequence counts no more.
    Tombstone,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Put => 1,
            Kind::Update => 2,
            Kind::Tombstone => 3,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Put),
            2 => Some(Kind::Update),
            3 => Some(Kind::Tombstone),
            _ => None,
        }
    }
}

/// A record's header, without its head checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) stamp: u64,
    pub(crate) sequence: u64,
    pub(crate) id: RecordId,
    /// Unix milliseconds, or the target segment of a tombstone.
    pub(crate) due: u64,
    pub(crate) meta_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
    pub(crate) durable_units: u32,
}

/// The bytes which a record with so much content takes up on disk.
pub(crate) fn record_bytes(meta_bytes: u64, body_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + meta_bytes + body_bytes).next_multiple_of(UNIT_BYTES)
}

/// Bytes as units; a segment is smaller than 32 GiB, see `options`.
pub(crate) fn to_units(bytes: u64) -> u32 {
    u32::try_from(bytes / UNIT_BYTES).expect("segments are smaller than 2^32 units")
}

impl Header {
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.meta_bytes), u64::from(self.body_bytes))
    }

    /// Where the body begins, counted from the record's first byte.
    pub(crate) fn body_start(&self) -> usize {
        HEADER_BYTES + self.meta_bytes as usize
    }

    /// Appends header and metadata to `out`; returns the head checksum.
    pub(crate) fn encode(&self, meta: &[u8], out: &mut Vec<u8>) -> u32 {
        debug_assert_eq!(meta.len(), self.meta_bytes as usize);
        let mut raw = [0u8; HEADER_BYTES];
        raw[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        raw[8..16].copy_from_slice(&self.stamp.to_le_bytes());
        raw[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        raw[24..32].copy_from_slice(&self.id.0.to_le_bytes());
        raw[32..40].copy_from_slice(&self.due.to_le_bytes());
        raw[40..44].copy_from_slice(&self.meta_bytes.to_le_bytes());
        raw[44..48].copy_from_slice(&self.body_bytes.to_le_bytes());
        raw[48..52].copy_from_slice(&self.durable_units.to_le_bytes());
        raw[52] = self.kind.code();
        raw[53] = VERSION;
        let crc = head_crc(&raw, meta);
        raw[0..4].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&raw);
        out.extend_from_slice(meta);
        crc
    }

    /// Reads a header if `raw` carries `stamp` and looks like one; the checksum
    /// is still to be checked, with [`head_crc`].
    pub(crate) fn decode(raw: &[u8], stamp: u64) -> Option<(Header, u32)> {
        if raw.len() < HEADER_BYTES || u64_at(raw, 8) != stamp {
            return None;
        }
        if raw[53] != VERSION || raw[54] != 0 || raw[55] != 0 {
            return None;
        }
        let header = Header {
            kind: Kind::from_code(raw[52])?,
            stamp,
            sequence: u64_at(raw, 16),
            id: RecordId(u64_at(raw, 24)),
            due: u64_at(raw, 32),
            meta_bytes: u32_at(raw, 40),
            body_bytes: u32_at(raw, 44),
            body_crc: u32_at(raw, 4),
            durable_units: u32_at(raw, 48),
        };
        Some((header, u32_at(raw, 0)))
    }
}

/// The checksum of a header (its own field left out) and metadata.
pub(crate) fn head_crc(raw: &[u8], meta: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&raw[4..HEADER_BYTES]);
    hasher.update(meta);
    hasher.finalize()
}

/// One record in a segment's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) kind: Kind,
    pub(crate) id: RecordId,
    pub(crate) sequence: u64,
    pub(crate) due: u64,
    pub(crate) offset_units: u32,
    pub(crate) units: u32,
}

impl IndexEntry {
    /// The segment of the put that this tombstone buries.
    pub(crate) fn target(&self) -> u32 {
        // One that no segment can have is as good as one that is gone.
        u32::try_from(self.due).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.due.to_le_bytes());
        out.extend_from_slice(&self.offset_units.to_le_bytes());
        out.extend_from_slice(&self.units.to_le_bytes());
        out.extend_from_slice(&[self.kind.code(), VERSION, 0, 0, 0, 0, 0, 0]);
    }

    fn decode(raw: &[u8]) -> Option<IndexEntry> {
        Some(IndexEntry {
            id: RecordId(u64_at(raw, 0)),
            sequence: u64_at(raw, 8),
            due: u64_at(raw, 16),
            offset_units: u32_at(raw, 24),
            units: u32_at(raw, 28),
            kind: Kind::from_code(raw[32])?,
        })
    }
}

/// The bytes of an index.
pub(crate) fn encode_index(entries: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        entry.encode(&mut out);
    }
    out
}

/// Reads an index whose checksum has been checked.
pub(crate) fn decode_index(raw: &[u8]) -> Option<Vec<IndexEntry>> {
    raw.chunks_exact(ENTRY_BYTES)
        .map(IndexEntry::decode)
        .collect()
}

/// The last bytes of a sealed segment: where its index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) stamp: u64,
    /// Where the records end and the index begins.
    pub(crate) index_units: u32,
    pub(crate) entry_count: u32,
    pub(crate) index_crc: u32,
    /// Something durable in this segment was found broken when it was sealed.
    pub(crate) damaged: bool,
}

impl Seal {
    pub(crate) fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut raw = [0u8; SEAL_BYTES];
        raw[0..8].copy_from_slice(&SEAL_MAGIC.to_le_bytes());
        raw[8..16].copy_from_slice(&self.stamp.to_le_bytes());
        raw[16..20].copy_from_slice(&self.index_units.to_le_bytes());
        raw[20..24].copy_from_slice(&self.entry_count.to_le_bytes());
        raw[24..28].copy_from_slice(&self.index_crc.to_le_bytes());
        raw[28] = u8::from(self.damaged);
        let crc = crc32fast::hash(&raw[..SEAL_BYTES - 4]);
        raw[SEAL_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    /// The seal in `raw` if it is whole and belongs to the segment with `stamp`.
    pub(crate) fn decode(raw: &[u8], stamp: u64) -> Option<Seal> {
        let whole = raw.len() == SEAL_BYTES
            && u64_at(raw, 0) == SEAL_MAGIC
            && u64_at(raw, 8) == stamp
            && u32_at(raw, SEAL_BYTES - 4) == crc32fast::hash(&raw[..SEAL_BYTES - 4]);
        whole.then(|| Seal {
            stamp,
            index_units: u32_at(raw, 16),
            entry_count: u32_at(raw, 20),
            index_crc: u32_at(raw, 24),
            damaged: raw[28] != 0,
        })
    }
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(raw[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(raw[at..at + 8].try_into().expect("a slice of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Put,
            stamp: 0x1122_3344_5566_7788,
            sequence: 9,
            id: RecordId(77),
            due: 1_700_000_000_000,
            meta_bytes: 5,
            body_bytes: 3,
            body_crc: crc32fast::hash(b"abc"),
            durable_units: 4,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip_and_only_with_its_stamp() {
        let mut raw = Vec::new();
        let crc = header().encode(b"meta!", &mut raw);
        assert_eq!(raw.len(), HEADER_BYTES + 5);
        assert_eq!(Header::decode(&raw, header().stamp), Some((header(), crc)));
        assert_eq!(head_crc(&raw, b"meta!"), crc);
        assert_eq!(Header::decode(&raw, header().stamp + 1), None);
    }

    #[test]
    fn every_flipped_bit_of_header_and_metadata_is_noticed() {
        let mut raw = Vec::new();
        header().encode(b"meta!", &mut raw);
        for bit in 0..raw.len() * 8 {
            let mut broken = raw.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let intact = Header::decode(&broken, header().stamp).is_some_and(|(_, crc)| {
                head_crc(&broken[..HEADER_BYTES], &broken[HEADER_BYTES..]) == crc
            });
            assert!(!intact, "bit {bit}");
        }
    }

    #[test]
    fn index_and_seal_survive_the_round_trip() {
        let entries: Vec<IndexEntry> = [Kind::Put, Kind::Update, Kind::Tombstone]
            .into_iter()
            .enumerate()
            .map(|(i, kind)| IndexEntry {
                kind,
                id: RecordId(i as u64),
                sequence: 10 + i as u64,
                due: 20,
                offset_units: 30,
                units: 7,
            })
            .collect();
        let raw = encode_index(&entries);
        assert_eq!(raw.len(), 3 * ENTRY_BYTES);
        assert_eq!(decode_index(&raw), Some(entries));

        let seal = Seal {
            stamp: 5,
            index_units: 6,
            entry_count: 3,
            index_crc: crc32fast::hash(&raw),
            damaged: true,
        };
        let mut bytes = seal.encode();
        assert_eq!(Seal::decode(&bytes, 5), Some(seal));
        assert_eq!(Seal::decode(&bytes, 6), None);
        bytes[21] ^= 1;
        assert_eq!(Seal::decode(&bytes, 5), None);
    }
}
