//! `waypost plugin inspect`: what a component is, and what it would want.

use std::path::PathBuf;

use anyhow::Context as _;
use plugin::Inspection;
use serde_json::json;

use crate::plugin_test::{Subject, host};

/// Options of `waypost plugin inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// A component, or the directory of a plugin that has been built.
    #[arg(value_name = "COMPONENT|DIR", default_value = ".")]
    plugin: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Interfaces and the grants without which their functions say `denied`.
const GRANTS: [(&str, &str); 4] = [
    ("dns", "dns = true"),
    ("tables", "tables = [\"…\"]"),
    ("state", "state = \"1MiB\""),
    ("http", "http = [\"https://…\"]"),
];

/// Prints what the component is.
#[allow(clippy::print_stdout)] // the facts are the answer
pub(crate) async fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let subject = Subject::find(&args.plugin, None)?;
    let cache = tempfile::tempdir().context("no place for compiled code")?;
    let plugin = host(cache.path())?
        .inspect(&subject.component)
        .await
        .with_context(|| format!("{} cannot be used", subject.component.display()))?;
    let facts = Facts::of(plugin.inspect());
    if args.json {
        println!("{:#}", facts.json());
    } else {
        println!("{}", facts.text());
    }
    Ok(())
}

/// What is shown.
struct Facts<'a> {
    inspection: &'a Inspection,
    phases: Vec<&'a str>,
    /// Of the contract, by their short names.
    imports: Vec<&'a str>,
    /// Of others; using them is a trap.
    foreign: Vec<&'a str>,
    contract: Vec<&'a str>,
}

impl<'a> Facts<'a> {
    fn of(inspection: &'a Inspection) -> Self {
        let ours = |name: &'a String| {
            let (interface, version) = name.strip_prefix("waypost:policy/")?.split_once('@')?;
            Some((interface, version))
        };
        let exports = inspection.exports.iter().filter_map(ours);
        let imports = inspection.imports.iter().filter_map(ours);
        let mut contract: Vec<&str> = exports
            .clone()
            .chain(imports.clone())
            .map(|(_, version)| version)
            .collect();
        contract.sort_unstable();
        contract.dedup();
        Self {
            inspection,
            phases: exports
                .filter_map(|(interface, _)| interface.strip_suffix("-phase"))
                .collect(),
            imports: imports.map(|(interface, _)| interface).collect(),
            foreign: inspection
                .imports
                .iter()
                .filter(|name| ours(name).is_none())
                .map(String::as_str)
                .collect(),
            contract,
        }
    }

    fn grants(&self) -> Vec<&'static str> {
        let mut grants: Vec<&str> = GRANTS
            .iter()
            .filter(|(interface, _)| self.imports.contains(interface))
            .map(|(_, grant)| *grant)
            .collect();
        if self.phases.contains(&"routing") {
            grants.push("route_hosts = [\"…\"]");
        }
        if ["sender", "recipient", "message"]
            .iter()
            .any(|phase| self.phases.contains(phase))
        {
            grants.push("rewrite_domains = [\"…\"]");
        }
        if self.imports.contains(&"message") {
            grants.push("body = \"64KiB\"");
        }
        grants
    }

    fn json(&self) -> serde_json::Value {
        let (name, version) = self.identity();
        json!({
            "path": self.inspection.path,
            "name": name,
            "version": version,
            "contract": self.contract,
            "phases": self.phases,
            "imports": self.imports,
            "foreign_imports": self.foreign,
            "grants_it_could_use": self.grants(),
            "size_bytes": self.inspection.size_bytes,
            "sha256": self.inspection.sha256.to_string(),
        })
    }

    fn identity(&self) -> (Option<&str>, Option<&str>) {
        match &self.inspection.identity {
            Some((name, version)) => (Some(name), Some(version)),
            None => (None, None),
        }
    }

    fn text(&self) -> String {
        let (name, version) = self.identity();
        let size_bytes = self.inspection.size_bytes;
        let mut lines = vec![
            ("component", self.inspection.path.display().to_string()),
            (
                "says it is",
                match (name, version) {
                    (Some(name), Some(version)) => format!("{name} {version}"),
                    _ => "nothing (no lifecycle)".to_owned(),
                },
            ),
            (
                "contract",
                format!("waypost:policy {}", self.contract.join(", ")),
            ),
            ("phases", self.phases.join(", ")),
            ("imports", self.imports.join(", ")),
        ];
        if !self.foreign.is_empty() {
            let text = format!(
                "{} of others, as toolchains add them; calling one is a trap",
                self.foreign.len()
            );
            lines.push(("", text));
        }
        lines.push(("could use", format!("grants: {}", self.grants().join(", "))));
        lines.push(("size", format!("{size_bytes} bytes")));
        lines.push(("sha256", self.inspection.sha256.to_string()));
        let lines: Vec<String> = lines
            .into_iter()
            .map(|(what, text)| format!("{what:<11} {text}"))
            .collect();
        lines.join("\n")
    }
}
