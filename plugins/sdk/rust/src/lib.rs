//! What a Waypost plugin in Rust needs: the bindings of `waypost:policy`, a trait for each phase,
//! and short ways to say what the contract lets a plugin say.
//!
//! A plugin is a type that implements [`Plugin`] and the traits of the phases that it takes part
//! in, named once in [`export!`], in a `cdylib` built for `wasm32-wasip2`:
//!
//! ```no_run
//! use waypost_sdk::{Decision, HookError, NextHop, Plugin, Request, Router, Verdict};
//!
//! struct Example;
//!
//! impl Plugin for Example {}
//!
//! impl Router for Example {
//!     fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
//!         // No verdict: no opinion, the plan stays as it is.
//!         if request.domain != "example.com" {
//!             return Ok(Vec::new());
//!         }
//!         let hop = NextHop::host("smtp.provider.example").port(587);
//!         Ok(vec![Verdict::all(Decision::hops([hop])).note("example.com goes to the provider")])
//!     }
//! }
//!
//! waypost_sdk::export!(Example: Router);
//! # fn main() {}
//! ```
//!
//! | what | where |
//! |---|---|
//! | phases | [`OnMailFrom`], [`OnRcpt`], [`OnMessage`], [`Router`], [`OnDeliveryResult`] |
//! | verdicts | [`SenderVerdict`], [`RecipientVerdict`], [`MessageVerdict`], [`Verdict`] with [`Decision`], [`Advice`] |
//! | places | [`NextHop`], [`Place`] (as an administrator writes one) |
//! | configuration | [`read_config`], [`config_fault`], [`config`] |
//! | the message | [`message`], [`keep_attribute`] |
//! | look-ups | [`dns`], [`destination`], [`tables`], [`first_in_table`], [`http`] |
//! | memory | [`state`], [`read_state`], [`write_state`], [`update_state`], [`Rate`] |
//! | sharing out | [`sticky_order`], [`sticky_hash`] |
//! | patterns | [`DomainPattern`], [`AddressPattern`] |
//!
//! There is no `main`, no global state that outlives a call, and no WASI: time and random numbers
//! come from [`ambient`], output goes to [`log`]. Of the standard library avoid what asks the
//! system, among it `HashMap` (random keys), `SystemTime` and `println!`.
//!
//! The types are plain data and the builders run anywhere, so that the logic of a plugin can be
//! unit-tested by `cargo test`; functions that ask the relay work only inside of it. Cases
//! (`waypost plugin test`) run the whole plugin with the answers that each case states.

#![warn(missing_docs)]

pub mod bindings;
mod decision;
mod errors;
mod hop;
mod lookup;
mod pattern;
mod phases;
mod place;
mod reply;
mod share;
mod verdict;

pub use bindings::delivery::exports::waypost::policy::delivery_phase::{
    Advice, Attempt, Outcome, Stage,
};
pub use bindings::lifecycle::exports::waypost::policy::lifecycle::Identity;
pub use bindings::routing::exports::waypost::policy::routing_phase::{
    Decision, Deferral, ExplicitRoute, Hold, Request, Settings, Verdict,
};
pub use bindings::waypost::policy::{
    ambient, config, destination, dns, http, log, message, metrics, routes, state, tables, types,
};
pub use routes::{
    Candidate, CandidateChange, DnsFailure, Endpoint, HopChoice, MxEdit, NextHop, Protocol,
    TlsPolicy,
};
pub use types::{
    Attribute, Flow, HeaderEdit, HeaderField, HookError, Ingress, Mailbox, Peer, Recipient, Reply,
    Sender,
};

/// What [`OnMailFrom`] answers.
pub type SenderVerdict = bindings::sender::exports::waypost::policy::sender_phase::Verdict;
/// What is done about a sender.
pub type SenderAction = bindings::sender::exports::waypost::policy::sender_phase::Action;
/// What [`OnRcpt`] answers.
pub type RecipientVerdict = bindings::recipient::exports::waypost::policy::recipient_phase::Verdict;
/// What is done about a recipient.
pub type RecipientAction = bindings::recipient::exports::waypost::policy::recipient_phase::Action;
/// What [`OnMessage`] answers.
pub type MessageVerdict = bindings::content::exports::waypost::policy::message_phase::Verdict;
/// What is done about a message.
pub type MessageAction = bindings::content::exports::waypost::policy::message_phase::Action;
/// Changes to a message on its way in.
pub type Rewrite = bindings::content::exports::waypost::policy::message_phase::Rewrite;
/// A message kept aside on its way in.
pub type MessageHold = bindings::content::exports::waypost::policy::message_phase::Hold;

pub use errors::config_fault;
pub use lookup::{
    Rate, answer_as, first_in_table, keep_attribute, log_info, log_warning, post_json, quote_key,
    read_config, read_state, update_state, write_state,
};
pub use pattern::{AddressPattern, DomainPattern, keys_for_domain};
pub use phases::{OnDeliveryResult, OnMailFrom, OnMessage, OnRcpt, Plugin, Router};
pub use place::Place;
pub use share::{sticky_hash, sticky_order};

/// Sends the message of a panic to the relay's log, which otherwise learns only that the plugin
/// trapped. [`export!`] calls this.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::write(log::Level::Error, &panic.to_string(), &[]);
    }));
}

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
