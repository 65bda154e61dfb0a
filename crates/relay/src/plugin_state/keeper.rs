//! The namespaces of all plugins, and the thread that writes the durable ones.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::log::StateLog;
use super::namespace::{Namespace, Record};
use crate::clock::Clock;
use crate::telemetry;

/// What has changed is written that often: as much may be lost in a crash, and the time of one
/// write.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Records of one frame, and of one hold of a namespace's lock.
const FRAME_RECORDS: usize = 1024;

/// A log below this is not worth writing anew.
const COMPACT_BYTES: u64 = 1 << 20;

/// A log this many times as large as what is kept is written anew.
const COMPACT_FACTOR: u64 = 4;

/// After a failed write the next is tried when so many intervals have passed.
const PATIENCE: u32 = 25;

/// Where durable state goes.
#[derive(Debug, Clone)]
pub(crate) enum Durability {
    /// Nowhere: for commands that only look.
    None,
    /// Into this directory, which is made when it is needed.
    Directory(PathBuf),
}

/// All plugins' state. It lives as long as the relay, whatever is reloaded.
pub(crate) struct PluginStates {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    durability: Durability,
    clock: Clock,
    books: Mutex<Books>,
    wake: Condvar,
    /// Held while a file is worked on: the writer and a reload must not have the same one.
    disk: Mutex<()>,
}

#[derive(Default)]
struct Books {
    namespaces: BTreeMap<String, Arc<Namespace>>,
    /// Those of the durable ones. Taken out by the writer while it works on one.
    logs: BTreeMap<String, LogState>,
    is_closing: bool,
}

/// The log of one namespace as the writer has it.
enum LogState {
    /// Good.
    Open(StateLog),
    /// Not usable: it is written anew after so many intervals.
    Broken(u32),
    /// With the writer.
    Away,
}

impl PluginStates {
    /// Without any namespace.
    pub(crate) fn new(durability: Durability, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                durability,
                clock,
                books: Mutex::default(),
                wake: Condvar::new(),
                disk: Mutex::default(),
            }),
            writer: Mutex::new(None),
        }
    }

    /// The namespace of a plugin, read from its log where it is durable and new here. Blocks.
    pub(crate) fn namespace(
        &self,
        plugin: &str,
        quota_bytes: usize,
        is_durable: bool,
    ) -> Arc<Namespace> {
        if let Some(known) = self.shared.books().namespaces.get(plugin) {
            return Arc::clone(known);
        }
        let namespace = Arc::new(Namespace::new(plugin, quota_bytes));
        let log = is_durable
            .then(|| self.shared.open_log(&namespace))
            .flatten();
        let mut books = self.shared.books();
        if let Some(log) = log {
            namespace.set_logged(true);
            books.logs.insert(plugin.to_owned(), log);
        }
        let namespace = books
            .namespaces
            .entry(plugin.to_owned())
            .or_insert(namespace);
        let namespace = Arc::clone(namespace);
        let is_needed = !books.logs.is_empty();
        drop(books);
        if is_needed {
            self.start_writer();
        }
        namespace
    }

    /// Takes the grants of a configuration that is in force now: quotas, what is durable, and
    /// which plugins there still are. `granted`: name, quota and durability. Blocks.
    pub(crate) fn settle(&self, granted: &[(String, usize, bool)]) {
        for (plugin, quota_bytes, is_durable) in granted {
            let namespace = self.namespace(plugin, *quota_bytes, *is_durable);
            namespace.set_quota(*quota_bytes);
            let mut books = self.shared.books();
            let was_durable = books.logs.contains_key(plugin);
            if *is_durable && !was_durable && self.shared.log_path(plugin).is_some() {
                // What is in memory is what counts: an old log is replaced.
                namespace.set_logged(true);
                books.logs.insert(plugin.clone(), LogState::Broken(0));
                drop(books);
                self.start_writer();
            } else if !*is_durable && was_durable {
                namespace.set_logged(false);
                books.logs.remove(plugin);
                drop(books);
                let _disk = lock(&self.shared.disk);
                tracing::warn!(plugin, "the state of this plugin is no longer durable");
                if let Some(path) = self.shared.log_path(plugin) {
                    // Else a later start would bring back what is old by then.
                    drop(std::fs::remove_file(path));
                }
            }
        }
        let is_gone = |plugin: &String| !granted.iter().any(|(name, _, _)| name == plugin);
        let gone: Vec<String> = {
            let books = self.shared.books();
            books
                .namespaces
                .keys()
                .filter(|name| is_gone(name))
                .cloned()
                .collect()
        };
        for plugin in gone {
            // Its log, if it has one, stays for the day on which the plugin comes back.
            self.shared.write_changes(&plugin);
            let mut books = self.shared.books();
            books.namespaces.remove(&plugin);
            books.logs.remove(&plugin);
        }
    }

    /// All namespaces.
    pub(crate) fn all(&self) -> Vec<Arc<Namespace>> {
        self.shared.books().namespaces.values().cloned().collect()
    }

    /// Writes what is to be written and ends the writer. Blocks.
    pub(crate) fn close(&self) {
        self.shared.books().is_closing = true;
        self.shared.wake.notify_all();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the writer of plugin state panicked");
        }
    }

    fn start_writer(&self) {
        let mut writer = lock(&self.writer);
        if writer.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("plugin-state".to_owned());
        match thread.spawn(move || shared.write_on()) {
            Ok(handle) => *writer = Some(handle),
            Err(error) => {
                tracing::error!(%error, "plugin state is not durable: there is no thread for it");
            }
        }
    }
}

