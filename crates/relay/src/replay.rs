//! `waypost plugin replay`: recorded decisions, made again by the same version of a plugin or by
//! another.
//!
//! Nothing here touches a running relay: the log is read, the plugin is loaded as `waypost check`
//! does, and its questions are answered from the records.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use plugin::record::{Difference, Record, config_digest};
use plugin::{Plugin, PluginSpec};
use serde::Serialize;

use crate::app::StartError;
use crate::clock::Clock;
use crate::config::{Config, PluginConfig};
use crate::policy::candidate::as_plugin;
use crate::policy::chain;
use crate::policy::decision_log;
use crate::policy::host::Host;

/// Replays at a time.
const AT_ONCE: usize = 8;
/// How much more of its time a plugin may use than in the relay: this machine may be busy, and
/// what ran out of time there is not replayed.
const PATIENCE: u32 = 20;
/// Faults of the log that are shown.
const FAULTS_SHOWN: usize = 10;

/// What to replay, and against what.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only decisions of this plugin.
    pub plugin: Option<String>,
    /// This component in place of the configured one.
    pub component: Option<PathBuf>,
    /// The candidate in place of the plugin.
    pub candidate: bool,
    /// This directory in place of that of `[decision_log]`.
    pub log: Option<PathBuf>,
    /// Differences of each plugin that are listed.
    pub examples_count: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Where the records came from.
    pub log: PathBuf,
    /// Each plugin that has records.
    pub plugins: Vec<PluginReport>,
    /// Records of plugins that the configuration does not have, by name.
    pub unknown: BTreeMap<String, u64>,
    /// Lines that are no records.
    pub unreadable_count: u64,
    /// The first of them.
    pub unreadable: Vec<String>,
}

/// What came of the decisions of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PluginReport {
    /// Its name.
    pub plugin: String,
    /// The version that was asked now.
    pub version: Option<String>,
    /// Digest of the component that was asked now.
    pub digest: String,
    /// All its records.
    pub records: u64,
    /// Those of this very component.
    pub same_digest: u64,
    /// Those of another configuration.
    pub other_config: u64,
    /// Decided the same.
    pub same: u64,
    /// Decided otherwise.
    pub differs: u64,
    /// Decided the same, on answers of which some are not on record.
    pub asked_new: u64,
    /// Not replayed: the recorded call ran out of time or found no instance.
    pub not_repeatable: u64,
    /// Ran out of time here: nothing is known of them.
    pub out_of_time: u64,
    /// Of all: pseudonyms changed what the recorded version did, so that the record is not of what
    /// happened to the message.
    pub unlike: u64,
    /// How many records have a difference of this kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The first records that are not the same.
    pub examples: Vec<Example>,
}

/// A record that is not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The message.
    pub message: String,
    /// When it was decided, in milliseconds since 1970.
    pub at_ms: u64,
    /// The phase.
    pub phase: String,
    /// Digest of the component that decided.
    pub digest: String,
    /// `before` is the record, `after` what was decided now.
    pub differences: Vec<Difference>,
    /// What was asked and is not on record.
    pub news: Vec<String>,
}

impl Report {
    /// Whether something is decided otherwise now, or might be.
    #[must_use]
    pub fn has_differences(&self) -> bool {
        let mut plugins = self.plugins.iter();
        plugins.any(|plugin| plugin.differs > 0 || plugin.asked_new > 0)
    }

    /// Whether the answer is not to be relied on: there was nothing to replay, not all could be
    /// read, or not all was done in time.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let late = self.plugins.iter().any(|plugin| plugin.out_of_time > 0);
        self.plugins.is_empty() || self.unreadable_count > 0 || late
    }
}

/// Replays.
///
/// # Errors
/// The log cannot be read, a plugin does not load, or there is no such plugin.
pub async fn replay(
    config: &Config,
    clock: &Clock,
    request: &Request,
) -> Result<Report, StartError> {
    if let Some(name) = &request.plugin
        && !config.plugins.iter().any(|plugin| plugin.name == *name)
    {
        return Err(wrong(format!(
            "there is no plugin {name:?} in the configuration"
        )));
    }
    let log = request.log.clone();
    let log = log.unwrap_or_else(|| config.decision_log.directory.clone());
    let records = decision_log::read(&log)
        .map_err(|error| wrong(format!("decision log {}: {error}", log.display())))?;
    let mut work = Work {
        config,
        request,
        host: Host::for_looking(config, clock)?,
        loaded: BTreeMap::new(),
        report: Report {
            log,
            ..Report::default()
        },
    };
    let mut batch = Vec::with_capacity(AT_ONCE);
    for record in records {
        match record {
            Ok(record) if work.is_wanted(&record) => batch.push(record),
            Ok(_) => {}
            Err(fault) => work.unreadable(fault),
        }
        if batch.len() == AT_ONCE {
            work.run(std::mem::take(&mut batch)).await?;
        }
    }
    work.run(batch).await?;
    let loaded = work.loaded.into_values().flatten();
    work.report.plugins = loaded.map(|(_, report)| report).collect();
    Ok(work.report)
}

