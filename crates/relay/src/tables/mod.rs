//! Tables: files of the administrator that plugins look things up in.
//!
//! A file is read as a whole into a compact form and exchanged as a whole. A file that cannot be
//! read leaves the version before it in use.

mod entries;
mod fault;
mod live;
mod networks;
mod parse;

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::net::IpAddr;

use ipnet::IpNet;
use plugin::{Table, TableFailure};

pub(crate) use fault::TableFaults;
pub(crate) use live::{LiveTable, Tables, TablesError, watch};

use self::fault::TableFault;
use self::parse::{Content, Parsed};
use crate::config::{TableConfig, TableFormat};

/// One version of a table.
pub(crate) struct FileTable {
    name: String,
    content: Content,
    revision: u64,
}

/// A key and its value.
type Match = Option<(String, String)>;

impl FileTable {
    /// Reads the file; the second part is what is odd about it.
    ///
    /// # Errors
    /// All faults with their lines.
    pub(crate) fn read(config: &TableConfig) -> Result<(Self, Vec<TableFault>), TableFaults> {
        let octets = read_file(config)?;
        let parsed = parse::parse(&octets, config.format, config.max_entries_count);
        let Parsed { content, warnings } =
            parsed.map_err(|faults| TableFaults::new(&config.path, faults))?;
        let table = Self {
            name: config.name.clone(),
            content,
            revision: revision(&octets, config.format),
        };
        Ok((table, warnings))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Map(entries) | Content::Domains(entries) => entries.len(),
            Content::Networks(tree) => tree.len(),
        }
    }

    /// Octets of memory.
    pub(crate) fn bytes(&self) -> usize {
        match &self.content {
            Content::Map(entries) | Content::Domains(entries) => entries.bytes(),
            Content::Networks(tree) => tree.bytes(),
        }
    }

    fn not_that(&self, what: &str, format: TableFormat) -> TableFailure {
        TableFailure::Unavailable(format!(
            "table {:?} has no {what}: its format is {}",
            self.name,
            format.as_str()
        ))
    }
}

fn read_file(config: &TableConfig) -> Result<Vec<u8>, TableFaults> {
    let fault = |message: String| TableFaults::of_file(&config.path, message);
    let unreadable = |error: std::io::Error| fault(format!("cannot be read: {error}"));
    let file = File::open(&config.path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut octets = Vec::new();
    // It may grow while it is read.
    let most = config.max_size_bytes;
    if size <= most {
        octets.reserve(usize::try_from(size).unwrap_or(0));
        file.take(most.saturating_add(1))
            .read_to_end(&mut octets)
            .map_err(unreadable)?;
    }
    if size.max(octets.len() as u64) > most {
        return Err(fault(format!("is larger than max_size, {most} octets")));
    }
    Ok(octets)
}

/// A number for the content: another content gives another number but for one in 2^64.
fn revision(octets: &[u8], format: TableFormat) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(format.as_str().as_bytes());
    hasher.write(octets);
    hasher.finish()
}

impl Table for FileTable {
    fn get(&self, key: &str) -> Result<Option<String>, TableFailure> {
        Ok(match &self.content {
            Content::Map(entries) => entries.get(&parse::folded(key)),
            Content::Domains(entries) => {
                let key = parse::folded(key);
                entries.get(key.strip_suffix('.').unwrap_or(&key))
            }
            Content::Networks(tree) => match key.parse::<IpAddr>() {
                Ok(address) => tree.exact(address.to_canonical().into()),
                Err(_) => match key.parse::<IpNet>() {
                    Ok(network) => tree.exact(network),
                    Err(_) => None,
                },
            },
        }
        .map(ToOwned::to_owned))
    }

