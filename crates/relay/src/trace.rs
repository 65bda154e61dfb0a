//! The trace header that the relay puts before a message, and the count of hops before it.
//!
//! RFC 5321 section 4.4 (trace information) and section 6.3 (loop detection).

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use queue::UnixMs;
use smtp::QueueId;

/// Most of a header section that policies look at, in octets.
pub const HEADER_LIMIT_BYTES: usize = 256 * 1024;

/// What a Received field says.
#[derive(Debug)]
pub struct Hop<'a> {
    /// Argument of EHLO or HELO.
    pub helo: &'a str,
    /// Address of the client; none for mail made by the relay.
    pub client_ip: Option<IpAddr>,
    /// Our own name.
    pub hostname: &'a str,
    /// `SMTP`, `ESMTP`, `ESMTPS`… (RFC 3848).
    pub protocol: &'a str,
    /// Identity in our queue.
    pub id: QueueId,
    /// The recipient, when there is only one: with several it would tell one about another.
    pub recipient: Option<&'a str>,
    /// When.
    pub at: UnixMs,
}

/// The Received field, CRLF at its end.
///
/// The client's EHLO argument is the only text here that a stranger chose; everything outside
/// of printable ASCII, and the characters that have a meaning in the field, become `?`.
#[must_use]
pub fn received(hop: &Hop<'_>) -> Bytes {
    let mut text = String::with_capacity(256);
    text.push_str("Received: from ");
    push_token(&mut text, hop.helo);
    if let Some(ip) = hop.client_ip {
        match ip {
            IpAddr::V4(v4) => write!(text, " ([{v4}])"),
            IpAddr::V6(v6) => write!(text, " ([IPv6:{v6}])"),
        }
        .expect("writing to a String cannot fail");
    }
    write!(
        text,
        "\r\n\tby {} (Waypost) with {} id {}",
        hop.hostname, hop.protocol, hop.id
    )
    .expect("writing to a String cannot fail");
    if let Some(recipient) = hop.recipient {
        write!(text, "\r\n\tfor <{recipient}>").expect("writing to a String cannot fail");
    }
    text.push_str(";\r\n\t");
    text.push_str(&date(hop.at));
    text.push_str("\r\n");
    Bytes::from(text)
}

fn push_token(text: &mut String, helo: &str) {
    const MAX: usize = 255;
    if helo.is_empty() {
        text.push_str("unknown");
    }
    for c in helo.chars().take(MAX) {
        let plain = c.is_ascii_graphic() && !matches!(c, '(' | ')' | '\\' | ';' | '<' | '>' | '"');
        text.push(if plain { c } else { '?' });
    }
}

/// A moment as RFC 5322 section 3.3 writes it, in UTC.
#[must_use]
pub fn date(at: UnixMs) -> String {
    let timestamp = i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    timestamp
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string()
}

/// Number of Received fields in a message's header section.
///
/// The content may come in any number of pieces; only the header section is looked at.
#[must_use]
pub fn hop_count(content: &[Bytes]) -> usize {
    let mut count = 0;
    for_each_header_line(content, |line| {
        if line.len() >= 9 && line[..9].eq_ignore_ascii_case(b"received:") {
            count += 1;
        }
    });
    count
}

/// The header section, without the empty line that ends it, at most `limit` octets.
#[must_use]
pub fn header_section(content: &[Bytes], limit: usize) -> Vec<u8> {
    let mut header = Vec::new();
    let mut cut = false;
    for_each_header_line(content, |line| {
        // Cut once, cut for good: a section with holes would show fields that never met.
        cut |= header.len() + line.len() + 2 > limit;
        if !cut {
            header.extend_from_slice(line);
            header.extend_from_slice(b"\r\n");
        }
    });
    header
}

/// Values of the header fields of this name (case-insensitive), unfolded, in order.
#[must_use]
pub fn header_values(header: &[u8], name: &str) -> Vec<Vec<u8>> {
    fields(header)
        .into_iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
        .collect()
}

