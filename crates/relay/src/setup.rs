//! From a checked configuration to the parts of a relay.

use std::sync::Arc;
use std::time::Duration;

use mx::{Directory, DirectoryOptions, HickoryResolver, LookupReport, ResolverOptions};
use queue::{RetrySchedule, SchedulerLimits};
use smtp::{ServerConfig, ServerTls};

use crate::app::StartError;
use crate::clock::Stopwatch;
use crate::config::{Config, ListenerConfig};
use crate::core::{Profile, Settings};
use crate::policy::chain::Chain;
use crate::{egress, telemetry, tls};

/// DNS as configured, with an empty cache.
///
/// # Errors
/// When the system's resolver configuration cannot be read.
pub(crate) fn directory(config: &Config) -> Result<Arc<Directory>, StartError> {
    let dns = &config.dns;
    let resolver = HickoryResolver::new(&ResolverOptions {
        servers: dns.servers.clone(),
        timeout: dns.timeout,
        attempts: dns.attempts_count,
    })?;
    let options = DirectoryOptions {
        entries_max: dns.cache_entries_count,
        ttl_floor: dns.ttl_floor,
        ttl_ceiling: dns.ttl_ceiling,
        negative_ttl_ceiling: dns.negative_ttl_ceiling,
        ..DirectoryOptions::default()
    };
    let started = Stopwatch::start();
    let clock = Arc::new(move || started.elapsed());
    let observer = Arc::new(|report: &LookupReport| {
        telemetry::dns_lookup(report.kind.as_str(), report.outcome, report.elapsed);
    });
    Ok(Arc::new(Directory::new(
        Arc::new(resolver),
        options,
        clock,
        Some(observer),
    )))
}

/// The snapshot that tasks work with.
///
/// # Errors
/// When the certificate cannot be used.
pub(crate) fn settings(
    config: Config,
    chain: Chain,
    directory: Arc<Directory>,
) -> Result<Settings, StartError> {
    let tls = match &config.tls {
        Some(files) => Some(tls::server_config(&files.certificate, &files.key)?),
        None => None,
    };
    let profiles: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| Arc::new(profile(&config, listener)))
        .collect();
    Ok(Settings {
        address_rules: address_rules(&config, &profiles),
        chain,
        directory,
        tls,
        profiles,
        config,
    })
}

fn address_rules(config: &Config, profiles: &[Arc<Profile>]) -> mx::AddressRules {
    let listeners = profiles.iter().map(|profile| profile.listener.address);
    egress::address_rules(listeners, config.dns.loopback_mx)
}

fn profile(config: &Config, listener: &ListenerConfig) -> Profile {
    let limits = &config.limits;
    let server = ServerConfig {
        greeting: listener.banner.clone(),
        max_message_bytes: Some(limits.message_size_bytes),
        max_recipient_count: limits.recipients_count,
        max_message_count: u32::try_from(limits.messages_per_connection_count).unwrap_or(u32::MAX),
        max_error_count: limits.errors_per_connection_count,
        max_discarded_bytes: limits.message_size_bytes.saturating_mul(2),
        tls: if config.tls.is_some() {
            ServerTls::Offered
        } else {
            ServerTls::Off
        },
        ..ServerConfig::new(config.hostname.clone())
    };
    Profile {
        listener: listener.clone(),
        server: Arc::new(server),
        is_bound: true,
        is_closed: false,
    }
}

