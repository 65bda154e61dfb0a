//! Text into lines that every server takes: folded fields, wrapped paragraphs,
//! 7-bit body parts.

use std::fmt::Write as _;

/// Where lines are wrapped (RFC 5322 section 2.1.1).
const LINE_WIDTH: usize = 76;
/// Where paragraphs are wrapped; leaves room for what quoted-printable adds.
const PARAGRAPH_WIDTH: usize = 72;
/// The longest word that stays whole; lines end at 998 octets at most.
const WORD_LIMIT: usize = 900;
const LINE_LIMIT_BYTES: usize = 998;

/// `text` in printable ASCII: control characters become spaces, others `?`.
pub(super) fn plain(text: &str) -> String {
    let ascii = |c: char| match c {
        ' '..='~' => c,
        c if c.is_control() => ' ',
        _ => '?',
    };
    text.chars().map(ascii).collect()
}

/// The first `limit` characters of `text`, control characters as spaces.
pub(super) fn printable(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Appends one header field, folded. `value` has to be printable ASCII.
pub(super) fn field(out: &mut String, name: &str, value: &str) {
    debug_assert!(
        value.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
        "{value:?}"
    );
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for (index, word) in words(value).enumerate() {
        // A field whose first line has only its name is legal, but not loved.
        if index > 0 && column + 1 + word.len() > LINE_WIDTH {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// Appends `text` as lines that begin with `indent`. Control characters are gone.
pub(super) fn wrapped(out: &mut String, indent: &str, text: &str) {
    let text = printable(text, usize::MAX);
    let mut column = 0;
    for word in words(&text) {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > PARAGRAPH_WIDTH {
            out.push_str("\r\n");
            column = 0;
        }
        if column == 0 {
            out.push_str(indent);
            column = indent.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push_str("\r\n");
}

/// The words of `text`; those that are too long in pieces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ')
        .filter(|word| !word.is_empty())
        .flat_map(pieces)
}

fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(WORD_LIMIT);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// A body part with its header: as it is where that is 7-bit, else in
/// quoted-printable (RFC 6522 section 4 allows it for header sections too).
/// The lines of `content` end in CRLF.
pub(super) fn body_part(kind: &str, description: &str, content: &[u8]) -> Vec<u8> {
    let mut head = String::new();
    let seven_bit = is_seven_bit(content);
    let charset = match (kind, seven_bit) {
        ("text/plain", true) => "; charset=us-ascii",
        ("text/plain", false) => "; charset=utf-8",
        _ => "",
    };
    field(&mut head, "Content-Type", &format!("{kind}{charset}"));
    field(&mut head, "Content-Description", description);
    let encoding = if seven_bit {
        "7bit"
    } else {
        "quoted-printable"
    };
    field(&mut head, "Content-Transfer-Encoding", encoding);
    head.push_str("\r\n");
    let mut out = head.into_bytes();
    if seven_bit {
        out.extend_from_slice(content);
    } else {
        out.extend_from_slice(quoted_printable(content).as_bytes());
    }
    out
}

/// Whether every line is short enough and of printable ASCII and tabs.
fn is_seven_bit(content: &[u8]) -> bool {
    lines(content).all(|line| {
        line.len() <= LINE_LIMIT_BYTES
            && line
                .iter()
                .all(|octet| matches!(octet, b'\t' | b' '..=b'~'))
    })
}

/// The lines of `content` without their CRLF.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = content.split(|octet| *octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // What follows the last CRLF is no line.
    let count = content.iter().filter(|octet| **octet == b'\n').count();
    lines.take(count + usize::from(!content.is_empty() && !content.ends_with(b"\n")))
}

/// RFC 2045 section 6.7.
fn quoted_printable(content: &[u8]) -> String {
    let mut out = String::with_capacity(content.len() * 2);
    for line in lines(content) {
        let mut column = 0;
        for (index, octet) in line.iter().enumerate() {
            let last = index + 1 == line.len();
            let literal = match octet {
                b'=' => false,
                b' ' | b'\t' => !last,
                b'!'..=b'~' => true,
                _ => false,
            };
            let width = if literal { 1 } else { 3 };
            // The soft break takes the last column.
            if column + width > LINE_WIDTH - 1 {
                out.push_str("=\r\n");
                column = 0;
            }
            if literal {
                out.push(char::from(*octet));
            } else {
                write!(out, "={octet:02X}").expect("writing to a String cannot fail");
            }
            column += width;
        }
        out.push_str("\r\n");
    }
    out
}
