//! The rules of the configuration, and what they say of a host.

use serde::Deserialize;
use waypost_sdk::MxEdit;

/// Rules for all domains, or for one.
#[derive(Debug, Default, Deserialize)]
pub struct Rules {
    #[serde(default)]
    prefer: Vec<String>,
    #[serde(default)]
    demote: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    keep: Vec<String>,
    address_family: Option<u8>,
    #[serde(default)]
    pub prefer_secure: bool,
}

const KEYS: [&str; 6] = [
    "prefer",
    "demote",
    "drop",
    "keep",
    "address_family",
    "prefer_secure",
];

impl Rules {
    /// Adds what is wrong with rules as they stand in the configuration.
    pub fn check(value: serde_json::Value, place: &str, faults: &mut Vec<String>) {
        for key in value.as_object().into_iter().flat_map(|table| table.keys()) {
            if !KEYS.contains(&key.as_str()) {
                faults.push(format!(
                    "{place}{key}: no such key; there are {}",
                    KEYS.join(", ")
                ));
            }
        }
        let rules: Self = match serde_json::from_value(value) {
            Ok(rules) => rules,
            Err(error) => {
                faults.push(format!("{place}{error}"));
                return;
            }
        };
        for (key, patterns) in rules.lists() {
            for pattern in patterns {
                if !is_pattern(pattern) {
                    faults.push(format!(
                        "{place}{key}: {pattern:?} is neither a host name nor `*.suffix`"
                    ));
                }
            }
        }
        if let Some(family) = rules.address_family
            && family != 4
            && family != 6
        {
            faults.push(format!(
                "{place}address_family: {family}, but 4 or 6 is wanted"
            ));
        }
        if rules.address_family.is_some() && rules.prefer_secure {
            faults.push(format!(
                "{place}address_family: cannot be joined with prefer_secure"
            ));
        }
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        [
            ("keep", &self.keep),
            ("drop", &self.drop),
            ("prefer", &self.prefer),
            ("demote", &self.demote),
        ]
    }

    /// The rules as standing edits: first what may be tried at all, then in
    /// which order.
    pub fn edits(&self) -> Vec<MxEdit> {
        let mut edits = Vec::new();
        if !self.keep.is_empty() {
            edits.push(MxEdit::Keep(self.keep.clone()));
        }
        edits.extend(self.drop.iter().cloned().map(MxEdit::Drop));
        // Each goes before all others, so the first of the list comes last.
        edits.extend(self.prefer.iter().rev().cloned().map(MxEdit::Prefer));
        edits.extend(self.demote.iter().cloned().map(MxEdit::Demote));
        edits.extend(self.address_family.map(MxEdit::AddressFamily));
        edits
    }

    /// For people: `keep *.example.net; prefer mx1.example.net`.
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self
            .lists()
            .iter()
            .filter(|(_, patterns)| !patterns.is_empty())
            .map(|(key, patterns)| format!("{key} {}", patterns.join(" ")))
            .collect();
        parts.extend(
            self.address_family
                .map(|family| format!("IPv{family} only")),
        );
        parts.join("; ")
    }

    /// Whether a host may be tried at all.
    pub fn allows(&self, host: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, host));
        (self.keep.is_empty() || any(&self.keep)) && !any(&self.drop)
    }

    /// The lower, the earlier: preferred hosts in the order of their patterns,
    /// then others, then demoted ones.
    pub fn rank(&self, host: &str) -> usize {
        let position =
            |patterns: &[String]| patterns.iter().position(|pattern| matches(pattern, host));
        let others = self.prefer.len();
        match (position(&self.prefer), position(&self.demote)) {
            (Some(place), _) => place,
            (None, None) => others,
            (None, Some(place)) => others + 1 + place,
        }
    }
}

/// `*.suffix` matches every name below the suffix.
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

fn is_pattern(pattern: &str) -> bool {
    let name = pattern.strip_prefix("*.").unwrap_or(pattern);
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
                })
        })
}
