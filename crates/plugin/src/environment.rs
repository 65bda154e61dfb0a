//! What a plugin may ask for while it runs, and who answers: the relay
//! implements [`CallEnvironment`] for each call. Every method has a default
//! that answers "nothing there" or "denied", so an implementation states only
//! what it can answer.
//!
//! Grants are checked by the host before it asks: an implementation never sees
//! a look-up that the plugin may not make.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use smtp::{Domain, Mailbox};

use crate::call::LogLevel;
use crate::http::{HttpFailure, HttpRequest, HttpResponse};
use crate::request::Recipient;
use crate::shared::StateStore;
use crate::table::{Table, TableFailure};

/// The world of one call. Methods that may wait return a future; time spent in
/// it counts against the wall limit of the call, not against its CPU limit, and
/// it is dropped when the call ends early.
///
/// Whatever a guest sees that is neither its input nor its configuration comes
/// from here: an environment that gives the same answers gives the same call.
pub trait CallEnvironment: Send + Sync {
    /// Identity of the message. Not asked in a routing call, whose request has it,
    /// nor in a delivery call, whose report has it.
    fn message_id(&self) -> String {
        String::new()
    }

    /// Reception, in milliseconds since the Unix epoch. Not asked in a routing
    /// call, whose request has it.
    fn received_at_ms(&self) -> u64 {
        0
    }

    /// Octets of the message as it would be sent, header included; 0 before DATA.
    /// Not asked in a routing call, whose request has it.
    fn message_size_bytes(&self) -> u64 {
        0
    }

    /// Annotations of the message with what earlier calls changed, name and value.
    /// Not asked in a routing call, whose request has them.
    fn attributes(&self) -> Arc<[(String, String)]> {
        Arc::new([])
    }

    /// Who handed the message to the relay.
    fn origin(&self) -> Option<Peer> {
        None
    }

    /// MAIL FROM with its parameters; `None`: not known.
    fn envelope_sender(&self) -> Option<Sender> {
        None
    }

    /// Recipients of the whole message, not only of this call's domain.
    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        Arc::new([])
    }

    /// Every header field, in order.
    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async { Arc::from([]) })
    }

    /// Up to `limit` octets of the body from `offset`. The host has cut both to
    /// the plugin's grant.
    fn body(&self, _offset: u64, _limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async { None })
    }

    /// What the relay itself found of SPF, DKIM and DMARC.
    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        Box::pin(async { None })
    }

    /// The hosts that would be tried if this plugin said nothing, with what
    /// earlier plugins made of them. Asked at most twice a call: once without
    /// and once `with_addresses`; both must give the same candidates in the same
    /// order.
    fn candidates(
        &self,
        _with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(async { Err(LookupFailure::Denied) })
    }

    /// MTA-STS policy mode of the domain: `enforce`, `testing`, `none`.
    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { None })
    }

    /// Messages that wait for this domain.
    fn queued_count(&self) -> u64 {
        0
    }

    /// One DNS question, through the relay's cache.
    fn lookup(&self, _question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(async { Err(LookupFailure::Denied) })
    }

    /// A table that the plugin was granted. Asked once a call for each name.
    ///
    /// # Errors
    /// [`TableFailure`].
    fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        Err(TableFailure::Unknown(name.to_owned()))
    }

    /// The plugin's namespace of shared state, where it was granted; `None`: not
    /// to be had. Asked at most once a call.
    fn state(&self) -> Option<Arc<dyn StateStore>> {
        None
    }

    /// One request to an origin that the plugin was granted.
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        Box::pin(async move { Err(HttpFailure::Denied(request.url)) })
    }

    /// The time that the plugin is told, in milliseconds since the Unix epoch;
    /// `None`: the host's clock. For replays and fixed cases.
    fn now_ms(&self) -> Option<u64> {
        None
    }

    /// Seed of the plugin's random numbers in this call; `None`: by the host.
    fn seed(&self) -> Option<u64> {
        None
    }

    /// The milliseconds left for this call that the plugin is told; `measured` is
    /// what is left.
    fn remaining_ms(&self, measured: u32) -> u32 {
        measured
    }

    /// Whether the plugin is told that lines of this level are wanted; `filtered`
    /// is what the relay's log filter says.
    fn is_log_enabled(&self, _level: LogLevel, filtered: bool) -> bool {
        filtered
    }

    /// Keep every log line of the call, whatever its level, in
    /// [`CallStats::log`](crate::CallStats): for `explain` and for tests.
    fn wants_log(&self) -> bool {
        false
    }

    /// Whether this only repeats a call that was made: then its lines go into no log
    /// and its metrics count nothing.
    fn is_repetition(&self) -> bool {
        false
    }
}

/// An environment that knows nothing: used for `identify` and `check-config`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyEnvironment;

impl CallEnvironment for EmptyEnvironment {}

