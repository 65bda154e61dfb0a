//! The checked sections. Sizes end in `_bytes`, numbers in `_count`, times are
//! [`Duration`]s. Each default is the one in `config/waypost.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use smtp::Domain;

use super::check_candidate::CandidateConfig;
use super::check_live::LiveConfig;
use super::check_stores::HttpGrant;
use super::pattern::{DomainPattern, Networks, SenderPattern};

/// One `[[listener]]`, or one address of the short form `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Label in metrics, logs and plugins: `smtp-1`, `smtp-2`… in short form.
    pub name: String,
    /// Where to bind; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Who may relay through this listener: its own list, or the global one.
    pub relay_from: Networks,
    /// Text of the 220 greeting after the host name.
    pub banner: String,
}

/// Where a smarthost is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmarthostHost {
    /// A name whose A and AAAA records are used; MX records are not.
    Name(Domain),
    /// An address.
    Address(IpAddr),
}

/// One place that takes all our mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmarthostConfig {
    /// The machine.
    pub host: SmarthostHost,
    /// Its port, 25 unless named.
    pub port: u16,
    /// Its own `tls`, otherwise that of `[delivery]`.
    pub tls: TlsMode,
}

/// How outgoing connections are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Plaintext, even where STARTTLS is offered.
    Off,
    /// STARTTLS where offered, certificate not checked (RFC 7435).
    Opportunistic,
    /// STARTTLS or no delivery, certificate not checked.
    Encrypt,
    /// STARTTLS with a valid certificate for the host's name or no delivery.
    Verify,
}

/// The spool's directory and tuning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Top level `spool`, absolute or relative to the working directory of the
    /// process (the check has put the configuration's directory in front).
    pub directory: PathBuf,
    /// Size of one segment file.
    pub segment_size_bytes: u64,
    /// Most operations that share one sync.
    pub batch_count: usize,
    /// Content after which a batch is closed.
    pub batch_size_bytes: u64,
    /// Emptied segment files kept for reuse.
    pub spare_segments_count: usize,
    /// Limit for all files of the spool; none: the file system's.
    pub max_size_bytes: Option<u64>,
}

/// What one peer may ask for, and all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Largest message; also what EHLO announces as SIZE.
    pub message_size_bytes: u64,
    /// Most recipients of one transaction (RFC 5321 section 4.5.3.1.8: 100 or more).
    pub recipients_count: usize,
    /// Most incoming connections at a time.
    pub connections_count: usize,
    /// Most incoming connections from one address at a time.
    pub connections_per_address_count: usize,
    /// Most messages of one connection.
    pub messages_per_connection_count: u64,
    /// Refused commands after which the connection is closed.
    pub errors_per_connection_count: u32,
    /// Content in memory between reception and the end of the first attempt.
    pub in_flight_bytes: u64,
    /// Longest silence where a command is due (RFC 5321 section 4.5.3.2.7).
    pub command_timeout: Duration,
    /// Longest silence in the middle of a message's content.
    pub content_idle_timeout: Duration,
    /// Longest time for the whole content of one message.
    pub content_timeout: Duration,
    /// Age at which a connection is closed, unless content is just being received.
    pub session_timeout: Duration,
    /// Received fields above which a message is taken to loop.
    pub hops_count: usize,
    /// Most octets of what plugins note with one message, in all phases: names and values.
    pub attributes_bytes: u64,
    /// What work under way is given when the relay stops.
    pub shutdown_timeout: Duration,
}

/// Retries, expiry and concurrency. The defaults are those of the `queue` crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Time until the next attempt after the first, second… one; the last
    /// repeats. Never empty, none of them zero.
    pub retry: Vec<Duration>,
    /// Chance added to and taken from each of them, so that mail deferred
    /// together does not come back together; at most 50.
    pub retry_jitter_percent: u8,
    /// Age at which undelivered recipients are given up.
    pub expires_after: Duration,
    /// The same for messages with the null reverse-path.
    pub bounce_expires_after: Duration,
    /// Most messages in memory for routing and delivery.
    pub active_messages_count: usize,
    /// The part of them that mail from the spool leaves to fresh mail.
    pub reserved_for_fresh_count: usize,
    /// Most simultaneous attempts to one destination.
    pub concurrency_count: u32,
    /// Simultaneous attempts to a destination that is not known yet.
    pub initial_concurrency_count: u32,
    /// Most routed messages that wait for one destination in memory.
    pub ready_per_destination_count: usize,
    /// Failures in a row that suspend a destination.
    pub failures_to_suspend_count: u32,
    /// How long a destination is suspended at first; it doubles.
    pub suspend: Duration,
    /// The longest that it is suspended.
    pub suspend_max: Duration,
    /// A plugin's advice to try again sooner than this is taken for this.
    pub retry_after_min: Duration,
    /// A plugin's advice to try again later than this is taken for this.
    pub retry_after_max: Duration,
    /// Of a message's last attempts, so many may have been followed by another at once by advice
    /// of a plugin; fewer than [`queue::History::LIMIT`].
    pub prompt_retries_count: usize,
}

