//! A place as an administrator writes it in a plugin's configuration.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

use crate::{Endpoint, NextHop, TlsPolicy};

/// Where mail goes: text as in `host:port`, or a table with more to say.
///
/// | text | what |
/// |---|---|
/// | `relay.example:587` | a host, its addresses; without a port 25 |
/// | `192.0.2.25`, `[2001:db8::25]:587` | an address |
/// | `mx:example.com` | wherever the MX records of the domain point |
///
/// A table has `host`, and may have `port`, `tls` (`off`, `opportunistic`, `encrypt`, `verify`,
/// `dane`, `dane-only`, `destination`, `implicit`), `auth`, `source_pool`, `site`, `priority` and
/// `weight`.
///
/// ```
/// use waypost_sdk::{NextHop, Place};
///
/// let place: Place = "relay.example:587".parse().unwrap();
/// assert_eq!(place.hop(), NextHop::host("relay.example").port(587));
/// let place: Place = "[2001:db8::25]:26".parse().unwrap();
/// assert_eq!(place.to_string(), "[2001:db8::25]:26");
/// assert!("relay.example:x".parse::<Place>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Place(NextHop);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: String,
    port: Option<u16>,
    tls: Option<String>,
    auth: Option<String>,
    source_pool: Option<String>,
    site: Option<String>,
    #[serde(default)]
    priority: u16,
    #[serde(default = "one")]
    weight: u16,
}

fn one() -> u16 {
    1
}

impl Place {
    /// Reads a place from a value of the configuration.
    ///
    /// # Errors
    /// What is wrong with it, for the administrator.
    pub fn from_value(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => text.parse(),
            serde_json::Value::Object(_) => {
                let table: Table =
                    serde_json::from_value(value).map_err(|error| error.to_string())?;
                Self::from_table(table)
            }
            other => Err(format!("{other} is neither \"host:port\" nor a table")),
        }
    }

    fn from_table(table: Table) -> Result<Self, String> {
        if table.port == Some(0) {
            return Err("0 is no port".into());
        }
        Ok(Self(NextHop {
            port: table.port,
            priority: table.priority,
            weight: table.weight,
            tls: table.tls.as_deref().map(tls_policy).transpose()?,
            auth: table.auth,
            source_pool: table.source_pool,
            site: table.site,
            ..endpoint(&table.host)?.into()
        }))
    }

    /// The hop that it stands for.
    pub fn hop(&self) -> NextHop {
        self.0.clone()
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefix, rest) = match text.strip_prefix("mx:") {
            Some(rest) => ("mx:", rest),
            None => ("", text),
        };
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
            None if rest.parse::<IpAddr>().is_ok() => (rest, None),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map(parse_port).transpose()?;
        let hop = endpoint(&format!("{prefix}{host}"))?.into();
        Ok(Self(NextHop { port, ..hop }))
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err("0 is no port".into()),
        Ok(port) => Ok(port),
        Err(_) => Err(format!("{text:?} is no port")),
    }
}

fn endpoint(host: &str) -> Result<Endpoint, String> {
    if let Some(domain) = host.strip_prefix("mx:").filter(|domain| is_name(domain)) {
        return Ok(Endpoint::MxOf(domain.to_owned()));
    }
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(Endpoint::Address(ip.to_string())),
        Err(_) if is_name(host) => Ok(Endpoint::Host(host.to_owned())),
        Err(_) => Err(format!("{host:?} is neither a host nor an address")),
    }
}

/// Rough on purpose: the relay checks names in full.
fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && label
                .chars()
                .all(|character| character.is_alphanumeric() || "-_".contains(character))
    })
}

fn tls_policy(word: &str) -> Result<TlsPolicy, String> {
    Ok(match word {
        "off" => TlsPolicy::Off,
        "opportunistic" => TlsPolicy::Opportunistic,
        "encrypt" => TlsPolicy::Encrypt,
        "verify" => TlsPolicy::Verify(Vec::new()),
        "dane" => TlsPolicy::Dane,
        "dane-only" => TlsPolicy::DaneOnly,
        "destination" => TlsPolicy::Destination,
        "implicit" => TlsPolicy::Implicit,
        other => {
            return Err(format!(
                "tls = {other:?}, but off, opportunistic, encrypt, verify, dane, dane-only, \
                 destination or implicit is wanted"
            ));
        }
    })
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(de::Error::custom)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, host) = match &self.0.endpoint {
            Endpoint::Host(name) => ("", name),
            Endpoint::MxOf(domain) => ("mx:", domain),
            Endpoint::Address(ip) => ("", ip),
            Endpoint::UnixSocket(path) => ("unix:", path),
        };
        match self.0.port {
            Some(port) if host.contains(':') => write!(f, "{prefix}[{host}]:{port}"),
            Some(port) => write!(f, "{prefix}{host}:{port}"),
            None => write!(f, "{prefix}{host}"),
        }
    }
}
