//! `[[source_pool]]`: our own addresses that connections go out from.

use std::net::IpAddr;

use smtp::Domain;

use super::check::host_name_value;
use super::check_stores::Names;
use super::tree::{Node, Notes, Section};
use super::value::Wrong;

/// One `[[source_pool]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePoolConfig {
    /// `[a-z0-9-]{1,32}`, unique.
    pub name: String,
    /// At least one, no address twice.
    pub sources: Vec<SourceConfig>,
}

/// One address of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// An address of this machine.
    pub address: IpAddr,
    /// Its share of the messages, among those of its family in the pool.
    pub weight: u16,
    /// Name in EHLO; none: that of `[delivery]`.
    pub ehlo: Option<Domain>,
}

/// All pools.
pub(super) fn source_pools(root: &mut Section<'_>, notes: &Notes) -> Vec<SourcePoolConfig> {
    let mut names = Names::new("source pool", notes);
    let nodes = root
        .list("source_pool", "[[source_pool]] tables")
        .unwrap_or_default();
    let read = |node: &Node<'_>| {
        let mut section = node.section();
        let name = names.take(&mut section, "write a name, as in name = \"bulk\"");
        let sources = sources(&mut section);
        section.finish();
        Some(SourcePoolConfig {
            name: name?,
            sources: sources?,
        })
    };
    nodes.iter().filter_map(read).collect()
}

fn sources(section: &mut Section<'_>) -> Option<Vec<SourceConfig>> {
    let wanted = "a list of addresses, as in [{ address = \"192.0.2.1\", ehlo = \
                  \"out1.example.net\" }]";
    let list = section.required("addresses", wanted)?;
    let mut sources: Vec<SourceConfig> = Vec::new();
    for node in list.members(wanted)? {
        let mut entry = node.section();
        let address = entry.required("address", "write an address of this machine");
        let ehlo = entry.parsed("ehlo", "a domain name in quotes", host_name_value);
        let weight = entry.count("weight", 1, 1..=100);
        entry.finish();
        let Some(place) = address else { continue };
        let Some(address) = place.parsed("an address in quotes", address_value) else {
            continue;
        };
        if sources.iter().any(|other| other.address == address) {
            let message = format!("{address} is in the pool already");
            place.error(Wrong::new(message, "raise its weight instead"));
            continue;
        }
        sources.push(SourceConfig {
            address,
            weight,
            ehlo,
        });
    }
    if sources.is_empty() {
        list.error(Wrong::new("a pool without addresses", wanted));
        return None;
    }
    Some(sources)
}

fn address_value(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err(Wrong::new(
            format!("{text:?} is not an address to send from"),
            "write one of this machine, as in \"192.0.2.1\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn faults(pools: &str) -> String {
        let text = format!("hostname = \"a.example\"\nlisten = [\"127.0.0.1:25\"]\n{pools}");
        Config::parse(&text, "waypost.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_fault_of_a_pool_is_told() {
        let told = faults(
            "[[source_pool]]\nname = \"bulk\"\naddresses = []\n\
             [[source_pool]]\nname = \"bulk\"\naddresses = [{ address = \"0.0.0.0\" }]\n\
             [[source_pool]]\nname = \"twice\"\n\
             addresses = [{ address = \"192.0.2.1\" }, { address = \"192.0.2.1\", weight = 0 }]\n",
        );
        for expected in [
            "a pool without addresses",
            "there is a source pool \"bulk\" already",
            "\"0.0.0.0\" is not an address to send from",
            "192.0.2.1 is in the pool already",
            "weight",
        ] {
            assert!(told.contains(expected), "{expected}\n{told}");
        }
    }

    #[test]
    fn a_plugin_is_granted_only_pools_that_there_are() {
        let told = faults(
            "[[source_pool]]\nname = \"bulk\"\naddresses = [{ address = \"192.0.2.1\" }]\n\
             [[plugin]]\nname = \"p\"\npath = \"p.wasm\"\n\
             grants = { source_pools = [\"bulky\"] }\n",
        );
        assert!(told.contains("did you mean \"bulk\"?"), "{told}");
    }
}
