//! A resolver that reads zone text, without sockets.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use mx::{
    AddressAnswer, Answer, LookupError, MxAnswer, MxExchange, MxRecord, PtrAnswer, Resolver,
    TemporaryCause, TxtAnswer, merge_addresses,
};
use smtp::Domain;

use super::script::{Fault, Script};
use super::zone::Zone;

/// Answers from a [`Script`], whose methods it has. Aliases are always followed;
/// of the faults those count that are not of a transport.
#[derive(Clone, Debug, Default)]
pub struct ZoneResolver {
    script: Arc<Script>,
}

impl ZoneResolver {
    /// A resolver that knows these zones and nothing else.
    #[must_use]
    pub fn new(zones: impl IntoIterator<Item = Zone>) -> Self {
        Self {
            script: Arc::new(Script::new(zones)),
        }
    }

    /// A resolver of one zone, from its text: see [`Zone::parse`].
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self::new([Zone::parse(text)])
    }

    async fn find<T>(
        &self,
        name: Name,
        wanted: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, LookupError> {
        let name = LowerName::new(&name);
        match self.script.ask(&name, wanted, false) {
            Some(Fault::ServFail) => return failed(TemporaryCause::ServerFailure),
            Some(Fault::Refused) => return failed(TemporaryCause::Refused),
            Some(Fault::Silent) => return failed(TemporaryCause::TimedOut),
            Some(Fault::Referral) => return failed(TemporaryCause::Referral),
            Some(Fault::TruncateAlways) => return failed(TemporaryCause::Truncated),
            Some(Fault::NxDomain) => return Err(LookupError::NoSuchDomain { ttl_s: 0 }),
            Some(Fault::BareNoData) => return Err(LookupError::NoRecords { ttl_s: 0 }),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Truncate) | None => {}
        }
        let finding = self.script.find(&name, wanted);
        let ttls = finding.answers.iter().map(|record| record.ttl);
        let negative = finding.soa.iter().filter_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        let ttl_s = ttls.chain(negative).min().unwrap_or(0);
        let records: Vec<T> = finding
            .answers
            .iter()
            .filter_map(|record| pick(&record.data))
            .collect();
        if !records.is_empty() {
            let owner = finding.answers.last().map(|record| &record.name);
            let canonical_name = owner
                .filter(|owner| LowerName::new(owner) != name)
                .and_then(|owner| owner.to_ascii().parse().ok());
            return Ok(Answer {
                records,
                ttl_s,
                secure: false,
                canonical_name,
            });
        }
        match (finding.code, finding.soa) {
            (ResponseCode::NXDomain, _) => Err(LookupError::NoSuchDomain { ttl_s }),
            (_, Some(_)) => Err(LookupError::NoRecords { ttl_s }),
            (_, None) => failed(TemporaryCause::AliasLoop),
        }
    }
}

impl Deref for ZoneResolver {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.script
    }
}

fn failed<T>(cause: TemporaryCause) -> Result<T, LookupError> {
    Err(LookupError::temporary(cause, "zone text"))
}

fn name_of(domain: &Domain) -> Name {
    let mut name = Name::from_ascii(domain.as_str()).expect("a mail domain is a name");
    name.set_fqdn(true);
    name
}

impl Resolver for ZoneResolver {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<MxAnswer, LookupError>> {
        Box::pin(self.find(name_of(name), RecordType::MX, |data| match data {
            RData::MX(mx) => Some(MxRecord {
                preference: mx.preference,
                exchange: MxExchange::classify(&mx.exchange.to_ascii()),
            }),
            _ => None,
        }))
    }

    fn addresses<'a>(
        &'a self,
        name: &'a Domain,
    ) -> BoxFuture<'a, Result<AddressAnswer, LookupError>> {
        Box::pin(async move {
            let v4 = self.find(name_of(name), RecordType::A, |data| match data {
                RData::A(address) => Some(address.0),
                _ => None,
            });
            let v4 = v4.await;
            let v6 = self.find(name_of(name), RecordType::AAAA, |data| match data {
                RData::AAAA(address) => Some(address.0),
                _ => None,
            });
            merge_addresses(v4, v6.await)
        })
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<TxtAnswer, LookupError>> {
        Box::pin(
            self.find(name_of(name), RecordType::TXT, |data| match data {
                RData::TXT(txt) => {
                    Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
                }
                _ => None,
            }),
        )
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Result<PtrAnswer, LookupError>> {
        Box::pin(
            self.find(Name::from(address), RecordType::PTR, |data| match data {
                RData::PTR(name) => name.0.to_ascii().parse().ok(),
                _ => None,
            }),
        )
    }
}
