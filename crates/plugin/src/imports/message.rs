//! `message`: the message that the call is about.

use std::sync::Arc;

use smtp::Mailbox;

use crate::attribute::is_attribute_name;
use crate::bindings::{message, types};
use crate::environment::{self, AuthResult, BodyType, HeaderField, Ingress};
use crate::request::Recipient;
use crate::state::CallState;

/// Attributes that one call may change.
const ATTRIBUTE_CHANGES: usize = 32;
/// Octets of the value of one attribute.
const ATTRIBUTE_VALUE_BYTES: usize = 1024;

impl message::Host for CallState {
    fn id(&mut self) -> wasmtime::Result<String> {
        self.charge(1)?;
        Ok(self
            .request
            .as_ref()
            .map_or_else(String::new, |request| request.message_id.clone()))
    }

    fn received_at(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(self
            .request
            .as_ref()
            .map_or(0, |request| request.received_at_ms))
    }

    fn size(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(self
            .request
            .as_ref()
            .map_or(0, |request| request.size_bytes))
    }

    fn envelope_sender(&mut self) -> wasmtime::Result<Option<types::Sender>> {
        self.charge(1)?;
        Ok(self.environment.envelope_sender().map(Into::into))
    }

    fn envelope_recipients(
        &mut self,
        first: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<types::Recipient>> {
        self.charge(1)?;
        let all = self.environment.envelope_recipients();
        let window = all.iter().skip(first as usize).take(limit as usize);
        Ok(window.map(Into::into).collect())
    }

    fn recipient_count(&mut self) -> wasmtime::Result<u32> {
        self.charge(1)?;
        let count = self.environment.envelope_recipients().len();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn origin(&mut self) -> wasmtime::Result<types::Peer> {
        self.charge(1)?;
        Ok(self.environment.origin().map_or_else(nobody, Into::into))
    }

    async fn header(&mut self, name: String) -> wasmtime::Result<Vec<String>> {
        let fields = self.all_headers().await?;
        Ok(named(&fields, &name)
            .map(|field| unfold(&field.value))
            .collect())
    }

    async fn headers(&mut self, limit: u32) -> wasmtime::Result<Vec<types::HeaderField>> {
        let fields = self.all_headers().await?;
        let first = fields.iter().take(limit as usize);
        Ok(first
            .map(|field| types::HeaderField {
                name: field.name.clone(),
                value: unfold(&field.value),
            })
            .collect())
    }

    async fn header_octets(&mut self, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        let fields = self.all_headers().await?;
        Ok(named(&fields, &name)
            .map(|field| field.value.to_vec())
            .collect())
    }

    async fn body(&mut self, offset: u64, limit: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        self.charge(1)?;
        let granted = self.profile.grants.body_bytes;
        if granted == 0 {
            return Ok(None);
        }
        let within = granted.saturating_sub(offset).min(u64::from(limit));
        let limit = u32::try_from(within).expect("it is at most the limit asked for");
        let octets = self.environment.body(offset, limit).await;
        Ok(octets.map(|octets| octets[..octets.len().min(limit as usize)].to_vec()))
    }

    async fn authentication(&mut self) -> wasmtime::Result<Option<message::AuthSummary>> {
        self.charge(1)?;
        let found = self.environment.authentication().await;
        Ok(found.map(|summary| message::AuthSummary {
            spf: summary.spf.into(),
            spf_domain: summary.spf_domain,
            dkim_pass_domains: summary.dkim_pass_domains,
            dmarc: summary.dmarc.into(),
        }))
    }

    fn get_attribute(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(1)?;
        Ok(self
            .current_attributes()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value))
    }

    fn attributes(&mut self) -> wasmtime::Result<Vec<types::Attribute>> {
        self.charge(1)?;
        let all = self.current_attributes().into_iter();
        Ok(all
            .map(|(name, value)| types::Attribute { name, value })
            .collect())
    }

    fn set_attribute(&mut self, name: String, value: Option<String>) -> wasmtime::Result<bool> {
        self.charge(1)?;
        let fits = self.attributes.len() < ATTRIBUTE_CHANGES
            && is_attribute_name(&name)
            && value
                .as_ref()
                .is_none_or(|value| value.len() <= ATTRIBUTE_VALUE_BYTES);
        if fits {
            self.attributes.push((name, value));
        }
        Ok(fits)
    }
}

impl CallState {
    async fn all_headers(&mut self) -> wasmtime::Result<Arc<[HeaderField]>> {
        self.charge(1)?;
        if let Some(fields) = &self.headers {
            return Ok(Arc::clone(fields));
        }
        let fields = self.environment.headers().await;
        self.headers = Some(Arc::clone(&fields));
        Ok(fields)
    }

    /// The message's attributes with what this call changed.
    fn current_attributes(&self) -> Vec<(String, String)> {
        let mut current = self
            .request
            .as_ref()
            .map_or_else(Vec::new, |request| request.attributes.clone());
        for (name, change) in &self.attributes {
            current.retain(|(known, _)| known != name);
            if let Some(value) = change {
                current.push((name.clone(), value.clone()));
            }
        }
        current
    }
}

fn named<'a>(fields: &'a [HeaderField], name: &str) -> impl Iterator<Item = &'a HeaderField> {
    let name = name.to_owned();
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(&name))
}

/// The value without folding and without the space after the colon; octets that
/// are no UTF-8 become U+FFFD.
fn unfold(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.replace("\r\n", "")
        .replace(['\r', '\n'], "")
        .trim()
        .to_owned()
}

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

impl From<environment::Sender> for types::Sender {
    fn from(sender: environment::Sender) -> Self {
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

/// Who is told where nobody is known.
fn nobody() -> types::Peer {
    types::Peer {
        ip: String::new(),
        port: 0,
        listener: String::new(),
        ingress: types::Ingress::Internal,
        helo: String::new(),
        fcrdns: None,
        user: None,
        tls: None,
    }
}

impl From<environment::Peer> for types::Peer {
    fn from(peer: environment::Peer) -> Self {
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
            tls: peer.tls.map(|tls| types::TlsFacts {
                version: tls.version,
                cipher: tls.cipher,
                sni: tls.sni,
                verified_names: tls.verified_names,
            }),
        }
    }
}

impl From<AuthResult> for message::AuthResult {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::None => Self::None,
            AuthResult::Pass => Self::Pass,
            AuthResult::Fail => Self::Fail,
            AuthResult::Neutral => Self::Neutral,
            AuthResult::TemporaryError => Self::TemporaryError,
            AuthResult::PermanentError => Self::PermanentError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unfolded_and_decoded() {
        assert_eq!(unfold(b" one\r\n two "), "one two");
        assert_eq!(unfold(b"caf\xc3\xa9 \xff"), "café \u{fffd}");
    }
}
