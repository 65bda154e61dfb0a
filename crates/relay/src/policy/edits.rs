//! Header edits by plugins, carried out on content in pieces: the header is written anew, the
//! body stays where it is.
//!
//! A plugin sees the message as it was received. The Received field of this relay is put before
//! the result, so it stays on top whatever a plugin prepends.

use bytes::{BufMut as _, Bytes, BytesMut};
use plugin::{HeaderEdit, HeaderField, NewField};

use crate::trace;

/// Where lines of fields are folded (RFC 5322 section 2.1.1).
const LINE_WIDTH: usize = 78;
/// No line may be longer, CRLF not counted (RFC 5322 section 2.1.1).
const LINE_LIMIT_BYTES: usize = 998;
/// An encoded word is at most this long (RFC 2047 section 2).
const ENCODED_WORD_LIMIT: usize = 75;
const ENCODED_WORD_START: &str = "=?UTF-8?Q?";
const ENCODED_WORD_END: &str = "?=";

/// A field that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldFault {
    /// RFC 5322 section 2.2: printable ASCII without a colon.
    #[error("a header field's name is empty or not printable ASCII")]
    Name,
    /// A line break in a value would begin another field, or the body.
    #[error("a header field's value has control characters")]
    Control,
    /// No blank to fold at.
    #[error("a header field has a line over 998 octets that cannot be folded")]
    Line,
}

/// What the plugins of one message have changed in its header so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderChanges {
    /// Before all others, the newest last.
    prepended: Vec<Field>,
    /// After all others, the newest last.
    appended: Vec<Field>,
    /// Names, in lower case, of the received fields that are gone.
    removed: Vec<String>,
}

/// A new field as it will stand in the message.
#[derive(Debug, Clone)]
struct Field {
    name: String,
    /// Whole, folded, CRLF at its end.
    octets: Bytes,
}

impl Field {
    fn new(field: &NewField) -> Result<Self, FieldFault> {
        Ok(Self {
            name: field.name.clone(),
            octets: written(&field.name, &field.value)?,
        })
    }

    fn shown(&self) -> HeaderField {
        let end = self.octets.len() - 2;
        HeaderField {
            name: self.name.clone(),
            value: self.octets.slice(self.name.len() + 1..end),
        }
    }
}

