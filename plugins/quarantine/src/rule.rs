//! One rule: conditions that all have to hold, and what is done then.

use serde::Deserialize;
use waypost_sdk::message::AuthResult;
use waypost_sdk::{AddressPattern, DomainPattern, Request, message};

/// Octets of the body that are asked for at a time.
const BODY_STEP: u32 = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    #[serde(default)]
    pub at: At,
    /// A header field that has to be there.
    header: Option<String>,
    /// A part of its value, in whatever case.
    contains: Option<String>,
    senders: Option<Vec<AddressPattern>>,
    listeners: Option<Vec<String>>,
    /// Of the recipients; at routing.
    domains: Option<Vec<DomainPattern>>,
    larger_than_bytes: Option<u64>,
    dmarc_fails: Option<bool>,
    /// A text in the body as it is sent: nothing is decoded. Needs the grant `body`.
    body_contains: Option<String>,
    pub action: Action,
    /// A reply for `reject` and `defer`, a reason for the others.
    pub text: Option<String>,
    /// Name of the header field for `tag`.
    pub tag: Option<String>,
    pub release_after_seconds: Option<u32>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    #[default]
    Message,
    Routing,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Hold,
    Tag,
    Reject,
    Defer,
    Discard,
}

impl Rule {
    /// What the administrator has to mend.
    pub fn faults(&self) -> Vec<String> {
        let routing = self.at == At::Routing;
        let faults = [
            (
                self.contains.is_some() && self.header.is_none(),
                "`contains` needs `header`",
            ),
            (
                routing && self.action == Action::Tag,
                "`tag` is too late at routing",
            ),
            (
                routing && self.dmarc_fails.is_some(),
                "`dmarc_fails` is for messages",
            ),
            (
                routing && self.body_contains.is_some(),
                "`body_contains` is for messages",
            ),
            (
                !routing && self.domains.is_some(),
                "`domains` is for routing",
            ),
            (
                self.release_after_seconds.is_some() && self.action != Action::Hold,
                "`release_after_seconds` needs the action `hold`",
            ),
            (
                self.release_after_seconds == Some(0),
                "`release_after_seconds` is at least 1",
            ),
        ];
        let faults = faults.into_iter().filter(|(is_fault, _)| *is_fault);
        faults
            .map(|(_, fault)| format!("rule {:?}: {fault}", self.name))
            .collect()
    }

    /// What is told of the action.
    pub fn reason(&self) -> &str {
        self.text.as_deref().unwrap_or(&self.name)
    }

    /// The costly conditions come last.
    pub fn holds_for_message(&self) -> bool {
        let sender = message::envelope_sender();
        let mailbox = sender.as_ref().and_then(|sender| sender.mailbox.as_ref());
        let by_sender = |patterns: &Vec<AddressPattern>| {
            patterns.iter().any(|pattern| pattern.matches(mailbox))
        };
        self.senders.as_ref().is_none_or(by_sender)
            && self
                .listeners
                .as_ref()
                .is_none_or(|names| names.contains(&message::origin().listener))
            && self.common(message::size())
            && self
                .dmarc_fails
                .is_none_or(|wanted| dmarc_fails() == wanted)
            && self
                .body_contains
                .as_ref()
                .is_none_or(|text| is_in_body(text.as_bytes()))
    }

    pub fn holds_for_route(&self, request: &Request) -> bool {
        let mailbox = request.sender.as_ref();
        let by_sender = |patterns: &Vec<AddressPattern>| {
            patterns.iter().any(|pattern| pattern.matches(mailbox))
        };
        let by_domain = |patterns: &Vec<DomainPattern>| {
            patterns
                .iter()
                .any(|pattern| pattern.matches(&request.domain))
        };
        self.domains.as_ref().is_none_or(by_domain)
            && self.senders.as_ref().is_none_or(by_sender)
            && self
                .listeners
                .as_ref()
                .is_none_or(|names| names.contains(&request.listener))
            && self.common(request.size)
    }

    fn common(&self, size: u64) -> bool {
        self.larger_than_bytes.is_none_or(|limit| size > limit)
            && self.header.as_ref().is_none_or(|name| {
                let values = message::header(name);
                match &self.contains {
                    None => !values.is_empty(),
                    Some(part) => {
                        let part = part.to_lowercase();
                        values
                            .iter()
                            .any(|value| value.to_lowercase().contains(&part))
                    }
                }
            })
    }
}

fn dmarc_fails() -> bool {
    message::authentication().is_some_and(|found| found.dmarc == AuthResult::Fail)
}

/// Searches as much of the body as the grant shows, step by step with an overlap, so that memory
/// stays small.
fn is_in_body(text: &[u8]) -> bool {
    let mut window: Vec<u8> = Vec::new();
    let mut offset = 0u64;
    while let Some(part) = message::body(offset, BODY_STEP).filter(|part| !part.is_empty()) {
        offset += part.len() as u64;
        window.extend_from_slice(&part);
        if window.windows(text.len().max(1)).any(|piece| piece == text) {
            return true;
        }
        let kept = window.len().min(text.len().saturating_sub(1));
        window.drain(..window.len() - kept);
    }
    false
}
