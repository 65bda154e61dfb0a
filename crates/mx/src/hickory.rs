//! The real resolver. The only file that knows hickory.
//!
//! Of hickory we take the wire format and the transports (UDP, TCP after a
//! truncated answer, retransmission) of one server at a time. What decides
//! between a bounce and a deferral is ours: the walk along aliases, what counts
//! as a proven absence, and going on to the next server after any failure, also
//! SERVFAIL and REFUSED, which hickory takes for final.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};
use smtp::Domain;

use crate::resolver::{
    AddressAnswer, Answer, LookupError, MxAnswer, MxExchange, MxRecord, PtrAnswer, Resolver,
    TemporaryCause, TxtAnswer, merge_addresses,
};

/// Longest chain of aliases that is followed.
const ALIASES_MAX: usize = 12;
/// Queries under way to one server at a time.
const ACTIVE_QUERIES_MAX: usize = 512;
/// TTL of answers that are so by definition.
const FIXED_TTL_S: u32 = 86_400;

/// Whom to ask, and how patiently.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Recursive name servers in order of preference; empty: those of
    /// `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long to wait for one server.
    pub timeout: Duration,
    /// How many times to go through all servers; at least 1.
    pub attempts: usize,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(3),
            attempts: 2,
        }
    }
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// `/etc/resolv.conf` cannot be read.
    #[error("no name servers from the system: {0}")]
    SystemConfiguration(String),
    /// The TLS part of the library failed to start.
    #[error("the DNS client cannot be set up: {0}")]
    Client(String),
}

/// Asks recursive name servers over UDP and TCP. Needs a tokio runtime.
pub struct HickoryResolver {
    servers: Arc<[Server]>,
    /// The server that answered last: asked first, so that a dead one costs its
    /// time-out once and not with every question.
    preferred: AtomicUsize,
    attempts: usize,
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

impl HickoryResolver {
    /// A resolver; nothing is asked yet.
    ///
    /// # Errors
    /// [`ResolverSetupError`].
    pub fn new(options: &ResolverOptions) -> Result<Self, ResolverSetupError> {
        let addresses = if options.servers.is_empty() {
            system_servers()?
        } else {
            options.servers.clone()
        };
        let servers: Result<Arc<[Server]>, _> = addresses
            .into_iter()
            .map(|address| Server::new(address, options.timeout))
            .collect();
        Ok(Self {
            servers: servers?,
            preferred: AtomicUsize::new(0),
            attempts: options.attempts.max(1),
        })
    }

    /// The servers asked, in order of preference.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.servers.iter().map(|server| server.address)
    }

    /// Finds the records of a type, along aliases.
    async fn find<T>(
        &self,
        name: Name,
        record_type: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, LookupError> {
        let mut walk = Walk::new(name);
        loop {
            let response = self.ask(&walk.name, record_type).await?;
            match walk.follow(&response, record_type, &pick)? {
                Progress::Found(records) => return Ok(walk.answer(records)),
                Progress::GoOn => {}
            }
        }
    }

    /// Asks one question, of one server after another. Fails only temporarily:
    /// an absence is a response.
    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Response, LookupError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let servers_count = self.servers.len();
        let mut last = LookupError::temporary(TemporaryCause::Network, "no name server");
        for turn in 0..servers_count * self.attempts {
            let position = (first + turn) % servers_count;
            let server = &self.servers[position];
            match server.ask(name, record_type).await {
                Ok(response) => {
                    if turn > 0 {
                        self.preferred.store(position, Ordering::Relaxed);
                    }
                    return Ok(response);
                }
                Err(error) => {
                    tracing::debug!(server = %server.address, %name, %record_type, %error, "no answer");
                    last = error;
                }
            }
        }
        Err(last)
    }
}

