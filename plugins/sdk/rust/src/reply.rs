//! Replies and mailboxes.

use std::fmt;
use std::time::Duration;

use crate::{HeaderField, Mailbox, Reply};

impl Reply {
    /// A reply with its codes; the relay replaces a code that is not of the class that the
    /// verdict calls for.
    pub fn new(code: u16, enhanced: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: enhanced.into(),
            text: text.into(),
        }
    }

    /// Reads a reply as people write it in tables: `550 5.7.1 not from you`, `451 later`,
    /// `4.7.1 later`, or a text alone.
    ///
    /// ```
    /// use waypost_sdk::Reply;
    ///
    /// assert_eq!(Reply::parse("550 5.7.1 not from you"), Reply::new(550, "5.7.1", "not from you"));
    /// assert_eq!(Reply::parse("4.7.1 later"), Reply::new(0, "4.7.1", "later"));
    /// assert_eq!(Reply::parse("not from you"), Reply::new(0, "", "not from you"));
    /// ```
    pub fn parse(text: &str) -> Self {
        let (code, rest) = match first_word(text) {
            (word, rest) if is_code(word) => (word.parse().unwrap_or(0), rest),
            _ => (0, text.trim()),
        };
        match first_word(rest) {
            (word, rest) if is_enhanced(word) => Self::new(code, word, rest),
            _ => Self::new(code, "", rest),
        }
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn is_code(word: &str) -> bool {
    word.len() == 3
        && word.starts_with(['4', '5'])
        && word.bytes().all(|octet| octet.is_ascii_digit())
}

fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let number = |part: &&str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
    };
    parts.len() == 3
        && matches!(parts.first(), Some(&("2" | "4" | "5")))
        && parts.iter().all(number)
}

impl From<&str> for Reply {
    /// A text with the relay's default codes.
    fn from(text: &str) -> Self {
        Self::new(0, "", text)
    }
}

impl From<String> for Reply {
    /// A text with the relay's default codes.
    fn from(text: String) -> Self {
        Self::new(0, "", text)
    }
}

impl Mailbox {
    /// A mailbox from its two parts.
    pub fn new(local_part: impl Into<String>, domain: impl Into<String>) -> Self {
        Self {
            local_part: local_part.into(),
            domain: domain.into(),
        }
    }

    /// Reads `local-part@domain`; the relay checks both parts when it gets them.
    ///
    /// ```
    /// use waypost_sdk::Mailbox;
    ///
    /// let mailbox = Mailbox::parse("Ann@example.com").unwrap();
    /// assert_eq!(mailbox, Mailbox::new("Ann", "example.com"));
    /// assert_eq!(mailbox.to_string(), "Ann@example.com");
    /// assert_eq!(Mailbox::parse("example.com"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (local_part, domain) = text.rsplit_once('@')?;
        (!local_part.is_empty() && !domain.is_empty()).then(|| Self::new(local_part, domain))
    }

    /// As a key of a table: all in lower case.
    pub fn key(&self) -> String {
        self.to_string().to_lowercase()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl HeaderField {
    /// A header field.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Whole seconds, rounded up: what waits must not come too early. At least 1.
pub(crate) fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
