//! Command lines out of received octets, in bounded memory.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr;

/// RFC 5321 section 4.5.3.1.4, in octets, CRLF included.
pub(super) const COMMAND_LINE_MAX_BYTES: usize = 512;
/// What SIZE (RFC 1870 section 3) and 8BITMIME (RFC 6152 section 2) add for MAIL.
pub(super) const MAIL_LINE_MAX_BYTES: usize = COMMAND_LINE_MAX_BYTES + 26 + 17;
/// A line that is longer than this is an attack, not a mistake.
const ENDLESS_LINE_BYTES: usize = 64 * 1024;

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not here yet.
    Incomplete,
    /// A line, without its CRLF and without control characters other than tabs.
    Whole(Bytes),
    /// A line that must not be carried out.
    Fault(LineFault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFault {
    TooLong,
    /// An LF that no CR precedes. It is no line end, so what follows it up to
    /// the next CRLF belongs to the same broken line and is a fault as well;
    /// every LF gets its fault, so that a client that takes LF for a line end
    /// sees an answer to each of its lines.
    BareLf,
    BareCr,
    Control,
    /// So long that the connection is to be closed.
    Endless,
}

/// Received octets that nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    chunks: VecDeque<Bytes>,
    /// The start of a line whose end has not come; at most a command line long.
    partial: Vec<u8>,
    /// Length of the line so far when it was too long to be kept.
    skipped_bytes: usize,
    /// Whether the last skipped octet was a CR.
    skipped_cr: bool,
    /// Behind a bare LF, before the next CRLF.
    is_tainted: bool,
}

impl Input {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Forgets everything: what was said before TLS, or after the end.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// The first unread octets, for content. Only to be called between lines.
    pub(super) fn chunk(&mut self) -> Option<&mut Bytes> {
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
        self.chunks.front_mut()
    }

    pub(super) fn next_line(&mut self) -> Line {
        loop {
            let Some(chunk) = self.chunk() else {
                return Line::Incomplete;
            };
            if let Some(at) = memchr(b'\n', chunk) {
                let tail = chunk.split_to(at + 1);
                return self.finish(tail);
            }
            let piece = std::mem::take(chunk);
            self.hold(&piece);
            if self.skipped_bytes > ENDLESS_LINE_BYTES {
                return Line::Fault(LineFault::Endless);
            }
        }
    }

    /// Keeps the start of a line, or only its length once it is too long.
    fn hold(&mut self, piece: &[u8]) {
        let length = self.partial.len() + self.skipped_bytes + piece.len();
        if length > MAIL_LINE_MAX_BYTES {
            self.partial.clear();
            self.skipped_bytes = length;
            self.skipped_cr = piece.last() == Some(&b'\r');
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    /// Completes a line with its part up to the LF.
    fn finish(&mut self, tail: Bytes) -> Line {
        let cr_before_tail = if self.skipped_bytes > 0 {
            self.skipped_cr
        } else {
            self.partial.last() == Some(&b'\r')
        };
        let has_cr = match tail.len() {
            1 => cr_before_tail,
            length => tail[length - 2] == b'\r',
        };
        let length = self.partial.len() + self.skipped_bytes + tail.len();
        let line = if self.partial.is_empty() {
            tail
        } else {
            self.partial.extend_from_slice(&tail);
            Bytes::copy_from_slice(&self.partial)
        };
        self.partial.clear();
        self.skipped_bytes = 0;
        self.skipped_cr = false;
        if length > ENDLESS_LINE_BYTES {
            return Line::Fault(LineFault::Endless);
        }
        if !has_cr || self.is_tainted {
            self.is_tainted = !has_cr;
            return Line::Fault(LineFault::BareLf);
        }
        if length > MAIL_LINE_MAX_BYTES {
            return Line::Fault(LineFault::TooLong);
        }
        check(line.slice(..line.len() - 2))
    }
}

fn check(line: Bytes) -> Line {
    if memchr(b'\r', &line).is_some() {
        return Line::Fault(LineFault::BareCr);
    }
    if line
        .iter()
        .any(|octet| matches!(octet, 0..=8 | 10..=31 | 127))
    {
        return Line::Fault(LineFault::Control);
    }
    Line::Whole(line)
}
