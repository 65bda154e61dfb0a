//! Who decided something about a message, what and why: for the operator to read.

use serde::{Deserialize, Serialize};

/// What one plugin decided about some recipients, or how it failed to.
///
/// Kept with the message, so that the story it tells survives a restart; what is kept is
/// bounded, see [`PolicyDecision::cut`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDecision {
    /// Name of the plugin in the configuration.
    pub policy: String,
    /// The version it gives itself; empty: none.
    pub version: String,
    /// Digest of what was called, shortened; empty: not known.
    pub digest: String,
    /// Where in the life of the message it was asked: `message`, `routing`, `delivery`, …
    pub phase: String,
    /// `ok`, or the reason of the failure.
    pub result: String,
    /// What it decided, in words; the detail of a failure.
    pub text: String,
    /// The plugin's own words on why.
    pub note: Option<String>,
    /// What came of it where that is not just what was decided: what `on_error` made of a
    /// failure, or why a decision was not carried out.
    pub consequence: Option<String>,
}

impl PolicyDecision {
    /// Most octets of a text that is kept.
    pub const TEXT_LIMIT_BYTES: usize = 256;
    /// Most octets of a name that is kept.
    pub const NAME_LIMIT_BYTES: usize = 64;

    /// Result of a call that was answered.
    pub const OK: &str = "ok";

    /// Whether the plugin failed to decide.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.result != Self::OK
    }

    /// Cuts every text to what is kept.
    #[must_use]
    pub fn cut(mut self) -> Self {
        for name in [
            &mut self.policy,
            &mut self.version,
            &mut self.digest,
            &mut self.phase,
            &mut self.result,
        ] {
            cut(name, Self::NAME_LIMIT_BYTES);
        }
        cut(&mut self.text, Self::TEXT_LIMIT_BYTES);
        for text in [&mut self.note, &mut self.consequence]
            .into_iter()
            .flatten()
        {
            cut(text, Self::TEXT_LIMIT_BYTES);
        }
        self
    }
}

fn cut(text: &mut String, limit_bytes: usize) {
    if text.len() > limit_bytes {
        let end = text.floor_char_boundary(limit_bytes - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
}

impl std::fmt::Display for PolicyDecision {
    /// `smarthost-table 0.1.0 (3fa2…): use mx1.example:587, stop — "the provider has it"`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.policy)?;
        if !self.version.is_empty() {
            write!(out, " {}", self.version)?;
        }
        if !self.digest.is_empty() {
            write!(out, " ({}…)", self.digest)?;
        }
        if self.is_failure() {
            write!(out, ": failed, {}", self.result)?;
            if !self.text.is_empty() {
                write!(out, ": {}", self.text)?;
            }
        } else {
            write!(out, ": {}", self.text)?;
        }
        if let Some(consequence) = &self.consequence {
            write!(out, "; {consequence}")?;
        }
        if let Some(note) = &self.note {
            write!(out, " — \"{note}\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> PolicyDecision {
        PolicyDecision {
            policy: "table".to_owned(),
            version: "0.1.0".to_owned(),
            digest: "3fa2".to_owned(),
            phase: "routing".to_owned(),
            result: PolicyDecision::OK.to_owned(),
            text: "use mx1.example:587, stop".to_owned(),
            note: Some("the provider has it".to_owned()),
            consequence: None,
        }
    }

    #[test]
    fn it_reads_as_a_sentence() {
        assert_eq!(
            decision().to_string(),
            "table 0.1.0 (3fa2…): use mx1.example:587, stop — \"the provider has it\""
        );
        let failed = PolicyDecision {
            result: "trap".to_owned(),
            text: "unreachable in route".to_owned(),
            note: None,
            consequence: Some("on_error = defer: the mail waits".to_owned()),
            ..decision()
        };
        assert_eq!(
            failed.to_string(),
            "table 0.1.0 (3fa2…): failed, trap: unreachable in route; \
             on_error = defer: the mail waits"
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = PolicyDecision {
            policy: "p".repeat(1000),
            text: "é".repeat(1000),
            note: Some("n".repeat(1000)),
            ..decision()
        };
        let cut = long.cut();
        assert!(cut.policy.len() <= PolicyDecision::NAME_LIMIT_BYTES);
        assert!(cut.text.len() <= PolicyDecision::TEXT_LIMIT_BYTES && cut.text.ends_with("é…"));
        assert!(
            cut.note
                .is_some_and(|note| note.len() <= PolicyDecision::TEXT_LIMIT_BYTES)
        );
        assert_eq!(decision().cut(), decision());
    }
}
