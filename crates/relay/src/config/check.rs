//! From the tree of a file to a [`Config`]: the top level, the listeners, and
//! what has to agree between sections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smtp::Domain;
use toml::de::DeTable;

use super::report::{ConfigErrors, Diagnostic, Report, Severity};
use super::tree::{Node, Notes, Section};
use super::types::{
    AdminConfig, ListenerConfig, SmarthostConfig, SmarthostHost, StorageConfig, TlsConfig, TlsMode,
};
use super::value::{self, Wrong};
use super::{
    Config, FileMention, Networks, check_candidate, check_live, check_plugin, check_pools,
    check_sections, check_stores, next_hop,
};

const DEFAULT_SPOOL: &str = "/var/spool/waypost";
const DEFAULT_BANNER: &str = "ESMTP Waypost";
const HOSTNAME_HELP: &str = "write a domain name that resolves to this machine, as in \
                             hostname = \"relay.example.net\"";
const LISTEN_WANTED: &str = "an address and a port, as in \"0.0.0.0:25\"";
const LISTEN_LIST: &str = "a list of addresses with ports, as in [\"0.0.0.0:25\"]";
const NETWORK_LIST: &str = "a list of networks, as in [\"192.0.2.0/24\", \"2001:db8::/32\"]";

/// Checks `text`. With the result come all keys that were asked for, as in
/// `plugin[].name`.
pub(super) fn parse(
    text: &str,
    file: &Path,
    host_name: &str,
) -> (Result<Config, ConfigErrors>, BTreeSet<String>) {
    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    let notes = Notes::new(!syntax_errors.is_empty());
    let config = check(tree.get_ref(), &notes, file, host_name);
    let (found, asked) = notes.into_parts();
    let mut broken_lines = BTreeSet::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for error in &syntax_errors {
        let start = error.span().unwrap_or_default().start;
        // The parser often finds several faults in what is one for the eye.
        if broken_lines.insert(line_of(text, start)) {
            diagnostics.push(syntax_error(error));
        }
    }
    // What was made of a broken line says nothing more about it.
    diagnostics.extend(found.into_iter().filter(|diagnostic| {
        let line = diagnostic
            .span
            .as_ref()
            .map(|span| line_of(text, span.start));
        line.is_none_or(|line| !broken_lines.contains(&line))
    }));
    let failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    let report = Report::new(file, Arc::from(text), diagnostics);
    let result = match config {
        Some(config) if !failed => Ok(Config {
            warnings: report,
            ..config
        }),
        _ => Err(ConfigErrors::new(report)),
    };
    (result, asked)
}

/// Looks for the files that the configuration names.
pub(super) fn check_files(config: &Config) -> Result<(), ConfigErrors> {
    let notes = Notes::default();
    for mention in &config.file_mentions {
        // Opening is what shows that we may read it. A directory can be opened too.
        let readable = std::fs::File::open(&mention.path).and_then(|file| file.metadata());
        let fault = match readable {
            Ok(metadata) if metadata.is_file() => continue,
            Ok(_) => format!("{} is not a file", mention.path.display()),
            Err(error) => format!("cannot read {}: {error}", mention.path.display()),
        };
        let wrong = Wrong::new(fault, mention.help);
        notes.add(
            Severity::Error,
            &mention.key,
            Some(mention.span.clone()),
            wrong,
        );
    }
    let (diagnostics, _) = notes.into_parts();
    if diagnostics.is_empty() {
        return Ok(());
    }
    let (name, text) = config.warnings.source();
    Err(ConfigErrors::new(Report::new(
        Path::new(name),
        Arc::clone(text),
        diagnostics,
    )))
}

fn syntax_error(error: &toml::de::Error) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        line: 0,
        column: 0,
        key: String::new(),
        message: format!("not TOML: {}", error.message()),
        help: match error.message() {
            "duplicate key" => "it is written above: leave one of the two out",
            _ => "write key = value; text goes in quotes",
        }
        .to_owned(),
        span: Some(error.span().unwrap_or_default()),
        related: None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|octet| **octet == b'\n').count()
}

