//! What a Waypost plugin in Rust needs: the bindings of `waypost:policy`, and a
//! few conveniences over them.
//!
//! A plugin is a type that implements [`Router`], named once in
//! [`export_router!`], in a `cdylib` built for `wasm32-wasip2`. There is no
//! `main`, no global state that outlives a call, and no WASI: time and random
//! numbers come from [`ambient`], output goes to [`log`]. Of the standard library
//! avoid what asks the system, among it `HashMap` (random keys) and `println!`.

/// Everything generated from the contract.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "configured-router",
        pub_export_macro: true,
        default_bindings_module: "waypost_sdk::bindings",
        additional_derives: [Clone, PartialEq],
    });
}

mod build;

pub use bindings::exports::waypost::policy::routing_phase::{
    Decision, Deferral, ExplicitRoute, Hold, Request, Settings, Verdict,
};
pub use bindings::waypost::policy::{
    ambient, config, destination, dns, http, log, message, metrics, routes, state, tables, types,
};
pub use routes::{
    Candidate, CandidateChange, DnsFailure, Endpoint, HopChoice, MxEdit, NextHop, Protocol,
    TlsPolicy,
};
pub use types::{Flow, HookError, Mailbox, Recipient, Reply};

#[doc(hidden)]
pub use bindings::exports::waypost::policy::{lifecycle, routing_phase};

/// A plugin that chooses next hops.
pub trait Router {
    /// What the plugin calls itself.
    const NAME: &'static str;
    /// Its version; usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// Every fault of the configuration, for the administrator. Called when the
    /// plugin is loaded; any fault refuses the configuration.
    fn check_config() -> Vec<String> {
        Vec::new()
    }

    /// Chooses next hops for the recipients of one domain of one message. No
    /// verdict: no opinion.
    fn route(request: Request) -> Result<Vec<Verdict>, HookError>;
}

/// Makes a type that implements [`Router`] the plugin that this crate is.
#[macro_export]
macro_rules! export_router {
    ($router:ident) => {
        impl $crate::lifecycle::Guest for $router {
            fn identify() -> $crate::lifecycle::Identity {
                $crate::lifecycle::Identity {
                    name: <$router as $crate::Router>::NAME.into(),
                    version: <$router as $crate::Router>::VERSION.into(),
                }
            }

            fn check_config() -> Vec<String> {
                $crate::log_panics();
                <$router as $crate::Router>::check_config()
            }

            fn init() -> Result<(), String> {
                $crate::log_panics();
                Ok(())
            }
        }

        impl $crate::routing_phase::Guest for $router {
            fn route(
                request: $crate::Request,
            ) -> Result<Vec<$crate::Verdict>, $crate::HookError> {
                <$router as $crate::Router>::route(request)
            }
        }

        $crate::bindings::export!($router with_types_in $crate::bindings);
    };
}

/// Sends the message of a panic to the relay's log, which otherwise learns only
/// that the plugin trapped. [`export_router!`] calls this.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::write(log::Level::Error, &panic.to_string(), &[]);
    }));
}

/// The part of the plugin's configuration at a path (see [`config::json`]); the
/// empty path is all of it.
pub fn read_config<T: serde::de::DeserializeOwned>(path: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(&config::json(path))
}

/// A key as one step of a configuration path: in quotes, so that its dots do not
/// count.
pub fn quote_key(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}
