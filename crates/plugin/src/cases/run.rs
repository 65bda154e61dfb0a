//! Runs cases against a component.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CaseFile, RawCase, RawFailure, compare, world};
use crate::call::{CallStats, RouteCall};
use crate::error::{CallFailure, LoadError};
use crate::host::{PluginHost, PluginSpec};
use crate::plugin::Plugin;
use crate::verdict::{Decision, Verdict};

/// What came of one case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// File of the case.
    pub path: PathBuf,
    /// Name of the case.
    pub name: String,
    /// What is not as expected, a line each; empty: passed.
    pub differences: Vec<String>,
    /// What the call cost, with its log; `None`: there was no call.
    pub stats: Option<CallStats>,
}

impl Outcome {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Outcome {
    /// One line, and for a failed case its differences and log below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "ok" } else { "FAILED" };
        write!(f, "{word} {}: {}", self.path.display(), self.name)?;
        for difference in &self.differences {
            write!(f, "\n    {difference}")?;
        }
        let log = self.stats.iter().flat_map(|stats| &stats.log);
        for line in log.filter(|_| !self.passed()) {
            write!(f, "\n    log {:?}: {}", line.level, line.text)?;
        }
        Ok(())
    }
}

/// Runs each case of a file. `spec` says which component, and its limits;
/// configuration and grants come from the cases.
///
/// # Errors
/// [`LoadError`] when the component cannot be loaded for a reason that has
/// nothing to do with a case's configuration.
pub async fn run_file(
    host: &PluginHost,
    spec: &PluginSpec,
    file: &CaseFile,
) -> Result<Vec<Outcome>, LoadError> {
    let mut outcomes = Vec::new();
    // Kept so that the next case need not compile the component again.
    let mut last = None;
    for case in &file.raw.case {
        let config = case.config.as_ref().unwrap_or(&file.raw.config);
        let grants = case.grants.as_ref().unwrap_or(&file.raw.grants);
        let spec = PluginSpec {
            config: config.clone(),
            grants: grants.clone().into(),
            ..spec.clone()
        };
        let mut outcome = Outcome {
            path: file.path.clone(),
            name: case.name.clone(),
            differences: Vec::new(),
            stats: None,
        };
        match host.load(spec).await {
            Ok(plugin) => {
                call(&plugin, case, &mut outcome).await;
                last = Some(plugin);
            }
            Err(LoadError::ConfigRefused { messages, .. }) => {
                faults(case, &messages, &mut outcome.differences);
            }
            Err(error) => return Err(error),
        }
        outcomes.push(outcome);
    }
    drop(last);
    Ok(outcomes)
}

async fn call(plugin: &Plugin, case: &RawCase, outcome: &mut Outcome) {
    if case.expect_faults.is_some() {
        outcome
            .differences
            .push("expected faults of the configuration, it was taken".to_owned());
        return;
    }
    let fixtures = world::request(case).and_then(|request| Ok((request, world::World::of(case)?)));
    let (request, world) = match fixtures {
        Ok(fixtures) => fixtures,
        Err(fault) => return outcome.differences.push(fault),
    };
    match (plugin.route(Arc::new(request), Arc::new(world)).await, case) {
        (
            Ok(call),
            RawCase {
                expect: Some(expected),
                ..
            },
        ) => {
            verdicts(expected, &call, &mut outcome.differences);
            outcome.stats = Some(call.stats);
        }
        (Ok(call), _) => {
            let found = json(&call.verdicts);
            outcome
                .differences
                .push(format!("expected a failure, got {found}"));
            outcome.stats = Some(call.stats);
        }
        (Err(failure), case) => {
            match &case.expect_failure {
                Some(expected) => compare_failure(expected, &failure, &mut outcome.differences),
                None => outcome
                    .differences
                    .push(format!("the call failed: {failure}")),
            }
            outcome.stats = Some(failure.stats);
        }
    }
}

fn verdicts(expected: &[toml::Table], call: &RouteCall, differences: &mut Vec<String>) {
    let is_silent = |verdict: &Verdict| {
        verdict.decision == Decision::Proceed
            && verdict.settings.is_none()
            && verdict.note.is_none()
    };
    if expected.is_empty() && call.verdicts.iter().all(is_silent) {
        return;
    }
    let expected = expected.iter().cloned().map(toml::Value::Table).collect();
    compare::compare(
        "verdicts",
        &toml::Value::Array(expected),
        &json(&call.verdicts),
        differences,
    );
}

fn json(verdicts: &[Verdict]) -> serde_json::Value {
    serde_json::to_value(verdicts).expect("verdicts are texts, numbers, lists and records")
}

fn compare_failure(expected: &RawFailure, found: &CallFailure, differences: &mut Vec<String>) {
    if found.reason.as_str() != expected.reason {
        differences.push(format!(
            "expected the failure {}, got {found}",
            expected.reason
        ));
    } else if !found.detail.contains(&expected.detail) {
        differences.push(format!(
            "expected a detail with {:?}, got {:?}",
            expected.detail, found.detail
        ));
    }
}

fn faults(case: &RawCase, messages: &[String], differences: &mut Vec<String>) {
    let Some(expected) = &case.expect_faults else {
        differences.extend(
            messages
                .iter()
                .map(|text| format!("the configuration is refused: {text}")),
        );
        return;
    };
    for text in expected {
        if !messages.iter().any(|message| message.contains(text)) {
            differences.push(format!("expected a fault with {text:?}, got {messages:?}"));
        }
    }
    if messages.len() != expected.len() {
        differences.push(format!(
            "expected {} faults, got {messages:?}",
            expected.len()
        ));
    }
}
