//! HTTP for plugins: one client for the relay, with what each plugin may do.
//!
//! A request goes only to an origin that was granted, only to an address that may be connected
//! to, and in the form that this file gives it. Redirects are answers like others.

mod addresses;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use mx::Directory;
use plugin::{HttpFailure, HttpMethod, HttpRequest, HttpResponse, Origin};
use tokio::sync::Semaphore;

use self::pool::{Key, Pool};
use crate::clock::Stopwatch;
use crate::config::HttpGrant;
use crate::telemetry;

/// Header fields of a request, and octets of all of them.
const FIELDS_MAX: usize = 64;
const FIELDS_BYTES_MAX: usize = 32 << 10;

/// Fields that say how a message is framed or who is asked: they are the relay's.
const OURS: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// Connections of all plugins.
#[derive(Default)]
pub(crate) struct HttpClient {
    pool: Pool,
}

/// A secret that may go to an origin under a name.
pub(super) struct Credential {
    pub(super) origin: Origin,
    pub(super) name: String,
    /// Marked as sensitive: nothing shows it.
    pub(super) authorization: HeaderValue,
}

/// What one plugin may do with the client.
pub(crate) struct HttpAccess {
    pub(super) client: Arc<HttpClient>,
    pub(super) directory: Arc<Directory>,
    pub(super) plugin: String,
    pub(super) origins: Vec<Origin>,
    pub(super) grant: HttpGrant,
    pub(super) credentials: Vec<Credential>,
    /// One permit for each request that may be under way.
    pub(super) turns: Semaphore,
}

impl HttpAccess {
    /// Sends a request and waits for the whole response.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let started = Stopwatch::start();
        let asked = request
            .timeout_ms
            .map(|ms| Duration::from_millis(u64::from(ms)));
        let limit = asked.map_or(self.grant.timeout, |asked| asked.min(self.grant.timeout));
        let exchange = tokio::time::timeout(limit, self.exchange(request));
        let result = exchange.await.unwrap_or(Err(HttpFailure::Timeout));
        let label = match &result {
            Ok(_) => "ok",
            Err(HttpFailure::Denied(_)) => "denied",
            Err(HttpFailure::Timeout) => "timeout",
            Err(HttpFailure::Connect(_)) => "connect",
            Err(HttpFailure::TooLarge) => "too_large",
            Err(HttpFailure::Protocol(_)) => "protocol",
        };
        telemetry::http_sent(&self.plugin, label, started.elapsed());
        result
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let origin = Origin::of_url(&request.url)
            .map_err(|error| HttpFailure::Protocol(error.to_string()))?;
        if !self.origins.contains(&origin) {
            return Err(HttpFailure::Denied(origin.to_string()));
        }
        if request.body.len() > self.grant.request_bytes {
            return Err(HttpFailure::TooLarge);
        }
        let request = self.prepared(&origin, request)?;
        let _turn = self.turns.acquire().await.ok();
        let key = Key {
            // A grant that names an address means it.
            may_be_private: self.grant.allow_private || addresses::literal(&origin).is_some(),
            origin,
        };
        let pool = &self.client.pool;
        let (response, sender) = pool.send(&key, &self.directory, request).await?;
        let response = received(response, self.grant.response_bytes).await?;
        pool.put_back(&key, sender);
        Ok(response)
    }

    /// The request as it is sent.
    fn prepared(
        &self,
        origin: &Origin,
        request: HttpRequest,
    ) -> Result<Request<Full<Bytes>>, HttpFailure> {
        let mut fields = fields(&request.headers)?;
        let default_port = if origin.secure { 443 } else { 80 };
        let authority = if origin.port == default_port {
            origin.host.clone()
        } else {
            format!("{}:{}", origin.host, origin.port)
        };
        let host = HeaderValue::try_from(authority).map_err(protocol)?;
        fields.insert(header::HOST, host);
        if let Some(name) = &request.auth {
            let is_it = |known: &&Credential| known.name == *name && known.origin == *origin;
            let credential =
                self.credentials.iter().find(is_it).ok_or_else(|| {
                    HttpFailure::Denied(format!("credential {name:?} for {origin}"))
                })?;
            if fields.contains_key(header::AUTHORIZATION) {
                let twice = "`auth` and a field `authorization` do not go together";
                return Err(HttpFailure::Protocol(twice.to_owned()));
            }
            fields.insert(header::AUTHORIZATION, credential.authorization.clone());
        }
        if !fields.contains_key(header::USER_AGENT) {
            let agent = HeaderValue::from_static(concat!("waypost/", env!("CARGO_PKG_VERSION")));
            fields.insert(header::USER_AGENT, agent);
        }
        let mut sent = Request::new(Full::new(request.body));
        *sent.method_mut() = match request.method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Head => Method::HEAD,
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Delete => Method::DELETE,
        };
        *sent.uri_mut() = target(&request.url)?;
        *sent.headers_mut() = fields;
        Ok(sent)
    }
}

