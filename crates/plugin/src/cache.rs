//! Compiled code kept between starts, so that a restart does not compile.
//!
//! A compiled component is machine code that the engine runs as it stands. It
//! is therefore read only from a directory that nobody else may write, and never
//! taken from a user: what a configuration names is always WebAssembly.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

/// A directory of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Of the engine's version, settings and CPU features: code compiled for
    /// another engine has another name.
    engine_key: String,
}

impl Cache {
    /// Opens the directory, or makes it for the relay's user alone, and removes
    /// code of other engines.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` where somebody else owns the
    /// directory or may write to it.
    pub(crate) fn open(directory: &Path, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let metadata = fs::metadata(directory)?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !ours || metadata.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it must belong to the relay's user and be writable by that user only",
            ));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self {
            directory: directory.to_owned(),
            engine_key: format!("{:016x}", hasher.finish()),
        };
        cache.remove_of_other_engines()?;
        Ok(cache)
    }

    fn remove_of_other_engines(&self) -> io::Result<()> {
        let ours = format!("-{}.cwasm", self.engine_key);
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.ends_with(".cwasm") && !name.ends_with(&ours)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory
            .join(format!("{digest}-{}.cwasm", self.engine_key))
    }

    /// The compiled form of a component; `None`: not there, or not readable.
    pub(crate) fn get(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let path = self.path(digest);
        if !path.exists() {
            return None;
        }
        // SAFETY: the file must be what `Component::serialize` wrote and must not
        // change while it is mapped. `open` made sure that nobody else can write
        // to the directory, `put` replaces files whole by renaming, and the name
        // has the digest of the source and the key of this very engine.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        match component {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    error = %format!("{error:#}"),
                    "compiled plugin in the cache is not usable, compiling again"
                );
                None
            }
        }
    }

    /// Keeps the compiled form. A cache that cannot be written costs time, not
    /// mail, so a failure is told to the log only.
    pub(crate) fn put(&self, component: &Component, digest: Digest) {
        if let Err(error) = self.write(component, digest) {
            tracing::warn!(
                directory = %self.directory.display(),
                %error,
                "cannot keep a compiled plugin in the cache"
            );
        }
    }

    fn write(&self, component: &Component, digest: Digest) -> io::Result<()> {
        let code = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        let path = self.path(digest);
        // Loads at the same time write the same octets: the name is one per
        // process and load of this digest is idempotent.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        io::Write::write_all(&mut file, &code)?;
        fs::rename(&partial, &path)
    }
}
