//! The sections that hold nothing but limits, times and switches.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use queue::{RetrySchedule, SchedulerLimits};
use smtp::Domain;

use super::check::host_name_value;
use super::report::Severity;
use super::tree::Section;
use super::types::{
    DeliveryConfig, DnsConfig, LimitsConfig, LogConfig, LogFormat, QueueConfig, StorageConfig,
    TlsMode,
};
use super::value::{self, Wrong};

pub(super) const TLS_MODES: [(&str, TlsMode); 4] = [
    ("off", TlsMode::Off),
    ("opportunistic", TlsMode::Opportunistic),
    ("encrypt", TlsMode::Encrypt),
    ("verify", TlsMode::Verify),
];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Milliseconds are for tests; nobody waits longer than an hour for one peer.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

/// Notes that `lower` is above `upper`, both keys of `section`.
fn ordered<T: PartialOrd>(
    section: &mut Section<'_>,
    (lower, low): (&'static str, T),
    (upper, high): (&'static str, T),
) {
    if low > high {
        let message = format!("`{lower}` is above `{upper}`");
        let wrong = Wrong::new(message, format!("lower `{lower}` or raise `{upper}`"));
        section.fault(Severity::Error, lower, wrong);
    }
}

pub(super) fn limits(mut section: Section<'_>) -> LimitsConfig {
    let limits = LimitsConfig {
        message_size_bytes: section.size("message_size", 50 * MIB, KIB..=2048 * MIB),
        recipients_count: section.count("recipients", 1000, 1..=100_000),
        connections_count: section.count("connections", 1000, 1..=1_000_000),
        connections_per_address_count: section.count("connections_per_address", 250, 1..=1_000_000),
        messages_per_connection_count: section.count(
            "messages_per_connection",
            10_000,
            1..=u64::MAX,
        ),
        errors_per_connection_count: section.count("errors_per_connection", 20, 1..=1_000_000),
        in_flight_bytes: section.size("in_flight", 256 * MIB, KIB..=TIB),
        command_timeout: section.duration("command_timeout", 5 * MINUTE, TIMEOUT),
        content_idle_timeout: section.duration("content_idle_timeout", 3 * MINUTE, TIMEOUT),
        content_timeout: section.duration(
            "content_timeout",
            30 * MINUTE,
            TIMEOUT.start().to_owned()..=DAY,
        ),
        session_timeout: section.duration(
            "session_timeout",
            2 * HOUR,
            TIMEOUT.start().to_owned()..=7 * DAY,
        ),
        hops_count: section.count("hops", 100, 1..=1000),
        attributes_bytes: section.size("attributes", 64 * KIB, KIB..=MIB),
        shutdown_timeout: section.duration("shutdown_timeout", 30 * SECOND, Duration::ZERO..=HOUR),
    };
    let message_size = ("message_size", limits.message_size_bytes);
    ordered(
        &mut section,
        message_size,
        ("in_flight", limits.in_flight_bytes),
    );
    if limits.recipients_count < 100 {
        let help = "RFC 5321 section 4.5.3.1.8 asks for 100 at least";
        let wrong = Wrong::new("clients may not expect so low a limit", help);
        section.fault(Severity::Warning, "recipients", wrong);
    }
    section.finish();
    limits
}

pub(super) fn queue(mut section: Section<'_>) -> QueueConfig {
    let default = SchedulerLimits::default();
    let millis = Duration::from_millis;
    let (retry, retry_jitter_percent) = retry(&mut section);
    let queue = QueueConfig {
        retry,
        retry_jitter_percent,
        expires_after: section.duration("expires_after", 5 * DAY, SECOND..=365 * DAY),
        bounce_expires_after: section.duration("bounce_expires_after", 2 * DAY, SECOND..=365 * DAY),
        active_messages_count: section.count(
            "active_messages",
            default.active_messages,
            1..=10_000_000,
        ),
        reserved_for_fresh_count: section.count(
            "reserved_for_fresh",
            default.reserved_for_fresh,
            0..=10_000_000,
        ),
        concurrency_count: section.count("concurrency", default.max_concurrency, 1..=100_000),
        initial_concurrency_count: section.count(
            "initial_concurrency",
            default.initial_concurrency,
            1..=100_000,
        ),
        ready_per_destination_count: section.count(
            "ready_per_destination",
            default.ready_per_destination,
            1..=10_000_000,
        ),
        failures_to_suspend_count: section.count(
            "failures_to_suspend",
            default.failures_to_suspend,
            1..=1_000_000,
        ),
        suspend: section.duration("suspend", millis(default.suspend_ms), millis(1)..=DAY),
        suspend_max: section.duration(
            "suspend_max",
            millis(default.suspend_max_ms),
            millis(1)..=DAY,
        ),
        retry_after_min: section.duration(
            "retry_after_min",
            millis(default.retry_after_min_ms),
            millis(1)..=30 * DAY,
        ),
        retry_after_max: section.duration(
            "retry_after_max",
            millis(default.retry_after_max_ms),
            millis(1)..=30 * DAY,
        ),
        prompt_retries_count: section.count(
            "prompt_retries",
            default.prompt_retries,
            0..=queue::History::LIMIT - 1,
        ),
    };
    queue_fits(&mut section, &queue);
    section.finish();
    queue
}

/// What only goes wrong together.
fn queue_fits(section: &mut Section<'_>, queue: &QueueConfig) {
    ordered(
        section,
        ("initial_concurrency", queue.initial_concurrency_count),
        ("concurrency", queue.concurrency_count),
    );
    ordered(
        section,
        ("suspend", queue.suspend),
        ("suspend_max", queue.suspend_max),
    );
    ordered(
        section,
        ("retry_after_min", queue.retry_after_min),
        ("retry_after_max", queue.retry_after_max),
    );
    if queue.reserved_for_fresh_count >= queue.active_messages_count {
        let message = "nothing of `active_messages` would be left for mail that waits";
        let wrong = Wrong::new(message, "write less than `active_messages`");
        section.fault(Severity::Error, "reserved_for_fresh", wrong);
    }
    if queue
        .retry
        .first()
        .is_some_and(|first| *first >= queue.expires_after)
    {
        let wrong = Wrong::new(
            "mail expires before its second attempt",
            "shorten the first interval of `retry` or raise `expires_after`",
        );
        section.fault(Severity::Warning, "expires_after", wrong);
    }
}

fn retry(section: &mut Section<'_>) -> (Vec<Duration>, u8) {
    let jitter = section.count("retry_jitter_percent", 10, 0..=50);
    let default = RetrySchedule::default();
    let default = default
        .intervals_ms()
        .iter()
        .copied()
        .map(Duration::from_millis)
        .collect();
    let wanted = "a list of durations, as in [\"5m\", \"1h\"]";
    let Some(members) = section.list("retry", wanted) else {
        return (default, jitter);
    };
    if members.is_empty() {
        let wrong = Wrong::new("there is no interval", format!("write {wanted}"));
        section.fault(Severity::Error, "retry", wrong);
    }
    let range = Duration::from_millis(1)..=30 * DAY;
    (
        members
            .iter()
            .filter_map(|node| node.duration(&range))
            .collect(),
        jitter,
    )
}

pub(super) fn storage(mut section: Section<'_>, directory: PathBuf) -> StorageConfig {
    let default = spool::Options::default();
    let segment_size_bytes =
        section.size("segment_size", default.segment_bytes, 4 * KIB..=1024 * MIB);
    let batch_count = section.count("batch", default.batch_count, 1..=1_000_000);
    let batch_size_bytes = section.size("batch_size", default.batch_bytes, KIB..=1024 * MIB);
    let spare_segments_count = section.count("spare_segments", default.spare_count, 0..=10_000);
    // No limit has no notation of its own: leave the key out.
    let max_size = section
        .node("max_size")
        .map(|_| section.size("max_size", TIB, MIB..=u64::MAX));
    if let Some(max_size) = max_size {
        ordered(
            &mut section,
            ("segment_size", segment_size_bytes),
            ("max_size", max_size),
        );
    }
    section.finish();
    StorageConfig {
        directory,
        segment_size_bytes,
        batch_count,
        batch_size_bytes,
        spare_segments_count,
        max_size_bytes: max_size,
    }
}

pub(super) fn dns(mut section: Section<'_>) -> DnsConfig {
    let wanted = "a list of addresses, as in [\"192.0.2.53\"]";
    let dns = DnsConfig {
        servers: section.texts("servers", wanted, |text| value::server_address(text, 53)),
        timeout: section.duration("timeout", 5 * SECOND, TIMEOUT),
        attempts_count: section.count("attempts", 2, 1..=20),
        cache_entries_count: section.count("cache_entries", 100_000, 1..=100_000_000),
        ttl_floor: section.duration("ttl_floor", 5 * SECOND, Duration::ZERO..=HOUR),
        ttl_ceiling: section.duration("ttl_ceiling", DAY, SECOND..=7 * DAY),
        negative_ttl_ceiling: section.duration(
            "negative_ttl_ceiling",
            15 * MINUTE,
            Duration::ZERO..=DAY,
        ),
        loopback_mx: section.boolean("loopback_mx", false),
    };
    ordered(
        &mut section,
        ("ttl_floor", dns.ttl_floor),
        ("ttl_ceiling", dns.ttl_ceiling),
    );
    section.finish();
    dns
}

pub(super) fn delivery(mut section: Section<'_>, hostname: &Domain) -> DeliveryConfig {
    let ehlo = section.parsed("ehlo", "a domain name in quotes", host_name_value);
    let delivery = DeliveryConfig {
        port: section.count("port", 25, 1..=u16::MAX),
        ehlo: ehlo.unwrap_or_else(|| hostname.clone()),
        connect_timeout: section.duration("connect_timeout", 30 * SECOND, TIMEOUT),
        greeting_timeout: section.duration("greeting_timeout", 5 * MINUTE, TIMEOUT),
        command_timeout: section.duration("command_timeout", 5 * MINUTE, TIMEOUT),
        data_timeout: section.duration("data_timeout", 2 * MINUTE, TIMEOUT),
        content_timeout: section.duration("content_timeout", 3 * MINUTE, TIMEOUT),
        end_of_content_timeout: section.duration("end_of_content_timeout", 10 * MINUTE, TIMEOUT),
        hosts_limit_count: section.count("hosts_limit", 5, 1..=100),
        addresses_limit_count: section.count("addresses_limit", 10, 1..=1000),
        connections_count: section.count("connections", 1000, 1..=1_000_000),
        idle_timeout: section.duration("idle_timeout", 5 * SECOND, Duration::ZERO..=HOUR),
        messages_per_connection_count: section.count("messages_per_connection", 1000, 1..=u32::MAX),
        tls: section.choice("tls", TlsMode::Opportunistic, &TLS_MODES),
        feedback_calls_count: section.count("feedback_calls", 1000, 1..=1_000_000),
    };
    section.finish();
    delivery
}

pub(super) fn log(mut section: Section<'_>) -> LogConfig {
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    let format = section.choice("format", LogFormat::Human, &formats);
    let level = section.parsed("level", "a level, as in \"info\"", |text| {
        let help = "write error, warn, info, debug or trace, or a directive as in \
                    \"info,relay::egress=debug\"";
        // A word that is no level is taken for the name of a module, for which
        // everything is shown; nobody means that by a single word.
        let single = !text.contains(['=', ',']);
        let is_level = text.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let filter = tracing_subscriber::EnvFilter::try_new(text);
        if text.is_empty() || filter.is_err() || (single && !is_level) {
            return Err(Wrong::new(format!("{text:?} is not a level"), help));
        }
        Ok(text.to_owned())
    });
    section.finish();
    LogConfig {
        format,
        level: level.unwrap_or_else(|| "info".to_owned()),
    }
}