/// Reads everything; none where a fault leaves a hole that no default fills.
fn check(tree: &DeTable<'_>, notes: &Notes, file: &Path, host_name: &str) -> Option<Config> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let mut mentions = Vec::new();
    let mut root = Section::root(tree, notes);
    let hostname = hostname(&mut root, host_name);
    let relay_from = relay_from(&mut root).unwrap_or_else(Networks::loopback);
    let listeners = listeners(&mut root, &relay_from, notes);
    // A name for what is checked on; its absence has been reported.
    let ehlo = hostname.clone().or_else(|| "localhost".parse().ok())?;
    let delivery = check_sections::delivery(root.section("delivery"), &ehlo);
    let smarthosts = smarthosts(&mut root, delivery.tls);
    let storage = storage(&mut root, directory);
    let limits = check_sections::limits(root.section("limits"));
    let queue = check_sections::queue(root.section("queue"));
    let dns = check_sections::dns(root.section("dns"));
    let admin = admin(root.section("admin"));
    let log = check_sections::log(root.section("log"));
    let tls = tls(&mut root, directory, &mut mentions);
    let names: Vec<&str> = listeners
        .iter()
        .map(|listener| listener.name.as_str())
        .collect();
    let plugin_rules = check_live::plugins(root.section("plugins"));
    let source_pools = check_pools::source_pools(&mut root, notes);
    let mut known = check_stores::Known {
        source_pools: source_pools.iter().map(|pool| pool.name.clone()).collect(),
        ..check_stores::Known::default()
    };
    let tables = check_stores::tables(&mut root, notes, directory, &mut mentions, &mut known);
    let credentials =
        check_stores::credentials(&mut root, notes, directory, &mut mentions, &mut known);
    let about = check_plugin::About {
        known: &known,
        directory,
        listeners: &names,
        rules: &plugin_rules,
    };
    let plugins = check_plugin::plugins(&mut root, notes, &about, &mut mentions);
    let decision_log = root.section("decision_log");
    let decision_log = check_candidate::decision_log(decision_log, directory, &storage.directory);
    warn_of_reach(&mut root, &listeners);
    warn_of_loop(&mut root, &ehlo, &smarthosts, &listeners);
    refuse_shared_address(&mut root, &admin, &listeners);
    root.finish();
    Some(Config {
        file: file.to_owned(),
        hostname: hostname?,
        listeners,
        smarthosts,
        storage,
        limits,
        queue,
        dns,
        delivery,
        admin,
        log,
        tls,
        plugin_rules,
        tables,
        source_pools,
        credentials,
        plugins,
        decision_log,
        warnings: Report::new(file, Arc::from(""), Vec::new()),
        file_mentions: mentions,
    })
}

fn hostname(root: &mut Section<'_>, host_name: &str) -> Option<Domain> {
    let Some(node) = root.node("hostname") else {
        return match host_name.parse() {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!(
                    "not set, and the name of this machine, {host_name:?}, is no domain name"
                );
                root.fault(
                    Severity::Error,
                    "hostname",
                    Wrong::new(message, HOSTNAME_HELP),
                );
                None
            }
        };
    };
    let name = node.parsed("a domain name in quotes", host_name_value)?;
    if !name.as_str().contains('.') {
        node.warning(
            "other servers may refuse a name without a dot",
            HOSTNAME_HELP,
        );
    }
    Some(name)
}

/// A domain name, not an address literal.
pub(super) fn host_name_value(text: &str) -> Result<Domain, Wrong> {
    match text.parse::<Domain>() {
        Ok(name) if !name.is_literal() && text.parse::<IpAddr>().is_err() => Ok(name),
        _ => Err(Wrong::new(
            format!("{text:?} is not a domain name"),
            HOSTNAME_HELP,
        )),
    }
}

/// `relay_from` of the top level or of one listener; none where it is not set.
fn relay_from(section: &mut Section<'_>) -> Option<Networks> {
    let node = section.node("relay_from")?;
    let members = node.members(NETWORK_LIST)?;
    if members.is_empty() {
        let help = "name the networks whose mail this relay takes, or remove the key for \
                    this machine only";
        node.warning("nobody may relay", help);
    }
    let wanted = "a network in quotes, as in \"192.0.2.0/24\"";
    let network = |member: &Node<'_>| member.parsed(wanted, value::relay_network);
    Some(Networks::new(members.iter().filter_map(network)))
}

/// The short form first, then the long one; where there is neither, port 25 of
/// this machine for itself.
fn listeners(root: &mut Section<'_>, global: &Networks, notes: &Notes) -> Vec<ListenerConfig> {
    let short = root.list("listen", LISTEN_LIST);
    let long = root.list("listener", "[[listener]] tables");
    let silent = short.is_none() && long.is_none();
    let mut seen = Seen::default();
    let mut listeners = Vec::new();
    for (index, node) in short.unwrap_or_default().iter().enumerate() {
        let Some(address) = node.parsed(LISTEN_WANTED, value::socket_address) else {
            continue;
        };
        seen.address(address, node, notes);
        let name = format!("smtp-{}", index + 1);
        seen.names.push((name.clone(), node.span()));
        listeners.push(ListenerConfig {
            name,
            address,
            relay_from: global.clone(),
            banner: DEFAULT_BANNER.to_owned(),
        });
    }
    for node in long.unwrap_or_default() {
        listeners.extend(listener(node.section(), global, &mut seen, notes));
    }
    if silent || listeners.is_empty() {
        if !silent {
            let help = format!("write {LISTEN_LIST}");
            root.fault(
                Severity::Error,
                "listen",
                Wrong::new("there is no listener", help),
            );
        }
        listeners.push(ListenerConfig {
            name: "smtp-1".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 25)),
            relay_from: global.clone(),
            banner: DEFAULT_BANNER.to_owned(),
        });
    }
    listeners
}

