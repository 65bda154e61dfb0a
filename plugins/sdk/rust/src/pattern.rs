//! Patterns for domains and addresses, as administrators write them.

use serde::{Deserialize, Deserializer, de};

use crate::Mailbox;

/// `example.com`, `*.example.com` (all below it, not itself), or `*`.
///
/// ```
/// use waypost_sdk::DomainPattern;
///
/// let below: DomainPattern = "*.Example.com".parse().unwrap();
/// assert!(below.matches("mx.example.com") && !below.matches("example.com"));
/// assert!("mx*.example".parse::<DomainPattern>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every domain.
    Any,
    /// Everything below this one.
    Below(String),
    /// This one.
    Exactly(String),
}

impl DomainPattern {
    /// Whether a domain, in lower case, matches.
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exactly) => domain == exactly,
            Self::Below(suffix) => domain
                .strip_suffix(suffix.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        }
    }
}

impl std::str::FromStr for DomainPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .chars()
                    .all(|character| character.is_alphanumeric() || "-_".contains(character))
        };
        let is_name = |name: &str| name.split('.').all(label);
        match lower.strip_prefix("*.") {
            _ if lower == "*" => Ok(Self::Any),
            Some(suffix) if is_name(suffix) => Ok(Self::Below(suffix.to_owned())),
            None if is_name(&lower) => Ok(Self::Exactly(lower)),
            _ => Err(format!("{text:?} is neither a domain, `*.domain` nor `*`")),
        }
    }
}

/// `user@example.com`, a [`DomainPattern`] for the part after the `@`, or `<>` for the null
/// reverse-path.
///
/// ```
/// use waypost_sdk::{AddressPattern, Mailbox};
///
/// let pattern: AddressPattern = "sales@example.com".parse().unwrap();
/// assert!(pattern.matches(Some(&Mailbox::new("Sales", "example.com"))));
/// let bounces: AddressPattern = "<>".parse().unwrap();
/// assert!(bounces.matches(None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// The null reverse-path.
    Null,
    /// One mailbox, in lower case.
    Mailbox(String),
    /// Every mailbox of these domains.
    Domain(DomainPattern),
}

impl AddressPattern {
    /// Whether a mailbox matches; `None` is the null reverse-path.
    pub fn matches(&self, mailbox: Option<&Mailbox>) -> bool {
        match (self, mailbox) {
            (Self::Null, None) => true,
            (Self::Mailbox(key), Some(mailbox)) => mailbox.key() == *key,
            (Self::Domain(pattern), Some(mailbox)) => pattern.matches(&mailbox.domain),
            _ => false,
        }
    }
}

impl std::str::FromStr for AddressPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "<>" {
            return Ok(Self::Null);
        }
        if Mailbox::parse(text).is_some() {
            return Ok(Self::Mailbox(text.to_lowercase()));
        }
        text.parse().map(Self::Domain).map_err(|_| {
            format!("{text:?} is neither an address, a domain, `*.domain`, `*` nor `<>`")
        })
    }
}

/// Patterns are written as text.
macro_rules! from_text {
    ($pattern:ident) => {
        impl<'de> Deserialize<'de> for $pattern {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

from_text!(DomainPattern);
from_text!(AddressPattern);

/// The keys of a table of domains that match a domain, the closest first: itself, `*.parent` for
/// each parent, `*`.
///
/// ```
/// assert_eq!(waypost_sdk::keys_for_domain("a.example"), ["a.example", "*.example", "*"]);
/// ```
pub fn keys_for_domain(domain: &str) -> Vec<String> {
    let mut keys = vec![domain.to_owned()];
    let mut rest = domain;
    while let Some((_, parent)) = rest.split_once('.') {
        keys.push(format!("*.{parent}"));
        rest = parent;
    }
    keys.push("*".to_owned());
    keys
}
