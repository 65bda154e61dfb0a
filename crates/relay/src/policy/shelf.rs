//! Versions of a plugin that were in force, kept in the spool: for going back when the file has
//! been overwritten, and for a restart after going back.
//!
//! ```text
//! <spool>/plugins/<name>/versions.json        what was in force, the newest first
//! <spool>/plugins/<name>/<sha256>.wasm        the component
//! <spool>/plugins/<name>/<sha256>.minisig     its signature, where one was asked for
//! ```
//!
//! Nothing here is trusted: a component is taken from the shelf by the same checks as from its
//! file, its digest first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use plugin::Digest;
use serde::{Deserialize, Serialize};

/// The list of versions.
const RECORDS: &str = "versions.json";

/// What is known of the versions of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Records {
    /// The one in force first, then those before it.
    pub(crate) versions: Vec<Version>,
    /// After going back: components that are not taken again from the configured file before the
    /// operator asks for them.
    #[serde(default)]
    pub(crate) held_back: Vec<Digest>,
}

/// One version that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Digest of the component.
    pub digest: Digest,
    /// Version that the plugin gives itself.
    pub version: Option<String>,
    /// When it was taken last, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The shelf of one plugin.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    directory: PathBuf,
    keep_count: usize,
}

impl Shelf {
    /// Of the plugin `name`, whose newest `keep_count` versions are kept.
    pub(crate) fn of(spool: &Path, name: &str, keep_count: usize) -> Self {
        Self {
            directory: spool.join("plugins").join(name),
            keep_count,
        }
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is there; empty where nothing was kept yet.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(crate) fn records(&self) -> io::Result<Records> {
        match fs::read(self.directory.join(RECORDS)) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Records::default()),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::records`], where blocking is allowed.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn read(self) -> io::Result<Records> {
        let read = tokio::task::spawn_blocking(move || self.records());
        read.await
            .unwrap_or_else(|ended| Err(io::Error::other(ended)))
    }

    /// Where the component of a kept version is.
    pub(crate) fn component(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }

    /// Where its signature is.
    pub(crate) fn signature(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{digest}.minisig"))
    }

    /// Notes that a version is in force now, and keeps it. What was held back is free again.
    ///
    /// # Errors
    /// The system's. Then the shelf is as it was.
    pub(crate) fn took(
        &self,
        version: Version,
        octets: &[u8],
        signature: Option<&str>,
    ) -> io::Result<()> {
        let digest = version.digest;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        if fs::metadata(self.component(digest)).is_err() {
            self.write(&self.component(digest), octets)?;
        }
        if let Some(text) = signature {
            self.write(&self.signature(digest), text.as_bytes())?;
        }
        let mut records = self.records().unwrap_or_default();
        records.versions.retain(|kept| kept.digest != digest);
        records.versions.insert(0, version);
        records.held_back.clear();
        self.put(records)
    }

    /// Notes that the version `to` is in force again; those above it are forgotten, and `held_back`
    /// is not to be taken from the configured file.
    ///
    /// # Errors
    /// The system's. Then the shelf is as it was.
    pub(crate) fn went_back(
        &self,
        to: Digest,
        since_ms: u64,
        held_back: Vec<Digest>,
    ) -> io::Result<()> {
        let mut records = self.records()?;
        let place = records.versions.iter().position(|kept| kept.digest == to);
        records.versions.drain(..place.unwrap_or_default());
        if let Some(version) = records.versions.first_mut() {
            version.since_ms = since_ms;
        }
        records.held_back = held_back;
        self.put(records)
    }

    /// Writes the list, then removes what it no longer names.
    fn put(&self, mut records: Records) -> io::Result<()> {
        records.versions.truncate(self.keep_count.max(1));
        let text = serde_json::to_vec_pretty(&records)?;
        self.write(&self.directory.join(RECORDS), &text)?;
        self.sweep(&records)
    }

    fn sweep(&self, records: &Records) -> io::Result<()> {
        let mut wanted = vec![self.directory.join(RECORDS)];
        for version in &records.versions {
            wanted.push(self.component(version.digest));
            wanted.push(self.signature(version.digest));
        }
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if !wanted.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Puts a file in place as a whole, and makes that durable.
    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let partial = path.with_extension("partial");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(octets)?;
        file.sync_data()?;
        fs::rename(&partial, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(octets: &[u8]) -> Version {
        Version {
            digest: Digest::of(octets),
            version: None,
            since_ms: 1,
        }
    }

    fn names(records: &Records) -> Vec<Digest> {
        let digests = records.versions.iter().map(|version| version.digest);
        digests.collect()
    }

    fn shelf(keep: usize, octets: &[&[u8]]) -> (tempfile::TempDir, Shelf) {
        let spool = tempfile::tempdir().expect("a temporary directory");
        let shelf = Shelf::of(spool.path(), "one", keep);
        for octets in octets {
            let taken = shelf.took(version(octets), octets, Some("signed"));
            taken.expect("there is room");
        }
        (spool, shelf)
    }

    #[test]
    fn keeps_the_newest_and_removes_the_rest() {
        let (_spool, shelf) = shelf(2, &[b"a", b"b", b"c", b"b"]);
        let records = shelf.records().expect("it was written");
        assert_eq!(names(&records), [b"b", b"c"].map(|o| Digest::of(o)));
        let kept = |octets: &[u8]| {
            let digest = Digest::of(octets);
            shelf.component(digest).exists() && shelf.signature(digest).exists()
        };
        assert!(kept(b"b") && kept(b"c"));
        assert!(!kept(b"a"));
        let read = fs::read(shelf.component(Digest::of(b"c"))).expect("it is there");
        assert_eq!(read, b"c");
    }

    #[test]
    fn going_back_goes_further_each_time_until_something_is_taken() {
        let (_spool, shelf) = shelf(3, &[b"a", b"b", b"c"]);
        let [a, b, c] = [b"a", b"b", b"c"].map(|octets| Digest::of(octets));
        shelf.went_back(b, 2, vec![c]).expect("it is kept");
        let records = shelf.records().expect("it was written");
        assert_eq!(names(&records), [b, a]);
        assert_eq!(records.held_back, [c]);
        shelf.went_back(a, 3, vec![b, c]).expect("it is kept");
        assert_eq!(names(&shelf.records().expect("it was written")), [a]);
        shelf
            .took(version(b"d"), b"d", None)
            .expect("there is room");
        let records = shelf.records().expect("it was written");
        assert_eq!(names(&records), [Digest::of(b"d"), a]);
        assert!(records.held_back.is_empty());
    }

    #[test]
    fn nothing_kept_is_no_fault_and_garbage_is() {
        let (_spool, shelf) = shelf(3, &[]);
        assert_eq!(shelf.records().expect("nothing"), Records::default());
        fs::create_dir_all(&shelf.directory).expect("a directory");
        fs::write(shelf.directory.join(RECORDS), b"not json").expect("a file");
        assert!(shelf.records().is_err());
    }
}