/// Names and addresses of the listeners so far, and where they are.
#[derive(Default)]
struct Seen {
    names: Vec<(String, std::ops::Range<usize>)>,
    addresses: Vec<(SocketAddr, std::ops::Range<usize>)>,
}

impl Seen {
    fn address(&mut self, address: SocketAddr, node: &Node<'_>, notes: &Notes) {
        let same = |(other, _): &&(SocketAddr, _)| *other == address && address.port() != 0;
        if let Some((_, first)) = self.addresses.iter().find(same) {
            let wrong = Wrong::new(format!("{address} is listened on already"), "remove one");
            notes.add_repeated(node, first.clone(), wrong);
        }
        self.addresses.push((address, node.span()));
    }

    fn name(&mut self, name: &str, node: &Node<'_>, notes: &Notes) {
        if let Some((_, first)) = self.names.iter().find(|(other, _)| other == name) {
            let wrong = Wrong::new(
                format!("there is a {name:?} already"),
                "choose another name",
            );
            notes.add_repeated(node, first.clone(), wrong);
        }
        self.names.push((name.to_owned(), node.span()));
    }
}

fn listener(
    mut section: Section<'_>,
    global: &Networks,
    seen: &mut Seen,
    notes: &Notes,
) -> Option<ListenerConfig> {
    let name_node = section.required("name", "write a name, as in name = \"inside\"");
    let name = name_node.as_ref().and_then(|node| {
        let name = node.parsed("a name in quotes", label)?;
        seen.name(&name, node, notes);
        Some(name)
    });
    let help = "write where to listen, as in address = \"0.0.0.0:25\"";
    let address_node = section.required("address", help);
    let address = address_node.as_ref().and_then(|node| {
        let address = node.parsed(LISTEN_WANTED, value::socket_address)?;
        seen.address(address, node, notes);
        Some(address)
    });
    let relay_from = relay_from(&mut section).unwrap_or_else(|| global.clone());
    let banner = section.parsed("banner", "text in quotes", banner);
    section.finish();
    Some(ListenerConfig {
        name: name?,
        address: address?,
        relay_from,
        banner: banner.unwrap_or_else(|| DEFAULT_BANNER.to_owned()),
    })
}

/// What can be a name of ours: it becomes a metric label and a word in logs.
pub(super) fn label(text: &str) -> Result<String, Wrong> {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let help = "write 1 to 32 lower case letters, digits and hyphens, as in \"inside-1\"";
    Err(Wrong::new(format!("{text:?} is not a name"), help))
}

fn banner(text: &str) -> Result<String, Wrong> {
    // RFC 5321 section 4.5.3.1.5 allows 512 octets; the host name comes first.
    if text.len() <= 200 && text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "this cannot stand in a greeting",
        "write at most 200 printable ASCII characters",
    ))
}

/// One string, one table, or a list of either.
fn smarthosts(root: &mut Section<'_>, tls: TlsMode) -> Vec<SmarthostConfig> {
    let Some(node) = root.node("smarthost") else {
        return Vec::new();
    };
    if !node.value().get_ref().is_array() {
        return smarthost(&node, tls).into_iter().collect();
    }
    let members = node.members("a list").unwrap_or_default();
    let mut smarthosts: Vec<SmarthostConfig> = Vec::new();
    for member in &members {
        let Some(smarthost) = smarthost(member, tls) else {
            continue;
        };
        let same = |other: &SmarthostConfig| {
            (&other.host, other.port) == (&smarthost.host, smarthost.port)
        };
        if smarthosts.iter().any(same) {
            member.warning("this smarthost is in the list already", "remove one");
        }
        smarthosts.push(smarthost);
    }
    if members.is_empty() {
        let help = "name a host, or remove the key to deliver by MX records";
        node.error(Wrong::new("the list of smarthosts is empty", help));
    }
    smarthosts
}

fn smarthost(node: &Node<'_>, tls: TlsMode) -> Option<SmarthostConfig> {
    if !node.is_compound() {
        let (host, port) = node.parsed("\"host\" or \"host:port\"", next_hop::parse)?;
        return Some(SmarthostConfig {
            host,
            port: port.unwrap_or(25),
            tls,
        });
    }
    let mut section = node.section();
    let host = section
        .required("host", "write the host, as in host = \"smtp.example.net\"")
        .and_then(|node| node.parsed("a host in quotes", next_hop::parse_host));
    let port = section.count("port", 25, 1..=u16::MAX);
    let tls = section.choice("tls", tls, &check_sections::TLS_MODES);
    section.finish();
    Some(SmarthostConfig {
        host: host?,
        port,
        tls,
    })
}

