//! The files of a decision log: one JSON object a line, in files of which the oldest goes when
//! they are too much together.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use plugin::record::{FORMAT, Record};

use crate::clock::Clock;
use crate::config::DecisionLogConfig;

/// Files that the limits are spread over: what is removed at once is one of them.
const FILES: u64 = 8;
/// A record that is longer is not read back.
const LINE_MAX: u64 = 64 << 20;

/// The log as its writer has it.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    bytes_max: u64,
    records_max: u64,
    clock: Clock,
    current: Option<File>,
    /// All files, the newest last; none: not looked yet.
    kept: Option<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    bytes: u64,
    records: u64,
}

impl Files {
    pub(super) fn new(config: &DecisionLogConfig, clock: Clock) -> Self {
        Self {
            directory: config.directory.clone(),
            bytes_max: config.max_size_bytes,
            records_max: config.max_records_count,
            clock,
            current: None,
            kept: None,
        }
    }

    /// Writes lines behind the others and gives the size of all. A line that is larger than the
    /// whole log may be is left out by removing it again with its file.
    ///
    /// # Errors
    /// What the system says; the file is given up and the next call begins another one.
    pub(super) fn append(&mut self, lines: &[Vec<u8>]) -> io::Result<u64> {
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.look()?,
        };
        let result = self.try_append(&mut kept, lines);
        if result.is_err() {
            self.give_up(&mut kept);
        }
        // To look again is to read everything: only where the directory itself is gone, which
        // looking makes anew.
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if !result.as_ref().is_err_and(is_gone) {
            self.kept = Some(kept);
        }
        result
    }

    /// Closes the file that could not be written to, without what is left there of a line.
    fn give_up(&mut self, kept: &mut VecDeque<Kept>) {
        let (Some(file), Some(last)) = (self.current.take(), kept.back_mut()) else {
            return;
        };
        if file.set_len(last.bytes).is_err() {
            last.bytes = fs::metadata(&last.path).map_or(last.bytes, |data| data.len());
        }
        // Else a full disk would get an empty file for each batch.
        if last.bytes == 0 && fs::remove_file(&last.path).is_ok() {
            kept.pop_back();
        }
    }

    fn try_append(&mut self, kept: &mut VecDeque<Kept>, lines: &[Vec<u8>]) -> io::Result<u64> {
        for line in lines {
            let bytes = line.len() as u64;
            let is_full = kept.back().is_none_or(|last| {
                last.bytes + bytes > self.bytes_max / FILES
                    || last.records >= self.records_max.div_ceil(FILES)
            });
            if self.current.is_none() || is_full {
                let (file, path) = self.begin(kept)?;
                self.current = Some(file);
                kept.push_back(Kept {
                    path,
                    bytes: 0,
                    records: 0,
                });
            }
            if let (Some(file), Some(last)) = (&mut self.current, kept.back_mut()) {
                file.write_all(line)?;
                last.bytes += bytes;
                last.records += 1;
            }
            self.trim(kept)?;
        }
        Ok(kept.iter().map(|file| file.bytes).sum())
    }

    /// Removes the oldest files until the rest is within the limits.
    fn trim(&mut self, kept: &mut VecDeque<Kept>) -> io::Result<()> {
        loop {
            let bytes: u64 = kept.iter().map(|file| file.bytes).sum();
            let records: u64 = kept.iter().map(|file| file.records).sum();
            if bytes <= self.bytes_max && records <= self.records_max {
                return Ok(());
            }
            let Some(oldest) = kept.pop_front() else {
                return Ok(());
            };
            if kept.is_empty() {
                self.current = None;
            }
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    kept.push_front(oldest);
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    /// A new file, for the owner only.
    fn begin(&self, kept: &VecDeque<Kept>) -> io::Result<(File, PathBuf)> {
        let at_ms = self.clock.now().0;
        for number in 0..1000 {
            let name = format!("decisions-{at_ms:014}-{number:03}.jsonl");
            let path = self.directory.join(name);
            // Names are in the order of time, also when the clock was set back.
            if kept.back().is_some_and(|last| last.path >= path) {
                continue;
            }
            let mut options = OpenOptions::new();
            match options
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "the clock of this machine stands still or runs backwards",
        ))
    }

    /// The files that are there already.
    fn look(&self) -> io::Result<VecDeque<Kept>> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let mut kept = VecDeque::new();
        for path in list(&self.directory)? {
            let bytes = fs::metadata(&path)?.len();
            let mut records = 0;
            let mut reader = BufReader::new(File::open(&path)?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                records += 1;
                line.clear();
            }
            kept.push_back(Kept {
                path,
                bytes,
                records,
            });
        }
        Ok(kept)
    }
}

/// The files of a log, the oldest first.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("decisions-") && name.ends_with(".jsonl")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Records of a log, the oldest first. What cannot be read is an error of its own, and reading
/// goes on behind it.
pub(crate) struct ReadRecords {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, BufReader<File>, u64)>,
}

/// Reads the log in `directory`.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn read(directory: &Path) -> io::Result<ReadRecords> {
    Ok(ReadRecords {
        files: list(directory)?.into_iter(),
        current: None,
    })
}

impl Iterator for ReadRecords {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((path, reader, number)) = &mut self.current else {
                let path = self.files.next()?;
                match File::open(&path) {
                    Ok(file) => self.current = Some((path, BufReader::new(file), 0)),
                    // Removed since, as the oldest are.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Some(Err(format!("{}: {error}", path.display()))),
                }
                continue;
            };
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut *reader, LINE_MAX);
            let read = limited.read_until(b'\n', &mut line);
            *number += 1;
            let place = format!("{}:{number}", path.display());
            match read {
                Ok(0) => self.current = None,
                Ok(_) => return Some(parse(&line).map_err(|error| format!("{place}: {error}"))),
                Err(error) => {
                    self.current = None;
                    return Some(Err(format!("{place}: {error}")));
                }
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Record, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if head.format != FORMAT {
        return Err(format!(
            "this is of format {}, and this version reads {FORMAT}",
            head.format
        ));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use queue::UnixMs;

    use super::*;

    #[test]
    fn after_an_error_the_log_is_not_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!(
            "hostname = \"relay.test\"\nlisten = [\"127.0.0.1:0\"]\nspool = \"s\"\n\
             [decision_log]\nenabled = true\ndirectory = {:?}\n",
            directory.path()
        );
        let config = crate::config::Config::parse(&text, "waypost.toml").expect("it is good");
        let (clock, _) = Clock::manual(UnixMs(1_000_000));
        let mut files = Files::new(&config.decision_log, clock);
        let line = [b"{}\n".to_vec()];
        assert_eq!(files.append(&line).expect("it is written"), 3);
        // Whoever reads the directory again counts this one too.
        let stray = directory.path().join("decisions-0.jsonl");
        fs::write(&stray, "{}\n{}\n").expect("it is written");
        let full = OpenOptions::new().append(true).open("/dev/full");
        files.current = Some(full.expect("it is there"));
        let error = files.append(&line).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(files.append(&line).expect("it is written"), 6);
        assert_eq!(list(directory.path()).expect("it is there").len(), 3);
    }
}