impl Drop for PluginStates {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    fn log_path(&self, plugin: &str) -> Option<PathBuf> {
        match &self.durability {
            Durability::None => None,
            Durability::Directory(directory) => Some(directory.join(format!("{plugin}.log"))),
        }
    }

    /// Reads a log into a namespace. Whatever is wrong with the log, the plugin has its state
    /// from now on, and the writer goes on trying.
    fn open_log(&self, namespace: &Namespace) -> Option<LogState> {
        let path = self.log_path(namespace.plugin())?;
        let plugin = namespace.plugin();
        let _disk = lock(&self.disk);
        let opened = prepare_directory(&path).and_then(|()| StateLog::open(&path));
        let (log, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(
                    plugin,
                    path = %path.display(),
                    %error,
                    "cannot read the state of a plugin: it begins empty"
                );
                telemetry::state_damaged(plugin);
                self.set_aside(&path);
                return Some(LogState::Broken(0));
            }
        };
        namespace.restore(recovered.records, self.clock.now().0);
        if recovered.is_damaged {
            tracing::error!(
                plugin,
                path = %path.display(),
                "the file of this plugin's state is damaged: what could be read is used"
            );
            telemetry::state_damaged(plugin);
            self.set_aside(&path);
            return Some(LogState::Broken(0));
        }
        if recovered.torn_bytes > 0 {
            let torn_bytes = recovered.torn_bytes;
            tracing::warn!(
                plugin,
                torn_bytes,
                "the last write of plugin state was cut off"
            );
        }
        Some(LogState::Open(log))
    }

    /// Keeps a file that cannot be used for whoever wants to look at it.
    fn set_aside(&self, path: &Path) {
        let aside = path.with_extension(format!("damaged-{}", self.clock.now().0));
        match std::fs::rename(path, &aside) {
            Ok(()) => tracing::error!(path = %aside.display(), "a damaged file was set aside"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot set a damaged file aside");
            }
        }
    }

    /// The writer's work, until the end.
    fn write_on(&self) {
        loop {
            let books = self.books();
            let is_open = |books: &mut Books| !books.is_closing;
            let waited = self.wake.wait_timeout_while(books, FLUSH_INTERVAL, is_open);
            let (books, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_closing = books.is_closing;
            let plugins: Vec<String> = books.logs.keys().cloned().collect();
            drop(books);
            for plugin in plugins {
                self.write_changes(&plugin);
            }
            if is_closing {
                return;
            }
        }
    }

    /// Brings one log up to date. The books are not held while the disk works.
    fn write_changes(&self, plugin: &str) {
        let _disk = lock(&self.disk);
        let mut books = self.books();
        let Some(namespace) = books.namespaces.get(plugin).cloned() else {
            return;
        };
        let is_closing = books.is_closing;
        let Some(state) = books.logs.get_mut(plugin) else {
            return;
        };
        let state = std::mem::replace(state, LogState::Away);
        drop(books);
        let state = match state {
            LogState::Open(log) => self.append(&namespace, log),
            LogState::Broken(wait) if wait > 0 && !is_closing => LogState::Broken(wait - 1),
            LogState::Broken(_) => self.rewrite(&namespace),
            LogState::Away => return,
        };
        // Unless it was taken from the books meanwhile.
        if let Some(place) = self.books().logs.get_mut(plugin) {
            *place = state;
        }
    }

    fn append(&self, namespace: &Namespace, mut log: StateLog) -> LogState {
        loop {
            let records = namespace.take_changes(FRAME_RECORDS);
            if records.is_empty() {
                break;
            }
            let written = log.append(&records);
            telemetry::state_written(namespace.plugin(), written.is_ok());
            if let Err(error) = written {
                report(namespace, log.path(), &error);
                namespace.forget_log();
                return LogState::Broken(PATIENCE);
            }
        }
        let (used, _) = namespace.usage();
        let wanted = (used as u64).saturating_mul(COMPACT_FACTOR);
        if log.length() > wanted.max(COMPACT_BYTES) {
            return self.rewrite(namespace);
        }
        LogState::Open(log)
    }

    /// A new log of all that is kept.
    fn rewrite(&self, namespace: &Namespace) -> LogState {
        let Some(path) = self.log_path(namespace.plugin()) else {
            return LogState::Broken(PATIENCE);
        };
        let now_ms = self.clock.now().0;
        let mut last: Option<Record> = None;
        // What the old log has does not count: only what this one gets has to be taken back.
        namespace.forget_log();
        let replaced = prepare_directory(&path).and_then(|()| {
            StateLog::replace(&path, || {
                let some = namespace.entries_after(last.as_ref(), FRAME_RECORDS, now_ms);
                if let Some(record) = some.last() {
                    last = Some(record.clone());
                }
                some
            })
        });
        telemetry::state_written(namespace.plugin(), replaced.is_ok());
        match replaced {
            Ok(log) => LogState::Open(log),
            Err(error) => {
                report(namespace, &path, &error);
                // Else keys that come and go while the disk is full would be noted without end.
                namespace.forget_log();
                LogState::Broken(PATIENCE)
            }
        }
    }
}

