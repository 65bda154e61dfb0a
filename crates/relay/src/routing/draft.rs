//! What is decided so far for some recipients, and what becomes of it in the end.

use std::sync::Arc;

use mx::{DeliveryPlan, PlanFailure, TlsPolicy};
use queue::{Deferral, Disposition};
use smtp::{Domain, Reply};

use super::base::Base;
use super::exit::{self, Claims};
use super::{Group, Planned};
use crate::config::{Config, OnError};
use crate::policy::attribution::CallTrace;
use crate::policy::call::{Failure, Unread};
use crate::policy::chain::Link;
use crate::policy::convert;
use crate::telemetry;

/// What is decided so far for some recipients.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) recipients: Vec<u32>,
    pub(super) stand: Stand,
    pub(super) settings: plugin::Settings,
    pub(super) calls: Vec<CallTrace>,
    /// What plugins have named, for the check at the exit.
    pub(super) claims: Claims,
    /// Steps that led to where nothing is delivered.
    pub(super) why: Vec<mx::Step>,
    pub(super) stopped: bool,
    /// The DNS gave no plan.
    pub(super) is_unresolved: bool,
}

#[derive(Clone)]
pub(super) enum Stand {
    /// Nobody has said anything.
    Base,
    /// A plugin has made this of it.
    Made(Arc<DeliveryPlan>),
    /// There is nothing to deliver to.
    Settled(Disposition<Planned>),
}

fn has_pool(config: &Config, name: &str) -> bool {
    config.source_pools.iter().any(|pool| pool.name == name)
}

/// Refuses what this version cannot do: mail never goes out with less than was asked for.
pub(super) fn supported(plan: &DeliveryPlan, config: &Config) -> Result<(), String> {
    for candidate in &plan.candidates {
        if candidate.protocol == mx::Protocol::Lmtp {
            return Err(format!("{}: LMTP is not available", candidate.endpoint));
        }
        if matches!(candidate.endpoint, mx::Endpoint::UnixSocket(_)) {
            return Err(format!(
                "{}: local sockets are not available",
                candidate.endpoint
            ));
        }
        if let Some(name) = &candidate.auth {
            return Err(format!(
                "{}: no credential {name:?} is configured",
                candidate.endpoint
            ));
        }
        if let Some(name) = &candidate.source_pool
            && !has_pool(config, name)
        {
            return Err(format!(
                "{}: no source pool {name:?} is configured",
                candidate.endpoint
            ));
        }
        if matches!(
            candidate.tls,
            TlsPolicy::Dane | TlsPolicy::DaneOnly | TlsPolicy::Destination
        ) {
            let tls = &candidate.tls;
            return Err(format!(
                "{}: TLS policy {tls} is not available",
                candidate.endpoint
            ));
        }
    }
    Ok(())
}

pub(super) fn failure_disposition(failure: &PlanFailure) -> Disposition<Planned> {
    if failure.is_temporary() {
        Disposition::Defer(Deferral::local(failure.reply()))
    } else {
        Disposition::Reject(failure.reply())
    }
}

impl Draft {
    pub(super) fn new(recipients: Vec<u32>) -> Self {
        Self {
            recipients,
            stand: Stand::Base,
            settings: plugin::Settings::default(),
            calls: Vec::new(),
            claims: Claims::default(),
            why: Vec::new(),
            stopped: false,
            is_unresolved: false,
        }
    }

    /// What the operator chose for a plugin that gave no usable answer.
    pub(super) fn failed(mut self, link: &Link, failure: Failure) -> Self {
        let text = format!(
            "routing plugin {} failed: {}",
            link.config.name, failure.reason
        );
        let on_error = failure.on_error(link);
        self.calls.push(CallTrace::failed(link, failure));
        match on_error {
            OnError::Continue => return self,
            OnError::Defer => {
                let deferral = Deferral::local(Reply::new(451, (4, 3, 0), text));
                self.stand = Stand::Settled(Disposition::Defer(deferral));
            }
            OnError::Reject => {
                self.stand = Stand::Settled(Disposition::Reject(Reply::new(554, (5, 3, 0), text)));
            }
        }
        self.stopped = true;
        self
    }

    /// A plugin that cannot be shown the message decides nothing: what it would have said is not
    /// known, whatever the operator chose for its own faults.
    pub(super) fn unreadable(mut self, link: &Link, unread: &Unread) -> Self {
        self.calls.push(CallTrace::unreadable(link, unread));
        let reply = Reply::new(451, (4, 3, 0), "The message cannot be read from the spool");
        self.stand = Stand::Settled(Disposition::Defer(Deferral::local(reply)));
        self.stopped = true;
        self
    }

