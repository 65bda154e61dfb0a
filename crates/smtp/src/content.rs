//! The transparency procedure (RFC 5321 section 4.5.2): dots at line starts.
//!
//! Both directions hand out slices of what they were given and copy nothing.
//! Only CRLF ends a line. What ends the content is CRLF "." CRLF and nothing
//! else: a receiver that took `LF . LF` for the end would read as commands what
//! the sender meant as text, which is how mail is smuggled.

use bytes::Bytes;
use memchr::{memchr2, memmem};

/// A line break that is none (RFC 5321 section 2.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BareLineBreak {
    /// CR without LF behind it.
    #[error("a carriage return without a line feed")]
    CarriageReturn,
    /// LF without CR before it.
    #[error("a line feed without a carriage return")]
    LineFeed,
}

/// What [`DotUnstuffer::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unstuffed {
    /// Content, a slice of the input.
    Piece(Bytes),
    /// A bare CR or LF. Told once; the scan goes on to the true end, and the
    /// pieces from here on belong to a message that has to be refused.
    Fault(BareLineBreak),
    /// The input is used up and the content has not ended.
    More,
    /// The terminator has been read; the rest of the input is left as it is.
    End,
}

/// Where in a line the next octet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    LineStart,
    Middle,
    /// Behind a CR.
    AfterCr,
    /// Behind the dot that opened a line; the dot itself is never content.
    AfterDot,
    /// Behind such a dot and a CR: LF makes it the end.
    AfterDotCr,
}

/// Takes the stuffing out of received content and finds its end.
#[derive(Debug)]
pub struct DotUnstuffer {
    position: Position,
    fault: Option<BareLineBreak>,
    fault_is_told: bool,
}

/// How far one scan came.
enum Scan {
    /// All of the input up to here is content.
    UpTo(usize),
    /// Content up to here, then one octet to leave out.
    Skip(usize),
}

impl DotUnstuffer {
    /// At the first octet after the 354 reply.
    pub fn new() -> Self {
        Self {
            position: Position::LineStart,
            fault: None,
            fault_is_told: false,
        }
    }

    /// The first bare line break so far.
    pub fn fault(&self) -> Option<BareLineBreak> {
        self.fault
    }

    /// Reads on in `input` and takes from its front what it has read. To be
    /// called until it returns [`Unstuffed::More`] or [`Unstuffed::End`].
    pub fn next(&mut self, input: &mut Bytes) -> Unstuffed {
        loop {
            if let Some(fault) = self.fault
                && !self.fault_is_told
            {
                self.fault_is_told = true;
                return Unstuffed::Fault(fault);
            }
            let Some(&first) = input.first() else {
                return Unstuffed::More;
            };
            match self.position {
                Position::AfterDot => match first {
                    b'\r' => {
                        // Not content as yet: if LF follows it is the end, and
                        // if not it is a fault.
                        drop(input.split_to(1));
                        self.position = Position::AfterDotCr;
                    }
                    _ => self.position = Position::Middle,
                },
                Position::AfterDotCr => {
                    if first == b'\n' {
                        drop(input.split_to(1));
                        self.position = Position::LineStart;
                        return Unstuffed::End;
                    }
                    self.set_fault(BareLineBreak::CarriageReturn);
                    self.position = Position::Middle;
                }
                Position::LineStart | Position::Middle | Position::AfterCr => {
                    let piece = match self.scan(input) {
                        Scan::UpTo(end) => input.split_to(end),
                        Scan::Skip(end) => {
                            let piece = input.split_to(end);
                            drop(input.split_to(1));
                            piece
                        }
                    };
                    if !piece.is_empty() {
                        return Unstuffed::Piece(piece);
                    }
                }
            }
        }
    }