impl HeaderChanges {
    /// Whether the header stays as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.prepended.is_empty() && self.appended.is_empty() && self.removed.is_empty()
    }

    /// Takes one more edit; those before it have been carried out for it.
    ///
    /// # Errors
    /// A field that cannot be written.
    pub(crate) fn apply(&mut self, edit: &HeaderEdit) -> Result<(), FieldFault> {
        match edit {
            HeaderEdit::Prepend(field) => self.prepended.push(Field::new(field)?),
            HeaderEdit::Append(field) => self.appended.push(Field::new(field)?),
            HeaderEdit::Remove(name) => self.remove(name),
            HeaderEdit::Replace(field) => {
                let field = Field::new(field)?;
                self.remove(&field.name);
                self.prepended.push(field);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        let others = |field: &Field| !field.name.eq_ignore_ascii_case(name);
        self.prepended.retain(others);
        self.appended.retain(others);
        let name = name.to_ascii_lowercase();
        if !self.removed.contains(&name) {
            self.removed.push(name);
        }
    }

    fn keeps(&self, name: &[u8]) -> bool {
        !self
            .removed
            .iter()
            .any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()))
    }

    /// The fields as the next plugin sees them: values as they stand in the message, without
    /// the CRLF at the end. Of the received ones as many as fit into
    /// [`trace::HEADER_LIMIT_BYTES`].
    pub(crate) fn fields(&self, content: &[Bytes]) -> Vec<HeaderField> {
        let (header, _) = split(content);
        let mut fields: Vec<_> = self.prepended.iter().rev().map(Field::shown).collect();
        for line in Lines::of(&header) {
            if line.end > trace::HEADER_LIMIT_BYTES {
                break;
            }
            let Some(name) = line.name(&header).filter(|name| self.keeps(name)) else {
                continue;
            };
            let value = header.get(line.colon + 1..line.end).unwrap_or_default();
            let value = value.strip_suffix(b"\n").unwrap_or(value);
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            fields.push(HeaderField {
                name: String::from_utf8_lossy(name).into_owned(),
                value: header.slice_ref(value),
            });
        }
        fields.extend(self.appended.iter().map(Field::shown));
        fields
    }

    /// The message with the changes: its header in one piece, its body in the pieces that it
    /// has.
    pub(crate) fn write(&self, content: &[Bytes]) -> Vec<Bytes> {
        let (header, body) = split(content);
        let new = self.prepended.iter().chain(&self.appended);
        let added: usize = new.map(|field| field.octets.len()).sum();
        let mut out = BytesMut::with_capacity(header.len() + added + 2);
        for field in self.prepended.iter().rev() {
            out.put_slice(&field.octets);
        }
        let mut appended = false;
        for line in Lines::of(&header) {
            let name = line.name(&header);
            if name.is_none() && !appended {
                // The fields end here, be it by an empty line or by one that is none.
                self.append_to(&mut out);
                appended = true;
            }
            if name.is_none_or(|name| self.keeps(name)) {
                out.put_slice(&header[line.start..line.end]);
            }
        }
        if !appended {
            if !self.appended.is_empty() && !out.is_empty() && !out.ends_with(b"\n") {
                out.put_slice(b"\r\n");
            }
            self.append_to(&mut out);
        }
        let mut pieces = Vec::with_capacity(body.len() + 1);
        pieces.push(out.freeze());
        pieces.extend(body);
        pieces
    }

    fn append_to(&self, out: &mut BytesMut) {
        for field in &self.appended {
            out.put_slice(&field.octets);
        }
    }
}

/// Octets of the header section, the empty line at its end included: what
/// [`HeaderChanges::write`] makes anew.
pub(crate) fn header_size_bytes(content: &[Bytes]) -> u64 {
    trace::header_length(content) as u64
}

/// The header section in one piece, the empty line at its end included, and the body in
/// pieces. Copies the header only where it lies in more than one.
fn split(content: &[Bytes]) -> (Bytes, Vec<Bytes>) {
    let mut left = trace::header_length(content);
    let mut header: Vec<Bytes> = Vec::new();
    let mut body = Vec::new();
    for piece in content {
        let take = left.min(piece.len());
        left -= take;
        if take > 0 {
            header.push(piece.slice(..take));
        }
        if take < piece.len() {
            body.push(piece.slice(take..));
        }
    }
    let header = match header.as_slice() {
        [only] => only.clone(),
        pieces => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.put_slice(piece));
            whole.freeze()
        }
    };
    (header, body)
}

/// One field with its continuation lines, or one line that is none.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: usize,
    /// Behind its last CRLF.
    end: usize,
    /// Position of the colon; `usize::MAX` where it is no field.
    colon: usize,
}

impl Line {
    /// The field's name; none where it is no field.
    fn name<'a>(&self, header: &'a [u8]) -> Option<&'a [u8]> {
        Some(header.get(self.start..self.colon)?.trim_ascii_end())
    }
}

/// The fields of a header section, in order.
struct Lines<'a> {
    header: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn of(header: &'a [u8]) -> Self {
        Self { header, at: 0 }
    }

    /// Behind the line that begins at `start`.
    fn line_end(&self, start: usize) -> usize {
        let rest = self.header.get(start..).unwrap_or_default();
        let found = rest.iter().position(|&octet| octet == b'\n');
        found.map_or(self.header.len(), |at| start + at + 1)
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let start = self.at;
        if start >= self.header.len() {
            return None;
        }
        let mut end = self.line_end(start);
        let first = self.header.get(start..end)?;
        let colon = first.iter().position(|&octet| octet == b':');
        let colon = colon.filter(|&at| is_name(first.get(..at)));
        if colon.is_some() {
            while matches!(self.header.get(end), Some(b' ' | b'\t')) {
                end = self.line_end(end);
            }
        }
        self.at = end;
        Some(Line {
            start,
            end,
            colon: colon.map_or(usize::MAX, |at| start + at),
        })
    }
}

