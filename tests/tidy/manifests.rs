//! Rules about Cargo.toml files and about hosts that are named anywhere.

use toml::{Table, Value};

use crate::tree::{TextFile, Tree};

/// The picture in ARCHITECTURE.md: who may depend on whom, inside the workspace.
const ARROWS: [(&str, &[&str]); 8] = [
    ("smtp", &[]),
    ("spool", &[]),
    ("queue", &["smtp"]),
    ("mx", &["smtp"]),
    ("plugin", &["smtp"]),
    ("relay", &["smtp", "queue", "mx", "plugin", "spool"]),
    ("cli", &["relay", "plugin", "smtp"]),
    ("xtask", &[]),
];

/// Libraries of others that only some crates may use: the beginning of the name, and who may.
const LIBRARIES: [(&str, &[&str]); 12] = [
    ("tokio", &["mx", "spool", "plugin", "relay", "cli"]),
    ("futures", &["mx", "spool", "plugin", "relay", "cli"]),
    ("rustls", &["relay"]),
    ("hickory-", &["mx"]),
    ("wasmtime", &["plugin"]),
    // Makes bindings and components for authors; the host reads components by wasmtime alone.
    ("wit-", &["cli"]),
    ("anyhow", &["cli", "xtask"]),
    ("clap", &["cli", "xtask"]),
    ("axum", &["relay"]),
    ("hyper", &["relay", "cli"]),
    ("metrics", &["relay"]),
    ("lettre", &[]),
];

/// Hosts that texts may name, and why.
const HOSTS: [(&str, &str); 10] = [
    ("127.0.0.1", "this machine"),
    ("localhost", "this machine"),
    (
        "github.com",
        "where projects live; also the name of the public index in Cargo.lock",
    ),
    ("www.rfc-editor.org", "standards"),
    ("datatracker.ietf.org", "standards"),
    ("www.apache.org", "the licence's text"),
    (
        "component-model.bytecodealliance.org",
        "what a component is",
    ),
    ("docs.rs", "documentation of libraries"),
    ("prometheus.io", "the format of metrics"),
    ("rustup.rs", "the toolchain"),
];

/// The dependency tables of a manifest that product code is built with, flattened.
fn product_dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let parts = std::iter::once(manifest).chain(
        targets
            .into_iter()
            .flatten()
            .filter_map(|(_, target)| target.as_table()),
    );
    for part in parts {
        for name in ["dependencies", "build-dependencies"] {
            found.extend(
                part.get(name)
                    .and_then(Value::as_table)
                    .into_iter()
                    .flatten(),
            );
        }
    }
    found
}

fn parse(file: &TextFile) -> Result<Table, String> {
    file.text
        .parse()
        .map_err(|error| format!("{}: {error}", file.path))
}

/// Each arrow between crates is drawn in the picture, and libraries stay where they belong.
pub(crate) fn arrows(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        let Some(name) = file
            .path
            .strip_prefix("crates/")
            .and_then(|path| path.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            complaints.push(format!("{}: a crate that is not in the picture", file.path));
            continue;
        };
        let manifest = match parse(file) {
            Ok(manifest) => manifest,
            Err(complaint) => {
                complaints.push(complaint);
                continue;
            }
        };
        for (dependency, _) in product_dependencies(&manifest) {
            let ours = ARROWS
                .iter()
                .any(|(crate_name, _)| crate_name == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("{}: no arrow leads to {dependency}", file.path));
            }
            let library = LIBRARIES
                .iter()
                .find(|(library, _)| dependency.starts_with(library));
            if let Some((_, users)) = library
                && !users.contains(&name)
            {
                let users = users.join(", ");
                complaints.push(format!("{}: {dependency} belongs to [{users}]", file.path));
            }
        }
    }
    complaints
}

/// Versions are written in the workspace's manifest alone, and lints come from there.
pub(crate) fn workspace_wide(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        let member = file.path.ends_with("/Cargo.toml")
            && (file.path.starts_with("crates/")
                || ["tests/Cargo.toml", "tests/testkit/Cargo.toml"].contains(&file.path.as_str()));
        if !member {
            continue;
        }
        let manifest = match parse(file) {
            Ok(manifest) => manifest,
            Err(complaint) => {
                complaints.push(complaint);
                continue;
            }
        };
        let from_workspace =
            |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);
        if !manifest.get("lints").is_some_and(from_workspace) {
            complaints.push(format!(
                "{}: [lints] does not say workspace = true",
                file.path
            ));
        }
        let dev = manifest.get("dev-dependencies").and_then(Value::as_table);
        for (dependency, value) in product_dependencies(&manifest)
            .into_iter()
            .chain(dev.into_iter().flatten())
        {
            if !from_workspace(value) {
                complaints.push(format!("{}: {dependency} has a version here", file.path));
            }
        }
    }
    complaints
}

/// No other registry is configured, and only known hosts are named: what a fresh clone fetches
/// comes from the public index or whatever the user's own cargo configuration says.
pub(crate) fn hosts(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        // The rule's own examples.
        if file.path.starts_with("tests/tidy") {
            continue;
        }
        if file.path.ends_with(".cargo/config.toml") {
            for table in ["[source", "[registries", "[registry", "[net", "[http"] {
                if file.text.contains(table) {
                    complaints.push(format!("{}: {table}] is the user's business", file.path));
                }
            }
        }
        for (at, _) in file.text.match_indices("://") {
            let rest = &file.text[at + 3..];
            let host: String = rest
                .chars()
                .take_while(|character| character.is_alphanumeric() || ".-".contains(*character))
                .collect();
            if !may_be_named(&host) {
                complaints.push(format!("{}: names the host {host}", file.place(at)));
            }
        }
    }
    complaints
}

fn may_be_named(host: &str) -> bool {
    // RFC 2606 and RFC 6761 keep these for examples. Nothing at all is a placeholder.
    let reserved = [
        ".example",
        ".test",
        ".invalid",
        "example.com",
        "example.org",
        "example.net",
    ];
    host.is_empty()
        || reserved.iter().any(|end| host.ends_with(end))
        || HOSTS.iter().any(|(known, _reason)| *known == host)
}
