//! What is wrong with the file of a table, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Faults that are written out; the rest are counted.
const SHOWN: usize = 20;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFault {
    /// Line of the file from 1; 0: the file as a whole.
    pub(crate) line: u32,
    /// What is wrong.
    pub(crate) message: String,
}

/// All faults of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFaults {
    path: PathBuf,
    faults: Vec<TableFault>,
}

impl TableFaults {
    pub(super) fn new(path: &Path, faults: Vec<TableFault>) -> Self {
        Self {
            path: path.to_owned(),
            faults,
        }
    }

    /// A fault of the file as a whole.
    pub(super) fn of_file(path: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(path, vec![TableFault { line: 0, message }])
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.faults.len()
    }
}

impl std::error::Error for TableFaults {}

impl fmt::Display for TableFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (at, fault) in self.faults.iter().take(SHOWN).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            match fault.line {
                0 => write!(f, "{path}: {}", fault.message)?,
                line => write!(f, "{path}:{line}: {}", fault.message)?,
            }
        }
        match self.faults.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{path}: and {more} faults more"),
        }
    }
}
