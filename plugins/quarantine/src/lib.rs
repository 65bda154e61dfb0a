//! Holds, tags, refuses or drops mail by rules: when a message is taken in, and when it is routed.
//!
//! ```toml
//! [[plugin]]
//! grants = { body = "64KiB" }             # only for `body_contains`
//!
//! [[plugin.config.rule]]
//! name = "spoofed invoices"
//! header = "Subject"
//! contains = "invoice"
//! dmarc_fails = true
//! action = "hold"
//! release_after_seconds = 86400
//!
//! [[plugin.config.rule]]
//! name = "no news from there"
//! senders = ["*.spam.example"]
//! action = "reject"
//! text = "550 5.7.1 not from you"
//!
//! [[plugin.config.rule]]
//! name = "partner's migration"
//! at = "routing"                          # only the copies for these domains wait
//! domains = ["*.partner.example"]
//! action = "hold"
//! ```
//!
//! All conditions of a rule have to hold; the first rule that does decides, and only `tag` lets
//! the next ones look too.

mod rule;

use std::time::Duration;

use rule::{Action, At, Rule};
use serde::Deserialize;
use waypost_sdk::{
    Decision, HeaderEdit, HeaderField, HookError, MessageVerdict, OnMessage, Plugin, Reply,
    Request, Rewrite, Router, Verdict, config_fault, read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rule: Vec<Rule>,
}

struct Quarantine;

impl Plugin for Quarantine {
    fn check_config() -> Vec<String> {
        let faults = config_fault::<Config>("");
        match read_config::<Config>("") {
            Ok(config) => config.rule.iter().flat_map(Rule::faults).collect(),
            Err(_) => faults,
        }
    }
}

impl OnMessage for Quarantine {
    fn on_message() -> Result<MessageVerdict, HookError> {
        let config: Config = read_config("")?;
        let mut tags = Vec::new();
        let mut names = Vec::new();
        for rule in config.rule.iter().filter(|rule| rule.at == At::Message) {
            if !rule.holds_for_message() {
                continue;
            }
            let reply = || {
                rule.text
                    .as_deref()
                    .map_or_else(|| rule.reason().into(), Reply::parse)
            };
            let verdict = match rule.action {
                Action::Tag => {
                    let name = rule.tag.as_deref().unwrap_or("X-Quarantine");
                    tags.push(HeaderEdit::Prepend(HeaderField::new(name, &rule.name)));
                    names.push(rule.name.as_str());
                    continue;
                }
                Action::Hold => match rule.release_after_seconds {
                    Some(seconds) => {
                        let time = Duration::from_secs(seconds.into());
                        MessageVerdict::hold_for(rule.reason(), time)
                    }
                    None => MessageVerdict::hold(rule.reason()),
                },
                Action::Reject => MessageVerdict::reject(reply()),
                Action::Defer => MessageVerdict::defer(reply()),
                Action::Discard => MessageVerdict::discard(rule.reason()),
            };
            return Ok(verdict.note(format!("rule {:?}", rule.name)));
        }
        if tags.is_empty() {
            return Ok(MessageVerdict::proceed());
        }
        let note = format!("tagged by {}", names.join(", "));
        Ok(MessageVerdict::rewrite(Rewrite::headers(tags)).note(note))
    }
}

impl Router for Quarantine {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        let at_routing = config.rule.iter().filter(|rule| rule.at == At::Routing);
        let Some(rule) = at_routing
            .into_iter()
            .find(|rule| rule.holds_for_route(&request))
        else {
            return Ok(Vec::new());
        };
        let reply = || {
            rule.text
                .as_deref()
                .map_or_else(|| rule.reason().into(), Reply::parse)
        };
        let decision = match rule.action {
            // `faults` refuses a tag here.
            Action::Tag => return Ok(Vec::new()),
            Action::Hold => match rule.release_after_seconds {
                Some(seconds) => {
                    Decision::hold_for(rule.reason(), Duration::from_secs(seconds.into()))
                }
                None => Decision::hold(rule.reason()),
            },
            Action::Reject => Decision::reject(reply()),
            Action::Defer => Decision::defer(rule.reason()),
            Action::Discard => Decision::discard(rule.reason()),
        };
        Ok(vec![
            Verdict::all(decision).note(format!("rule {:?}", rule.name)),
        ])
    }
}

waypost_sdk::export!(Quarantine: OnMessage, Router);
