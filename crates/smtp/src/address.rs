//! Mail addresses: domains, mailboxes and the two kinds of path (RFC 5321 section 4.1.2).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::serde_text::serde_as_text;
use crate::syntax;

/// Why text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing where an address or a part of one has to be.
    #[error("the address is empty")]
    Empty,
    /// The local part is neither a dot-string nor a quoted string.
    #[error("the local part is not well-formed")]
    LocalPart,
    /// More than 64 octets before the `@` (RFC 5321 section 4.5.3.1.1).
    #[error("the local part is longer than 64 octets")]
    LocalPartTooLong,
    /// No `@` after the local part.
    #[error("the address has no domain")]
    MissingDomain,
    /// A label is empty, or holds what a domain name may not hold.
    #[error("the domain is not well-formed")]
    Domain,
    /// A label longer than 63 or a domain longer than 255 octets
    /// (RFC 1035 section 2.3.4, RFC 5321 section 4.5.3.1.2).
    #[error("the domain is too long")]
    DomainTooLong,
    /// Something in brackets that is no address literal (RFC 5321 section 4.1.3).
    #[error("the address literal is not well-formed")]
    Literal,
    /// The path as it stood on the wire is longer than 256 octets
    /// (RFC 5321 section 4.5.3.1.3).
    #[error("the path is longer than 256 octets")]
    PathTooLong,
    /// A path has to stand between `<` and `>`.
    #[error("the path is not enclosed in angle brackets")]
    MissingBrackets,
    /// The source route before the mailbox is broken (RFC 5321 appendix C).
    #[error("the source route is not well-formed")]
    SourceRoute,
    /// Octets above 127 where only ASCII may stand (RFC 6531 is not spoken).
    #[error("the address holds characters outside ASCII")]
    NonAscii,
    /// Something follows the address.
    #[error("unexpected text after the address")]
    Trailing,
}

/// A mail domain: a DNS name in lower case, as A-labels and without a trailing
/// dot, or an address literal with its brackets. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Wraps text that `syntax` has brought into canonical form.
    pub(crate) fn from_canonical(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The canonical text: `example.org`, `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, if this is an IPv4 or IPv6 address literal.
    pub fn literal(&self) -> Option<IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        match inner.strip_prefix("IPv6:") {
            Some(v6) => v6.parse().ok().map(IpAddr::V6),
            None => inner.parse().ok().map(IpAddr::V4),
        }
    }

    /// Whether this is an address literal of any kind, General ones included,
    /// and hence nothing that DNS could answer for.
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl From<IpAddr> for Domain {
    fn from(address: IpAddr) -> Self {
        Self(Arc::from(match address {
            IpAddr::V4(v4) => format!("[{v4}]"),
            IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
        }))
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    /// Takes a name, also with U-labels (turned into A-labels, RFC 5891) or a
    /// trailing dot, or an address literal in brackets. Underscores are taken
    /// because DNS has them and mail uses such hosts.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_ascii() {
            let name = if text.starts_with('[') {
                text
            } else {
                text.strip_suffix('.').unwrap_or(text)
            };
            return syntax::domain(name.as_bytes());
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?;
        syntax::domain(ascii.strip_suffix('.').unwrap_or(&ascii).as_bytes())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A local part at a domain. The local part is kept without quotes and quoted
/// pairs, so that `"joe"@x` and `joe@x` are equal (RFC 5321 section 4.1.2); its
/// case is significant. It holds printable ASCII only, hence no line break can
/// reach a command or a header field through it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    domain: Domain,
    local_part: Arc<str>,
}

impl Mailbox {
    /// A mailbox of an unquoted local part.
    ///
    /// # Errors
    /// [`AddressError::LocalPartTooLong`] above 64 octets,
    /// [`AddressError::LocalPart`] or [`AddressError::NonAscii`] when it holds
    /// what not even a quoted string may hold.
    pub fn new(local_part: &str, domain: Domain) -> Result<Self, AddressError> {
        syntax::check_local_part(local_part)?;
        Ok(Self {
            domain,
            local_part: Arc::from(local_part),
        })
    }

    /// Wraps a local part that `syntax` has checked.
    pub(crate) fn from_checked(local_part: &str, domain: Domain) -> Self {
        Self {
            domain,
            local_part: Arc::from(local_part),
        }
    }

    /// The local part without quotes.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        syntax::whole_mailbox(text)
    }
}

impl fmt::Display for Mailbox {
    /// The form for the wire: the local part in quotes where it needs them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if syntax::is_dot_string(self.local_part.as_bytes()) {
            f.write_str(&self.local_part)?;
        } else {
            f.write_str("\"")?;
            for part in self.local_part.split_inclusive(['"', '\\']) {
                match part.strip_suffix(['"', '\\']) {
                    Some(plain) => write!(f, "{plain}\\{}", &part[plain.len()..])?,
                    None => f.write_str(part)?,
                }
            }
            f.write_str("\"")?;
        }
        write!(f, "@{}", self.domain)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a failure is told to: the argument of MAIL. As text (`Display`, serde)
/// the mailbox without angle brackets, or nothing for the null path; `FromStr`
/// takes both forms with or without brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ReversePath {
    /// `<>`: nobody. What notifications are sent from (RFC 5321 section 4.5.5).
    #[default]
    Null,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, unless the path is null.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether this is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl From<Mailbox> for ReversePath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match without_brackets(text) {
            "" => Ok(Self::Null),
            address => address.parse().map(Self::Mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => fmt::Display::fmt(mailbox, f),
        }
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Whom a message is for: the argument of RCPT. As text like [`ReversePath`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain: the postmaster of the server itself
    /// (RFC 5321 section 4.5.1).
    Postmaster,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// The mailbox, unless it is the bare `<Postmaster>`.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl From<Mailbox> for ForwardPath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = without_brackets(text);
        if address.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        address.parse().map(Self::Mailbox)
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("Postmaster"),
            Self::Mailbox(mailbox) => fmt::Display::fmt(mailbox, f),
        }
    }
}

impl fmt::Debug for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

serde_as_text!(Domain, Mailbox, ReversePath, ForwardPath);

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(text)
}