fn report(namespace: &Namespace, path: &Path, error: &io::Error) {
    tracing::error!(
        plugin = namespace.plugin(),
        path = %path.display(),
        %error,
        "cannot write plugin state: it is kept in memory and tried again"
    );
}

fn prepare_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(test)]
mod tests {
    use plugin::StateStore;
    use queue::UnixMs;

    use super::*;

    fn states(directory: &Path) -> PluginStates {
        let (clock, _) = Clock::manual(UnixMs(1_000_000));
        PluginStates::new(Durability::Directory(directory.join("plugin-state")), clock)
    }

    fn text(namespace: &Namespace, key: &str) -> Option<String> {
        let entry = namespace.get(key, 1_000_000).expect("it answers")?;
        Some(String::from_utf8(entry.value).expect("text"))
    }

    #[test]
    fn durable_state_outlives_its_process_and_other_state_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let before = states(directory.path());
        let durable = before.namespace("kept", 100_000, true);
        let passing = before.namespace("lost", 100_000, false);
        for namespace in [&durable, &passing] {
            namespace
                .put("a", b"1", None, 1_000_000)
                .expect("there is room");
            namespace
                .put("short", b"1", Some(1), 999_998)
                .expect("there is room");
            namespace
                .put("b", b"2", None, 1_000_000)
                .expect("there is room");
            namespace.remove("a", 1_000_000).expect("it answers");
            assert_eq!(namespace.take("bucket", 3, 0.001, 3, 1_000_000), Ok(true));
        }
        let version = durable
            .get("b", 1_000_000)
            .expect("it answers")
            .expect("there")
            .version;
        before.close();

        let after = states(directory.path());
        let durable = after.namespace("kept", 100_000, true);
        assert_eq!(text(&durable, "a"), None);
        assert_eq!(text(&durable, "short"), None);
        let entry = durable
            .get("b", 1_000_000)
            .expect("it answers")
            .expect("there");
        assert_eq!((entry.value, entry.version), (b"2".to_vec(), version));
        assert!(durable.put("c", b"3", None, 1_000_000).expect("room") > version);
        assert_eq!(durable.take("bucket", 1, 0.001, 3, 1_000_000), Ok(false));
        let passing = after.namespace("lost", 100_000, false);
        assert_eq!(text(&passing, "b"), None);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_rest_of_it_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let before = states(directory.path());
        let namespace = before.namespace("kept", 100_000, true);
        for key in ["a", "b", "c"] {
            namespace
                .put(key, key.as_bytes(), None, 1_000_000)
                .expect("there is room");
            before.shared.write_changes("kept");
        }
        before.close();
        let path = directory.path().join("plugin-state/kept.log");
        let mut octets = std::fs::read(&path).expect("it is there");
        octets[20] ^= 1;
        std::fs::write(&path, octets).expect("it is written");

