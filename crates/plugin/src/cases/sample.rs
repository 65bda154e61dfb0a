//! A call of a case, to be made many times over: for measurements.

use std::sync::Arc;

use super::CaseFile;
use super::world::{self, Shared, World};
use crate::environment::CallEnvironment;
use crate::host::PluginSpec;
use crate::phase::Input;

/// What a call needs, from the first step of a case.
#[derive(Clone)]
pub struct SampleCall {
    /// Name of the case.
    pub case: String,
    /// The plugin with the configuration and the grants of the case.
    pub spec: PluginSpec,
    /// What it is asked.
    pub input: Input,
    /// What it can see. Calls share its state.
    pub environment: Arc<dyn CallEnvironment>,
}

impl CaseFile {
    /// The call of the case with this name, or of the first that expects an answer.
    pub fn sample_call(&self, name: Option<&str>, spec: &PluginSpec) -> Option<SampleCall> {
        let (case, step) = self.cases.iter().find_map(|case| {
            let step = case.steps.first()?;
            let answers = step.expect_failure.is_none() && step.expect_faults.is_none();
            let chosen = name.map_or(answers, |name| name == case.name && answers);
            chosen.then_some((case, step))
        })?;
        // The file was checked when it was read.
        let shared = Arc::new(Shared::of(case).ok()?);
        Some(SampleCall {
            case: case.name.clone(),
            spec: PluginSpec {
                config: case.config.clone(),
                grants: case.grants.grants(&case.fixtures),
                ..spec.clone()
            },
            input: world::input(step, &shared).ok()?,
            environment: Arc::new(World::of(step, &shared).ok()?),
        })
    }
}
