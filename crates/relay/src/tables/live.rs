//! Tables that follow their files.
//!
//! A file is looked at again and again; when it has changed and then stayed the same for one
//! interval, so that nobody is still writing it, it is read, and exchanged as a whole. Calls that
//! are under way keep the version that they have.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{FileTable, TableFaults};
use crate::clock::{Clock, Stopwatch};
use crate::config::TableConfig;
use crate::telemetry;

/// The longest sleep between two looks at what is due: a reload may shorten an interval.
const NAP: Duration = Duration::from_secs(1);

/// Warnings about one file that are logged one by one.
const WARNINGS_LOGGED: usize = 10;

/// A table as configured, and what is loaded of it.
#[derive(Clone)]
pub(crate) struct LiveTable {
    config: TableConfig,
    /// Outlives a reload of the configuration that leaves path and format as they are.
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<FileTable>,
    seen: Mutex<Seen>,
    loaded_at_ms: AtomicU64,
}

/// What is known of the file.
struct Seen {
    /// When the current version was read.
    loaded: Stamp,
    /// Read in vain: not tried again until it changes.
    refused: Option<Stamp>,
    /// Changed at the last look; read if it is the same at the next.
    settling: Option<Stamp>,
}

/// Tells one state of a file from another without reading it; `None`: there is no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
    ))
}

impl LiveTable {
    fn load(config: &TableConfig, now_ms: u64) -> Result<Self, TableFaults> {
        let loaded = stamp(&config.path);
        let result = read(config);
        telemetry::table_loaded(&config.name, if result.is_ok() { "ok" } else { "failed" });
        Ok(Self {
            shared: Arc::new(Shared {
                current: ArcSwap::from_pointee(result?),
                seen: Mutex::new(Seen {
                    loaded,
                    refused: None,
                    settling: None,
                }),
                loaded_at_ms: AtomicU64::new(now_ms),
            }),
            config: config.clone(),
        })
    }

    /// The version in use.
    pub(crate) fn current(&self) -> Arc<FileTable> {
        self.shared.current.load_full()
    }

    /// As configured.
    pub(crate) fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn loaded_at_ms(&self) -> u64 {
        self.shared.loaded_at_ms.load(Ordering::Relaxed)
    }

    /// Takes a new version of the file if there is one. With `patience` only a file that was the
    /// same at the last look, and one that was refused is not tried again.
    fn refresh(&self, patience: bool, now_ms: u64) {
        // Held while the file is read: there is nobody to wait for it but another refresh.
        let mut seen = self
            .shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = stamp(&self.config.path);
        if found == seen.loaded {
            (seen.refused, seen.settling) = (None, None);
            return;
        }
        let is_settled = seen.settling == Some(found);
        seen.settling = Some(found);
        if patience && (!is_settled || seen.refused == Some(found)) {
            return;
        }
        let result = read(&self.config);
        if stamp(&self.config.path) != found {
            // It is being written: what was read may be half of it.
            seen.settling = None;
            return;
        }
        let name = &self.config.name;
        match result {
            Ok(table) => {
                let is_new = self.shared.current.load().revision != table.revision;
                tracing::info!(table = name, entries = table.len(), is_new, "table loaded");
                telemetry::table_loaded(name, if is_new { "ok" } else { "unchanged" });
                if is_new {
                    self.shared.current.store(Arc::new(table));
                }
                self.shared.loaded_at_ms.store(now_ms, Ordering::Relaxed);
                (seen.loaded, seen.refused) = (found, None);
            }
            Err(faults) => {
                tracing::error!(
                    table = name,
                    faults = faults.count(),
                    "a new version of a table is refused, the one before stays in use: {faults}"
                );
                telemetry::table_loaded(name, "failed");
                seen.refused = Some(found);
            }
        }
    }
}

/// Reads the file, and says what is odd about it.
fn read(config: &TableConfig) -> Result<FileTable, TableFaults> {
    let (table, warnings) = FileTable::read(config)?;
    let path = config.path.display();
    for warning in warnings.iter().take(WARNINGS_LOGGED) {
        tracing::warn!(
            table = config.name,
            "{path}:{}: {}",
            warning.line,
            warning.message
        );
    }
    let more = warnings.len().saturating_sub(WARNINGS_LOGGED);
    if more > 0 {
        tracing::warn!(table = config.name, "{path}: and {more} warnings more");
    }
    Ok(table)
}

/// All tables of one configuration.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    list: Arc<[LiveTable]>,
}

/// Tables that cannot be read: all of them.
#[derive(Debug)]
pub(crate) struct TablesError(Vec<(String, TableFaults)>);

impl std::error::Error for TablesError {}

impl fmt::Display for TablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, faults)) in self.0.iter().enumerate() {
            let separator = if at > 0 { "\n" } else { "" };
            write!(f, "{separator}table {name}: {faults}")?;
        }
        Ok(())
    }
}

