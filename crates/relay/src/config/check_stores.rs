//! `[[table]]`, `[[credential]]`, and what of both, of state and of HTTP a plugin is granted.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugin::Origin;

use super::check::{label, path_value};
use super::tree::{Node, Notes, Section};
use super::value::{self, Wrong};
use super::{FileMention, Severity};

const TABLE_HELP: &str = "name the file; a relative path starts at the directory of this file";

/// One `[[table]]`: a file that plugins look things up in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// `[a-z0-9-]{1,32}`, unique.
    pub name: String,
    /// The file; relative paths have the configuration's directory in front.
    pub path: PathBuf,
    /// What is in it.
    pub format: TableFormat,
    /// How often the file is looked at for changes.
    pub poll: Duration,
    /// Octets of the file at most.
    pub max_size_bytes: u64,
    /// Entries at most.
    pub max_entries_count: usize,
}

/// What is in the file of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableFormat {
    /// Keys and values, as in the files that `postmap` reads.
    Map,
    /// A domain a line, `.example.com` or `*.example.com` for those below it.
    Domains,
    /// An address or a network in CIDR notation a line, with a value where wanted.
    Networks,
}

impl TableFormat {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Domains => "domains",
            Self::Networks => "networks",
        }
    }
}

/// One `[[credential]]`: a secret that the relay adds to a plugin's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialConfig {
    /// `[a-z0-9-]{1,32}`, unique.
    pub name: String,
    /// Where the secret is.
    pub source: CredentialSource,
    /// How it is shown to the server.
    pub scheme: CredentialScheme,
}

/// Where a secret is; read at the start and at every reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// How a secret becomes a header field (RFC 9110 section 11.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialScheme {
    /// `Authorization: Bearer SECRET` (RFC 6750).
    Bearer,
    /// `Authorization: Basic …`; the secret is `user:password` (RFC 7617).
    Basic,
    /// `Authorization: SECRET`.
    Raw,
}

/// What a plugin may do by HTTP, beside the origins in its grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// Names of the credentials that may go to an origin.
    pub credentials: Vec<(Origin, Vec<String>)>,
    /// Whether names may lead to private, loopback and link-local addresses.
    pub allow_private: bool,
    /// Time of one request, from the look-up of the name to the last octet.
    pub timeout: Duration,
    /// Octets of a request's body at most.
    pub request_bytes: usize,
    /// Octets of a response's body at most.
    pub response_bytes: usize,
    /// Requests under way at a time; further ones wait.
    pub concurrency_count: usize,
}

impl Default for HttpGrant {
    fn default() -> Self {
        Self {
            credentials: Vec::new(),
            allow_private: false,
            timeout: Duration::from_secs(3),
            request_bytes: 1 << 20,
            response_bytes: 1 << 20,
            concurrency_count: 32,
        }
    }
}

/// What plugins may be granted by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) tables: Vec<String>,
    pub(super) credentials: Vec<String>,
    pub(super) source_pools: Vec<String>,
}

/// Names so far, and where they are.
pub(super) struct Names<'n> {
    what: &'static str,
    seen: Vec<(String, Range<usize>)>,
    notes: &'n Notes,
}

impl<'n> Names<'n> {
    /// None so far, of what `what` says.
    pub(super) fn new(what: &'static str, notes: &'n Notes) -> Self {
        Self {
            what,
            seen: Vec::new(),
            notes,
        }
    }

    fn taken(self) -> Vec<String> {
        self.seen.into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn take(&mut self, section: &mut Section<'_>, help: &str) -> Option<String> {
        let node = section.required("name", help)?;
        let name = node.parsed("a name in quotes", label)?;
        if let Some((_, first)) = self.seen.iter().find(|(other, _)| *other == name) {
            let message = format!("there is a {} {name:?} already", self.what);
            let wrong = Wrong::new(message, "choose another name");
            self.notes.add_repeated(&node, first.clone(), wrong);
        }
        self.seen.push((name.clone(), node.span()));
        Some(name)
    }
}

/// All tables. Their names are known even where the rest of a table is wrong.
pub(super) fn tables(
    root: &mut Section<'_>,
    notes: &Notes,
    directory: &Path,
    mentions: &mut Vec<FileMention>,
    known: &mut Known,
) -> Vec<TableConfig> {
    let mut names = Names {
        what: "table",
        seen: Vec::new(),
        notes,
    };
    let nodes = root.list("table", "[[table]] tables").unwrap_or_default();
    let read = |node: &Node<'_>| {
        let mut section = node.section();
        let name = names.take(&mut section, "write a name, as in name = \"routes\"");
        let path = section.required("path", TABLE_HELP).and_then(|node| {
            let path = directory.join(node.parsed("a path in quotes", path_value)?);
            mentions.push(FileMention {
                key: node.path.clone(),
                span: node.span(),
                path: path.clone(),
                help: TABLE_HELP,
            });
            Some(path)
        });
        let formats = [
            TableFormat::Map,
            TableFormat::Domains,
            TableFormat::Networks,
        ];
        let format = section.choice(
            "format",
            TableFormat::Map,
            &formats.map(|format| (format.as_str(), format)),
        );
        let least = Duration::from_millis(50);
        let poll = section.duration(
            "poll",
            Duration::from_secs(5),
            least..=Duration::from_secs(86_400),
        );
        // Places in a table are 32 bits.
        let max_size_bytes = section.size("max_size", 256 << 20, 1..=2 << 30);
        let max_entries_count = section.count("max_entries", 5_000_000, 1..=100_000_000);
        section.finish();
        Some(TableConfig {
            name: name?,
            path: path?,
            format,
            poll,
            max_size_bytes,
            max_entries_count,
        })
    };
    let tables = nodes.iter().filter_map(read).collect();
    known.tables = names.taken();
    tables
}

