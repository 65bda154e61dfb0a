//! The seam between the log and the file system, and the only place with
//! files. `testkit::SimDisk` is the other implementation.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation};

/// A directory of files, as the log needs it: plain names, no paths.
pub trait Disk: Send + Sync + 'static {
    /// Makes this spool ours, as long as the returned guard lives.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file of `size_bytes` with its space allocated, so that a write
    /// within it does not fail for want of space. Its content may be anything
    /// until written. Not durable before [`sync_directory`](Disk::sync_directory)
    /// and a sync of the file.
    ///
    /// # Errors
    /// `StorageFull`, with no file left behind; `AlreadyExists`.
    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames atomically, replacing the target. Not durable before
    /// [`sync_directory`](Disk::sync_directory).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Deletes a file. Not durable before [`sync_directory`](Disk::sync_directory).
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals so far durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Monotonic time since an arbitrary moment. It belongs to the disk because
    /// it serves only to time the disk and to bound how long writes may linger;
    /// a simulated disk has simulated time.
    fn now(&self) -> Duration;
}

/// One open file. All methods may be called from several threads.
pub trait DiskFile: Send + Sync {
    /// The file's size.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `slices` at `offset`; returns how many bytes.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes everything written to this file durable. After an error nothing
    /// written since the last success may be relied upon, whatever a second
    /// call says.
    fn sync_data(&self) -> io::Result<()>;
}

/// A directory of the real file system.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    directory: File,
}

impl FileDisk {
    /// Uses the directory at `path`, creating it (and its parents) with mode
    /// 0700 if it is not there.
    ///
    /// # Errors
    /// Those of creating and opening a directory.
    pub fn new(path: impl AsRef<Path>) -> io::Result<FileDisk> {
        use std::os::unix::fs::DirBuilderExt;
        let path = path.as_ref().to_path_buf();
        let missing = path.ancestors().take_while(|level| !level.is_dir());
        let missing_count = missing.count();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        // The names of all levels that are new, and always the spool's own: an
        // earlier start may have got no further than to create it.
        for level in path.ancestors().take(missing_count.max(1)) {
            let parent = level
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            match File::open(parent.unwrap_or(Path::new("."))) {
                // Somebody else's, and it was there before.
                Err(error)
                    if missing_count == 0 && error.kind() == io::ErrorKind::PermissionDenied => {}
                opened => opened?.sync_all()?,
            }
        }
        let directory = File::open(&path)?;
        Ok(FileDisk { path, directory })
    }

    fn options() -> OpenOptions {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

const LOCK_NAME: &str = "lock";

impl Disk for FileDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = FileDisk::options()
            .create(true)
            .truncate(false)
            .open(self.path.join(LOCK_NAME))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 cannot be one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = FileDisk::options().create_new(true).open(&path)?;
        let allocated = match allocate(&file, size_bytes) {
            // A file system that cannot allocate: a sparse file, and writes
            // which may find the disk full. The log survives that, too.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                file.set_len(size_bytes)
            }
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = allocated {
            // The allocation's error is the one to tell.
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        Ok(Arc::new(OpenFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenFile(
            FileDisk::options().open(self.path.join(name))?,
        )))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn now(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

fn allocate(file: &File, size_bytes: u64) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

#[derive(Debug)]
struct OpenFile(File);

impl DiskFile for OpenFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, slices, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