impl Server {
    fn new(address: SocketAddr, timeout: Duration) -> Result<Self, ResolverSetupError> {
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.max_active_requests = ACTIVE_QUERIES_MAX;
        options.try_tcp_on_error = false;
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        let server = NameServerConfig::new(address.ip(), true, connections);
        let tls =
            TlsConfig::new().map_err(|error| ResolverSetupError::Client(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let provider = TokioRuntimeProvider::default();
        Ok(Self {
            address,
            pool: NameServerPool::from_config([server], context, provider),
        })
    }

    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Response, LookupError> {
        let query = Query::query(name.clone(), record_type);
        match self
            .pool
            .lookup(query, DnsRequestOptions::default())
            .first_answer()
            .await
        {
            Ok(response) => Ok(Response::Message(Box::new(response.into_message()))),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Response::absence(&none, self),
            Err(error) => Err(LookupError::temporary(cause(&error), self.detail(&error))),
        }
    }

    fn detail(&self, error: &NetError) -> String {
        match error {
            // The cause says it all; of whom is what is missing.
            NetError::Timeout | NetError::Truncated | NetError::Dns(_) => self.address.to_string(),
            _ => format!("{}: {error}", self.address),
        }
    }
}

fn cause(error: &NetError) -> TemporaryCause {
    match error {
        NetError::Timeout => TemporaryCause::TimedOut,
        NetError::Truncated => TemporaryCause::Truncated,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            TemporaryCause::ServerFailure
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => TemporaryCause::Refused,
        NetError::Dns(DnsError::DnssecBogus) => TemporaryCause::Bogus,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => TemporaryCause::Network,
        _ => TemporaryCause::BadResponse,
    }
}

/// Those of `/etc/resolv.conf`; where it is missing or names none, the one of this machine, as
/// resolv.conf(5) has it. That one may not be there either: then look-ups fail for now and mail
/// waits, but a relay whose next hop is an address needs no DNS.
fn system_servers() -> Result<Vec<SocketAddr>, ResolverSetupError> {
    let servers: Vec<SocketAddr> = match system_conf::read_system_conf() {
        Ok((config, _)) => config
            .name_servers()
            .iter()
            .map(|server| SocketAddr::new(server.ip, 53))
            .collect(),
        Err(NetError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(ResolverSetupError::SystemConfiguration(error.to_string())),
    };
    if servers.is_empty() {
        tracing::warn!("/etc/resolv.conf names no server: asking the one of this machine");
        return Ok(vec![SocketAddr::from(([127, 0, 0, 1], 53))]);
    }
    Ok(servers)
}

/// What a server said to one question.
enum Response {
    /// With records, maybe not those wanted.
    Message(Box<Message>),
    /// NXDOMAIN without records.
    NoSuchDomain { ttl_s: u32 },
    /// NOERROR without records.
    NoRecords { ttl_s: u32 },
}

impl Response {
    fn absence(none: &NoRecords, server: &Server) -> Result<Self, LookupError> {
        let ttl_s = none.negative_ttl.unwrap_or(0);
        match none.response_code {
            ResponseCode::NXDomain => Ok(Self::NoSuchDomain { ttl_s }),
            // Name servers without an SOA are a referral (RFC 2308 section 2.2):
            // the server does not resolve for us, and knows nothing.
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                let server = server.address.to_string();
                Err(LookupError::temporary(TemporaryCause::Referral, server))
            }
            // Without an SOA too: caches like dnsmasq answer so.
            ResponseCode::NoError => Ok(Self::NoRecords { ttl_s }),
            code => Err(LookupError::temporary(
                TemporaryCause::BadResponse,
                format!("{}: {code}", server.address),
            )),
        }
    }
}

/// A walk along aliases.
struct Walk {
    name: Name,
    seen: HashSet<Name>,
    ttl_s: u32,
}

enum Progress<T> {
    Found(Vec<T>),
    GoOn,
}

impl Walk {
    fn new(name: Name) -> Self {
        let seen = HashSet::from([name.clone()]);
        Self {
            name,
            seen,
            ttl_s: u32::MAX,
        }
    }

    /// Takes what a response has to give: the records wanted, an alias to go on
    /// with, or the absence of both.
    fn follow<T>(
        &mut self,
        response: &Response,
        record_type: RecordType,
        pick: &impl Fn(&RData) -> Option<T>,
    ) -> Result<Progress<T>, LookupError> {
        let message = match response {
            Response::NoSuchDomain { ttl_s } => {
                return Err(LookupError::NoSuchDomain {
                    ttl_s: self.ttl_s.min(*ttl_s),
                });
            }
            Response::NoRecords { ttl_s } => {
                return Err(LookupError::NoRecords {
                    ttl_s: self.ttl_s.min(*ttl_s),
                });
            }
            Response::Message(message) => message,
        };
        let asked = self.name.clone();
        loop {
            let of_name = |r: &&hickory_resolver::proto::rr::Record| r.name == self.name;
            let wanted = message.answers.iter().filter(of_name);
            let wanted: Vec<_> = wanted.filter(|r| r.record_type() == record_type).collect();
            if !wanted.is_empty() {
                let least = wanted.iter().map(|record| record.ttl).min();
                self.ttl_s = self.ttl_s.min(least.unwrap_or(0));
                let records = wanted
                    .iter()
                    .filter_map(|record| pick(&record.data))
                    .collect();
                return Ok(Progress::Found(records));
            }
            let alias = message.answers.iter().filter(of_name).find_map(|record| {
                let RData::CNAME(target) = &record.data else {
                    return None;
                };
                Some((target.0.clone(), record.ttl))
            });
            let Some((target, ttl_s)) = alias else { break };
            self.ttl_s = self.ttl_s.min(ttl_s);
            if self.seen.len() > ALIASES_MAX || !self.seen.insert(target.clone()) {
                return Err(LookupError::temporary(
                    TemporaryCause::AliasLoop,
                    asked.to_utf8(),
                ));
            }
            self.name = target;
        }
        self.at_the_end(message, &asked)
    }

    /// The response has nothing more on the name that was reached.
    fn at_the_end<T>(&self, message: &Message, asked: &Name) -> Result<Progress<T>, LookupError> {
        let soa = message
            .authorities
            .iter()
            .find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
        match (message.metadata.response_code, soa) {
            // After aliases the code speaks of the last name (RFC 6604).
            (ResponseCode::NXDomain, soa) => Err(LookupError::NoSuchDomain {
                ttl_s: self.ttl_s.min(soa.unwrap_or(0)),
            }),
            (ResponseCode::NoError, Some(ttl_s)) => Err(LookupError::NoRecords {
                ttl_s: self.ttl_s.min(ttl_s),
            }),
            // An alias out of the server's knowledge: ask for its target.
            (ResponseCode::NoError, None) if self.name != *asked => Ok(Progress::GoOn),
            _ => Err(LookupError::temporary(
                TemporaryCause::BadResponse,
                "an answer to another question",
            )),
        }
    }

    fn answer<T>(self, records: Vec<T>) -> Answer<T> {
        let canonical_name = if self.seen.len() > 1 {
            domain_of(&self.name)
        } else {
            None
        };
        Answer {
            records,
            ttl_s: self.ttl_s,
            secure: false,
            canonical_name,
        }
    }
}

/// Presentation format without the trailing dot, as a mail domain.
fn domain_of(name: &Name) -> Option<Domain> {
    name.to_ascii().parse().ok()
}

/// A name to ask for, with the trailing dot: never completed by a search list.
fn name_of(domain: &Domain) -> Result<Name, LookupError> {
    // What cannot be written in a question cannot exist in the DNS.
    let absent = |_| LookupError::NoSuchDomain { ttl_s: FIXED_TTL_S };
    if domain.is_literal() {
        return Err(LookupError::NoSuchDomain { ttl_s: FIXED_TTL_S });
    }
    let mut name = Name::from_ascii(domain.as_str()).map_err(absent)?;
    name.set_fqdn(true);
    Ok(name)
}

/// `localhost` and names below it never leave the machine (RFC 6761
/// section 6.3).
fn is_localhost(domain: &Domain) -> bool {
    let name = domain.as_str();
    name == "localhost" || name.ends_with(".localhost")
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<MxAnswer, LookupError>> {
        Box::pin(async move {
            if is_localhost(domain) {
                return Err(LookupError::NoRecords { ttl_s: FIXED_TTL_S });
            }
            let name = name_of(domain)?;
            self.find(name, RecordType::MX, |data| match data {
                RData::MX(mx) => Some(MxRecord {
                    preference: mx.preference,
                    exchange: MxExchange::classify(&mx.exchange.to_ascii()),
                }),
                _ => None,
            })
            .await
        })
    }

    fn addresses<'a>(
        &'a self,
        domain: &'a Domain,
    ) -> BoxFuture<'a, Result<AddressAnswer, LookupError>> {
        Box::pin(async move {
            if is_localhost(domain) {
                let both = ["127.0.0.1", "::1"].map(|text| text.parse::<IpAddr>());
                let both = both.into_iter().flatten().collect();
                return Ok(Answer::new(both, FIXED_TTL_S));
            }
            let name = name_of(domain)?;
            let v4 = self.find(name.clone(), RecordType::A, |data| match data {
                RData::A(address) => Some(address.0),
                _ => None,
            });
            let v6 = self.find(name, RecordType::AAAA, |data| match data {
                RData::AAAA(address) => Some(address.0),
                _ => None,
            });
            let (v4, v6) = join(v4, v6).await;
            merge_addresses(v4, v6)
        })
    }

    fn txt<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<TxtAnswer, LookupError>> {
        Box::pin(async move {
            let name = name_of(domain)?;
            self.find(name, RecordType::TXT, |data| match data {
                // The parts of one record are one text (RFC 7208 section 3.3).
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into()),
                _ => None,
            })
            .await
        })
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Result<PtrAnswer, LookupError>> {
        Box::pin(async move {
            let name = Name::from(address.to_canonical());
            let mut answer = self
                .find(name, RecordType::PTR, |data| match data {
                    RData::PTR(name) => Some(domain_of(&name.0)),
                    _ => None,
                })
                .await?;
            let records: Vec<Domain> = std::mem::take(&mut answer.records)
                .into_iter()
                .flatten()
                .collect();
            if records.is_empty() {
                return Err(LookupError::NoRecords {
                    ttl_s: answer.ttl_s,
                });
            }
            let Answer { ttl_s, secure, .. } = answer;
            Ok(Answer {
                records,
                ttl_s,
                secure,
                canonical_name: None,
            })
        })
    }
}
