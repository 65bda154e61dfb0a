//! Runs cases against a component.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use toml::Value as Toml;

use super::compare::compare;
use super::format::{Case, Expectation, RawFailure, Step};
use super::snapshot::{SnapshotFile, Snapshots};
use super::world::{self, Shared, World};
use super::{CaseError, CaseFile};
use crate::call::{Call, CallStats};
use crate::error::{CallFailure, LoadError};
use crate::host::{PluginHost, PluginSpec};
use crate::phase::Output;
use crate::plugin::Plugin;
use crate::verdict::{Decision, Verdict};

/// What came of one case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// File of the case.
    pub path: PathBuf,
    /// Line of the case in its file.
    pub line: usize,
    /// Name of the case.
    pub name: String,
    /// What is not as expected, a line each; empty: passed.
    pub differences: Vec<String>,
    /// What the last call cost, with its log; `None`: there was no call.
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
        let (path, line, name) = (self.path.display(), self.line, &self.name);
        if self.passed() {
            return write!(f, "ok {path}: {name}");
        }
        write!(f, "FAILED {path}:{line}: {name}")?;
        for difference in &self.differences {
            write!(f, "\n    {difference}")?;
        }
        for line in self.stats.iter().flat_map(|stats| &stats.log) {
            write!(f, "\n    log {:?}: {}", line.level, line.text)?;
        }
        Ok(())
    }
}

/// Runs each case of a file. `spec` says which component, and its limits;
/// configuration and grants come from the cases. Snapshots are checked.
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
    // A snapshot that cannot be read is none: the cases that need it say so.
    let mut snapshots = SnapshotFile::open(&file.path).unwrap_or_default();
    run_cases(
        host,
        spec,
        file,
        Snapshots::Check,
        &mut snapshots,
        &mut outcomes,
    )
    .await?;
    Ok(outcomes)
}

/// As [`run_file`], with a choice of what happens to snapshots.
///
/// # Errors
/// The outer one for snapshots that cannot be read or written, the inner one as
/// [`run_file`].
pub async fn run_file_with(
    host: &PluginHost,
    spec: &PluginSpec,
    file: &CaseFile,
    mode: Snapshots,
) -> Result<Result<Vec<Outcome>, LoadError>, CaseError> {
    let mut outcomes = Vec::new();
    let mut snapshots = SnapshotFile::open(&file.path)?;
    let ran = run_cases(host, spec, file, mode, &mut snapshots, &mut outcomes).await;
    if let Err(error) = ran {
        return Ok(Err(error));
    }
    snapshots.save()?;
    Ok(Ok(outcomes))
}

