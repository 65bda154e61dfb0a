//! `[[plugin]]`: whom it is asked about, what it may spend and do, and its own
//! section, which is passed on unread.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::FileMention;
use super::check::{label, path_value};
use super::check_candidate;
use super::check_instances;
use super::check_live::{self, PluginsConfig};
use super::check_stores::{self, HttpGrant, Known};
use super::pattern::{DomainPattern, SenderPattern};
use super::tree::{Node, Notes, Section};
use super::types::{OnError, PluginConfig, PluginFilter};
use super::value::{self, Wrong};

const ON_ERROR: [(&str, OnError); 3] = [
    ("defer", OnError::Defer),
    ("continue", OnError::Continue),
    ("reject", OnError::Reject),
];

const PATH_HELP: &str = "name the component (.wasm); a relative path starts at the directory \
                         of this file";

/// What the tables of plugins are read beside.
pub(super) struct About<'a> {
    /// Where relative paths start.
    pub(super) directory: &'a Path,
    /// The names that filters may use.
    pub(super) listeners: &'a [&'a str],
    /// The tables and credentials that grants may name.
    pub(super) known: &'a Known,
    /// What holds for all plugins.
    pub(super) rules: &'a PluginsConfig,
}

/// All plugins in their order.
pub(super) fn plugins(
    root: &mut Section<'_>,
    notes: &Notes,
    about: &About<'_>,
    mentions: &mut Vec<FileMention>,
) -> Vec<PluginConfig> {
    let mut names: Vec<(String, Range<usize>)> = Vec::new();
    let mut plugins = Vec::new();
    for node in root.list("plugin", "[[plugin]] tables").unwrap_or_default() {
        let mut section = node.section();
        let name = section.required("name", "write a name, as in name = \"routes\"");
        let name = name.and_then(|node| {
            let name = node.parsed("a name in quotes", label)?;
            if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
                let message = format!("there is a plugin {name:?} already");
                let wrong = Wrong::new(message, "choose another name");
                notes.add_repeated(&node, first.clone(), wrong);
            }
            names.push((name.clone(), node.span()));
            Some(name)
        });
        plugins.extend(plugin(section, name, about, mentions));
    }
    plugins
}

fn plugin(
    mut section: Section<'_>,
    name: Option<String>,
    about: &About<'_>,
    mentions: &mut Vec<FileMention>,
) -> Option<PluginConfig> {
    let directory = about.directory;
    let enabled = section.boolean("enabled", true);
    let path = section.required("path", PATH_HELP).and_then(|node| {
        let path = directory.join(node.parsed("a path in quotes", path_value)?);
        if enabled {
            let (key, span, path) = (node.path.clone(), node.span(), path.clone());
            mentions.push(FileMention {
                key,
                span,
                path,
                help: PATH_HELP,
            });
        }
        Some(path)
    });
    let sha256 = section.parsed("sha256", "a digest in quotes", digest_value);
    let on_error = section.choice("on_error", OnError::Defer, &ON_ERROR);
    let limits = limits(&mut section);
    let limits = check_instances::outputs(&mut section, &limits);
    let phases = check_instances::phases(&mut section);
    let instances = check_instances::instances(section.section("instances"));
    let filter = filter(&mut section, about.listeners);
    let headers = "a list of header field names, as in [\"List-Id\"]";
    let route_headers = section.texts("route_headers", headers, field_name);
    let (grants, http) = grants(section.section("grants"), about.known);
    let config = section
        .node("config")
        .and_then(|node| free_table(&node))
        .unwrap_or_default();
    let candidate = check_candidate::candidate(&mut section, directory);
    let live = check_live::live(&mut section, directory, about.rules);
    section.finish();
    Some(PluginConfig {
        name: name?,
        path: path?,
        enabled,
        on_error,
        sha256,
        limits,
        phases,
        instances,
        filter,
        route_headers,
        grants,
        http,
        config,
        live,
        candidate,
    })
}

/// A SHA-256 digest.
pub(super) fn digest_value(text: &str) -> Result<plugin::Digest, Wrong> {
    let help = "write the 64 hexadecimal digits that `sha256sum` prints for the file";
    text.parse()
        .map_err(|error: plugin::DigestError| Wrong::new(error.to_string(), help))
}

fn limits(section: &mut Section<'_>) -> plugin::Limits {
    let default = plugin::Limits::default();
    let least = Duration::from_millis(1);
    let memory = 64 << 10..=4 << 30;
    let memory_bytes = section.size("memory", default.memory_bytes as u64, memory);
    let limits = plugin::Limits {
        cpu: section.duration("cpu", default.cpu, least..=Duration::from_secs(60)),
        wall: section.duration("wall", default.wall, least..=Duration::from_secs(600)),
        memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        host_calls: section.count("host_calls", default.host_calls, 1..=1_000_000),
        concurrency: section.count("concurrency", default.concurrency, 1..=10_000),
        ..default
    };
    if limits.cpu > limits.wall {
        let wrong = Wrong::new("`cpu` is above `wall`", "lower `cpu` or raise `wall`");
        section.fault(super::Severity::Error, "cpu", wrong);
    }
    limits
}