fn storage(root: &mut Section<'_>, directory: &Path) -> StorageConfig {
    let wanted = "the path of a directory in quotes";
    let spool = root.parsed("spool", wanted, path_value);
    let directory = directory.join(spool.unwrap_or_else(|| PathBuf::from(DEFAULT_SPOOL)));
    check_sections::storage(root.section("storage"), directory)
}

/// A path that is not empty.
pub(super) fn path_value(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("the path is empty", "write a path"));
    }
    Ok(PathBuf::from(text))
}

fn admin(mut section: Section<'_>) -> AdminConfig {
    let listen = section
        .parsed(
            "listen",
            "an address and a port, as in \"127.0.0.1:9925\"",
            value::socket_address,
        )
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9925)));
    let allow_remote = section.boolean("allow_remote", false);
    if !listen.ip().to_canonical().is_loopback() && !allow_remote {
        let message = "the admin listener asks for no password, and this address can be reached \
                       from other machines";
        let help = "write a loopback address, as in \"127.0.0.1:9925\", or protect it otherwise \
                    and set allow_remote = true";
        section.fault(Severity::Error, "listen", Wrong::new(message, help));
    }
    section.finish();
    AdminConfig {
        listen,
        allow_remote,
    }
}

fn tls(
    root: &mut Section<'_>,
    directory: &Path,
    mentions: &mut Vec<FileMention>,
) -> Option<TlsConfig> {
    root.node("tls")?;
    let mut section = root.section("tls");
    let mut file = |key, help| {
        let node = section.required(key, help)?;
        let path = directory.join(node.parsed("the path of a PEM file in quotes", path_value)?);
        let mention = FileMention {
            key: node.path.clone(),
            span: node.span(),
            path,
            help,
        };
        mentions.push(mention.clone());
        Some(mention.path)
    };
    let certificate = file("certificate", "name a PEM file with the certificate chain");
    let key = file("key", "name a PEM file with the private key");
    section.finish();
    Some(TlsConfig {
        certificate: certificate?,
        key: key?,
    })
}

/// A listener for everybody through which only this machine may send.
fn warn_of_reach(root: &mut Section<'_>, listeners: &[ListenerConfig]) {
    let open = listeners.iter().find(|listener| {
        !listener.address.ip().is_loopback() && listener.relay_from == Networks::loopback()
    });
    if let Some(listener) = open
        && root.node("relay_from").is_none()
    {
        let message = format!(
            "{} takes connections from other machines, but only this one may relay",
            listener.name
        );
        let help = "name the networks whose mail this relay takes, as in \
                    relay_from = [\"192.0.2.0/24\"]";
        let key = if root.node("listen").is_some() {
            "listen"
        } else {
            "listener"
        };
        root.fault(Severity::Warning, key, Wrong::new(message, help));
    }
}

/// A smarthost that is one of our own listeners.
fn warn_of_loop(
    root: &mut Section<'_>,
    hostname: &Domain,
    smarthosts: &[SmarthostConfig],
    listeners: &[ListenerConfig],
) {
    let is_ours = |smarthost: &SmarthostConfig| {
        let mut same_port = listeners
            .iter()
            .filter(|l| l.address.port() == smarthost.port);
        match &smarthost.host {
            SmarthostHost::Name(name) => {
                (name == hostname || name.as_str() == "localhost") && same_port.next().is_some()
            }
            SmarthostHost::Address(ip) => same_port.any(|listener| {
                let own = listener.address.ip();
                own == *ip || own.is_unspecified() && ip.to_canonical().is_loopback()
            }),
        }
    };
    if smarthosts.iter().any(is_ours) {
        let help = "name another host or port";
        let wrong = Wrong::new(
            "this is one of our own listeners: mail would go in circles",
            help,
        );
        root.fault(Severity::Warning, "smarthost", wrong);
    }
}

fn refuse_shared_address(
    root: &mut Section<'_>,
    admin: &AdminConfig,
    listeners: &[ListenerConfig],
) {
    let shared = |l: &ListenerConfig| l.address == admin.listen && admin.listen.port() != 0;
    if let Some(listener) = listeners.iter().find(|listener| shared(listener)) {
        let message = format!("{} listens on {} already", listener.name, admin.listen);
        let wrong = Wrong::new(message, "choose another port for one of them");
        root.fault(Severity::Error, "admin", wrong);
    }
}
