//! What plugins have beside the mail: tables, state and HTTP, for every phase alike.
//!
//! [`Resources`] live as long as the relay. A configuration is made ready against them
//! ([`Resources::prepare`]), gives each plugin its part ([`Prepared::of`]), and takes effect with
//! [`Resources::settle`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use hyper::header::HeaderValue;
use mx::Directory;
use plugin::{
    CallEnvironment, HttpFailure, HttpRequest, HttpResponse, StateStore, Table, TableFailure,
};
use tokio::sync::Semaphore;

use super::candidate;
use super::furnished::Furnished;
use super::http::{Credential, HttpAccess, HttpClient};
use crate::clock::Clock;
use crate::config::{Config, CredentialConfig, CredentialScheme, CredentialSource, PluginConfig};
use crate::plugin_state::{Durability, Namespace, PluginStates};
use crate::tables::{self, LiveTable, Tables, TablesError};
use crate::telemetry;

/// What plugins share for the life of the relay.
pub(crate) struct Resources {
    states: PluginStates,
    client: Arc<HttpClient>,
    tables: ArcSwap<Tables>,
    clock: Clock,
}

/// A configuration's tables, and each plugin's part.
pub(crate) struct Prepared {
    tables: Tables,
    parts: BTreeMap<String, Arc<PluginResources>>,
    /// Plugins with state: name, quota, durability.
    states: Vec<(String, usize, bool)>,
}

/// What one plugin has.
#[derive(Default)]
pub(crate) struct PluginResources {
    tables: Vec<LiveTable>,
    state: Option<Arc<Namespace>>,
    http: Option<HttpAccess>,
    /// Of a candidate in its shadow: with turns of its own, so that it takes none from the mail.
    trial_http: Option<HttpAccess>,
}

impl fmt::Debug for PluginResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginResources")
    }
}

/// What a configuration names and cannot be used: all of it.
#[derive(Debug)]
pub struct ResourcesError {
    tables: Option<TablesError>,
    credentials: Vec<String>,
}

impl std::error::Error for ResourcesError {}

impl fmt::Display for ResourcesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.iter().map(ToString::to_string);
        let all: Vec<String> = tables.chain(self.credentials.iter().cloned()).collect();
        f.write_str(&all.join("\n"))
    }
}

impl Resources {
    /// For a relay that handles mail: durable state goes into the spool's directory.
    pub(crate) fn for_mail(config: &Config, clock: &Clock) -> Self {
        let directory = config.storage.directory.join("plugin-state");
        Self::new(Durability::Directory(directory), clock)
    }

    /// For commands that only look: state begins empty and goes nowhere.
    pub(crate) fn for_looking(clock: &Clock) -> Self {
        Self::new(Durability::None, clock)
    }

    fn new(durability: Durability, clock: &Clock) -> Self {
        Self {
            states: PluginStates::new(durability, clock.clone()),
            client: Arc::default(),
            tables: ArcSwap::default(),
            clock: clock.clone(),
        }
    }

