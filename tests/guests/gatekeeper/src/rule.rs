//! What the configuration says about one sender, recipient or message.

use std::collections::BTreeMap;

use serde::Deserialize;
use waypost_sdk::{
    Flow, HeaderEdit, HeaderField, HookError, Mailbox, Reply, config, dns, message, quote_key,
};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub action: String,
    pub code: u16,
    pub enhanced: String,
    pub text: String,
    /// Mailboxes to rewrite to; with `%` for a number, `count` of them.
    pub to: Vec<String>,
    pub count: u32,
    pub sender: Option<String>,
    /// Operation, name and value.
    pub headers: Vec<(String, String, String)>,
    pub release_after: Option<u32>,
    pub note: Option<String>,
    pub stop: bool,
    /// Set before anything else.
    pub attributes: BTreeMap<String, String>,
    /// `trap`, `temporary`, `broken`, `spin`.
    pub fail: String,
    /// A DNS question that is asked first.
    pub wait_for: Option<String>,
    /// Say what is seen.
    pub report: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            action: "proceed".into(),
            code: 0,
            enhanced: String::new(),
            text: String::new(),
            to: Vec::new(),
            count: 0,
            sender: None,
            headers: Vec::new(),
            release_after: None,
            note: None,
            stop: false,
            attributes: BTreeMap::new(),
            fail: String::new(),
            wait_for: None,
            report: false,
        }
    }
}

/// The rule for this subject, or the one for all others; without one, no opinion.
pub fn rule(phase: &str, subject: &str) -> Result<Rule, HookError> {
    for key in [subject, "*"] {
        let json = config::json(&format!("{phase}.{}", quote_key(key)));
        if json != "null" {
            return serde_json::from_str(&json)
                .map_err(|error| HookError::broken(error.to_string()));
        }
    }
    Ok(Rule::default())
}

impl Rule {
    /// Attributes, a wait, and the failure that was asked for.
    pub fn prepare(&self) -> Result<(), HookError> {
        for (name, value) in &self.attributes {
            if !message::set_attribute(name, Some(value)) {
                return Err(HookError::broken(format!("{name} is not taken")));
            }
        }
        if let Some(name) = &self.wait_for {
            // Whatever it says.
            drop(dns::lookup(&dns::Question::Txt(name.clone())));
        }
        match self.fail.as_str() {
            "" => Ok(()),
            "trap" => std::arch::wasm32::unreachable(),
            "temporary" => Err(HookError::Temporary("as told".into())),
            "broken" => Err(HookError::Broken("as told".into())),
            "spin" => loop {
                std::hint::black_box(0);
            },
            other => Err(HookError::broken(format!("no failure {other:?}"))),
        }
    }

    pub fn reply(&self) -> Reply {
        Reply::new(self.code, self.enhanced.as_str(), self.text.as_str())
    }

    pub fn flow(&self) -> Flow {
        if self.stop { Flow::Stop } else { Flow::Next }
    }

    pub fn mailboxes(&self) -> Result<Vec<Mailbox>, HookError> {
        let mut all = Vec::new();
        for to in &self.to {
            if to.contains('%') {
                for number in 0..self.count {
                    all.push(crate::mailbox(&to.replace('%', &number.to_string()))?);
                }
            } else {
                all.push(crate::mailbox(to)?);
            }
        }
        Ok(all)
    }

    pub fn edits(&self) -> Result<Vec<HeaderEdit>, HookError> {
        let edits = self.headers.iter().map(|(operation, name, value)| {
            let field = HeaderField::new(name.as_str(), value.as_str());
            Ok(match operation.as_str() {
                "prepend" => HeaderEdit::Prepend(field),
                "append" => HeaderEdit::Append(field),
                "remove" => HeaderEdit::Remove(name.clone()),
                "replace" => HeaderEdit::Replace(field),
                other => return Err(HookError::broken(format!("no edit {other:?}"))),
            })
        });
        edits.collect()
    }
}
