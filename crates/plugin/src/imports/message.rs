//! `message`: the message that the call is about.

use std::sync::Arc;

use crate::attribute::is_attribute_name;
use crate::bindings::{message, types};
use crate::environment::{AuthResult, HeaderField};
use crate::phase::Input;
use crate::state::CallState;

/// Attributes that one call may change.
const ATTRIBUTE_CHANGES: usize = 32;
/// Octets of the value of one attribute.
const ATTRIBUTE_VALUE_BYTES: usize = 1024;

impl message::Host for CallState {
    fn id(&mut self) -> wasmtime::Result<String> {
        self.charge(1)?;
        Ok(self.message_id())
    }

    fn received_at(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(match &self.input {
            None => 0,
            Some(Input::Route(request)) => request.received_at_ms,
            Some(_) => self.environment.received_at_ms(),
        })
    }

    fn size(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(match &self.input {
            None => 0,
            Some(Input::Route(request)) => request.size_bytes,
            Some(_) => self.environment.message_size_bytes(),
        })
    }

    fn envelope_sender(&mut self) -> wasmtime::Result<Option<types::Sender>> {
        self.charge(1)?;
        let subject = self.subject();
        Ok(subject
            .and_then(|world| world.envelope_sender())
            .map(Into::into))
    }

    fn envelope_recipients(
        &mut self,
        first: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<types::Recipient>> {
        self.charge(1)?;
        let Some(subject) = self.subject() else {
            return Ok(Vec::new());
        };
        let all = subject.envelope_recipients();
        let window = all.iter().skip(first as usize).take(limit as usize);
        Ok(window.map(Into::into).collect())
    }

    fn recipient_count(&mut self) -> wasmtime::Result<u32> {
        self.charge(1)?;
        let count = self
            .subject()
            .map_or(0, |world| world.envelope_recipients().len());
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn origin(&mut self) -> wasmtime::Result<types::Peer> {
        self.charge(1)?;
        let origin = self.subject().and_then(|world| world.origin());
        Ok(origin.map_or_else(nobody, Into::into))
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
        let Some(subject) = self.subject() else {
            return Ok(None);
        };
        let octets = subject.body(offset, limit).await;
        Ok(octets.map(|octets| octets[..octets.len().min(limit as usize)].to_vec()))
    }

    async fn authentication(&mut self) -> wasmtime::Result<Option<message::AuthSummary>> {
        self.charge(1)?;
        let Some(subject) = self.subject() else {
            return Ok(None);
        };
        let found = subject.authentication().await;
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
        let fields = match self.subject() {
            Some(subject) => subject.headers().await,
            None => Arc::new([]),
        };
        self.headers = Some(Arc::clone(&fields));
        Ok(fields)
    }

    /// The message's attributes with what this call changed.
    fn current_attributes(&self) -> Vec<(String, String)> {
        let mut current = match &self.input {
            None => Vec::new(),
            Some(Input::Route(request)) => request.attributes.clone(),
            Some(_) => self.environment.attributes().to_vec(),
        };
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