    /// Reads what a configuration names. What is in force stays as it is, but for new versions of
    /// files of tables that are in force already.
    ///
    /// # Errors
    /// Everything that cannot be used.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        config: &Config,
        directory: &Arc<Directory>,
    ) -> Result<Prepared, ResourcesError> {
        let (itself, config) = (Arc::clone(self), config.clone());
        let directory = Arc::clone(directory);
        let reading = tokio::task::spawn_blocking(move || itself.read(&config, &directory));
        reading.await.unwrap_or_else(|error| {
            Err(ResourcesError {
                tables: None,
                credentials: vec![format!("reading tables and credentials failed: {error}")],
            })
        })
    }

    fn read(
        &self,
        config: &Config,
        directory: &Arc<Directory>,
    ) -> Result<Prepared, ResourcesError> {
        let before = self.tables.load_full();
        let tables = Tables::load(&config.tables, &before, self.clock.now().0);
        let (mut secrets, mut faults) = (BTreeMap::new(), Vec::new());
        for credential in &config.credentials {
            match secret(credential) {
                Ok(value) => drop(secrets.insert(credential.name.as_str(), value)),
                Err(fault) => faults.push(format!("credential {}: {fault}", credential.name)),
            }
        }
        let tables = match tables {
            Ok(tables) if faults.is_empty() => tables,
            outcome => {
                return Err(ResourcesError {
                    tables: outcome.err(),
                    credentials: faults,
                });
            }
        };
        let states: Vec<(String, usize, bool)> = config.plugins.iter().filter_map(state).collect();
        let parts = config.plugins.iter().map(|plugin| {
            let state = states.iter().find(|(name, _, _)| *name == plugin.name);
            let part = PluginResources {
                tables: tables
                    .iter()
                    .filter(|table| plugin.grants.tables.contains(&table.config().name))
                    .cloned()
                    .collect(),
                state: state.map(|(name, quota, is_durable)| {
                    self.states.namespace(name, *quota, *is_durable)
                }),
                http: self.access(plugin, &secrets, directory),
                trial_http: plugin.candidate.as_ref().and_then(|candidate| {
                    let mut trial = candidate::as_plugin(plugin, candidate);
                    let turns = &mut trial.http.concurrency_count;
                    *turns = (*turns).min(candidate.concurrency_count);
                    self.access(&trial, &secrets, directory)
                }),
            };
            (plugin.name.clone(), Arc::new(part))
        });
        Ok(Prepared {
            parts: parts.collect(),
            tables,
            states,
        })
    }

    fn access(
        &self,
        plugin: &PluginConfig,
        secrets: &BTreeMap<&str, HeaderValue>,
        directory: &Arc<Directory>,
    ) -> Option<HttpAccess> {
        if plugin.grants.http.is_empty() {
            return None;
        }
        let mut credentials = Vec::new();
        for (origin, names) in &plugin.http.credentials {
            for name in names {
                credentials.extend(secrets.get(name.as_str()).map(|value| Credential {
                    origin: origin.clone(),
                    name: name.clone(),
                    authorization: value.clone(),
                }));
            }
        }
        Some(HttpAccess {
            client: Arc::clone(&self.client),
            directory: Arc::clone(directory),
            plugin: plugin.name.clone(),
            origins: plugin.grants.http.clone(),
            grant: plugin.http.clone(),
            credentials,
            turns: Semaphore::new(plugin.http.concurrency_count),
        })
    }

    /// The configuration is in force now.
    pub(crate) async fn settle(self: &Arc<Self>, prepared: Prepared) {
        self.tables.store(Arc::new(prepared.tables));
        let itself = Arc::clone(self);
        let settling = tokio::task::spawn_blocking(move || itself.states.settle(&prepared.states));
        if let Err(error) = settling.await {
            tracing::error!(%error, "the grants of state did not take effect");
        }
    }

    /// Follows the files of tables, for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let clock = self.clock.clone();
        tables::watch(move || Tables::clone(&self.tables.load()), clock).await;
    }

    /// Writes state that is to be durable, for the last time.
    pub(crate) async fn close(self: &Arc<Self>) {
        let itself = Arc::clone(self);
        let closing = tokio::task::spawn_blocking(move || itself.states.close());
        if let Err(error) = closing.await {
            tracing::error!(%error, "plugin state did not close cleanly");
        }
    }

    /// Shows tables and state in the metrics.
    pub(crate) fn show(&self) {
        let now_ms = self.clock.now().0;
        for table in self.tables.load().iter() {
            let current = table.current();
            let age_ms = now_ms.saturating_sub(table.loaded_at_ms());
            let name = &table.config().name;
            telemetry::table_gauges(name, current.len(), current.bytes(), age_ms);
        }
        for namespace in self.states.all() {
            let (bytes, entries) = namespace.usage();
            telemetry::state_gauges(namespace.plugin(), bytes, entries);
        }
    }
}

impl Prepared {
    /// The part of one plugin.
    pub(crate) fn of(&self, plugin: &str) -> Arc<PluginResources> {
        self.parts.get(plugin).cloned().unwrap_or_default()
    }

    /// What was read, a line each.
    pub(crate) fn facts(&self) -> Vec<String> {
        let fact = |table: &LiveTable| {
            let (config, current) = (table.config(), table.current());
            format!(
                "table {}: {} entries in {}, {} octets of memory",
                config.name,
                current.len(),
                config.path.display(),
                current.bytes()
            )
        };
        self.tables.iter().map(fact).collect()
    }
}

impl PluginResources {
    /// The same environment, with tables, state and HTTP in it.
    pub(crate) fn around(
        self: &Arc<Self>,
        environment: Arc<dyn CallEnvironment>,
    ) -> Arc<dyn CallEnvironment> {
        Arc::new(Furnished::new(environment, Arc::clone(self)))
    }

    /// An environment for a version on trial, beside the call of the one in force.
    pub(super) fn around_trial(
        self: &Arc<Self>,
        environment: Arc<dyn CallEnvironment>,
    ) -> Arc<dyn CallEnvironment> {
        Arc::new(Furnished::on_trial(environment, Arc::clone(self)))
    }