async fn run_cases(
    host: &PluginHost,
    spec: &PluginSpec,
    file: &CaseFile,
    mode: Snapshots,
    snapshots: &mut SnapshotFile,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), LoadError> {
    // Kept so that the next case need not compile the component again.
    let mut last = None;
    for case in &file.cases {
        let spec = PluginSpec {
            config: case.config.clone(),
            grants: case.grants.grants(&case.fixtures),
            ..spec.clone()
        };
        let mut outcome = Outcome {
            path: file.path.clone(),
            line: case.line,
            name: case.name.clone(),
            differences: Vec::new(),
            stats: None,
        };
        match host.load(spec).await {
            Ok(plugin) => {
                run_case(&plugin, case, mode, snapshots, &mut outcome).await;
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
    Ok(())
}

async fn run_case(
    plugin: &Plugin,
    case: &Case,
    mode: Snapshots,
    snapshots: &mut SnapshotFile,
    outcome: &mut Outcome,
) {
    let shared = match Shared::of(case) {
        Ok(shared) => Arc::new(shared),
        Err(fault) => return outcome.differences.push(fault),
    };
    for (index, step) in case.steps.iter().enumerate() {
        let mut differences = Vec::new();
        if step.expect_faults.is_some() {
            let text = "expected faults of the configuration, it was taken";
            differences.push(text.to_owned());
        } else {
            match call(plugin, step, &shared, outcome).await {
                Ok(result) => {
                    let found = json(&result);
                    if step.wants_snapshot() {
                        let place = (case.name.as_str(), index);
                        held_against(snapshots, mode, place, &found, &mut differences);
                    }
                    judge(step, &result, &mut differences);
                }
                Err(fault) => differences.push(fault),
            }
            side_effects(step, &shared, &mut differences);
        }
        let step_name = (case.steps.len() > 1).then(|| format!("step {}: ", index + 1));
        outcome.differences.extend(
            differences
                .into_iter()
                .map(|text| format!("{}{text}", step_name.as_deref().unwrap_or(""))),
        );
    }
}

type Called = Result<Call, CallFailure>;

async fn call(
    plugin: &Plugin,
    step: &Step,
    shared: &Arc<Shared>,
    outcome: &mut Outcome,
) -> Result<Called, String> {
    let input = world::input(step, shared)?;
    let world = World::of(step, shared)?;
    let result = plugin.call(input, Arc::new(world)).await;
    match &result {
        Ok(call) => {
            shared.apply(&step.message_id, &call.attributes);
            outcome.stats = Some(call.stats.clone());
        }
        Err(failure) => outcome.stats = Some(failure.stats.clone()),
    }
    Ok(result)
}

/// The whole of an answer, for snapshots and messages.
fn json(result: &Called) -> Json {
    match result {
        Ok(call) => {
            let mut whole = serde_json::Map::new();
            whole.insert("answer".to_owned(), answer(&call.output));
            if !call.attributes.is_empty() {
                let changes: BTreeMap<_, _> = call.attributes.iter().cloned().collect();
                whole.insert("attributes".to_owned(), serde_json::json!(changes));
            }
            Json::Object(whole)
        }
        Err(failure) => serde_json::json!({
            "failure": failure.reason.as_str(),
            "detail": failure.detail,
        }),
    }
}

fn answer(output: &Output) -> Json {
    let value = match output {
        Output::MailFrom(verdict) => serde_json::to_value(verdict),
        Output::Rcpt(verdict) => serde_json::to_value(verdict),
        Output::Message(verdict) => serde_json::to_value(verdict),
        Output::Route(verdicts) => serde_json::to_value(verdicts),
        Output::Delivery(advice) => serde_json::to_value(advice),
    };
    value.expect("answers are texts, numbers, lists and records")
}

fn held_against(
    snapshots: &mut SnapshotFile,
    mode: Snapshots,
    (case, step): (&str, usize),
    found: &Json,
    differences: &mut Vec<String>,
) {
    match (mode, snapshots.get(case, step)) {
        (Snapshots::Update, _) => snapshots.set(case, step, found.clone()),
        (Snapshots::Check, Some(kept)) if kept == found => {}
        (Snapshots::Check, Some(kept)) => {
            differences.push(format!("the snapshot has {kept}"));
            differences.push(format!("got              {found}"));
        }
        (Snapshots::Check, None) => differences.push(format!(
            "nothing is expected and there is no snapshot; got {found}"
        )),
    }
}

fn judge(step: &Step, result: &Called, differences: &mut Vec<String>) {
    match (result, &step.expect, &step.expect_failure) {
        (Ok(call), Some(expected), _) => as_expected(expected, &call.output, differences),
        (Ok(call), None, Some(failure)) => differences.push(format!(
            "expected the failure {}, got {}",
            failure.reason,
            answer(&call.output)
        )),
        (Err(failure), _, Some(expected)) => compare_failure(expected, failure, differences),
        (Err(failure), Some(_), None) => {
            differences.push(format!("the call failed: {failure}"));
        }
        // Held against the snapshot.
        (_, None, None) => {}
    }
}

fn as_expected(expected: &Expectation, output: &Output, differences: &mut Vec<String>) {
    let found = answer(output);
    match expected {
        Expectation::Verdicts(list) if list.is_empty() => {
            if !has_no_opinion(output) {
                differences.push(format!("expected no opinion, got {found}"));
            }
        }
        Expectation::Verdicts(list) => {
            let list = list.iter().cloned().map(Toml::Table).collect();
            compare("verdicts", &Toml::Array(list), &found, differences);
        }
        Expectation::Answer(table) => {
            compare("answer", &Toml::Table(table.clone()), &found, differences);
        }
    }
}

fn has_no_opinion(output: &Output) -> bool {
    let is_silent = |verdict: &Verdict| {
        verdict.decision == Decision::Proceed
            && verdict.settings.is_none()
            && verdict.note.is_none()
    };
    match output {
        Output::Route(verdicts) => verdicts.iter().all(is_silent),
        Output::Delivery(advice) => advice.as_str() == "usual",
        other => answer(other).get("action").and_then(Json::as_str) == Some("proceed"),
    }
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

/// Attributes and state after a step.
fn side_effects(step: &Step, shared: &Shared, differences: &mut Vec<String>) {
    let attributes = shared.attributes(&step.message_id);
    for (name, expected) in &step.expect_attributes {
        let found = attributes.get(name).cloned();
        stands(&format!("attribute {name}"), expected, found, differences);
    }
    for (key, expected) in &step.expect_state {
        let found = shared.state.text(key, step.now_ms);
        stands(&format!("state {key}"), expected, found, differences);
    }
}

fn stands(what: &str, expected: &Toml, found: Option<String>, differences: &mut Vec<String>) {
    let expected = match expected {
        Toml::Boolean(false) => None,
        Toml::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    if expected != found {
        let show = |value: Option<String>| value.map_or("nothing".to_owned(), |v| format!("{v:?}"));
        differences.push(format!(
            "{what}: expected {}, got {}",
            show(expected),
            show(found)
        ));
    }
}

fn faults(case: &Case, messages: &[String], differences: &mut Vec<String>) {
    let expected = case
        .steps
        .iter()
        .find_map(|step| step.expect_faults.as_ref());
    let Some(expected) = expected else {
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
