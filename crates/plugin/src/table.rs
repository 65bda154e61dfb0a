//! Read-only tables that the administrator provides.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One version of a table. A call asks its environment for a table once and
/// keeps what it got, so it sees one version throughout. Look-ups do not wait:
/// a table is in memory or mapped into it.
pub trait Table: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`TableFailure`].
    fn get(&self, key: &str) -> Result<Option<String>, TableFailure>;

    /// `a.b.example`, then `b.example`, then `example`: the first that is there,
    /// key and value. The name is canonical: lower case, A-labels, no dot at its
    /// end.
    ///
    /// # Errors
    /// [`TableFailure`].
    fn match_domain(&self, name: &str) -> Result<Option<(String, String)>, TableFailure>;

    /// The longest prefix that has the address, as text, and its value.
    ///
    /// # Errors
    /// [`TableFailure`].
    fn match_ip(&self, address: IpAddr) -> Result<Option<(String, String)>, TableFailure>;

    /// Changes whenever the content does.
    fn revision(&self) -> u64;
}

/// Why a table does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum TableFailure {
    /// The relay has no table of this name.
    #[error("there is no table {0:?}")]
    Unknown(String),
    /// Not granted.
    #[error("table {0:?} is not granted")]
    Denied(String),
    /// It cannot be used at present, or not this way.
    #[error("{0}")]
    Unavailable(String),
}