    pub(super) fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        let found = self.tables.iter().find(|table| table.config().name == name);
        let table = found.ok_or_else(|| TableFailure::Unknown(name.to_owned()))?;
        Ok(table.current())
    }

    pub(super) fn state(&self) -> Option<Arc<dyn StateStore>> {
        let namespace = self.state.clone()?;
        Some(namespace)
    }

    pub(super) fn http(
        &self,
        request: HttpRequest,
        is_trial: bool,
    ) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        let access = if is_trial {
            &self.trial_http
        } else {
            &self.http
        };
        Box::pin(async move {
            match access {
                Some(access) => access.send(request).await,
                None => Err(HttpFailure::Denied(request.url)),
            }
        })
    }
}

/// What a plugin is granted of state. One that is not enabled keeps what it has.
fn state(plugin: &PluginConfig) -> Option<(String, usize, bool)> {
    let grants = &plugin.grants;
    Some((
        plugin.name.clone(),
        grants.state_bytes?,
        grants.state_durable,
    ))
}

/// The header value of a credential.
fn secret(credential: &CredentialConfig) -> Result<HeaderValue, String> {
    let text = match &credential.source {
        CredentialSource::File(path) => first_line(path)?,
        CredentialSource::Env(name) => std::env::var(name)
            .map_err(|_| format!("there is no environment variable {name}, or it is no text"))?,
    };
    if text.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    let value = match credential.scheme {
        CredentialScheme::Bearer => format!("Bearer {text}"),
        CredentialScheme::Basic => format!("Basic {}", base64(text.as_bytes())),
        CredentialScheme::Raw => text,
    };
    // The error says nothing of the secret.
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| "the secret has characters that no header field may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn first_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// RFC 4648 section 4.
fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| {
            (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0))
        });
        for place in 0..4_usize {
            let letter = LETTERS.get((bits >> (18 - 6 * place)) as usize & 63);
            let letter = letter.filter(|_| place <= group.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plugin::HttpMethod;
    use queue::UnixMs;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_slow_shadow_takes_no_turn_from_the_plugin() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let text = format!(
            "hostname = \"relay.test\"\nlisten = [\"127.0.0.1:0\"]\nspool = \"s\"\n\
             [dns]\nservers = [\"127.0.0.1:5353\"]\n\
             [[plugin]]\nname = \"asks\"\npath = \"a.wasm\"\n\
             [plugin.grants]\nhttp = [\"{origin}\"]\nhttp_timeout = \"60s\"\n\
             http_concurrency = 1\n[plugin.candidate]\npath = \"b.wasm\"\n"
        );
        let config = Config::parse(&text, "waypost.toml").expect("it is good");
        let (clock, _) = Clock::manual(UnixMs(1_000_000));
        let resources = Arc::new(Resources::for_looking(&clock));
        let directory = crate::setup::directory(&config).expect("a directory");
        let prepared = resources.prepare(&config, &directory).await;
        let part = prepared.expect("nothing to read").of("asks");
        let get = |is_trial| {
            let (part, url) = (Arc::clone(&part), format!("{origin}/"));
            let request = HttpRequest {
                method: HttpMethod::Get,
                url,
                headers: Vec::new(),
                body: bytes::Bytes::new(),
                auth: None,
                timeout_ms: None,
            };
            tokio::spawn(async move { part.http(request, is_trial).await })
        };
        // Nobody answers: who has a turn keeps it.
        let mut held = Vec::new();
        for is_trial in [true, false] {
            let asking = get(is_trial);
            let limit = Duration::from_secs(30);
            let accepted = tokio::time::timeout(limit, listener.accept()).await;
            let connection = accepted.expect("it has its turn").expect("a connection");
            held.push((asking, connection));
        }
        let labels = [&part.http, &part.trial_http].map(|access| {
            let access = access.as_ref().expect("it may ask");
            access.plugin.clone()
        });
        assert_eq!(labels, ["asks", "asks@candidate"]);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        std::fs::write(&path, "geheim\n").expect("it is written");
        let credential = |path: &Path, scheme| CredentialConfig {
            name: "token".to_owned(),
            source: CredentialSource::File(path.to_owned()),
            scheme,
        };
        let value = secret(&credential(&path, CredentialScheme::Bearer)).expect("it is good");
        assert_eq!(value.as_bytes(), b"Bearer geheim");
        assert!(!format!("{value:?}").contains("geheim"));
        std::fs::write(&path, "geh\x07eim\n").expect("it is written");
        let fault = secret(&credential(&path, CredentialScheme::Raw)).expect_err("it is bad");
        assert!(!fault.contains("geh"), "{fault}");
        std::fs::write(&path, "\n").expect("it is written");
        assert!(secret(&credential(&path, CredentialScheme::Raw)).is_err());
    }
}
