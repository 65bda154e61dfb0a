//! The file of one durable namespace: frames of records, each frame with its checksum, in the
//! order in which they were written. The last record of a key counts.
//!
//! A frame is the magic, the length and the CRC-32 of what follows, all little-endian, and the
//! records in postcard.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::namespace::Record;

const MAGIC: [u8; 4] = *b"WpS1";
const HEAD_BYTES: usize = 12;

/// A file that is written to.
pub(super) struct StateLog {
    file: File,
    path: PathBuf,
    length: u64,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// In the order of writing.
    pub(super) records: Vec<Record>,
    /// Octets at the end that are no whole frame: the write that a crash cut off.
    pub(super) torn_bytes: u64,
    /// There is damage with good frames after it: no crash does that.
    pub(super) is_damaged: bool,
}

impl StateLog {
    /// Opens the file, or makes it, and reads what is there. A torn end is cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Recovered)> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        let (recovered, good_bytes) = recover(&octets);
        if recovered.torn_bytes > 0 {
            file.set_len(good_bytes)?;
            file.sync_all()?;
        }
        let log = Self {
            file,
            path: path.to_owned(),
            length: good_bytes,
        };
        Ok((log, recovered))
    }

    /// Makes a new file of these records in the place of the one at `path`: whole, or not at all.
    pub(super) fn replace(
        path: &Path,
        mut records: impl FnMut() -> Vec<Record>,
    ) -> io::Result<Self> {
        let new = path.with_extension("new");
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&new)?;
        file.set_len(0)?;
        let mut log = Self {
            file,
            path: path.to_owned(),
            length: 0,
        };
        loop {
            let some = records();
            if some.is_empty() {
                break;
            }
            log.write(&some)?;
        }
        log.file.sync_all()?;
        std::fs::rename(&new, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(log)
    }

    /// Adds records; they are on disk when it returns. After an error the file has to be
    /// replaced: what became of the octets is not known.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.write(records)?;
        self.file.sync_data()
    }

    /// Octets of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        let frame = encode(records)?;
        self.file.write_all(&frame)?;
        self.length += frame.len() as u64;
        Ok(())
    }
}

fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let body = postcard::to_allocvec(records).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The records of the frame at the start of `octets`, and the frame's length.
fn decode(octets: &[u8]) -> Option<(Vec<Record>, usize)> {
    let rest = octets.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..length)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let records = postcard::from_bytes(body).ok()?;
    Some((records, HEAD_BYTES + length))
}

/// All records that can be read, and where the last good frame ends.
fn recover(octets: &[u8]) -> (Recovered, u64) {
    let mut recovered = Recovered::default();
    let (mut at, mut good) = (0, 0);
    while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some((records, length)) = decode(rest) {
            recovered.records.extend(records);
            // Whatever was skipped on the way here was not the end.
            recovered.is_damaged |= at != good;
            at += length;
            good = at;
            continue;
        }
        let after = rest.get(1..).unwrap_or_default();
        let next = after.windows(MAGIC.len()).position(|four| four == MAGIC);
        match next {
            Some(next) => at += 1 + next,
            None => break,
        }
    }
    let (total, good) = (octets.len() as u64, good as u64);
    recovered.torn_bytes = total - good;
    (recovered, good)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::namespace::{Held, Kind};
    use super::*;

    fn record(key: &str, number: u64) -> Record {
        Record {
            kind: Kind::Value,
            key: Arc::from(key),
            held: Some(Held {
                octets: Arc::from(vec![7; 40]),
                number,
                expires_at_ms: u64::MAX,
            }),
        }
    }

    fn numbers(recovered: &Recovered) -> Vec<u64> {
        let held = recovered
            .records
            .iter()
            .filter_map(|each| each.held.as_ref());
        held.map(|held| held.number).collect()
    }

    /// Three frames and where each ends.
    fn three() -> (Vec<u8>, Vec<usize>) {
        let (mut octets, mut ends) = (Vec::new(), Vec::new());
        for number in 1..=3 {
            octets.extend(encode(&[record("a", number), record("b", number)]).expect("small"));
            ends.push(octets.len());
        }
        (octets, ends)
    }

    #[test]
    fn an_end_cut_off_anywhere_loses_that_frame_alone() {
        let (octets, ends) = three();
        for length in ends[1]..ends[2] {
            let (recovered, good) = recover(&octets[..length]);
            assert_eq!(numbers(&recovered), [1, 1, 2, 2], "{length}");
            assert!(!recovered.is_damaged);
            assert_eq!(good, ends[1] as u64);
            assert_eq!(recovered.torn_bytes, (length - ends[1]) as u64);
        }
        let (whole, _) = recover(&octets);
        assert_eq!(numbers(&whole), [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn damage_before_the_end_is_told_from_a_torn_end() {
        let (octets, ends) = three();
        for at in 0..ends[2] {
            let mut broken = octets.clone();
            broken[at] ^= 0x40;
            let (recovered, _) = recover(&broken);
            assert_eq!(recovered.is_damaged, at < ends[1], "{at}");
            assert_eq!(numbers(&recovered).len(), 4, "{at}");
        }
    }

    #[test]
    fn a_file_is_continued_and_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("test.log");
        let (mut log, recovered) = StateLog::open(&path).expect("it opens");
        assert!(recovered.records.is_empty());
        log.append(&[record("a", 1)]).expect("it is written");
        log.append(&[record("a", 2)]).expect("it is written");
        drop(log);
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("it is there");
        file.write_all(b"WpS1 half a frame").expect("it is written");
        let (mut log, recovered) = StateLog::open(&path).expect("it opens");
        assert_eq!(numbers(&recovered), [1, 2]);
        assert_eq!(recovered.torn_bytes, 17);
        log.append(&[record("a", 3)]).expect("it is written");
        let (log, recovered) = StateLog::open(log.path()).expect("it opens");
        assert_eq!(numbers(&recovered), [1, 2, 3]);
        let before = log.length();

        let mut left = vec![vec![record("a", 3)]];
        let log = StateLog::replace(&path, || left.pop().unwrap_or_default());
        let log = log.expect("it is replaced");
        assert!(log.length() < before);
        let (_, recovered) = StateLog::open(&path).expect("it opens");
        assert_eq!(numbers(&recovered), [3]);
    }
}
