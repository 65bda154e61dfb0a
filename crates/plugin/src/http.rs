//! What a plugin may send by HTTP, what comes back, and to whom it may go.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

impl HttpMethod {
    /// As in the request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A request of a plugin. The host has checked its origin against the grants;
/// names and values of headers are as the plugin gave them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpRequest {
    /// What to do.
    pub method: HttpMethod,
    /// Absolute.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    #[serde(with = "crate::octets")]
    pub body: Bytes,
    /// Name of a credential that the relay adds.
    pub auth: Option<String>,
    /// `None`: the relay's own limit.
    pub timeout_ms: Option<u32>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// 100 to 599.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    #[serde(with = "crate::octets")]
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum HttpFailure {
    /// Not granted.
    #[error("not granted: {0}")]
    Denied(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// Request or response are larger than allowed.
    #[error("larger than allowed")]
    TooLarge,
    /// What came back is no HTTP, or what was asked for cannot be sent.
    #[error("{0}")]
    Protocol(String),
}

/// Scheme, host and port of an HTTP service: `https://policy.example`,
/// `http://127.0.0.1:8080`. Compared as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    /// Whether it is `https`.
    pub secure: bool,
    /// A name in lower case, or an address; an IPv6 address has its brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// A text that is no [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no origin: {fault}")]
pub struct OriginError {
    /// As given.
    pub text: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl Origin {
    fn default_port(secure: bool) -> u16 {
        if secure { 443 } else { 80 }
    }

    /// The origin of an absolute URL; what comes after it is not looked at.
    ///
    /// # Errors
    /// [`OriginError`]: no `http` or `https` URL, or one with a user in it.
    pub fn of_url(url: &str) -> Result<Self, OriginError> {
        let fail = |fault| OriginError {
            text: url.chars().take(200).collect(),
            fault,
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| fail("`http://` or `https://` is wanted"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(fail("the scheme is neither http nor https")),
        };
        // A backslash is a slash to some parsers: refused, since what they would
        // connect to is not what was checked.
        if rest.contains(['\\', ' ']) || rest.contains(char::is_control) {
            return Err(fail("there is a character that no URL has"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(fail("a user has no place in it"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port.parse().ok().filter(|&port| port != 0);
                (
                    host,
                    port.ok_or_else(|| fail("the port is not 1 to 65535"))?,
                )
            }
            _ => (authority, Self::default_port(secure)),
        };
        Ok(Self {
            secure,
            host: host_of(host).ok_or_else(|| fail("there is no valid host"))?,
            port,
        })
    }
}

/// A name in lower case, or an address, as written in a URL.
fn host_of(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: std::net::Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let fits = (1..=253).contains(&text.len()) && text.bytes().all(plain);
    (fits && !text.starts_with('.')).then(|| text.to_ascii_lowercase())
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origin = Self::of_url(text)?;
        let tail = text.split_once("://").map_or("", |(_, rest)| rest);
        if tail.trim_end_matches('/').contains(['/', '?', '#']) {
            return Err(OriginError {
                text: text.to_owned(),
                fault: "it ends with the host or the port; a path cannot be granted",
            });
        }
        Ok(origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == Self::default_port(self.secure) {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows the slashes.
    fn https(rest: &str) -> String {
        format!("https:{}{rest}", "//")
    }

    #[test]
    fn origins_have_one_spelling() {
        let odd_case: Origin = https("Policy.Example").parse().unwrap();
        assert_eq!(odd_case.to_string(), "https://policy.example");
        for (given, canonical) in [
            ("https://policy.example:443/", "https://policy.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::0:1]:80", "http://[::1]"),
        ] {
            let origin: Origin = given.parse().unwrap();
            assert_eq!(origin.to_string(), canonical);
        }
        let of_url = Origin::of_url("https://policy.example:8443/a?b=c:d").unwrap();
        assert_eq!(of_url.to_string(), "https://policy.example:8443");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for rest in [
            "",
            "user@policy.example",
            "good.example\\@bad.example",
            "policy.example:0",
            "policy.example:x",
            "[::1",
            "a b",
            "policy.example/path",
            "caf\u{e9}.example",
        ] {
            assert!(https(rest).parse::<Origin>().is_err(), "{rest:?}");
        }
        for text in ["policy.example", "ftp://policy.example"] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }
}