impl Tables {
    /// Reads every table that `before` has not under the same name, path and format, and looks
    /// for new versions of the others. Blocks.
    ///
    /// # Errors
    /// Those that were not there before and cannot be read. One that was there stays as it is
    /// when its new version is refused.
    pub(crate) fn load(
        configs: &[TableConfig],
        before: &Self,
        now_ms: u64,
    ) -> Result<Self, TablesError> {
        let (mut list, mut faults) = (Vec::new(), Vec::new());
        for config in configs {
            let is_same = |table: &&LiveTable| {
                let old = &table.config;
                (&old.name, &old.path, old.format) == (&config.name, &config.path, config.format)
            };
            if let Some(old) = before.list.iter().find(is_same) {
                let table = LiveTable {
                    config: config.clone(),
                    shared: Arc::clone(&old.shared),
                };
                table.refresh(false, now_ms);
                list.push(table);
                continue;
            }
            match LiveTable::load(config, now_ms) {
                Ok(table) => list.push(table),
                Err(found) => faults.push((config.name.clone(), found)),
            }
        }
        if faults.is_empty() {
            Ok(Self { list: list.into() })
        } else {
            Err(TablesError(faults))
        }
    }

    /// The table of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&LiveTable> {
        self.list.iter().find(|table| table.config.name == name)
    }

    /// All, in the order of the configuration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LiveTable> {
        self.list.iter()
    }
}

/// Follows the files of the tables that `current` gives, for ever.
pub(crate) async fn watch(current: impl Fn() -> Tables, clock: Clock) {
    let running = Stopwatch::start();
    let mut looked: BTreeMap<String, Duration> = BTreeMap::new();
    loop {
        let tables = current();
        let intervals = tables.iter().map(|table| table.config.poll);
        tokio::time::sleep(intervals.fold(NAP, Duration::min)).await;
        let at = running.elapsed();
        let is_due = |table: &&LiveTable| {
            let last = looked.get(&table.config.name).copied().unwrap_or_default();
            at.saturating_sub(last) >= table.config.poll
        };
        let due: Vec<LiveTable> = tables.iter().filter(is_due).cloned().collect();
        looked.retain(|name, _| tables.get(name).is_some());
        looked.extend(due.iter().map(|table| (table.config.name.clone(), at)));
        if due.is_empty() {
            continue;
        }
        let now_ms = clock.now().0;
        let read = tokio::task::spawn_blocking(move || {
            for table in due {
                table.refresh(true, now_ms);
            }
        });
        if let Err(error) = read.await {
            tracing::error!(%error, "reading tables failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use plugin::Table;

    use super::*;
    use crate::config::TableFormat;

    fn config(path: &Path) -> TableConfig {
        TableConfig {
            name: "routes".to_owned(),
            path: path.to_owned(),
            format: TableFormat::Map,
            poll: Duration::from_millis(50),
            max_size_bytes: 1000,
            max_entries_count: 10,
        }
    }

    fn value(table: &LiveTable) -> Option<String> {
        table.current().get("key").expect("a map answers")
    }

    #[test]
    fn a_new_version_is_taken_when_it_has_settled_and_only_if_it_is_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("routes");
        fs::write(&path, "key one\n").expect("it is written");
        let tables = Tables::load(&[config(&path)], &Tables::default(), 1).expect("it is good");
        let table = tables.get("routes").expect("it is there");
        assert_eq!(value(table).as_deref(), Some("one"));
        let held = table.current();

        fs::write(&path, "key second\n").expect("it is written");
        table.refresh(true, 2);
        assert_eq!(
            value(table).as_deref(),
            Some("one"),
            "it may not be complete"
        );
        table.refresh(true, 3);
        assert_eq!(value(table).as_deref(), Some("second"));
        assert_eq!(
            held.get("key"),
            Ok(Some("one".to_owned())),
            "a call keeps what it has"
        );
        assert_eq!(table.loaded_at_ms(), 3);

        fs::write(&path, "novalue\n").expect("it is written");
        for now_ms in 4..8 {
            table.refresh(true, now_ms);
        }
        assert_eq!(value(table).as_deref(), Some("second"));
        fs::remove_file(&path).expect("it is removed");
        table.refresh(false, 8);
        assert_eq!(value(table).as_deref(), Some("second"));

        fs::write(&path, "key third-one\n").expect("it is written");
        let again = Tables::load(&[config(&path)], &tables, 9).expect("it is good");
        let again = again.get("routes").expect("it is there");
        assert_eq!(
            value(again).as_deref(),
            Some("third-one"),
            "a reload does not wait"
        );
    }

    #[test]
    fn a_table_that_was_never_good_is_refused_with_all_that_is_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("routes");
        fs::write(&path, "a\nb c\nd\n").expect("it is written");
        let missing = TableConfig {
            name: "missing".to_owned(),
            ..config(&directory.path().join("nothing"))
        };
        let error = Tables::load(&[config(&path), missing], &Tables::default(), 1);
        let text = error.err().expect("both are bad").to_string();
        assert!(text.contains("routes:1: "), "{text}");
        assert!(text.contains("routes:3: "), "{text}");
        assert!(text.contains("table missing: "), "{text}");
        fs::write(&path, "k v\n".repeat(300)).expect("it is written");
        let error = Tables::load(&[config(&path)], &Tables::default(), 1);
        let text = error.err().expect("it is too large").to_string();
        assert!(text.contains("max_size"), "{text}");
    }
}