    fn match_domain(&self, name: &str) -> Result<Match, TableFailure> {
        let (entries, plain_covers_below) = match &self.content {
            Content::Map(entries) => (entries, true),
            Content::Domains(entries) => (entries, false),
            Content::Networks(_) => {
                return Err(self.not_that("domains", TableFormat::Networks));
            }
        };
        let found = |key: &str| {
            let value = entries.get(key)?;
            Some((key.to_owned(), value.to_owned()))
        };
        let name = parse::folded(name);
        if let Some(exact) = found(&name) {
            return Ok(Some(exact));
        }
        for (at, _) in name.match_indices('.') {
            let Some((dotted, plain)) = name.get(at..).zip(name.get(at + 1..)) else {
                continue;
            };
            let plain = || plain_covers_below.then(|| found(plain)).flatten();
            if let Some(found) = found(dotted).or_else(plain) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn match_ip(&self, address: IpAddr) -> Result<Match, TableFailure> {
        match &self.content {
            Content::Networks(tree) => Ok(tree
                .find(address)
                .map(|(network, value)| (network.to_string(), value.to_owned()))),
            Content::Map(_) => Err(self.not_that("networks", TableFormat::Map)),
            Content::Domains(_) => Err(self.not_that("networks", TableFormat::Domains)),
        }
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(format: TableFormat, text: &str) -> FileTable {
        let parsed = parse::parse(text.as_bytes(), format, 2_000_000);
        let parsed = parsed.unwrap_or_else(|faults| panic!("{faults:?}"));
        FileTable {
            name: "test".to_owned(),
            content: parsed.content,
            revision: revision(text.as_bytes(), format),
        }
    }

    fn matched(table: &FileTable, name: &str) -> Option<String> {
        let found = table.match_domain(name).expect("it has domains");
        found.map(|(key, _)| key)
    }

    #[test]
    fn a_map_is_asked_from_the_name_outwards() {
        let map = table(
            TableFormat::Map,
            "example to-example\nb.example to-b\n.c.example below-c\n",
        );
        for (name, key) in [
            ("a.b.example", Some("b.example")),
            ("b.example", Some("b.example")),
            ("c.example", Some("example")),
            ("A.C.example", Some(".c.example")),
            ("d.example", Some("example")),
            ("example", Some("example")),
            ("other", None),
            ("", None),
        ] {
            assert_eq!(matched(&map, name).as_deref(), key, "{name}");
        }
        assert!(map.match_ip("192.0.2.1".parse().expect("one")).is_err());
    }

    #[test]
    fn a_domain_covers_itself_and_a_dotted_one_what_is_below() {
        let domains = table(
            TableFormat::Domains,
            "example.com yes # no comment\n*.example.net\n.bücher.example # comment\n",
        );
        for (name, key) in [
            ("example.com", Some("example.com")),
            ("a.example.com", None),
            ("example.net", None),
            ("a.b.example.net", Some(".example.net")),
            ("a.xn--bcher-kva.example", Some(".xn--bcher-kva.example")),
        ] {
            assert_eq!(matched(&domains, name).as_deref(), key, "{name}");
        }
        let value = |key| domains.get(key).expect("it answers");
        assert_eq!(value("Example.com."), Some("yes # no comment".to_owned()));
        assert_eq!(value(".xn--bcher-kva.example"), Some(String::new()));
    }

    #[test]
    fn networks_give_the_longest_prefix() {
        let networks = table(
            TableFormat::Networks,
            "10.0.0.0/8 wide\n10.1.0.0/16\tnarrow one\n",
        );
        let found = |ip: &str| {
            let address = ip.parse().expect("an address");
            networks.match_ip(address).expect("it has networks")
        };
        let narrow = ("10.1.0.0/16".to_owned(), "narrow one".to_owned());
        assert_eq!(found("10.1.2.3"), Some(narrow));
        assert_eq!(found("11.1.2.3"), None);
        assert_eq!(networks.get("10.0.0.0/8"), Ok(Some("wide".to_owned())));
        assert_eq!(networks.get("10.0.0.1"), Ok(None));
        assert!(networks.match_domain("example").is_err());
    }

    #[test]
    fn the_revision_is_that_of_the_content() {
        let of = |text| table(TableFormat::Map, text).revision();
        assert_eq!(of("a b\n"), of("a b\n"));
        assert_ne!(of("a b\n"), of("a c\n"));
    }

    #[test]
    fn a_million_entries_take_less_than_twice_the_file() {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut networks = String::new();
        for number in 0..1_000_000_u32 {
            writeln!(
                text,
                "customer-{number}.example smtp:[relay-{}.example]",
                number % 7
            )
            .expect("a string");
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number * 256);
            writeln!(networks, "{address}/24 pool-{}", number % 3).expect("a string");
        }
        let map = table(TableFormat::Map, &text);
        assert_eq!(map.len(), 1_000_000);
        assert!(
            map.bytes() < 2 * text.len(),
            "{} {}",
            map.bytes(),
            text.len()
        );
        let value = map.get("customer-999999.example").expect("it answers");
        assert_eq!(value.as_deref(), Some("smtp:[relay-0.example]"));
        let found = map
            .match_domain("mail.customer-7.example")
            .expect("it answers");
        assert_eq!(
            found.map(|(key, _)| key).as_deref(),
            Some("customer-7.example")
        );

        let tree = table(TableFormat::Networks, &networks);
        assert!(tree.bytes() < 2 * networks.len(), "{}", tree.bytes());
        let found = tree
            .match_ip("10.0.5.9".parse().expect("one"))
            .expect("it answers");
        assert_eq!(found, Some(("10.0.5.0/24".to_owned(), "pool-2".to_owned())));
    }
}