/// The resolver and its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers to ask; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Time for one query to one server.
    pub timeout: Duration,
    /// Queries before a look-up has failed.
    pub attempts_count: usize,
    /// Most answers that are kept.
    pub cache_entries_count: usize,
    /// Answers are kept this long at least.
    pub ttl_floor: Duration,
    /// Answers are kept this long at most.
    pub ttl_ceiling: Duration,
    /// "There is no such name" is kept this long at most.
    pub negative_ttl_ceiling: Duration,
    /// Whether a host found by DNS may be a loopback address: laboratories only.
    pub loopback_mx: bool,
}

/// Outgoing connections. The time-outs are those of RFC 5321 section 4.5.3.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Port of hosts found by MX records.
    pub port: u16,
    /// Name in EHLO; the host name unless set.
    pub ehlo: Domain,
    /// Time for a TCP connection to one address, and before that for a place among the outgoing
    /// connections.
    pub connect_timeout: Duration,
    /// Time until the 220 greeting.
    pub greeting_timeout: Duration,
    /// Time for the reply to EHLO, STARTTLS, MAIL, RCPT and RSET.
    pub command_timeout: Duration,
    /// Time for the reply to DATA.
    pub data_timeout: Duration,
    /// Time for the peer to take 64 KiB of content.
    pub content_timeout: Duration,
    /// Time for the reply after the final dot.
    pub end_of_content_timeout: Duration,
    /// Most MX hosts tried in one attempt.
    pub hosts_limit_count: usize,
    /// Most addresses tried in one attempt, over all hosts.
    pub addresses_limit_count: usize,
    /// Most outgoing connections at a time, idle ones included.
    pub connections_count: usize,
    /// How long a connection without work is kept for the next message.
    pub idle_timeout: Duration,
    /// Messages after which a connection is closed.
    pub messages_per_connection_count: u32,
    /// Protection of connections to MX hosts, and to smarthosts that name none.
    pub tls: TlsMode,
    /// Attempts about which plugins are told at a time; of more they are not told.
    pub feedback_calls_count: usize,
}

/// Metrics, health and explain over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where to bind; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Whether `listen` may be reached from other machines.
    pub allow_remote: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// A directive of tracing's `EnvFilter`, as in `info,relay::egress=debug`.
    pub level: String,
}

/// Our certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the chain, our own certificate first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// What happens to a message whose plugin call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Try again later: nothing is lost, nothing goes where it should not.
    Defer,
    /// As if the plugin were not there: mail may take the way it would prevent.
    Continue,
    /// Bounce.
    Reject,
}

/// One `[[plugin]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// `[a-z0-9-]{1,32}`, unique.
    pub name: String,
    /// The component; relative paths have the configuration's directory in front.
    pub path: PathBuf,
    /// Whether it is loaded and asked.
    pub enabled: bool,
    /// What a failed call means.
    pub on_error: OnError,
    /// The file must have this digest.
    pub sha256: Option<plugin::Digest>,
    /// What one call may spend.
    pub limits: plugin::Limits,
    /// The phases it is asked in; `None`: every one it exports.
    pub phases: Option<Vec<plugin::Phase>>,
    /// How its instances live.
    pub instances: plugin::Instances,
    /// Which mail it is asked about.
    pub filter: PluginFilter,
    /// Header fields whose values the routing phase sees, lower case.
    pub route_headers: Vec<String>,
    /// What it may do.
    pub grants: plugin::Grants,
    /// How it may ask the origins in its grants.
    pub http: HttpGrant,
    /// Its own section, `[plugin.config]`.
    pub config: toml::Table,
    /// How it is changed while mail flows.
    pub live: LiveConfig,
    /// Another version of it, on trial.
    pub candidate: Option<CandidateConfig>,
}

/// Which mail a plugin is asked about: all of these must match, and an empty
/// list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginFilter {
    /// Names of listeners through which the message came.
    pub listeners: Vec<String>,
    /// The recipients' domain.
    pub domains: Vec<DomainPattern>,
    /// The reverse-path.
    pub senders: Vec<SenderPattern>,
}