/// Gives every socket that `old` has bound a profile in `new`, its relay control included.
///
/// Sockets live until the restart, whatever a reload says of names and addresses. One whose
/// name and address are both in the new configuration takes its new relay control from there;
/// any other keeps its old one, because what stands under its name or its address now may be
/// meant for another network. Limits and TLS are the new ones in either case. Where plugins are
/// chosen by the name of the listener, a socket whose name is gone takes no mail at all: it would
/// pass them by.
pub(crate) fn keep_bound(new: &mut Settings, old: &Settings) {
    let bound = old.profiles.iter().filter(|profile| profile.is_bound);
    let bound: Vec<ListenerConfig> = bound.map(|profile| profile.listener.clone()).collect();
    let is_same = |one: &ListenerConfig, other: &ListenerConfig| {
        one.name == other.name && one.address == other.address
    };
    let links = new.chain.links().iter().chain(old.chain.links());
    let by_listener = links.fold(false, |any, link| {
        any | !link.config.filter.listeners.is_empty()
    });
    let mut profiles = Vec::with_capacity(bound.len());
    for listener in &new.config.listeners {
        profiles.push(Arc::new(Profile {
            is_bound: bound.iter().any(|bound| is_same(bound, listener)),
            ..profile(&new.config, listener)
        }));
    }
    for listener in bound {
        if new
            .config
            .listeners
            .iter()
            .any(|new| is_same(new, &listener))
        {
            continue;
        }
        tracing::warn!(
            listener = listener.name,
            address = %listener.address,
            takes_mail = !by_listener,
            "this listener was renamed, moved or removed: its socket stays open with its old \
             name and relay_from until the restart"
        );
        profiles.push(Arc::new(Profile {
            is_closed: by_listener,
            ..profile(&new.config, &listener)
        }));
    }
    new.address_rules = address_rules(&new.config, &profiles);
    new.profiles = profiles;
}

/// Shows what was configured and loaded: `waypost_limit`, `waypost_plugin_info`.
pub(crate) fn announce(new: &Settings, old: Option<&Settings>) {
    telemetry::limits(&new.config);
    // What is no more goes first: the same plugin may stay.
    for link in old.iter().flat_map(|old| old.chain.links()) {
        telemetry::plugin_info(link.plugin.inspect(), false);
    }
    for link in new.chain.links() {
        telemetry::plugin_info(link.plugin.inspect(), true);
    }
}

/// The scheduler's limits and schedule.
///
/// # Errors
/// When they contradict themselves.
pub(crate) fn scheduling(config: &Config) -> Result<(SchedulerLimits, RetrySchedule), StartError> {
    let queue = &config.queue;
    let defaults = SchedulerLimits::default();
    let limits = SchedulerLimits {
        active_messages: queue.active_messages_count,
        reserved_for_fresh: queue.reserved_for_fresh_count,
        reserved_for_due: defaults
            .reserved_for_due
            .min(queue.active_messages_count / 4),
        ready_per_destination: queue.ready_per_destination_count,
        initial_concurrency: queue.initial_concurrency_count,
        max_concurrency: queue.concurrency_count,
        failures_to_suspend: queue.failures_to_suspend_count,
        suspend_ms: ms(queue.suspend),
        suspend_max_ms: ms(queue.suspend_max),
        retry_after_min_ms: ms(queue.retry_after_min),
        retry_after_max_ms: ms(queue.retry_after_max),
        prompt_retries: queue.prompt_retries_count,
        attributes_bytes: config.limits.attributes_bytes,
        ..defaults
    };
    limits.check()?;
    let intervals = queue.retry.iter().map(|interval| ms(*interval)).collect();
    Ok((
        limits,
        RetrySchedule::new(intervals, queue.retry_jitter_percent)?,
    ))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Warns of changes that only a restart brings about.
pub(crate) fn warn_of_fixed(old: &Config, new: &Config) {
    let places = |config: &Config| {
        let listeners = config.listeners.iter();
        listeners
            .map(|listener| (listener.name.clone(), listener.address))
            .collect::<Vec<_>>()
    };
    if places(old) != places(new) {
        tracing::warn!("changed listeners take effect with a restart");
    }
    if old.storage != new.storage {
        tracing::warn!("a changed spool takes effect with a restart");
    }
    if old.admin != new.admin {
        tracing::warn!("a changed admin listener takes effect with a restart");
    }
    if old.delivery.connections_count != new.delivery.connections_count {
        tracing::warn!("a changed delivery.connections takes effect with a restart");
    }
    if old.delivery.feedback_calls_count != new.delivery.feedback_calls_count {
        tracing::warn!("a changed delivery.feedback_calls takes effect with a restart");
    }
    if old.log != new.log {
        tracing::warn!("a changed log takes effect with a restart");
    }
}
