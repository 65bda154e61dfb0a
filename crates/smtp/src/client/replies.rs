//! Replies out of received octets (RFC 5321 section 4.2.1), strictly and in
//! bounded memory.

use memchr::memchr;

use crate::reply::{EnhancedStatusCode, Reply};

use super::ProtocolError;

/// Four times what RFC 5321 section 4.5.3.1.5 allows, in octets.
const LINE_MAX_BYTES: usize = 2048;
const LINE_MAX_COUNT: usize = 100;

/// Collects replies.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    consumed_bytes: usize,
    /// A reply whose last line has not come.
    partial: Option<Reply>,
    line_count: usize,
}

impl ReplyReader {
    pub(super) fn push(&mut self, octets: &[u8]) {
        if self.consumed_bytes == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..self.consumed_bytes);
        }
        self.consumed_bytes = 0;
        self.buffer.extend_from_slice(octets);
    }

    /// Whether nothing has come that was not returned as a reply.
    pub(super) fn is_empty(&self) -> bool {
        self.consumed_bytes == self.buffer.len() && self.partial.is_none()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next reply, or `None` while it is not whole.
    pub(super) fn next(&mut self) -> Result<Option<Reply>, ProtocolError> {
        loop {
            let rest = &self.buffer[self.consumed_bytes..];
            let Some(end) = memchr(b'\n', rest) else {
                return if rest.len() >= LINE_MAX_BYTES {
                    Err(ProtocolError::LineTooLong)
                } else {
                    Ok(None)
                };
            };
            if end + 1 > LINE_MAX_BYTES {
                return Err(ProtocolError::LineTooLong);
            }
            let line = rest[..end]
                .strip_suffix(b"\r")
                .filter(|line| memchr(b'\r', line).is_none())
                .ok_or(ProtocolError::LineBreak)?;
            let (code, is_last, text) = parse_line(line).ok_or(ProtocolError::NotAReply)?;
            let (enhanced, text) = split_enhanced(code, text);
            let text = String::from_utf8_lossy(text);
            self.consumed_bytes += end + 1;
            self.line_count += 1;
            if self.line_count > LINE_MAX_COUNT {
                return Err(ProtocolError::TooManyLines);
            }
            let reply = match self.partial.take() {
                None => Reply {
                    code,
                    enhanced,
                    text: text.into_owned(),
                },
                Some(reply) if reply.code != code => return Err(ProtocolError::MixedCodes),
                Some(mut reply) => {
                    reply.text.push('\n');
                    reply.text.push_str(&text);
                    reply.enhanced = reply.enhanced.or(enhanced);
                    reply
                }
            };
            if is_last {
                self.line_count = 0;
                return Ok(Some(reply));
            }
            self.partial = Some(reply);
        }
    }
}

/// Code, whether it is the last line, and text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let (is_last, text) = match rest {
        [] => (true, rest),
        [b' ', text @ ..] => (true, text),
        [b'-', text @ ..] => (false, text),
        _ => return None,
    };
    (200..=599).contains(&code).then_some((code, is_last, text))
}

/// Takes the enhanced status code off the text, if there is one and it agrees
/// with the code (RFC 2034 section 3).
fn split_enhanced(code: u16, text: &[u8]) -> (Option<EnhancedStatusCode>, &[u8]) {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let enhanced = str::from_utf8(&text[..end])
        .ok()
        .and_then(|word| word.parse::<EnhancedStatusCode>().ok())
        .filter(|enhanced| u16::from(enhanced.class) == code / 100);
    match enhanced {
        Some(_) => (enhanced, text.get(end + 1..).unwrap_or_default()),
        None => (None, text),
    }
}