fn filter(section: &mut Section<'_>, listeners: &[&str]) -> PluginFilter {
    let known_listener = |text: &str| {
        if listeners.contains(&text) {
            return Ok(text.to_owned());
        }
        let help = match value::nearest(text, listeners.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are: {}", listeners.join(", ")),
        };
        Err(Wrong::new(format!("there is no listener {text:?}"), help))
    };
    let domain = |text: &str| {
        let help = "write a domain, \"*.example.com\" for all below it, or \"*\"";
        let wrong = || Wrong::new(format!("{text:?} is not a pattern for domains"), help);
        DomainPattern::parse(text).ok_or_else(wrong)
    };
    let sender = |text: &str| {
        let help = "write \"user@example.com\", \"example.com\", \"*.example.com\", \"*\", or \
                    \"<>\" for bounces";
        let wrong = || Wrong::new(format!("{text:?} is not a pattern for senders"), help);
        SenderPattern::parse(text).ok_or_else(wrong)
    };
    PluginFilter {
        listeners: section.texts("listeners", "a list of listener names", known_listener),
        domains: section.texts(
            "domains",
            "a list of domains, as in [\"*.example.com\"]",
            domain,
        ),
        senders: section.texts(
            "senders",
            "a list of senders, as in [\"example.com\"]",
            sender,
        ),
    }
}

fn grants(mut section: Section<'_>, known: &Known) -> (plugin::Grants, HttpGrant) {
    let hosts = "a list of hosts, as in [\"*.example.net\", \"192.0.2.25\"]";
    let domains = "a list of domains, as in [\"example.com\", \"*.example.com\"]";
    let mut grants = plugin::Grants {
        dns: section.boolean("dns", false),
        body_bytes: section.size("body", 0, 0..=u64::from(u32::MAX)),
        route_hosts: section.texts("route_hosts", hosts, |text| {
            let help = "write \"host\", \"*.suffix\", an address, a network or \"*\", each \
                        with \":port\" where only that one is meant";
            text.parse()
                .map_err(|error: plugin::HopPatternError| Wrong::new(error.to_string(), help))
        }),
        source_pools: section.texts(
            "source_pools",
            "a list of names of source pools, as in [\"bulk\"]",
            |text| check_stores::one_of(text, "source_pool", &known.source_pools),
        ),
        rewrite_domains: section.texts("rewrite_domains", domains, rewrite_domain),
        ..plugin::Grants::default()
    };
    let http = check_stores::grants(&mut section, known, &mut grants);
    section.finish();
    (grants, http)
}

/// A domain of mailboxes has no port.
fn rewrite_domain(text: &str) -> Result<plugin::HopPattern, Wrong> {
    let help = "write a domain, \"*.example.com\" for all below it, or \"*\"";
    let no_port = text.parse::<std::net::IpAddr>().is_ok() || !text.contains(':');
    match text.parse::<plugin::HopPattern>() {
        Ok(pattern) if no_port => Ok(pattern),
        _ => Err(Wrong::new(
            format!("{text:?} is not a pattern for domains of mailboxes"),
            help,
        )),
    }
}

/// RFC 5322 section 3.6.8: printable ASCII without a colon. In lower case.
pub(super) fn field_name(text: &str) -> Result<String, Wrong> {
    let allowed = |octet: u8| (b'!'..=b'~').contains(&octet) && octet != b':';
    if !text.is_empty() && text.bytes().all(allowed) {
        return Ok(text.to_ascii_lowercase());
    }
    let help = "write a name without colon, as in \"List-Id\"";
    Err(Wrong::new(
        format!("{text:?} is not the name of a header field"),
        help,
    ))
}

pub(super) fn free_table(node: &Node<'_>) -> Option<toml::Table> {
    if !node.value().get_ref().is_table() {
        let help = "write a table, as in config = { key = \"value\" }";
        node.error(Wrong::new("the plugin's own section is not a table", help));
        return None;
    }
    let deserializer = toml::de::ValueDeserializer::from(node.value().clone());
    match toml::Table::deserialize(deserializer) {
        Ok(table) => Some(table),
        Err(error) => {
            let help = "write values that TOML can hold: integers of 64 bits at most";
            node.error(Wrong::new(error.message(), help));
            None
        }
    }
}
