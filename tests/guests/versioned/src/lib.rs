//! A plugin for tests of live change: everything that it does says which version of it did so.
//!
//! The version is the crate's, and its mark is a text in the component that a test overwrites in
//! place: any number of versions come of one build, each with its own digest and the same code.
//!
//! In the SMTP dialogue each phase leaves its mark, and the last puts all of them into the field
//! `X-Marks`. Routing goes to the place that `[plugin.config.hops]` has for the mark. A version
//! whose mark is `refuse` in the configuration refuses it; one whose mark is `trap` traps when it
//! routes.

use waypost_sdk::{
    Decision, HookError, MessageVerdict, OnMailFrom, OnMessage, OnRcpt, Peer, Place, Plugin,
    Recipient, RecipientVerdict, Request, Router, Sender, SenderVerdict, Verdict, config, message,
};

struct Versioned;

/// `0.1.0-marker0001`, unless a test made something else of it.
fn mark() -> &'static str {
    let version = std::hint::black_box(env!("CARGO_PKG_VERSION"));
    version.rsplit('-').next().unwrap_or_default()
}

fn is_marked(key: &str) -> bool {
    matches!(config::get(key), Some(config::Value::Text(text)) if text == mark())
}

impl Plugin for Versioned {
    fn check_config() -> Vec<String> {
        if is_marked("refuse") {
            return vec![format!("{} does not like this", mark())];
        }
        Vec::new()
    }
}

impl OnMailFrom for Versioned {
    fn on_mail_from(_peer: Peer, _sender: Sender) -> Result<SenderVerdict, HookError> {
        message::set_attribute("mark.sender", Some(mark()));
        Ok(SenderVerdict::proceed())
    }
}

impl OnRcpt for Versioned {
    fn on_rcpt(_recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        message::set_attribute("mark.rcpt", Some(mark()));
        Ok(RecipientVerdict::proceed())
    }
}

impl OnMessage for Versioned {
    fn on_message() -> Result<MessageVerdict, HookError> {
        let noted = |name: &str| message::get_attribute(name).unwrap_or_default();
        let marks = [noted("mark.sender"), noted("mark.rcpt"), mark().to_owned()];
        Ok(MessageVerdict::tag("X-Marks", marks.join(" ")))
    }
}

impl Router for Versioned {
    fn route(_request: Request) -> Result<Vec<Verdict>, HookError> {
        if is_marked("trap") {
            std::arch::wasm32::unreachable();
        }
        let place = match config::get(&format!("hops.{}", mark())) {
            Some(config::Value::Text(place)) => place,
            _ => return Ok(vec![Verdict::all(Decision::Proceed).note(mark())]),
        };
        let place: Place = place.parse().map_err(HookError::Broken)?;
        Ok(vec![
            Verdict::all(Decision::hops([place.hop()])).note(mark()),
        ])
    }
}

waypost_sdk::export!(Versioned: OnMailFrom, OnRcpt, OnMessage, Router);
