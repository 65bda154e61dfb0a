//! Inputs of the phases as a guest takes them.

use smtp::{Mailbox, Reply};

use crate::attempt::{AttemptOutcome, AttemptReport, AttemptStage};
use crate::bindings::{delivery_phase, routing_phase, types};
use crate::environment::{BodyType, Ingress, Peer, Sender, TlsFacts};
use crate::request::{Recipient, RouteRequest};

impl From<&Mailbox> for types::Mailbox {
    fn from(mailbox: &Mailbox) -> Self {
        Self {
            local_part: mailbox.local_part().to_owned(),
            domain: mailbox.domain().as_str().to_owned(),
        }
    }
}

impl From<&Recipient> for types::Recipient {
    fn from(recipient: &Recipient) -> Self {
        let flag = |set, flag| if set { flag } else { types::Notify::empty() };
        Self {
            mailbox: (&recipient.mailbox).into(),
            notify: flag(recipient.notify.never, types::Notify::NEVER)
                | flag(recipient.notify.success, types::Notify::SUCCESS)
                | flag(recipient.notify.failure, types::Notify::FAILURE)
                | flag(recipient.notify.delay, types::Notify::DELAY),
            original: recipient.original.clone(),
        }
    }
}

impl From<Sender> for types::Sender {
    fn from(sender: Sender) -> Self {
        Self {
            mailbox: sender.mailbox.as_ref().map(Into::into),
            declared_size: sender.declared_size_bytes,
            body: match sender.body {
                BodyType::SevenBit => types::BodyType::SevenBit,
                BodyType::EightBitMime => types::BodyType::EightBitMime,
                BodyType::BinaryMime => types::BodyType::BinaryMime,
            },
            smtputf8: sender.smtputf8,
            requiretls: sender.requiretls,
            envelope_id: sender.envelope_id,
            priority: sender.priority,
        }
    }
}

impl From<TlsFacts> for types::TlsFacts {
    fn from(tls: TlsFacts) -> Self {
        Self {
            version: tls.version,
            cipher: tls.cipher,
            sni: tls.sni,
            verified_names: tls.verified_names,
        }
    }
}

impl From<Peer> for types::Peer {
    fn from(peer: Peer) -> Self {
        Self {
            ip: peer.ip.map_or_else(String::new, |ip| ip.to_string()),
            port: peer.port,
            listener: peer.listener,
            ingress: match peer.ingress {
                Ingress::Smtp => types::Ingress::Smtp,
                Ingress::Submission => types::Ingress::Submission,
                Ingress::Lmtp => types::Ingress::Lmtp,
                Ingress::Api => types::Ingress::Api,
                Ingress::Internal => types::Ingress::Internal,
            },
            helo: peer.helo,
            fcrdns: peer.fcrdns.map(|name| name.as_str().to_owned()),
            user: peer.user,
            tls: peer.tls.map(Into::into),
        }
    }
}

impl From<&RouteRequest> for routing_phase::Request {
    fn from(request: &RouteRequest) -> Self {
        Self {
            message_id: request.message_id.clone(),
            domain: request.domain.as_str().to_owned(),
            sender: request.sender.as_ref().map(Into::into),
            recipients: request.recipients.iter().map(Into::into).collect(),
            size: request.size_bytes,
            received_at: request.received_at_ms,
            attempt: request.attempt,
            listener: request.listener.clone(),
            user: request.user.clone(),
            headers: request.headers.clone(),
            attributes: request
                .attributes
                .iter()
                .map(|(name, value)| types::Attribute {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        }
    }
}

impl From<&Reply> for types::Reply {
    fn from(reply: &Reply) -> Self {
        Self {
            code: reply.code,
            enhanced: reply
                .enhanced
                .map_or_else(String::new, |code| code.to_string()),
            text: reply.text.clone(),
        }
    }
}

impl From<&AttemptReport> for delivery_phase::Attempt {
    fn from(report: &AttemptReport) -> Self {
        Self {
            message_id: report.message_id.clone(),
            domain: report.domain.as_str().to_owned(),
            recipients: report.recipients.iter().map(Into::into).collect(),
            outcome: match &report.outcome {
                AttemptOutcome::Delivered(reply) => {
                    delivery_phase::Outcome::Delivered(reply.into())
                }
                AttemptOutcome::Temporary(reply) => {
                    delivery_phase::Outcome::Temporary(reply.into())
                }
                AttemptOutcome::Permanent(reply) => {
                    delivery_phase::Outcome::Permanent(reply.into())
                }
                AttemptOutcome::Failed(why) => delivery_phase::Outcome::Failed(why.clone()),
            },
            stage: report.stage.into(),
            host: report.host.as_ref().map(|host| host.as_str().to_owned()),
            address: report.address.map(|address| address.to_string()),
            source: report.source.map(|address| address.to_string()),
            tls: report.tls.clone().map(Into::into),
            attempts: report.attempts,
            elapsed_ms: report.elapsed_ms,
            first_attempt_at: report.first_attempt_at_ms,
        }
    }
}

impl From<AttemptStage> for delivery_phase::Stage {
    fn from(stage: AttemptStage) -> Self {
        match stage {
            AttemptStage::Resolve => Self::Resolve,
            AttemptStage::Connect => Self::Connect,
            AttemptStage::Greeting => Self::Greeting,
            AttemptStage::Tls => Self::Tls,
            AttemptStage::Auth => Self::Auth,
            AttemptStage::MailFrom => Self::MailFrom,
            AttemptStage::RcptTo => Self::RcptTo,
            AttemptStage::Data => Self::Data,
            AttemptStage::Quit => Self::Quit,
        }
    }
}