/// All credentials.
pub(super) fn credentials(
    root: &mut Section<'_>,
    notes: &Notes,
    directory: &Path,
    mentions: &mut Vec<FileMention>,
    known: &mut Known,
) -> Vec<CredentialConfig> {
    let mut names = Names {
        what: "credential",
        seen: Vec::new(),
        notes,
    };
    let nodes = root
        .list("credential", "[[credential]] tables")
        .unwrap_or_default();
    let schemes = [
        ("bearer", CredentialScheme::Bearer),
        ("basic", CredentialScheme::Basic),
        ("raw", CredentialScheme::Raw),
    ];
    let read = |node: &Node<'_>| {
        let mut section = node.section();
        let name = names.take(&mut section, "write a name, as in name = \"policy-token\"");
        let scheme = section.choice("scheme", CredentialScheme::Bearer, &schemes);
        let source = credential_source(&mut section, directory, mentions);
        section.finish();
        Some(CredentialConfig {
            name: name?,
            source: source?,
            scheme,
        })
    };
    let credentials = nodes.iter().filter_map(read).collect();
    known.credentials = names.taken();
    credentials
}

fn credential_source(
    section: &mut Section<'_>,
    directory: &Path,
    mentions: &mut Vec<FileMention>,
) -> Option<CredentialSource> {
    let help = "name a file whose first line is the secret, as in file = \"token\", or an \
                environment variable, as in env = \"POLICY_TOKEN\"";
    match (section.node("file"), section.node("env")) {
        (Some(file), None) => {
            let path = directory.join(file.parsed("a path in quotes", path_value)?);
            mentions.push(FileMention {
                key: file.path.clone(),
                span: file.span(),
                path: path.clone(),
                help,
            });
            Some(CredentialSource::File(path))
        }
        (None, Some(env)) => {
            let is_name = |text: &str| {
                let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
                if !text.is_empty() && text.bytes().all(fits) {
                    return Ok(text.to_owned());
                }
                let message = format!("{text:?} is not the name of a variable");
                Err(Wrong::new(message, "write letters, digits and underscores"))
            };
            let name = env.parsed("a name in quotes", is_name)?;
            Some(CredentialSource::Env(name))
        }
        (Some(_), Some(_)) => {
            let wrong = Wrong::new("there are both `file` and `env`", "remove one");
            section.fault(Severity::Error, "env", wrong);
            None
        }
        (None, None) => {
            let wrong = Wrong::new("there is neither `file` nor `env`", help);
            section.fault(Severity::Error, "file", wrong);
            None
        }
    }
}

/// The keys of `[plugin.grants]` for tables, state and HTTP: into `grants`, and the rest.
pub(super) fn grants(
    section: &mut Section<'_>,
    known: &Known,
    grants: &mut plugin::Grants,
) -> HttpGrant {
    let wanted = "a list of names of tables, as in [\"routes\"]";
    grants.tables = section.texts("tables", wanted, |text| {
        one_of(text, "table", &known.tables)
    });
    let state = section.size("state", 0, 0..=1 << 30);
    grants.state_bytes = usize::try_from(state).ok().filter(|bytes| *bytes > 0);
    grants.state_durable = section.boolean("state_durable", false);
    if grants.state_durable && grants.state_bytes.is_none() {
        let help = "write how much it may keep, as in state = \"8MiB\"";
        let wrong = Wrong::new("no state is granted that could be durable", help);
        section.fault(Severity::Error, "state_durable", wrong);
    }
    let credentials = origins(section, known);
    grants.http = credentials
        .iter()
        .map(|(origin, _)| origin.clone())
        .collect();
    let default = HttpGrant::default();
    let longest = Duration::from_secs(600);
    let size = |section: &mut Section<'_>, key, default: usize| {
        let size = section.size(key, default as u64, 0..=64 << 20);
        usize::try_from(size).unwrap_or(default)
    };
    HttpGrant {
        credentials,
        allow_private: section.boolean("http_private", false),
        timeout: section.duration(
            "http_timeout",
            default.timeout,
            Duration::from_millis(1)..=longest,
        ),
        request_bytes: size(section, "http_request_size", default.request_bytes),
        response_bytes: size(section, "http_response_size", default.response_bytes),
        concurrency_count: section.count("http_concurrency", default.concurrency_count, 1..=10_000),
    }
}

