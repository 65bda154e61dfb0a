//! What the tests of this crate share: a host, the built components, a world for
//! the guests to look at.

#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use plugin::{
    Answer, CallEnvironment, CallFailure, Candidate, CandidateOrigin, HostHealth, HostOptions,
    LookupFailure, MetricSink, Plugin, PluginHost, PluginSpec, Question, RouteCall, RouteRequest,
};

/// Reception, as far as the tests are concerned.
pub(crate) const NOW_MS: u64 = 1_790_000_000_000;

/// A built component.
pub(crate) fn component(name: &str) -> PathBuf {
    let directory = std::env::var_os("WAYPOST_PLUGINS_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")),
        PathBuf::from,
    );
    let path = directory.join(format!("{name}.wasm"));
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask plugins`, which builds it",
        path.display()
    );
    path
}

pub(crate) fn options() -> HostOptions {
    HostOptions {
        instance_count: 8,
        ..HostOptions::new(Arc::new(|| NOW_MS), 1)
    }
}

pub(crate) fn host() -> PluginHost {
    PluginHost::new(options()).unwrap()
}

/// The misbehaving guest with a configuration.
pub(crate) fn guest(config: &str) -> PluginSpec {
    PluginSpec {
        config: config.parse().unwrap(),
        ..PluginSpec::new("guest", component("misbehave"))
    }
}

/// The guest with one behaviour and every default.
pub(crate) fn behaving(behaviour: &str) -> PluginSpec {
    guest(&format!("behaviour = {behaviour:?}"))
}

pub(crate) fn request(recipients: &[&str]) -> Arc<RouteRequest> {
    let recipients: Vec<plugin::Recipient> = recipients
        .iter()
        .map(|text| text.parse::<smtp::Mailbox>().unwrap().into())
        .collect();
    let domain = recipients[0].mailbox.domain().clone();
    Arc::new(RouteRequest {
        size_bytes: 1234,
        received_at_ms: NOW_MS,
        ..RouteRequest::new("0000000000001", domain, recipients)
    })
}

/// One call about one recipient, with nothing to look at.
pub(crate) async fn call(plugin: &Plugin) -> Result<RouteCall, CallFailure> {
    plugin
        .route(
            request(&["a@example.com"]),
            Arc::new(plugin::EmptyEnvironment),
        )
        .await
}

/// Loads and calls.
pub(crate) async fn call_once(
    host: &PluginHost,
    spec: PluginSpec,
) -> Result<RouteCall, CallFailure> {
    call(&host.load(spec).await.unwrap()).await
}

pub(crate) fn candidate(host: &str) -> Candidate {
    Candidate {
        preference: 10,
        host: host.parse().unwrap(),
        addresses: Vec::new(),
        port: 25,
        origin: CandidateOrigin::Mx,
        secure: false,
        health: HostHealth::default(),
    }
}

/// A world with these candidates.
pub(crate) struct Candidates(pub(crate) Vec<Candidate>);

impl CallEnvironment for Candidates {
    fn candidates(
        &self,
        _with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// A resolver that answers when its gate opens, or never.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) open: tokio::sync::Notify,
    pub(crate) asked: tokio::sync::Notify,
    pub(crate) asked_count: AtomicU64,
}

impl CallEnvironment for Gate {
    fn lookup(&self, _question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(async {
            self.asked_count.fetch_add(1, Ordering::SeqCst);
            self.asked.notify_one();
            self.open.notified().await;
            Ok(Answer::Mx(Vec::new()))
        })
    }
}

/// Remembers what plugins count.
#[derive(Default)]
pub(crate) struct Metrics(pub(crate) Mutex<Vec<String>>);

impl MetricSink for Metrics {
    fn count(&self, plugin: &str, name: &str, by: u64, labels: &[(String, String)]) {
        let line = format!("{plugin} {name} +{by} {labels:?}");
        self.0.lock().unwrap().push(line);
    }

    fn observe(&self, plugin: &str, name: &str, value: f64, labels: &[(String, String)]) {
        let line = format!("{plugin} {name} {value} {labels:?}");
        self.0.lock().unwrap().push(line);
    }
}