/// RFC 5322 section 2.2, with the blanks before the colon of section 4.5.
fn is_name(octets: Option<&[u8]>) -> bool {
    let name = octets.unwrap_or_default().trim_ascii_end();
    !name.is_empty() && name.iter().all(|octet| (b'!'..=b'~').contains(octet))
}

/// A field on lines of at most 78 octets where there are blanks to fold at, and of 998 at
/// most. Words outside ASCII become encoded words (RFC 2047): no next hop has to know
/// SMTPUTF8 for them.
fn written(name: &str, value: &str) -> Result<Bytes, FieldFault> {
    if !is_name(Some(name.as_bytes())) || name.contains(|c: char| c == ':' || c.is_whitespace()) {
        return Err(FieldFault::Name);
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(FieldFault::Control);
    }
    let encoded;
    let value = if value.is_ascii() {
        value
    } else {
        encoded = encode(value);
        &encoded
    };
    let mut out = Vec::with_capacity(name.len() + value.len() + 16);
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut column = out.len();
    let mut rest = value.trim_matches([' ', '\t']);
    let mut blanks = " ";
    let mut is_first = true;
    while !rest.is_empty() {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // A first line with nothing but the name is legal, and not loved.
        if !is_first && column + blanks.len() + word.len() > LINE_WIDTH {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        column += blanks.len() + word.len();
        if column > LINE_LIMIT_BYTES {
            return Err(FieldFault::Line);
        }
        out.extend_from_slice(blanks.as_bytes());
        out.extend_from_slice(word.as_bytes());
        let next = after.trim_start_matches([' ', '\t']);
        blanks = after.get(..after.len() - next.len()).unwrap_or(" ");
        rest = next;
        is_first = false;
    }
    out.extend_from_slice(b"\r\n");
    Ok(Bytes::from(out))
}

/// Words with characters outside ASCII as encoded words, others as they are. Those that follow
/// one another are encoded together with the blanks between them, which a reader would drop.
fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len() * 2);
    let mut pending = String::new();
    for word in value.split([' ', '\t']).filter(|word| !word.is_empty()) {
        if word.is_ascii() {
            flush(&mut out, &mut pending);
            push_word(&mut out, word);
        } else {
            if !pending.is_empty() {
                pending.push(' ');
            }
            pending.push_str(word);
        }
    }
    flush(&mut out, &mut pending);
    out
}

fn push_word(out: &mut String, word: &str) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(word);
}

fn flush(out: &mut String, pending: &mut String) {
    const ROOM: usize = ENCODED_WORD_LIMIT - ENCODED_WORD_START.len() - ENCODED_WORD_END.len();
    let mut word = String::new();
    for character in pending.chars() {
        let encoded = quoted(character);
        // A character is never cut in two (RFC 2047 section 5).
        if word.len() + encoded.len() > ROOM {
            push_word(
                out,
                &format!("{ENCODED_WORD_START}{word}{ENCODED_WORD_END}"),
            );
            word.clear();
        }
        word.push_str(&encoded);
    }
    if !word.is_empty() {
        push_word(
            out,
            &format!("{ENCODED_WORD_START}{word}{ENCODED_WORD_END}"),
        );
    }
    pending.clear();
}

/// One character in the Q encoding (RFC 2047 section 4.2), as strict as section 5 (3) asks for
/// within a phrase.
fn quoted(character: char) -> String {
    match character {
        ' ' => "_".to_owned(),
        'a'..='z' | 'A'..='Z' | '0'..='9' | '!' | '*' | '+' | '-' | '/' => character.to_string(),
        _ => {
            let mut octets = [0; 4];
            let octets = character.encode_utf8(&mut octets).bytes();
            octets.map(|octet| format!("={octet:02X}")).collect()
        }
    }
}

#[cfg(test)]
mod tests;