fn protocol(error: impl std::fmt::Display) -> HttpFailure {
    HttpFailure::Protocol(error.to_string())
}

/// Path and query of a URL whose origin has been read.
fn target(url: &str) -> Result<Uri, HttpFailure> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let target = rest.find(['/', '?']).and_then(|at| rest.get(at..));
    let target = match target {
        None => "/".to_owned(),
        Some(query) if query.starts_with('?') => format!("/{query}"),
        Some(path) => path.to_owned(),
    };
    target.parse().map_err(protocol)
}

/// The plugin's fields. Names and values cannot break out of their line: the types refuse that.
fn fields(given: &[(String, String)]) -> Result<HeaderMap, HttpFailure> {
    let bytes: usize = given
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if given.len() > FIELDS_MAX || bytes > FIELDS_BYTES_MAX {
        return Err(HttpFailure::TooLarge);
    }
    let mut fields = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let shown = || name.chars().take(80).collect::<String>();
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| HttpFailure::Protocol(format!("{:?} is no header field", shown())))?;
        if OURS.contains(&parsed) {
            let why = format!("the field {:?} is the relay's to set", shown());
            return Err(HttpFailure::Protocol(why));
        }
        let value = HeaderValue::try_from(value.as_str()).map_err(|_| {
            HttpFailure::Protocol(format!("the value of {:?} cannot be sent", shown()))
        })?;
        fields.append(parsed, value);
    }
    Ok(fields)
}

/// Reads a response as far as it may be.
async fn received(
    response: Response<Incoming>,
    most_bytes: usize,
) -> Result<HttpResponse, HttpFailure> {
    let (head, mut body) = response.into_parts();
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > most_bytes as u64 {
        return Err(HttpFailure::TooLarge);
    }
    let mut octets = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(protocol)?;
        if let Ok(data) = frame.into_data() {
            if octets.len() + data.len() > most_bytes {
                return Err(HttpFailure::TooLarge);
            }
            octets.extend_from_slice(&data);
        }
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(HttpResponse {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: octets.freeze(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        given.iter().map(owned).collect()
    }

    #[test]
    fn fields_cannot_smuggle() {
        for field in [
            ("x-ok\r\nhost", "evil"),
            ("x-ok", "a\r\nhost: evil"),
            ("x-ok", "a\nb"),
            ("x-ok", "a\0"),
            ("", "a"),
            ("Host", "evil"),
            ("content-LENGTH", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "upgrade"),
            ("Keep-Alive", "timeout=5"),
        ] {
            let refused = fields(&pairs(&[field]));
            assert!(
                matches!(refused, Err(HttpFailure::Protocol(_))),
                "{field:?}"
            );
        }
        let kept = fields(&pairs(&[("X-One", "1"), ("x-one", "2")])).expect("they are good");
        assert_eq!(kept.get_all("x-one").iter().count(), 2);
        let many = vec![("x".to_owned(), String::new()); FIELDS_MAX + 1];
        assert_eq!(fields(&many).err(), Some(HttpFailure::TooLarge));
    }

    #[test]
    fn the_target_is_what_follows_the_origin() {
        for (url, wanted) in [
            ("https://a.example", "/"),
            ("https://a.example?x=1#y", "/?x=1"),
            ("https://a.example:8443/p/q?x=y:/z", "/p/q?x=y:/z"),
            ("https://a.example/#/x", "/"),
        ] {
            assert_eq!(target(url).expect("a target").to_string(), wanted);
        }
    }
}
