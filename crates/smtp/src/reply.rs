//! Replies (RFC 5321 section 4.2) and enhanced status codes (RFC 3463, RFC 2034).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::serde_text::serde_as_text;

/// RFC 5321 section 4.5.3.1.5, in octets, code and CRLF included.
const REPLY_LINE_MAX_BYTES: usize = 512;

/// `class.subject.detail` of RFC 3463.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatusCode {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What part failed: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol,
    /// 6 content, 7 policy.
    pub subject: u16,
    /// What about it.
    pub detail: u16,
}

/// Text that is no [`EnhancedStatusCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an enhanced status code is class.subject.detail with class 2, 4 or 5")]
pub struct EnhancedStatusCodeError;

impl EnhancedStatusCode {
    /// A code of its three numbers; nothing is checked.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }
}

impl From<(u8, u16, u16)> for EnhancedStatusCode {
    fn from((class, subject, detail): (u8, u16, u16)) -> Self {
        Self::new(class, subject, detail)
    }
}

impl FromStr for EnhancedStatusCode {
    type Err = EnhancedStatusCodeError;

    fn from_str(text: &str) -> Result<Self, EnhancedStatusCodeError> {
        let mut parts = text.split('.').map(|part| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        });
        let mut next = || parts.next().flatten();
        let class = match next() {
            Some(2) => 2,
            Some(4) => 4,
            Some(5) => 5,
            _ => return Err(EnhancedStatusCodeError),
        };
        let code = match (next(), next()) {
            (Some(subject), Some(detail)) => Self::new(class, subject, detail),
            _ => return Err(EnhancedStatusCodeError),
        };
        if parts.next().is_some() {
            return Err(EnhancedStatusCodeError);
        }
        Ok(code)
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(EnhancedStatusCode);

/// What the first digit of a reply says (RFC 5321 section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// 2yz: done.
    Positive,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never. Also what a code outside 200–599 counts as.
    Permanent,
}

/// One reply. `text` has its lines separated by `\n`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code, not repeated in `text`.
    pub enhanced: Option<EnhancedStatusCode>,
    /// The text without codes; lines separated by `\n`.
    pub text: String,
}

/// A code that no reply can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no reply code: 200 to 599 are")]
pub struct ReplyError(pub u16);

impl Reply {
    /// A reply with an enhanced status code, given as such or as a triple.
    pub fn new(
        code: u16,
        enhanced: impl Into<EnhancedStatusCode>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            code,
            enhanced: Some(enhanced.into()),
            text: text.into(),
        }
    }

    /// A reply without an enhanced status code: greetings, EHLO, 354.
    pub fn bare(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: None,
            text: text.into(),
        }
    }

    /// What the code says.
    pub fn severity(&self) -> Severity {
        match self.code {
            200..=299 => Severity::Positive,
            300..=399 => Severity::Intermediate,
            400..=499 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }

    /// Whether this is 2yz.
    pub fn is_positive(&self) -> bool {
        self.severity() == Severity::Positive
    }

    /// Whether the code is one that may be sent.
    ///
    /// # Errors
    /// [`ReplyError`] outside 200–599.
    pub fn check(&self) -> Result<(), ReplyError> {
        match self.code {
            200..=599 => Ok(()),
            code => Err(ReplyError(code)),
        }
    }

    /// Appends the reply as it stands on the wire: every line with the code and
    /// the enhanced status code, at most 512 octets long, longer ones broken.
    /// It is well-formed whatever the fields hold: control characters become
    /// spaces, characters outside ASCII `?`, an enhanced code of another class
    /// than the code is left out (RFC 2034 section 3), and a code outside
    /// 200–599 is sent as 451.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let code = if self.check().is_ok() { self.code } else { 451 };
        let enhanced = self
            .enhanced
            .filter(|enhanced| u16::from(enhanced.class) == code / 100)
            .map(|enhanced| format!("{enhanced} "))
            .unwrap_or_default();
        let room = REPLY_LINE_MAX_BYTES - "250-".len() - enhanced.len() - "\r\n".len();
        let mut last_line_start = out.len();
        for line in self.text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let mut line_room = 0;
            // An empty line still is a line, hence the start before the loop.
            last_line_start = start_line(out, code, &enhanced);
            for character in line.chars() {
                if line_room == room {
                    out.extend_from_slice(b"\r\n");
                    last_line_start = start_line(out, code, &enhanced);
                    line_room = 0;
                }
                out.push(match character {
                    ' '..='~' => character as u8,
                    character if character.is_ascii() => b' ',
                    _ => b'?',
                });
                line_room += 1;
            }
            out.extend_from_slice(b"\r\n");
        }
        out[last_line_start + 3] = b' ';
    }
}

/// Starts a continuation line and returns where it starts.
fn start_line(out: &mut Vec<u8>, code: u16, enhanced: &str) -> usize {
    let start = out.len();
    for divisor in [100, 10, 1] {
        out.push(b'0' + (code / divisor % 10) as u8);
    }
    out.push(b'-');
    out.extend_from_slice(enhanced.as_bytes());
    start
}

impl fmt::Display for Reply {
    /// One line for logs: lines of the text joined by a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n').filter(|line| !line.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
