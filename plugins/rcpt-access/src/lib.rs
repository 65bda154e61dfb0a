//! Allows or refuses recipients at RCPT TO: by a table in the form of Postfix's access(5), by a
//! policy server in the form of Postfix's policy delegation over HTTP, or by both.
//!
//! ```toml
//! [[table]]
//! name = "access"
//! path = "/etc/postfix/recipient_access"
//! format = "map"
//!
//! [[plugin]]
//! grants = { tables = ["access"], http = ["https://policy.example"] }
//!
//! [plugin.config]
//! table = "access"                            # either or both
//! policy_url = "https://policy.example/rcpt"
//! ```
//!
//! The table is asked first, by address, domain, parent domains, `local-part@`; an entry other than
//! `DUNNO` decides. The server gets `name=value` lines and answers `action=…`, as
//! SMTPD_POLICY_README has it.

mod action;
mod policy;

use action::Action;
use serde::Deserialize;
use waypost_sdk::{
    HookError, OnRcpt, Plugin, Recipient, RecipientVerdict, config_fault, first_in_table,
    read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    table: Option<String>,
    policy_url: Option<String>,
    #[serde(default = "two_seconds")]
    timeout_ms: u32,
    auth: Option<String>,
}

fn two_seconds() -> u32 {
    2000
}

struct RcptAccess;

impl Plugin for RcptAccess {
    fn check_config() -> Vec<String> {
        let mut faults = config_fault::<Config>("");
        if let Ok(config) = read_config::<Config>("") {
            if config.table.is_none() && config.policy_url.is_none() {
                faults.push("table or policy_url: at least one is wanted".into());
            }
            if let Some(url) = &config.policy_url
                && !url.starts_with("https://")
                && !url.starts_with("http://")
            {
                faults.push(format!("policy_url: {url:?}, but https://… is wanted"));
            }
        }
        faults
    }
}

impl OnRcpt for RcptAccess {
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        let config: Config = read_config("")?;
        if let Some(table) = &config.table {
            let found = first_in_table(table, keys(&recipient))?;
            if let Some((key, entry)) = found {
                let action = Action::parse(&entry).map_err(HookError::Broken)?;
                if action != Action::Dunno {
                    return Ok(action.verdict().note(format!("{key} {entry}")));
                }
            }
        }
        if let Some(url) = &config.policy_url {
            let answer = policy::ask(url, config.timeout_ms, config.auth.as_deref(), &recipient)?;
            let action = Action::parse(&answer).map_err(HookError::Temporary)?;
            if action != Action::Dunno {
                return Ok(action.verdict().note(format!("policy server: {answer}")));
            }
        }
        Ok(RecipientVerdict::proceed())
    }
}

waypost_sdk::export!(RcptAccess: OnRcpt);

/// The keys of access(5) for an address: `user@domain`, `domain`, its parents with and without the
/// dot, `user@`.
fn keys(recipient: &Recipient) -> Vec<String> {
    let domain = recipient.mailbox.domain.to_lowercase();
    let mut keys = vec![recipient.mailbox.key(), domain.clone()];
    let mut rest = domain.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        keys.push(parent.to_owned());
        keys.push(format!(".{parent}"));
        rest = parent;
    }
    keys.push(format!("{}@", recipient.mailbox.local_part.to_lowercase()));
    keys
}
