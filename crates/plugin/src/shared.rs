//! State that plugins share between calls, kept by the relay.

use serde::{Deserialize, Serialize};

/// One plugin's namespace of shared state. Every operation is atomic. Operations
/// do not wait: the store is in memory, whatever it writes behind.
///
/// `now_ms` is the time in milliseconds since the Unix epoch, as the call is told
/// it. `ttl_ms`: how long the entry lives; `None`: until removed or pushed out.
pub trait StateStore: Send + Sync {
    /// The entry of a key.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, StateFailure>;

    /// Stores a value and gives its version.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<u64, StateFailure>;

    /// As [`StateStore::put`], only where the stored version is `version`; 0: only
    /// where there is none. `Ok(None)`: somebody else was first.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn put_if(
        &self,
        key: &str,
        value: &[u8],
        version: u64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, StateFailure>;

    /// Whether there was one.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn remove(&self, key: &str, now_ms: u64) -> Result<bool, StateFailure>;

    /// Adds to a counter and gives the sum; a missing key counts as 0, and only
    /// then is the TTL set.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn add(
        &self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<i64, StateFailure>;

    /// Takes tokens from a bucket that gains `per_second` and holds `burst`; false:
    /// there were too few, and none is taken.
    ///
    /// # Errors
    /// [`StateFailure`].
    fn take(
        &self,
        key: &str,
        cost: u32,
        per_second: f64,
        burst: u32,
        now_ms: u64,
    ) -> Result<bool, StateFailure>;
}

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// As stored.
    #[serde(with = "crate::octets")]
    pub value: Vec<u8>,
    /// Changes with each store; never 0.
    pub version: u64,
}

/// Why the state does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum StateFailure {
    /// Key, value or sum are over the quota.
    #[error("over the quota")]
    Quota,
    /// It cannot be used at present, or not this way.
    #[error("{0}")]
    Unavailable(String),
}
