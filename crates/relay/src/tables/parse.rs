//! From the text of a file to a table: the three formats.
//!
//! `map` is what `postmap` reads: a logical line is a key, white space and a value; it begins
//! with a line whose first character is no white space, and lines that begin with white space
//! continue it; empty lines and those whose first character other than white space is `#` are
//! passed over, between the lines of a logical line too. A key may have white space within double
//! quotes. Keys are folded to lower case, and of a key that comes twice the first counts.

use std::borrow::Cow;

use ipnet::IpNet;
use smtp::Domain;

use super::entries::{Entries, EntriesBuilder};
use super::fault::TableFault;
use super::networks::{NetworkBuilder, NetworkTree};
use crate::config::TableFormat;

/// What a file holds.
pub(super) enum Content {
    /// Keys and values.
    Map(Entries),
    /// Domains, those with what is below them with a leading dot.
    Domains(Entries),
    /// Networks.
    Networks(NetworkTree),
}

/// A file that was read: the table, and what is odd about it.
pub(super) struct Parsed {
    pub(super) content: Content,
    pub(super) warnings: Vec<TableFault>,
}

/// Faults after which a file is not read any further.
const FAULTS_MAX: usize = 1000;

/// Reads the octets of a file.
///
/// # Errors
/// Every fault, with its line.
pub(super) fn parse(
    octets: &[u8],
    format: TableFormat,
    entries_max: usize,
) -> Result<Parsed, Vec<TableFault>> {
    let mut reading = Reading {
        entries_max,
        ..Reading::default()
    };
    match format {
        TableFormat::Map => map(octets, &mut reading),
        TableFormat::Domains => domains(octets, &mut reading),
        TableFormat::Networks => networks(octets, &mut reading),
    }
}

/// What was noted on the way.
#[derive(Default)]
struct Reading {
    faults: Vec<TableFault>,
    warnings: Vec<TableFault>,
    entries_max: usize,
}

impl Reading {
    fn fault(&mut self, line: u32, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(TableFault { line, message });
    }

    fn warning(&mut self, line: u32, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(TableFault { line, message });
    }

    /// Whether reading on makes sense with so many entries.
    fn goes_on(&mut self, entries: usize, line: u32) -> bool {
        if entries > self.entries_max {
            let most = self.entries_max;
            self.fault(
                line,
                format!("there are more than max_entries = {most} entries"),
            );
            return false;
        }
        self.faults.len() < FAULTS_MAX
    }

    fn finish(
        mut self,
        content: Content,
        repeated: Vec<TableFault>,
    ) -> Result<Parsed, Vec<TableFault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        self.warnings.extend(repeated);
        self.warnings.sort_by_key(|warning| warning.line);
        Ok(Parsed {
            content,
            warnings: self.warnings,
        })
    }
}

/// The lines with their numbers, without their ends.
fn lines(octets: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let lines = octets.split(|octet| *octet == b'\n');
    (1_u32..).zip(lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)))
}

fn is_passed_over(line: &[u8]) -> bool {
    let rest = line.trim_ascii_start();
    rest.is_empty() || rest.starts_with(b"#")
}

fn map(octets: &[u8], reading: &mut Reading) -> Result<Parsed, Vec<TableFault>> {
    let mut builder = EntriesBuilder::with_capacity(octets.len());
    let mut logical: Option<(u32, Cow<'_, [u8]>)> = None;
    for (number, line) in lines(octets) {
        if is_passed_over(line) {
            continue;
        }
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            match &mut logical {
                Some((_, text)) => text.to_mut().extend_from_slice(line),
                None => reading.fault(number, "this continues a line, and there is none before"),
            }
        } else if let Some((start, text)) = logical.replace((number, Cow::Borrowed(line))) {
            entry(start, &text, &mut builder, reading);
        }
        if !reading.goes_on(builder.len(), number) {
            logical = None;
            break;
        }
    }
    if let Some((start, text)) = logical {
        entry(start, &text, &mut builder, reading);
        reading.goes_on(builder.len(), start);
    }
    let (entries, repeated) = builder.finish();
    std::mem::take(reading).finish(Content::Map(entries), repeated)
}

/// One logical line of a map.
fn entry(line: u32, octets: &[u8], builder: &mut EntriesBuilder, reading: &mut Reading) {
    let Ok(text) = std::str::from_utf8(octets) else {
        reading.fault(line, "this is not UTF-8");
        return;
    };
    let Some(end) = end_of_key(text) else {
        reading.fault(line, "a `\"` opens a quotation that nothing closes");
        return;
    };
    let (key, value) = text.split_at(end);
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    if value.is_empty() {
        reading.fault(
            line,
            format!("{key:?} has no value: write key, white space, value"),
        );
        return;
    }
    if key.len() > 1 && key.ends_with(':') {
        let message = format!("{key:?} ends with a colon, as in a file of aliases");
        reading.warning(line, message);
    }
    if let Err(message) = builder.push(&folded(key), value, line) {
        reading.fault(line, message);
    }
}

/// Where the key ends: at the first white space outside of quotes. None: quotes stay open.
fn end_of_key(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if octet.is_ascii_whitespace() && !is_quoted => return Some(at),
            _ => {}
        }
    }
    (!is_quoted).then_some(text.len())
}

/// A key as it is kept and as it is looked for.
pub(super) fn folded(key: &str) -> Cow<'_, str> {
    if !key.is_ascii() {
        Cow::Owned(key.to_lowercase())
    } else if key.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(key.to_ascii_lowercase())
    } else {
        Cow::Borrowed(key)
    }
}

