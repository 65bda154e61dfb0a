//! What a server offers in its answer to EHLO (RFC 5321 section 4.1.1.1).

use std::collections::BTreeSet;

use crate::reply::Reply;

/// The service extensions a server offers; none after HELO.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The name in the first line.
    pub server_name: String,
    /// SIZE (RFC 1870).
    pub size: bool,
    /// The limit named with SIZE, in octets; `None` if none was, or 0.
    pub max_message_bytes: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// STARTTLS (RFC 3207).
    pub start_tls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// The lines of all others, in upper case.
    pub others: BTreeSet<String>,
}

impl Capabilities {
    /// Reads the text of a 250 answer to EHLO. What is not well-formed is not
    /// offered.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut lines = reply.text.split('\n');
        let mut capabilities = Self::of_helo(lines.next().unwrap_or_default());
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "SIZE" => {
                    capabilities.size = true;
                    let limit = words.next().and_then(|word| word.parse().ok());
                    capabilities.max_message_bytes = limit.filter(|limit| *limit > 0);
                }
                "PIPELINING" => capabilities.pipelining = true,
                "8BITMIME" => capabilities.eight_bit_mime = true,
                "STARTTLS" => capabilities.start_tls = true,
                "ENHANCEDSTATUSCODES" => capabilities.enhanced_status_codes = true,
                "" => {}
                _ => {
                    capabilities.others.insert(line.trim().to_ascii_uppercase());
                }
            }
        }
        capabilities
    }

    /// Those of a server that was greeted with HELO.
    pub(super) fn of_helo(first_line: &str) -> Self {
        let name = first_line.split_ascii_whitespace().next();
        Self {
            server_name: name.unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }
}