const ORIGINS: &str = "a list of origins, as in [\"https://policy.example\"], each also as \
                       { origin = \"https://policy.example\", auth = [\"policy-token\"] }";

fn origins(section: &mut Section<'_>, known: &Known) -> Vec<(Origin, Vec<String>)> {
    let mut origins = Vec::new();
    for node in section.list("http", ORIGINS).unwrap_or_default() {
        if !node.value().get_ref().is_table() {
            let origin = node.parsed("an origin in quotes", origin_value);
            origins.extend(origin.map(|origin| (origin, Vec::new())));
            continue;
        }
        let mut entry = node.section();
        let origin = entry.required(
            "origin",
            "write an origin, as in \"https://policy.example\"",
        );
        let origin = origin.and_then(|node| node.parsed("an origin in quotes", origin_value));
        let auth = entry.texts("auth", "a list of names of credentials", |text| {
            one_of(text, "credential", &known.credentials)
        });
        entry.finish();
        origins.extend(origin.map(|origin| (origin, auth)));
    }
    origins
}

fn origin_value(text: &str) -> Result<Origin, Wrong> {
    text.parse().map_err(|error: plugin::OriginError| {
        let help = "write scheme and host, and the port where it is another, as in \
                    \"https://policy.example\" or \"http://127.0.0.1:8080\"";
        Wrong::new(error.to_string(), help)
    })
}

pub(super) fn one_of(text: &str, what: &str, known: &[String]) -> Result<String, Wrong> {
    if known.iter().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let help = match value::nearest(text, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => format!("there is no [[{what}]] at all"),
        None => format!("there are: {}", known.join(", ")),
    };
    Err(Wrong::new(format!("there is no {what} {text:?}"), help))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<(usize, String)>> {
        let text = format!("hostname = \"relay.example.net\"\n{text}");
        Config::parse(&text, "/etc/waypost/waypost.toml").map_err(|errors| {
            let diagnostics = errors.diagnostics().iter();
            diagnostics
                .map(|diagnostic| (diagnostic.line, diagnostic.key.clone()))
                .collect()
        })
    }

    #[test]
    fn grants_name_what_there_is() {
        let config = parse(
            "[[table]]\nname = \"routes\"\npath = \"routes\"\nformat = \"domains\"\n\
             [[credential]]\nname = \"token\"\nenv = \"TOKEN\"\n\
             [[plugin]]\nname = \"p\"\npath = \"p.wasm\"\n[plugin.grants]\n\
             tables = [\"routes\"]\nstate = \"1MiB\"\nstate_durable = true\n\
             http = [\"https://a.example\", { origin = \"http://[::1]:80\", auth = [\"token\"] }]\n",
        );
        let config = config.unwrap_or_else(|faults| panic!("{faults:?}"));
        let table = config.tables.first().expect("there is one");
        assert_eq!(table.path, Path::new("/etc/waypost/routes"));
        assert_eq!(table.format, TableFormat::Domains);
        let plugin = config.plugins.first().expect("there is one");
        assert_eq!(plugin.grants.tables, ["routes"]);
        assert_eq!(plugin.grants.state_bytes, Some(1 << 20));
        assert!(plugin.grants.state_durable);
        let origins: Vec<String> = plugin.grants.http.iter().map(ToString::to_string).collect();
        assert_eq!(origins, ["https://a.example", "http://[::1]"]);
        let (_, names) = plugin.http.credentials.last().expect("there are two");
        assert_eq!(names, &["token"]);
    }

    #[test]
    fn every_fault_is_reported_at_its_place() {
        let faults = parse(
            "[[table]]\nname = \"Routes\"\npath = \"\"\nformat = \"hash\"\npoll = \"1ms\"\n\
             [[table]]\nname = \"a\"\n\
             [[credential]]\nname = \"c\"\nfile = \"x\"\nenv = \"X\"\n\
             [[plugin]]\nname = \"p\"\npath = \"p.wasm\"\n[plugin.grants]\n\
             tables = [\"b\"]\nstate_durable = true\n\
             http = [\"https://a.example/path\", { auth = [\"c\", \"d\"] }]\n",
        );
        let faults = faults.expect_err("it is full of them");
        let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 12, 17, 18, 19, 19, 19], "{faults:?}");
    }
}