    /// Runs over whole lines until a dot that is not content, or the end of the
    /// input. One vectorised search per line.
    fn scan(&mut self, input: &[u8]) -> Scan {
        let mut at = 0;
        if self.position == Position::AfterCr {
            match input.first() {
                Some(b'\n') => {
                    at = 1;
                    self.position = Position::LineStart;
                }
                _ => {
                    self.position = Position::Middle;
                    if self.set_fault(BareLineBreak::CarriageReturn) {
                        return Scan::UpTo(0);
                    }
                }
            }
        }
        loop {
            if self.position == Position::LineStart {
                match input.get(at) {
                    None => return Scan::UpTo(at),
                    Some(b'.') => {
                        self.position = Position::AfterDot;
                        return Scan::Skip(at);
                    }
                    Some(_) => self.position = Position::Middle,
                }
            }
            let Some(found) = memchr2(b'\r', b'\n', &input[at..]) else {
                return Scan::UpTo(input.len());
            };
            at += found + 1;
            if input[at - 1] == b'\n' {
                if self.set_fault(BareLineBreak::LineFeed) {
                    return Scan::UpTo(at);
                }
                continue;
            }
            match input.get(at) {
                Some(b'\n') => {
                    at += 1;
                    self.position = Position::LineStart;
                }
                Some(_) => {
                    if self.set_fault(BareLineBreak::CarriageReturn) {
                        return Scan::UpTo(at);
                    }
                }
                None => {
                    self.position = Position::AfterCr;
                    return Scan::UpTo(at);
                }
            }
        }
    }

    /// Whether it is the first one: the scan stops there, so that what was
    /// found before the fault does not depend on how the input was cut.
    fn set_fault(&mut self, fault: BareLineBreak) -> bool {
        let is_first = self.fault.is_none();
        self.fault.get_or_insert(fault);
        is_first
    }
}

impl Default for DotUnstuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Stuffs content for sending. The content comes as chunks cut anywhere; the
/// pieces, written one after the other, are what belongs on the wire.
///
/// A dot is doubled behind every LF, also a bare one: content that came through
/// [`DotUnstuffer`] has none, and should other content have one, a lenient
/// receiver must not find an end of content there.
#[derive(Debug, Clone)]
pub struct DotStuffer {
    last: [u8; 2],
}

impl DotStuffer {
    /// At the start of the content.
    pub fn new() -> Self {
        Self { last: *b"\r\n" }
    }

    /// The pieces of the next chunk, all of them slices of it. All have to be
    /// written, in order.
    pub fn stuff<'a>(&mut self, chunk: &'a [u8]) -> StuffedPieces<'a> {
        let opens_with_dot = self.last[1] == b'\n' && chunk.first() == Some(&b'.');
        match *chunk {
            [] => {}
            [only] => self.last = [self.last[1], only],
            [.., before, last] => self.last = [before, last],
        }
        StuffedPieces {
            rest: chunk,
            opens_with_dot,
        }
    }

    /// What ends the content on the wire: `.` CRLF, behind a CRLF if the last
    /// line lacks it.
    pub fn terminator(&self) -> &'static [u8] {
        match self.last {
            [b'\r', b'\n'] => b".\r\n",
            [_, b'\r'] => b"\n.\r\n",
            _ => b"\r\n.\r\n",
        }
    }
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Slices of one chunk with the dots doubled: consecutive slices overlap in the
/// dot, so that no octet has to be copied or inserted.
#[derive(Debug, Clone)]
pub struct StuffedPieces<'a> {
    rest: &'a [u8],
    opens_with_dot: bool,
}

impl<'a> Iterator for StuffedPieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if std::mem::take(&mut self.opens_with_dot) {
            return Some(&self.rest[..1]);
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = memmem::find(self.rest, b"\n.").map_or(self.rest.len(), |found| found + 2);
        let piece = &self.rest[..end];
        // A dot found belongs to this piece and, once more, to the next one.
        let ends_in_doubled_dot = end >= 2 && piece[end - 2..] == *b"\n.";
        self.rest = &self.rest[if ends_in_doubled_dot { end - 1 } else { end }..];
        Some(piece)
    }
}
