//! What a guest may call: one file per interface of the contract. Each function
//! counts as a host call; what is not granted answers `denied` or nothing.

mod ambient;
mod config;
mod destination;
mod dns;
mod http;
mod log;
mod message;
mod metrics;
mod state;
mod tables;

pub(crate) use tables::OpenTables;

use std::net::IpAddr;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings;
use crate::environment::LookupFailure;
use crate::state::CallState;

/// The contract's imports, as this relay has them: interface and functions. A
/// test compares it with the WIT file.
pub(crate) const FUNCTIONS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("routes", &[]),
    (
        "message",
        &[
            "id",
            "received-at",
            "size",
            "envelope-sender",
            "envelope-recipients",
            "recipient-count",
            "origin",
            "header",
            "headers",
            "header-octets",
            "body",
            "authentication",
            "get-attribute",
            "attributes",
            "set-attribute",
        ],
    ),
    (
        "destination",
        &[
            "candidates",
            "candidates-with-addresses",
            "mta-sts-mode",
            "queued",
        ],
    ),
    ("log", &["write", "enabled"]),
    ("config", &["get", "keys", "json", "revision"]),
    ("ambient", &["now", "random", "remaining"]),
    ("metrics", &["count", "observe"]),
    ("dns", &["lookup", "lookup-many"]),
    (
        "tables",
        &["get", "get-many", "match-domain", "match-ip", "revision"],
    ),
    ("state", &["get", "put", "put-if", "remove", "add", "take"]),
    ("http", &["send", "send-many"]),
];

/// Defines every import of the contract.
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    fn itself(state: &mut CallState) -> &mut CallState {
        state
    }
    bindings::types::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::routes::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::message::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::destination::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::log::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::config::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::ambient::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::metrics::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::dns::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::tables::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::state::add_to_linker::<_, HasSelf<CallState>>(linker, itself)?;
    bindings::http::add_to_linker::<_, HasSelf<CallState>>(linker, itself)
}

impl bindings::types::Host for CallState {}
impl bindings::routes::Host for CallState {}

impl From<LookupFailure> for bindings::routes::DnsFailure {
    fn from(failure: LookupFailure) -> Self {
        match failure {
            LookupFailure::NoSuchDomain => Self::NoSuchDomain,
            LookupFailure::NoRecords => Self::NoData,
            LookupFailure::NullMx => Self::NullMx,
            LookupFailure::Temporary => Self::Temporary,
            LookupFailure::Denied => Self::Denied,
        }
    }
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Names and values of the guest's attributes.
fn pairs(attributes: Vec<bindings::types::Attribute>) -> Vec<(String, String)> {
    attributes
        .into_iter()
        .map(|attribute| (attribute.name, attribute.value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces of the file and their functions, read line by line.
    fn functions_of(wit: &str) -> Vec<(String, Vec<String>)> {
        let mut interfaces: Vec<(String, Vec<String>)> = Vec::new();
        for line in wit.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("interface ") {
                let name = name.trim_end_matches(" {").to_owned();
                interfaces.push((name, Vec::new()));
            } else if let Some((name, _)) = line.split_once(": func(")
                && !line.starts_with("///")
            {
                let interface = interfaces.last_mut().expect("functions are in interfaces");
                interface.1.push(name.to_owned());
            }
        }
        interfaces
    }

    #[test]
    fn the_table_is_what_the_contract_imports() {
        let wit = include_str!("../../../../plugins/wit/waypost-policy.wit");
        let (_, imports) = wit
            .split_once("world imports {")
            .expect("the world `imports`");
        let (imports, _) = imports.split_once('}').expect("its end");
        let imported: Vec<&str> = imports
            .lines()
            .filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';'))
            .collect();
        let mut expected = functions_of(wit);
        expected.retain(|(name, _)| imported.contains(&name.as_str()));
        expected.sort();
        let mut ours: Vec<(String, Vec<String>)> = FUNCTIONS
            .iter()
            .map(|(name, functions)| {
                let functions = functions.iter().map(|&function| function.to_owned());
                ((*name).to_owned(), functions.collect())
            })
            .collect();
        ours.sort();
        assert_eq!(ours, expected);
    }
}
