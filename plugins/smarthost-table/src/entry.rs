//! One entry of the table: text as in `host:port`, or a table with more to say.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use waypost_sdk::{Endpoint, NextHop, TlsPolicy};

/// Where the mail of a domain goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    host: String,
    port: Option<u16>,
    tls: Option<String>,
    /// Name of a credential in the relay's configuration.
    auth: Option<String>,
}

impl Entry {
    pub fn parse(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => Self::from_text(&text),
            serde_json::Value::Object(_) => {
                serde_json::from_value(value).map_err(|error| error.to_string())
            }
            other => Err(format!("{other} is neither \"host:port\" nor a table")),
        }
    }

    /// `host`, `host:port`, `[2001:db8::1]:port`.
    fn from_text(text: &str) -> Result<Self, String> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port
            .map(|port| port.parse().map_err(|_| format!("{port:?} is no port")))
            .transpose()?;
        Ok(Self {
            host: host.to_owned(),
            port,
            tls: None,
            auth: None,
        })
    }

    pub fn hop(&self) -> Result<NextHop, String> {
        if self.port == Some(0) {
            return Err("0 is no port".into());
        }
        let endpoint = match self.host.parse::<IpAddr>() {
            Ok(address) => Endpoint::Address(address.to_string()),
            Err(_) if is_name(&self.host) => Endpoint::Host(self.host.clone()),
            Err(_) => return Err(format!("{:?} is neither a host nor an address", self.host)),
        };
        Ok(NextHop {
            port: self.port,
            tls: self.tls.as_deref().map(policy).transpose()?,
            auth: self.auth.clone(),
            ..endpoint.into()
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn policy(word: &str) -> Result<TlsPolicy, String> {
    Ok(match word {
        "off" => TlsPolicy::Off,
        "opportunistic" => TlsPolicy::Opportunistic,
        "encrypt" => TlsPolicy::Encrypt,
        "verify" => TlsPolicy::Verify(Vec::new()),
        "dane" => TlsPolicy::Dane,
        "implicit" => TlsPolicy::Implicit,
        other => {
            return Err(format!(
                "tls = {other:?}, but off, opportunistic, encrypt, verify, dane or implicit is wanted"
            ));
        }
    })
}

/// Rough on purpose: the relay checks names in full.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|character| {
                    character.is_alphanumeric() || character == '-' || character == '_'
                })
        })
}
