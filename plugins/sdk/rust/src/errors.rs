//! Failures of look-ups as reasons why a phase could not decide, so that `?` does it.

use crate::http::HttpError;
use crate::state::StateError;
use crate::tables::TableError;
use crate::{DnsFailure, HookError};

impl HookError {
    /// A dependency failed; the same call may work later.
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self::Temporary(reason.into())
    }

    /// The plugin's own configuration or logic is at fault.
    pub fn broken(reason: impl Into<String>) -> Self {
        Self::Broken(reason.into())
    }
}

impl From<serde_json::Error> for HookError {
    /// What `check_config` has let pass cannot be wrong, unless the check is.
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<TableError> for HookError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Unknown(what) => Self::Broken(format!("no such table: {what}")),
            TableError::Denied(what) => {
                Self::Broken(format!("the table is not in the grant `tables`: {what}"))
            }
            TableError::Unavailable(what) => Self::Temporary(format!("table: {what}")),
        }
    }
}

impl From<StateError> for HookError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Denied => Self::Broken("the grant `state` is missing".into()),
            StateError::Quota => Self::Temporary("the quota of the state is used up".into()),
            StateError::Unavailable(what) => Self::Temporary(format!("state: {what}")),
        }
    }
}

impl From<HttpError> for HookError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(what) => {
                Self::Broken(format!("the origin is not in the grant `http`: {what}"))
            }
            HttpError::Timeout => Self::Temporary("HTTP: no answer in time".into()),
            HttpError::Connect(what) => Self::Temporary(format!("HTTP: cannot connect: {what}")),
            HttpError::TooLarge => Self::Temporary("HTTP: the answer is too large".into()),
            HttpError::Protocol(what) => Self::Temporary(format!("HTTP: {what}")),
        }
    }
}

impl From<DnsFailure> for HookError {
    fn from(failure: DnsFailure) -> Self {
        match failure {
            DnsFailure::Denied => Self::Broken("the grant `dns` is missing".into()),
            DnsFailure::NoSuchDomain => Self::Temporary("DNS: there is no such name".into()),
            DnsFailure::NoData => Self::Temporary("DNS: no such record".into()),
            DnsFailure::NullMx => Self::Temporary("DNS: the domain takes no mail".into()),
            DnsFailure::Temporary => Self::Temporary("DNS: no answer for now".into()),
        }
    }
}

/// What is wrong with the part of the configuration at a path if it is to be a `T`: one line that
/// begins with the path, or nothing.
pub fn config_fault<T: serde::de::DeserializeOwned>(path: &str) -> Vec<String> {
    match crate::read_config::<T>(path) {
        Ok(_) => Vec::new(),
        Err(error) if path.is_empty() => vec![error.to_string()],
        Err(error) => vec![format!("{path}: {error}")],
    }
}