/// All header fields as name and unfolded value, in order; a line that is no field is skipped.
#[must_use]
pub fn fields(header: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for line in header.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
        } else if let Some(colon) = line.iter().position(|&b| b == b':') {
            let name = line[..colon].trim_ascii_end().to_vec();
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }
    fields
}

/// Octets of the header section, the empty line at its end included.
#[must_use]
pub fn header_length(content: &[Bytes]) -> usize {
    for_each_header_line(content, |_| {})
}

/// Up to `limit` octets of the body (what follows the empty line) from `offset`.
#[must_use]
pub fn body_slice(content: &[Bytes], offset: u64, limit: usize) -> Bytes {
    slice(content, header_length(content) as u64 + offset, limit)
}

/// Up to `limit` octets of the content from `offset`.
#[must_use]
pub fn slice(content: &[Bytes], offset: u64, limit: usize) -> Bytes {
    let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut slice = Vec::new();
    for piece in content {
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        let rest = &piece[skip..];
        skip = 0;
        slice.extend_from_slice(&rest[..rest.len().min(limit - slice.len())]);
        if slice.len() == limit {
            break;
        }
    }
    Bytes::from(slice)
}

/// Calls `each` for every line of the header section, without its CRLF, and gives the length
/// of the section in octets, the empty line included.
///
/// Lines that lie within one piece are not copied.
fn for_each_header_line(content: &[Bytes], mut each: impl FnMut(&[u8])) -> usize {
    let mut carry: Vec<u8> = Vec::new();
    let mut length = 0;
    for piece in content {
        let mut rest: &[u8] = piece;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            length += end + 1;
            let whole: &[u8] = if carry.is_empty() {
                line
            } else {
                carry.extend_from_slice(line);
                &carry
            };
            let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
            if whole.is_empty() {
                return length;
            }
            each(whole);
            carry.clear();
        }
        carry.extend_from_slice(rest);
        length += rest.len();
    }
    if !carry.is_empty() {
        each(&carry);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_hops_over_any_cut() {
        let text = b"Received: a\r\nreceived: b\r\n\tfolded\r\nSubject: Received: no\r\n\r\nReceived: body\r\n";
        for cut in 0..text.len() {
            let pieces = [
                Bytes::copy_from_slice(&text[..cut]),
                Bytes::copy_from_slice(&text[cut..]),
            ];
            assert_eq!(hop_count(&pieces), 2, "cut at {cut}");
        }
    }

    #[test]
    fn the_body_begins_behind_the_empty_line_over_any_cut() {
        let text = b"A: b\r\nC: d\r\n\r\nbody text";
        for cut in 0..text.len() {
            let pieces = [
                Bytes::copy_from_slice(&text[..cut]),
                Bytes::copy_from_slice(&text[cut..]),
            ];
            assert_eq!(body_slice(&pieces, 0, 100), "body text", "cut at {cut}");
            assert_eq!(body_slice(&pieces, 5, 2), "te", "cut at {cut}");
            assert_eq!(body_slice(&pieces, 50, 2), "", "cut at {cut}");
        }
    }

    #[test]
    fn a_hostile_helo_stays_one_token() {
        let hop = Hop {
            helo: "x;\r\nBcc: <a> (b)",
            client_ip: Some("2001:db8::1".parse().expect("a literal")),
            hostname: "relay.example",
            protocol: "ESMTP",
            id: QueueId::new(7),
            recipient: Some("you@example.com"),
            at: UnixMs(0),
        };
        let field = String::from_utf8(received(&hop).to_vec()).expect("ASCII");
        assert!(
            field.starts_with("Received: from x???Bcc:??a???b? ([IPv6:2001:db8::1])\r\n"),
            "{field}"
        );
        assert!(
            field.ends_with("for <you@example.com>;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"),
            "{field}"
        );
    }

    #[test]
    fn unfolds_fields() {
        let header = b"Subject: one\r\n two\r\nX-A:b\r\nbroken\r\nx-a: c\r\n";
        assert_eq!(header_values(header, "X-A"), [b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(header_values(header, "subject"), [b"one two".to_vec()]);
    }
}
