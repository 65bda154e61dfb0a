//! What would happen if no plugin said anything: the smarthosts, or the DNS.

use std::sync::Arc;

use mx::{CandidateOrigin, DeliveryPlan, PlanFailure, PlanOptions, TlsPolicy};
use queue::UnixMs;
use smtp::{Domain, QueueId};
use tokio::sync::OnceCell;

use super::Subject;
use crate::config::{Config, SmarthostHost, TlsMode};
use crate::core::Settings;

/// What would happen if no plugin said anything; worked out when first needed.
pub(crate) struct Base {
    pub(super) settings: Arc<Settings>,
    pub(super) id: QueueId,
    pub(super) domain: Domain,
    pub(super) seed: u64,
    pub(super) now: UnixMs,
    /// An operator or the time has ended a hold: no plugin holds the message again.
    pub(super) was_released: bool,
    /// Somebody waits to read what is decided.
    pub(super) is_shown: bool,
    plan: OnceCell<Result<Arc<DeliveryPlan>, PlanFailure>>,
}

impl Base {
    pub(super) fn new(settings: &Arc<Settings>, subject: &Subject) -> Self {
        Self {
            settings: Arc::clone(settings),
            id: subject.message.id,
            domain: subject.domain.clone(),
            // Another order at every attempt, the same within one.
            seed: subject.message.id.get() ^ (u64::from(subject.attempt) << 56),
            now: subject.now,
            was_released: subject.message.released_at.is_some(),
            is_shown: subject.wants_log,
            plan: OnceCell::new(),
        }
    }

    pub(crate) async fn plan(&self) -> Result<Arc<DeliveryPlan>, PlanFailure> {
        self.plan.get_or_init(|| self.resolve()).await.clone()
    }

    /// Whether the base is what the operator wrote, and not the DNS.
    pub(super) fn is_configured(&self) -> bool {
        !self.settings.config.smarthosts.is_empty()
    }

    async fn resolve(&self) -> Result<Arc<DeliveryPlan>, PlanFailure> {
        let config = &self.settings.config;
        let directory = &self.settings.directory;
        let options = plan_options(config);
        if !self.is_configured() {
            return mx::plan(directory, &self.domain, &options, self.seed)
                .await
                .map(Arc::new);
        }
        let hops = smarthost_hops(config);
        let origin = CandidateOrigin::Configured;
        let plan = mx::expand_hops(directory, &hops, origin, &options, self.seed).await;
        plan.map(Arc::new).map_err(|fault| {
            // The configuration's check lets only hosts and addresses through, which cannot
            // fail here; should it ever, the mail waits.
            let detail: Arc<str> = fault.to_string().into();
            let error = mx::LookupError::temporary(mx::TemporaryCause::BadResponse, detail);
            PlanFailure {
                domain: self.domain.clone(),
                reason: mx::PlanFailureReason::Temporary(error),
                why: Vec::new(),
            }
        })
    }
}

/// The unit of concurrency of the smarthosts, as `draft::destination` names it.
pub(super) fn configured_destination(config: &Config) -> Option<String> {
    let places = config
        .smarthosts
        .iter()
        .map(|smarthost| match &smarthost.host {
            SmarthostHost::Name(name) => format!("{name}:{}", smarthost.port),
            SmarthostHost::Address(address) => format!("{address}:{}", smarthost.port),
        });
    let places: Vec<String> = places.collect();
    (!places.is_empty()).then(|| places.join(","))
}

fn smarthost_hops(config: &Config) -> Vec<mx::NextHop> {
    let hops = config
        .smarthosts
        .iter()
        .zip(0_u16..)
        .map(|(smarthost, position)| {
            let endpoint = match &smarthost.host {
                SmarthostHost::Name(name) => mx::HopEndpoint::Host(name.clone()),
                SmarthostHost::Address(address) => mx::HopEndpoint::Address(*address),
            };
            mx::NextHop {
                port: Some(smarthost.port),
                priority: position,
                tls: Some(tls_policy(smarthost.tls)),
                ..mx::NextHop::new(endpoint)
            }
        });
    hops.collect()
}

pub(super) fn plan_options(config: &Config) -> PlanOptions {
    PlanOptions {
        port: config.delivery.port,
        own_names: vec![config.hostname.clone()],
        hosts_limit: config.delivery.hosts_limit_count,
        tls: tls_policy(config.delivery.tls),
        source_pool: None,
    }
}

fn tls_policy(mode: TlsMode) -> TlsPolicy {
    match mode {
        TlsMode::Off => TlsPolicy::Off,
        TlsMode::Opportunistic => TlsPolicy::Opportunistic,
        TlsMode::Encrypt => TlsPolicy::Encrypt,
        TlsMode::Verify => TlsPolicy::Verify(Vec::new()),
    }
}
