//! Tables, state and HTTP answers of a case.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ipnet::IpNet;

use super::format::{RawResponse, Stored};
use crate::http::{HttpFailure, HttpRequest, HttpResponse};
use crate::shared::{StateEntry, StateFailure, StateStore};
use crate::table::{Table, TableFailure};

/// A table as a case states it.
#[derive(Debug)]
pub(super) struct StatedTable(pub(super) BTreeMap<String, String>);

impl Table for StatedTable {
    fn get(&self, key: &str) -> Result<Option<String>, TableFailure> {
        Ok(self.0.get(key).cloned())
    }

    fn match_domain(&self, name: &str) -> Result<Option<(String, String)>, TableFailure> {
        let mut rest = name;
        loop {
            if let Some(value) = self.0.get(rest) {
                return Ok(Some((rest.to_owned(), value.clone())));
            }
            let Some((_, parent)) = rest.split_once('.') else {
                return Ok(None);
            };
            // As the relay's tables: what is below a parent may be written with a dot.
            let dotted = format!(".{parent}");
            if let Some(value) = self.0.get(&dotted) {
                return Ok(Some((dotted, value.clone())));
            }
            rest = parent;
        }
    }

    fn match_ip(&self, address: IpAddr) -> Result<Option<(String, String)>, TableFailure> {
        let networks = self.0.iter().filter_map(|(key, value)| {
            let network = key
                .parse::<IpNet>()
                .or_else(|_| key.parse::<IpAddr>().map(IpNet::from))
                .ok()?;
            network
                .contains(&address)
                .then_some((network.prefix_len(), key, value))
        });
        let longest = networks.max_by_key(|(length, _, _)| *length);
        Ok(longest.map(|(_, key, value)| (key.clone(), value.clone())))
    }

    fn revision(&self) -> u64 {
        1
    }
}

/// State in memory, as the steps of one case share it. Without a quota: what the
/// relay does at its limits is not a question of one plugin.
#[derive(Debug, Default)]
pub(super) struct CaseState {
    keys: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    value: Vec<u8>,
    version: u64,
    expires_at_ms: Option<u64>,
    /// Of a token bucket: tokens, and when they were counted.
    bucket: Option<(f64, u64)>,
}

impl CaseState {
    pub(super) fn new(stated: &BTreeMap<String, Stored>) -> Self {
        let keys = stated.iter().map(|(key, stored)| {
            let value = match stored {
                Stored::Counter(number) => number.to_string(),
                Stored::Text(text) => text.clone(),
            };
            let kept = Kept {
                value: value.into_bytes(),
                version: 1,
                expires_at_ms: None,
                bucket: None,
            };
            (key.clone(), kept)
        });
        Self {
            keys: Mutex::new(keys.collect()),
        }
    }

    /// What is there, as text.
    pub(super) fn text(&self, key: &str, now_ms: u64) -> Option<String> {
        let kept = self.live(now_ms).get(key).cloned()?;
        Some(String::from_utf8_lossy(&kept.value).into_owned())
    }

    /// The keys, without those whose time is over.
    fn live(&self, now_ms: u64) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, kept| kept.expires_at_ms.is_none_or(|at| at > now_ms));
        keys
    }
}

impl StateStore for CaseState {
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure> {
        Ok(self.live(now_ms).get(key).map(|kept| StateEntry {
            value: kept.value.clone(),
            version: kept.version,
        }))
    }

    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure> {
        let mut keys = self.live(now_ms);
        let version = keys.get(key).map_or(1, |kept| kept.version + 1);
        let kept = Kept {
            value: value.to_vec(),
            version,
            expires_at_ms: ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms)),
            bucket: None,
        };
        keys.insert(key.to_owned(), kept);
        Ok(version)
    }

    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure> {
        let found = self.live(now_ms).get(key).map_or(0, |kept| kept.version);
        if found != version {
            return Ok(None);
        }
        self.put(key, value, ttl_ms, now_ms).map(Some)
    }

    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure> {
        Ok(self.live(now_ms).remove(key).is_some())
    }

    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure> {
        let mut keys = self.live(now_ms);
        let kept = keys.entry(key.to_owned()).or_insert_with(|| Kept {
            value: b"0".to_vec(),
            version: 0,
            expires_at_ms: ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms)),
            bucket: None,
        });
        let number: i64 = std::str::from_utf8(&kept.value)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let sum = number.saturating_add(by);
        kept.value = sum.to_string().into_bytes();
        kept.version += 1;
        Ok(sum)
    }

    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure> {
        let mut keys = self.live(now_ms);
        let kept = keys.entry(key.to_owned()).or_insert_with(|| Kept {
            value: Vec::new(),
            version: 1,
            expires_at_ms: None,
            bucket: Some((f64::from(burst), now_ms)),
        });
        let (tokens, at_ms) = kept.bucket.unwrap_or((f64::from(burst), now_ms));
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds between the calls of a case are few"
        )]
        let waited_seconds = now_ms.saturating_sub(at_ms) as f64 / 1000.0;
        let tokens = (tokens + waited_seconds * per_second).min(f64::from(burst));
        let there = tokens >= f64::from(cost);
        let left = if there {
            tokens - f64::from(cost)
        } else {
            tokens
        };
        kept.bucket = Some((left, now_ms));
        Ok(there)
    }
}

