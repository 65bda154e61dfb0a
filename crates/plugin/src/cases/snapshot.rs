//! Whole answers, kept beside the cases that state none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::CaseError;

/// What is done with answers of steps that state no expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots {
    /// They have to be as the snapshot says; without a snapshot the case fails.
    Check,
    /// They become the snapshot.
    Update,
}

/// Answers by the name of the case, one for each step.
#[derive(Debug, Default)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    answers: BTreeMap<String, Vec<Json>>,
    changed: bool,
}

impl SnapshotFile {
    /// The snapshots of a file of cases; none where there is no such file.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub(super) fn open(cases: &Path) -> Result<Self, CaseError> {
        let stem = cases.file_stem().unwrap_or(cases.as_os_str());
        let mut name = stem.to_owned();
        name.push(".json");
        let path = cases.with_file_name("snapshots").join(name);
        let answers = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| CaseError::Format {
                path: path.clone(),
                detail: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(CaseError::Read { path, source }),
        };
        Ok(Self {
            path,
            answers,
            changed: false,
        })
    }

    /// What the snapshot says of a step.
    pub(super) fn get(&self, case: &str, step: usize) -> Option<&Json> {
        self.answers.get(case)?.get(step)
    }

    /// Takes an answer for the snapshot.
    pub(super) fn set(&mut self, case: &str, step: usize, answer: Json) {
        let steps = self.answers.entry(case.to_owned()).or_default();
        // Steps with expectations of their own leave a gap.
        while steps.len() <= step {
            steps.push(Json::Null);
        }
        if let Some(place) = steps.get_mut(step)
            && *place != answer
        {
            *place = answer;
            self.changed = true;
        }
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// When that is not possible.
    pub(super) fn save(&self) -> Result<(), CaseError> {
        if !self.changed {
            return Ok(());
        }
        let failed = |source| CaseError::Read {
            path: self.path.clone(),
            source,
        };
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut text =
            serde_json::to_string_pretty(&self.answers).expect("texts as keys, JSON as values");
        text.push('\n');
        std::fs::write(&self.path, text).map_err(failed)
    }
}