/// The first word of a line and the rest; none where there is nothing to read.
fn word_and_rest<'t>(
    number: u32,
    line: &'t [u8],
    reading: &mut Reading,
) -> Option<(&'t str, &'t str)> {
    if is_passed_over(line) {
        return None;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        reading.fault(number, "this is not UTF-8");
        return None;
    };
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let end = text.find(|c: char| c.is_ascii_whitespace());
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    // A comment behind an entry is no value.
    let rest = rest.trim_start();
    Some((word, if rest.starts_with('#') { "" } else { rest }))
}

fn domains(octets: &[u8], reading: &mut Reading) -> Result<Parsed, Vec<TableFault>> {
    let mut builder = EntriesBuilder::with_capacity(octets.len());
    for (number, line) in lines(octets) {
        let Some((word, value)) = word_and_rest(number, line, reading) else {
            continue;
        };
        let below = word.strip_prefix("*.").or_else(|| word.strip_prefix('.'));
        let pushed = match below.unwrap_or(word).parse::<Domain>() {
            Ok(domain) if !domain.is_literal() && below.is_some() => {
                builder.push(&format!(".{domain}"), value, number)
            }
            Ok(domain) if !domain.is_literal() => builder.push(domain.as_str(), value, number),
            _ => {
                let message = format!(
                    "{word:?} is no domain: write `example.com`, or `.example.com` for those \
                     below it"
                );
                reading.fault(number, message);
                Ok(())
            }
        };
        if let Err(message) = pushed {
            reading.fault(number, message);
        }
        if !reading.goes_on(builder.len(), number) {
            break;
        }
    }
    let (entries, repeated) = builder.finish();
    std::mem::take(reading).finish(Content::Domains(entries), repeated)
}

fn networks(octets: &[u8], reading: &mut Reading) -> Result<Parsed, Vec<TableFault>> {
    let mut builder = NetworkBuilder::default();
    for (number, line) in lines(octets) {
        let Some((word, value)) = word_and_rest(number, line, reading) else {
            continue;
        };
        let pushed = match network(word) {
            Ok(network) => builder.push(network, value, number),
            Err(message) => {
                reading.fault(number, message);
                Ok(())
            }
        };
        if let Err(message) = pushed {
            reading.fault(number, message);
        }
        if !reading.goes_on(builder.len(), number) {
            break;
        }
    }
    let (tree, repeated) = builder.finish();
    std::mem::take(reading).finish(Content::Networks(tree), repeated)
}

/// An address or a network; IPv4 in its IPv6 form is IPv4.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("{text:?} is no network: write `192.0.2.0/24`, `2001:db8::/32` or an address")
    })?;
    if network.addr() != network.network() {
        let right = network.trunc();
        return Err(format!(
            "{text:?} has bits set beyond its prefix: write `{right}`"
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(text: &str) -> Entries {
        match parse(text.as_bytes(), TableFormat::Map, 1000) {
            Ok(Parsed {
                content: Content::Map(entries),
                ..
            }) => entries,
            Ok(_) => panic!("a map was asked for"),
            Err(faults) => panic!("{faults:?}"),
        }
    }

    fn faults_of(text: &[u8], format: TableFormat) -> Vec<u32> {
        match parse(text, format, 5) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(|fault| fault.line).collect(),
        }
    }

    /// The example of postconf's transport(5), with everything that postmap(1) allows.
    const TRANSPORT: &str = "# Internal mail\r
example.com      local:\r

  # an indented comment
.Example.COM     smtp:[gateway.example.com]\t \nuser@example.net\n   smtp:
# within a logical line
   [host.example]:26
*                relay:[mx.example.org]:submission
\"john doe\"@example.com   slow:
example.com      smtp:never
slow.example.com\tsmtp:[a.example], [b.example]
";

    #[test]
    fn a_transport_file_is_read_as_postmap_reads_it() {
        let map = map_of(TRANSPORT);
        for (key, value) in [
            ("example.com", "local:"),
            (".example.com", "smtp:[gateway.example.com]"),
            ("user@example.net", "smtp:   [host.example]:26"),
            ("*", "relay:[mx.example.org]:submission"),
            ("\"john doe\"@example.com", "slow:"),
            ("slow.example.com", "smtp:[a.example], [b.example]"),
        ] {
            assert_eq!(map.get(key), Some(value), "{key}");
        }
        assert_eq!(map.len(), 6);
        let parsed = parse(TRANSPORT.as_bytes(), TableFormat::Map, 100);
        let Ok(Parsed { warnings, .. }) = parsed else {
            panic!("it is good");
        };
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].line, 12);
    }

    #[test]
    fn every_fault_has_its_line() {
        let text = b"  continues nothing\nkey\nok value\n\"open value\n\xff value\n";
        assert_eq!(faults_of(text, TableFormat::Map), [1, 2, 4, 5]);
        let domains = b"example.com\n-\n[192.0.2.1]\n*.\nfine.example yes\na..b\n";
        assert_eq!(faults_of(domains, TableFormat::Domains), [2, 3, 4, 6]);
        let networks = b"10.0.0.0/8\n10.0.0.1/8\n10.0.0.0/33\nhost.example\n2001:db8::/32 x\n";
        assert_eq!(faults_of(networks, TableFormat::Networks), [2, 3, 4]);
    }

    #[test]
    fn there_may_be_as_many_entries_as_configured() {
        let text = |count: usize| {
            (0..count).fold(String::new(), |text, number| {
                text + &format!("k{number} v\n")
            })
        };
        assert!(faults_of(text(5).as_bytes(), TableFormat::Map).is_empty());
        assert_eq!(faults_of(text(6).as_bytes(), TableFormat::Map).len(), 1);
        assert_eq!(faults_of(text(9).as_bytes(), TableFormat::Map).len(), 1);
    }
}