/// The answer that a case states for a request; what is not stated cannot be
/// connected to.
pub(super) fn respond(
    stated: &BTreeMap<String, RawResponse>,
    request: &HttpRequest,
) -> Result<HttpResponse, HttpFailure> {
    let key = format!("{} {}", request.method.as_str(), request.url);
    let Some(stated) = stated.get(&key) else {
        return Err(HttpFailure::Connect(format!(
            "the case has no http.{key:?}"
        )));
    };
    if let Some(failure) = &stated.failure {
        return Err(failure_of(failure));
    }
    let headers = stated.headers.clone().into_iter().collect();
    Ok(HttpResponse {
        status: stated.status.unwrap_or(200),
        headers,
        body: Bytes::from(stated.body.clone()),
    })
}

fn failure_of(word: &str) -> HttpFailure {
    match word {
        "timeout" => HttpFailure::Timeout,
        "too-large" => HttpFailure::TooLarge,
        "protocol" => HttpFailure::Protocol("the case says so".to_owned()),
        "denied" => HttpFailure::Denied("the case says so".to_owned()),
        _ => HttpFailure::Connect("the case says so".to_owned()),
    }
}

/// Whether an answer that a case states can be understood.
pub(super) fn check_response(key: &str, response: &RawResponse) -> Result<(), String> {
    let known = ["timeout", "connect", "too-large", "protocol", "denied"];
    let method = key.split_once(' ').map(|(method, _)| method);
    if !["GET", "HEAD", "POST", "PUT", "DELETE"].contains(&method.unwrap_or("")) {
        return Err(format!("http.{key:?}: `METHOD URL` is wanted"));
    }
    match &response.failure {
        Some(word) if !known.contains(&word.as_str()) => Err(format!(
            "http.{key:?}: failure = {word:?}, but one of {} is wanted",
            known.join(", ")
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_match_by_their_closest_parent_and_networks_by_the_longest_prefix() {
        let table = |keys: &[&str]| {
            StatedTable(
                keys.iter()
                    .map(|key| ((*key).to_owned(), format!("of {key}")))
                    .collect(),
            )
        };
        let domains = table(&["example.com", "mail.example.com"]);
        let matched = |name| domains.match_domain(name).unwrap().map(|(key, _)| key);
        assert_eq!(
            matched("a.mail.example.com").as_deref(),
            Some("mail.example.com")
        );
        assert_eq!(matched("other.example.com").as_deref(), Some("example.com"));
        assert_eq!(matched("example.org"), None);
        let networks = table(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"]);
        let matched = |address: &str| {
            let found = networks.match_ip(address.parse().unwrap()).unwrap();
            found.map(|(key, _)| key)
        };
        assert_eq!(matched("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(matched("10.2.2.3").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(matched("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(matched("192.0.2.2"), None);
    }

    #[test]
    fn keys_end_with_their_time_and_versions_guard_them() {
        let state = CaseState::default();
        assert_eq!(state.put("k", b"a", Some(100), 1_000).unwrap(), 1);
        assert_eq!(state.put_if("k", b"b", 7, None, 1_050).unwrap(), None);
        assert_eq!(state.get("k", 1_099).unwrap().unwrap().value, b"a");
        assert_eq!(state.get("k", 1_100).unwrap(), None);
        assert_eq!(state.put_if("k", b"b", 0, None, 1_100).unwrap(), Some(1));
        assert_eq!(state.add("n", 2, Some(10), 0).unwrap(), 2);
        assert_eq!(state.add("n", 3, Some(10), 9).unwrap(), 5);
        assert_eq!(state.add("n", 1, None, 10).unwrap(), 1);
    }

    #[test]
    fn a_bucket_fills_with_time_up_to_its_burst() {
        let state = CaseState::default();
        let take = |now_ms| state.take("b", 1, 0.5, 2, now_ms).unwrap();
        assert!(take(0) && take(0) && !take(0));
        assert!(!take(1_000));
        assert!(take(2_000));
        assert!(take(60_000) && take(60_000) && !take(60_000));
    }
}
