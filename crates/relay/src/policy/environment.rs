//! What a routing plugin may ask during a call, answered by the relay.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mx::{DeliveryPlan, Directory, PlanFailure};
use plugin::{
    Answer, BodyType, CallEnvironment, Candidate, HeaderField, Ingress, LookupFailure, Peer,
    Question, Recipient, Sender, TlsFacts,
};
use queue::QueuedMessage;
use smtp::ReversePath;

use super::convert;
use crate::content::Content;
use crate::trace;

/// Most of a header section that plugins see.
const HEADER_LIMIT_BYTES: usize = 256 * 1024;

/// Gives a message's content; none where it cannot be read.
pub(crate) type ContentSource = Arc<dyn Fn() -> BoxFuture<'static, Option<Content>> + Send + Sync>;

/// Gives the plan that would be used if the plugin said nothing.
pub(crate) type PlanSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<DeliveryPlan>, PlanFailure>> + Send + Sync>;

/// The world of one call.
pub(crate) struct RouteEnvironment {
    pub(crate) message: Arc<QueuedMessage>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) content: ContentSource,
    pub(crate) plan: PlanSource,
    pub(crate) wants_log: bool,
}

impl RouteEnvironment {
    async fn candidate_list(&self, addresses: bool) -> Result<Vec<Candidate>, LookupFailure> {
        let plan = (self.plan)()
            .await
            .map_err(|failure| convert::plan_failure(&failure))?;
        let mut list = Vec::with_capacity(plan.candidates.len());
        for candidate in &plan.candidates {
            let mut shown = convert::candidate(candidate).ok_or(LookupFailure::Temporary)?;
            if addresses {
                shown.addresses = self.addresses(candidate).await;
            }
            list.push(shown);
        }
        Ok(list)
    }

    async fn addresses(&self, candidate: &mx::Candidate) -> Vec<std::net::IpAddr> {
        match &candidate.endpoint {
            mx::Endpoint::Address(address) => vec![*address],
            mx::Endpoint::Host(host) => {
                let found = self.directory.addresses(host).await.outcome;
                found
                    .map(|answer| answer.records.clone())
                    .unwrap_or_default()
            }
            mx::Endpoint::UnixSocket(_) => Vec::new(),
        }
    }

    async fn ask(&self, question: Question) -> Result<Answer, LookupFailure> {
        let failed = |error: mx::LookupError| convert::lookup_failure(&error);
        match question {
            Question::Mx(domain) => {
                let found = self.directory.mx(&domain).await.outcome.map_err(failed)?;
                let hosts = found
                    .records
                    .iter()
                    .filter_map(|record| match &record.exchange {
                        mx::MxExchange::Host(host) => Some((record.preference, host.clone())),
                        _ => None,
                    });
                Ok(Answer::Mx(hosts.collect()))
            }
            Question::Txt(domain) => {
                let found = self.directory.txt(&domain).await.outcome.map_err(failed)?;
                Ok(Answer::Txt(found.records.clone()))
            }
            Question::Address(domain) => {
                let found = self
                    .directory
                    .addresses(&domain)
                    .await
                    .outcome
                    .map_err(failed)?;
                Ok(Answer::Address(found.records.clone()))
            }
            Question::Ptr(address) => {
                let found = self.directory.ptr(address).await.outcome.map_err(failed)?;
                Ok(Answer::Ptr(found.records.clone()))
            }
        }
    }
}

impl CallEnvironment for RouteEnvironment {
    fn origin(&self) -> Option<Peer> {
        let origin = &self.message.origin;
        let internal = origin.listener.is_empty();
        Some(Peer {
            ip: origin.client_ip,
            port: 0,
            listener: origin.listener.clone(),
            ingress: if internal {
                Ingress::Internal
            } else {
                Ingress::Smtp
            },
            helo: origin.helo.clone().unwrap_or_default(),
            fcrdns: None,
            user: origin.user.clone(),
            tls: origin.tls.then(|| TlsFacts {
                version: String::new(),
                cipher: String::new(),
                sni: None,
                verified_names: Vec::new(),
            }),
        })
    }

    fn envelope_sender(&self) -> Option<Sender> {
        let parameters = &self.message.parameters;
        Some(Sender {
            mailbox: match &self.message.reverse_path {
                ReversePath::Null => None,
                ReversePath::Mailbox(mailbox) => Some(mailbox.clone()),
            },
            declared_size_bytes: parameters.size,
            body: match parameters.body {
                smtp::BodyType::SevenBit => BodyType::SevenBit,
                smtp::BodyType::EightBitMime => BodyType::EightBitMime,
            },
            ..Sender::default()
        })
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        self.message
            .recipients
            .iter()
            .map(|r| Recipient::from(r.mailbox.clone()))
            .collect()
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        Box::pin(async {
            let Some(content) = (self.content)().await else {
                return Arc::from([]);
            };
            let section = trace::header_section(&content, HEADER_LIMIT_BYTES);
            let field = |(name, value): (Vec<u8>, Vec<u8>)| HeaderField {
                name: String::from_utf8_lossy(&name).into_owned(),
                value: Bytes::from(value),
            };
            trace::fields(&section).into_iter().map(field).collect()
        })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let content = (self.content)().await?;
            Some(trace::body_slice(&content, offset, limit as usize))
        })
    }

    fn candidates(&self, addresses: bool) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(self.candidate_list(addresses))
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(self.ask(question))
    }

    fn wants_log(&self) -> bool {
        self.wants_log
    }
}