fn wrong(text: String) -> StartError {
    StartError::Request(text)
}

struct Work<'a> {
    config: &'a Config,
    request: &'a Request,
    host: Host,
    /// By name; none: the configuration does not have it.
    loaded: BTreeMap<String, Option<(Asked, PluginReport)>>,
    report: Report,
}

/// What is asked now.
struct Asked {
    plugin: Plugin,
    config_digest: plugin::Digest,
}

impl Work<'_> {
    fn is_wanted(&self, record: &Record) -> bool {
        let wanted = self.request.plugin.as_ref();
        wanted.is_none_or(|name| *name == record.plugin)
    }

    fn unreadable(&mut self, fault: String) {
        self.report.unreadable_count += 1;
        if self.report.unreadable.len() < FAULTS_SHOWN {
            self.report.unreadable.push(fault);
        }
    }

    async fn run(&mut self, batch: Vec<Record>) -> Result<(), StartError> {
        for record in &batch {
            if !self.loaded.contains_key(&record.plugin) {
                let loaded = self.load(&record.plugin).await?;
                self.loaded.insert(record.plugin.clone(), loaded);
            }
        }
        let asked = batch.into_iter().map(|record| {
            let loaded = self.loaded.get(&record.plugin).and_then(Option::as_ref);
            let plugin = loaded.map(|(asked, _)| asked.plugin.clone());
            async move {
                let plugin = plugin.filter(|_| record.ending.is_repeatable());
                let replayed = match plugin {
                    Some(plugin) => Some(record.replay(&plugin).await),
                    None => None,
                };
                (record, replayed)
            }
        });
        let done: Vec<_> = futures_util::stream::iter(asked)
            .buffered(AT_ONCE)
            .collect()
            .await;
        for (record, replayed) in done {
            match self.loaded.get_mut(&record.plugin) {
                Some(Some((asked, report))) => {
                    note(
                        asked,
                        report,
                        &record,
                        replayed,
                        self.request.examples_count,
                    );
                }
                _ => *self.report.unknown.entry(record.plugin).or_default() += 1,
            }
        }
        Ok(())
    }

    async fn load(&self, name: &str) -> Result<Option<(Asked, PluginReport)>, StartError> {
        let mut plugins = self.config.plugins.iter();
        let Some(entry) = plugins.find(|plugin| plugin.name == name) else {
            return Ok(None);
        };
        let entry = self.entry(entry)?;
        let spec = chain::spec(&entry);
        let limits = plugin::Limits {
            cpu: spec.limits.cpu * PATIENCE,
            wall: (spec.limits.wall * PATIENCE).min(Duration::from_secs(600)),
            ..spec.limits.clone()
        };
        let spec = PluginSpec { limits, ..spec };
        let loaded = self.host.plugins().load(spec).await;
        let plugin = loaded.map_err(|error| wrong(format!("plugin {name}: {error}")))?;
        let inspection = plugin.inspect();
        let report = PluginReport {
            plugin: name.to_owned(),
            version: inspection.identity.as_ref().map(|(_, it)| it.clone()),
            digest: inspection.sha256.to_string(),
            ..PluginReport::default()
        };
        let asked = Asked {
            config_digest: config_digest(&entry.config),
            plugin,
        };
        Ok(Some((asked, report)))
    }

    /// The plugin as it is to be asked now.
    fn entry(&self, entry: &PluginConfig) -> Result<PluginConfig, StartError> {
        let mut entry = match (&entry.candidate, self.request.candidate) {
            (Some(candidate), true) => as_plugin(entry, candidate),
            (None, true) => {
                return Err(wrong(format!("plugin {} has no candidate", entry.name)));
            }
            (_, false) => entry.clone(),
        };
        if let Some(component) = &self.request.component {
            entry.path.clone_from(component);
            entry.sha256 = None;
        }
        Ok(entry)
    }
}

fn note(
    asked: &Asked,
    report: &mut PluginReport,
    record: &Record,
    replayed: Option<plugin::record::Replayed>,
    examples_count: usize,
) {
    report.records += 1;
    report.same_digest += u64::from(record.digest == asked.plugin.inspect().sha256);
    report.other_config += u64::from(record.config_digest != asked.config_digest);
    report.unlike += u64::from(record.unlike.is_some());
    let Some(replayed) = replayed else {
        report.not_repeatable += 1;
        return;
    };
    if !replayed.ending.is_repeatable() {
        report.out_of_time += 1;
        return;
    }
    if replayed.differences.is_empty() && replayed.news.is_empty() {
        report.same += 1;
        return;
    }
    if replayed.differences.is_empty() {
        report.asked_new += 1;
    } else {
        report.differs += 1;
    }
    for difference in &replayed.differences {
        *report.kinds.entry(difference.kind.as_str()).or_default() += 1;
    }
    if report.examples.len() < examples_count {
        report.examples.push(Example {
            message: record.message.clone(),
            at_ms: record.at_ms,
            phase: record.phase.as_str().to_owned(),
            digest: record.digest.to_string(),
            differences: replayed.differences,
            news: replayed.news,
        });
    }
}