        let after = states(directory.path());
        let namespace = after.namespace("kept", 100_000, true);
        assert_eq!(text(&namespace, "a"), None);
        assert_eq!(text(&namespace, "c").as_deref(), Some("c"));
        after.close();
        let names = std::fs::read_dir(directory.path().join("plugin-state")).expect("it is there");
        let names: Vec<String> = names
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert!(
            names.iter().any(|name| name.starts_with("kept.damaged-")),
            "{names:?}"
        );
        let again = states(directory.path());
        assert_eq!(
            text(&again.namespace("kept", 100_000, true), "b").as_deref(),
            Some("b")
        );
    }

    #[test]
    fn what_is_removed_after_a_restart_is_gone_after_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = states(directory.path());
        let namespace = first.namespace("kept", 100_000, true);
        for key in ["a", "b"] {
            namespace
                .put(key, b"1", None, 1_000_000)
                .expect("there is room");
        }
        first.close();
        let second = states(directory.path());
        let namespace = second.namespace("kept", 100_000, true);
        assert_eq!(namespace.remove("a", 1_000_000), Ok(true));
        second.close();
        let third = states(directory.path());
        let namespace = third.namespace("kept", 100_000, true);
        assert_eq!(text(&namespace, "a"), None);
        assert_eq!(text(&namespace, "b").as_deref(), Some("1"));
    }

    #[test]
    fn keys_that_come_and_go_are_not_noted_without_end_while_nothing_can_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        // No new log can be made: its name is taken by a directory.
        let taken = directory.path().join("plugin-state/kept.new");
        std::fs::create_dir_all(&taken).expect("it is made");
        let states = states(directory.path());
        let namespace = Namespace::new("kept", 100_000);
        namespace.set_logged(true);
        for round in 0..10 {
            for key in 0..10 {
                namespace
                    .put(&format!("{round}-{key}"), b"1", None, 1_000_000)
                    .expect("there is room");
            }
            // What a log that then fails was given.
            drop(namespace.entries_after(None, FRAME_RECORDS, 1_000_000));
            let state = states.shared.rewrite(&namespace);
            assert!(matches!(state, LogState::Broken(_)));
            for key in 0..10 {
                namespace
                    .remove(&format!("{round}-{key}"), 1_000_000)
                    .expect("it answers");
            }
        }
        assert_eq!(namespace.take_changes(1000), []);
    }

    #[test]
    fn a_log_that_cannot_be_opened_costs_nobody_their_state() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plugin-state/kept.log");
        // Nothing can be read from it, whoever asks.
        std::fs::create_dir_all(&path).expect("it is made");
        let before = states(directory.path());
        let namespace = before.namespace("kept", 100_000, true);
        namespace
            .put("a", b"1", None, 1_000_000)
            .expect("there is room");
        before.close();
        let after = states(directory.path());
        let namespace = after.namespace("kept", 100_000, true);
        assert_eq!(text(&namespace, "a").as_deref(), Some("1"));
    }

    #[test]
    fn a_log_does_not_grow_with_what_is_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let states = states(directory.path());
        let namespace = states.namespace("kept", 100_000, true);
        for round in 0..100_u8 {
            namespace
                .put("a", &[round; 50_000], None, 1_000_000)
                .expect("there is room");
            states.shared.write_changes("kept");
        }
        states.close();
        let path = directory.path().join("plugin-state/kept.log");
        let length = std::fs::metadata(path).expect("it is there").len();
        assert!(length <= COMPACT_BYTES + 60_000, "{length}");
    }

    #[test]
    fn grants_change_what_is_kept_without_losing_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let before = states(directory.path());
        let granted = |quota, is_durable| [("kept".to_owned(), quota, is_durable)];
        before.settle(&granted(100_000, false));
        let namespace = before.namespace("kept", 100_000, false);
        namespace
            .put("a", b"1", None, 1_000_000)
            .expect("there is room");
        before.settle(&granted(10, true));
        assert!(namespace.put("b", b"1", None, 1_000_000).is_err());
        assert_eq!(text(&namespace, "a").as_deref(), Some("1"));
        before.settle(&[]);
        assert!(before.all().is_empty());
        before.settle(&granted(100_000, true));
        let back = before.namespace("kept", 100_000, true);
        assert_eq!(text(&back, "a").as_deref(), Some("1"), "its log was there");
        before.close();
    }
}