/// One for all: between calls an instance holds on to nothing of the relay.
pub(crate) fn empty_environment() -> Arc<dyn CallEnvironment> {
    static EMPTY: LazyLock<Arc<dyn CallEnvironment>> = LazyLock::new(|| Arc::new(EmptyEnvironment));
    Arc::clone(&EMPTY)
}

/// How a message came into the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ingress {
    /// SMTP from another mail system.
    Smtp,
    /// Authenticated submission (RFC 6409).
    Submission,
    /// LMTP (RFC 2033).
    Lmtp,
    /// The injection API.
    Api,
    /// Made by the relay itself.
    Internal,
}

/// Who handed a message to the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// `None` for messages that came by no connection.
    pub ip: Option<IpAddr>,
    /// 0 for messages that came by no connection.
    pub port: u16,
    /// Name of the listener.
    pub listener: String,
    /// By which protocol.
    pub ingress: Ingress,
    /// Argument of EHLO or HELO, as given.
    pub helo: String,
    /// Forward-confirmed reverse name, where known already.
    pub fcrdns: Option<Domain>,
    /// Authenticated identity.
    pub user: Option<String>,
    /// Facts of the TLS session.
    pub tls: Option<TlsFacts>,
}

/// Facts of a TLS session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Server name that the client asked for.
    pub sni: Option<String>,
    /// Subject alternative names of a verified client certificate.
    pub verified_names: Vec<String>,
}

/// BODY= of RFC 6152 and RFC 3030.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyType {
    /// `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`.
    BinaryMime,
}

/// MAIL FROM and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sender {
    /// `None` is the null reverse-path.
    pub mailbox: Option<Mailbox>,
    /// SIZE= as declared.
    pub declared_size_bytes: Option<u64>,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// ENVID= of RFC 3461.
    pub envelope_id: Option<String>,
    /// MT-PRIORITY= of RFC 6710.
    pub priority: Option<i8>,
}

/// One header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeaderField {
    /// As received.
    pub name: String,
    /// Octets after the colon, as received, without the closing CRLF. The host
    /// unfolds and decodes them for plugins that ask for text.
    #[serde(with = "crate::octets")]
    pub value: Bytes,
}

/// Outcome of one authentication method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthResult {
    /// Nothing to check.
    #[default]
    None,
    /// Passed.
    Pass,
    /// Failed.
    Fail,
    /// The domain asserts nothing.
    Neutral,
    /// A look-up failed for now.
    TemporaryError,
    /// What the domain published cannot be understood.
    PermanentError,
}

/// What the relay itself found of SPF, DKIM and DMARC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuthSummary {
    /// RFC 7208.
    pub spf: AuthResult,
    /// Domain that SPF was evaluated for.
    pub spf_domain: Option<String>,
    /// Domains with a valid signature.
    pub dkim_pass_domains: Vec<String>,
    /// RFC 7489.
    pub dmarc: AuthResult,
}

/// Where a candidate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateOrigin {
    /// An MX record.
    Mx,
    /// RFC 5321 section 5.1: no MX, the domain's own address.
    ImplicitAddress,
    /// A static route of the configuration.
    Configured,
    /// An earlier plugin.
    Plugin,
}

/// What the relay has seen of a host of late.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostHealth {
    /// 0.0–1.0 over the window; `None`: no recent attempt.
    pub success_rate: Option<f32>,
    /// Connections are held back until then, in Unix milliseconds.
    pub suspended_until_ms: Option<u64>,
    /// Connections open at present.
    pub open_connection_count: u32,
}

/// A next hop that the relay would try if no plugin said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// Lower is tried first.
    pub preference: u16,
    /// A name, or an address literal where there is only an address.
    pub host: Domain,
    /// Filled in when asked for with addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// Where it comes from.
    pub origin: CandidateOrigin,
    /// DNSSEC-validated.
    pub secure: bool,
    /// Recent experience.
    pub health: HostHealth,
}

/// Why a look-up has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookupFailure {
    /// NXDOMAIN.
    NoSuchDomain,
    /// The name exists, no record of the type does.
    NoRecords,
    /// RFC 7505: the domain takes no mail.
    NullMx,
    /// SERVFAIL, time-out, validation failure: may pass.
    Temporary,
    /// Not granted, or not to be had in this phase.
    Denied,
}

/// A DNS question by a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// MX records.
    Mx(Domain),
    /// TXT records.
    Txt(Domain),
    /// A and AAAA records.
    Address(Domain),
    /// PTR records.
    Ptr(IpAddr),
}

/// The answer to a [`Question`] of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Preference and host.
    Mx(Vec<(u16, Domain)>),
    /// Each record's strings joined.
    Txt(Vec<String>),
    /// IPv4 and IPv6.
    Address(Vec<IpAddr>),
    /// Names.
    Ptr(Vec<Domain>),
}