    /// The plan as it would be used if nobody said more; none: it is not made yet, or there is
    /// nothing to deliver to.
    pub(super) async fn plan_so_far(&self, base: &Base) -> Option<Arc<DeliveryPlan>> {
        let plan = match &self.stand {
            Stand::Made(plan) => Arc::clone(plan),
            // Only the operator's own hosts are known without asking the DNS.
            Stand::Base if self.settings.tls.is_some() && base.is_configured() => {
                base.plan().await.ok()?
            }
            Stand::Base | Stand::Settled(_) => return None,
        };
        Some(with_settings(plan, &self.settings))
    }

    /// Later plugins overrule earlier ones, field by field.
    pub(super) fn merge(
        &mut self,
        settings: &plugin::Settings,
        config: &Config,
    ) -> Result<(), String> {
        if let Some(class) = &settings.traffic_class {
            return Err(format!("no traffic class {class:?} is configured"));
        }
        if let Some(pool) = &settings.source_pool
            && !has_pool(config, pool)
        {
            return Err(format!("no source pool {pool:?} is configured"));
        }
        if let Some((name, _)) = settings.extra.first() {
            return Err(format!("no setting {name:?} is known"));
        }
        if settings.tls.is_some() {
            self.settings.tls.clone_from(&settings.tls);
        }
        if settings.source_pool.is_some() {
            self.settings.source_pool.clone_from(&settings.source_pool);
        }
        if settings.expires_after_seconds.is_some() {
            self.settings.expires_after_seconds = settings.expires_after_seconds;
        }
        Ok(())
    }

    pub(super) async fn finish(self, base: &Base) -> Group {
        let (mut why, mut is_unresolved) = (self.why, self.is_unresolved);
        let disposition = match self.stand {
            Stand::Settled(disposition) => disposition,
            Stand::Made(plan) => deliver(plan, &self.settings, base, &self.claims).await,
            Stand::Base => match base.plan().await {
                Ok(plan) => deliver(plan, &self.settings, base, &self.claims).await,
                Err(failure) => {
                    why.clone_from(&failure.why);
                    is_unresolved = true;
                    failure_disposition(&failure)
                }
            },
        };
        Group {
            recipients: self.recipients,
            disposition,
            why,
            expires_after_seconds: self.settings.expires_after_seconds,
            calls: self.calls,
            is_unresolved,
        }
    }
}

/// The plan with what was said about every hop.
fn with_settings(plan: Arc<DeliveryPlan>, settings: &plugin::Settings) -> Arc<DeliveryPlan> {
    if settings.tls.is_none() && settings.source_pool.is_none() {
        return plan;
    }
    let mut changed = DeliveryPlan::clone(&plan);
    for candidate in &mut changed.candidates {
        if let Some(policy) = &settings.tls {
            candidate.tls = convert::tls(policy);
        }
        if settings.source_pool.is_some() {
            candidate.source_pool.clone_from(&settings.source_pool);
        }
    }
    Arc::new(changed)
}

/// The only way out for a plan.
async fn deliver(
    plan: Arc<DeliveryPlan>,
    settings: &plugin::Settings,
    base: &Base,
    claims: &Claims,
) -> Disposition<Planned> {
    let plan = with_settings(plan, settings);
    if let Err(violation) = exit::check(base, claims, &plan).await {
        tracing::error!(id = %base.id, %violation, "a plan was kept back; the mail waits");
        telemetry::plan_kept_back();
        let reply = Reply::new(451, (4, 3, 5), format!("Plan kept back: {violation}"));
        return Disposition::Defer(Deferral::local(reply));
    }
    if let Err(detail) = supported(&plan, &base.settings.config) {
        let reply = Reply::new(451, (4, 3, 5), detail);
        return Disposition::Defer(Deferral::local(reply));
    }
    Disposition::Deliver {
        destination: destination(&plan, &base.domain),
        plan,
    }
}

/// The unit of concurrency: the domain where its own hosts take the mail, otherwise the places
/// that somebody named.
pub(crate) fn destination(plan: &DeliveryPlan, domain: &Domain) -> Arc<str> {
    if plan
        .candidates
        .iter()
        .all(|candidate| candidate.origin.is_foreign())
    {
        return domain.as_str().into();
    }
    if let Some(site) = plan
        .candidates
        .first()
        .and_then(|candidate| candidate.site.as_deref())
    {
        return site.into();
    }
    let mut name = String::new();
    for candidate in &plan.candidates {
        if !name.is_empty() {
            name.push(',');
        }
        name.push_str(&format!("{}:{}", candidate.endpoint, candidate.port));
    }
    name.into()
}
