//! What a plugin may ask about a queued message during a call, answered by the relay.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mx::{DeliveryPlan, Directory, PlanFailure};
use plugin::{
    Answer, BodyType, CallEnvironment, Candidate, HeaderField, Ingress, LookupFailure, Peer,
    Question, Recipient, Sender, TlsFacts,
};
use queue::QueuedMessage;
use smtp::ReversePath;
use spool::SpoolError;

use super::convert;
use super::gate::About;
use crate::content::Content;
use crate::routing::Subject;
use crate::{addresses, trace};

/// Gives a message's content, or why it cannot be read.
pub(crate) type ContentSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Content, SpoolError>> + Send + Sync>;

/// Gives the plan that would be used if the plugin said nothing.
pub(crate) type PlanSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<DeliveryPlan>, PlanFailure>> + Send + Sync>;

/// The world of one call.
pub(crate) struct RouteEnvironment {
    message: Arc<QueuedMessage>,
    directory: Arc<Directory>,
    content: ContentSource,
    plan: PlanSource,
    wants_log: bool,
    /// The contract has no word for "cannot be read": the plugin is shown an empty message, and
    /// what it makes of that is not used.
    unread: Arc<OnceLock<SpoolError>>,
}

impl RouteEnvironment {
    pub(crate) fn new(
        subject: &Subject,
        about: &About,
        directory: Arc<Directory>,
        plan: PlanSource,
    ) -> Arc<Self> {
        Arc::new(Self {
            message: Arc::clone(&subject.message),
            directory,
            content: Arc::clone(&subject.content),
            plan,
            wants_log: subject.wants_log,
            unread: Arc::clone(&about.unread),
        })
    }

    async fn read(&self) -> Option<Content> {
        match (self.content)().await {
            Ok(content) => Some(content),
            Err(error) => {
                self.unread.get_or_init(|| error);
                None
            }
        }
    }

    async fn candidate_list(&self, addresses: bool) -> Result<Vec<Candidate>, LookupFailure> {
        let plan = (self.plan)()
            .await
            .map_err(|failure| convert::plan_failure(&failure))?;
        let mut list = Vec::with_capacity(plan.candidates.len());
        for candidate in &plan.candidates {
            let mut shown = convert::candidate(candidate).ok_or(LookupFailure::Temporary)?;
            if addresses {
                shown.addresses = addresses::of(&self.directory, &candidate.endpoint)
                    .await
                    .unwrap_or_default();
            }
            list.push(shown);
        }
        Ok(list)
    }
}

/// One DNS question, through the relay's cache.
pub(crate) async fn lookup(
    directory: &Directory,
    question: Question,
) -> Result<Answer, LookupFailure> {
    let failed = |error: mx::LookupError| convert::lookup_failure(&error);
    match question {
        Question::Mx(domain) => {
            let found = directory.mx(&domain).await.outcome.map_err(failed)?;
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
            let found = directory.txt(&domain).await.outcome.map_err(failed)?;
            Ok(Answer::Txt(found.records.clone()))
        }
        Question::Address(domain) => {
            let found = directory.addresses(&domain).await.outcome.map_err(failed)?;
            Ok(Answer::Address(found.records.clone()))
        }
        Question::Ptr(address) => {
            let found = directory.ptr(address).await.outcome.map_err(failed)?;
            Ok(Answer::Ptr(found.records.clone()))
        }
    }
}

impl CallEnvironment for RouteEnvironment {
    fn message_id(&self) -> String {
        self.message.id.to_string()
    }

    fn received_at_ms(&self) -> u64 {
        self.message.received_at.0
    }

    fn message_size_bytes(&self) -> u64 {
        self.message.size_bytes
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        self.message.attributes.clone().into()
    }

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
            let Some(content) = self.read().await else {
                return Arc::from([]);
            };
            let section = trace::header_section(&content, trace::HEADER_LIMIT_BYTES);
            let field = |(name, value): (Vec<u8>, Vec<u8>)| HeaderField {
                name: String::from_utf8_lossy(&name).into_owned(),
                value: Bytes::from(value),
            };
            trace::fields(&section).into_iter().map(field).collect()
        })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let content = self.read().await?;
            Some(trace::body_slice(&content, offset, limit as usize))
        })
    }

    fn candidates(&self, addresses: bool) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(self.candidate_list(addresses))
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        Box::pin(lookup(&self.directory, question))
    }

    fn wants_log(&self) -> bool {
        self.wants_log
    }
}
