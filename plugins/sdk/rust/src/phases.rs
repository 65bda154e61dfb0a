//! The phases of the contract as traits, and the macro that exports them.

use crate::{
    Advice, Attempt, HookError, MessageVerdict, Peer, Recipient, RecipientVerdict, Request, Sender,
    SenderVerdict, Verdict,
};

/// What every plugin is: something with a configuration that can be checked.
///
/// Both functions have a body already, so that `impl Plugin for MyPlugin {}` will do.
pub trait Plugin {
    /// Every fault of the configuration, a line each, for the administrator. Called when the
    /// plugin is loaded and before a new configuration takes effect; any fault refuses it.
    fn check_config() -> Vec<String> {
        Vec::new()
    }

    /// Once for each new instance, before its first call.
    ///
    /// # Errors
    /// What went wrong: the call that the instance was made for has then failed.
    fn init() -> Result<(), String> {
        Ok(())
    }
}

/// After MAIL FROM.
pub trait OnMailFrom: Plugin {
    /// Decides about a sender. [`SenderVerdict::proceed`]: no opinion.
    ///
    /// # Errors
    /// The plugin could not decide; the administrator's `on_error` says what then happens.
    fn on_mail_from(peer: Peer, sender: Sender) -> Result<SenderVerdict, HookError>;
}

/// After each RCPT TO.
pub trait OnRcpt: Plugin {
    /// Decides about a recipient. Sender and client are told by [`crate::message`].
    ///
    /// # Errors
    /// The plugin could not decide; the administrator's `on_error` says what then happens.
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError>;
}

/// After the end of the data, before the relay answers.
pub trait OnMessage: Plugin {
    /// Decides about a message, which [`crate::message`] shows.
    ///
    /// # Errors
    /// The plugin could not decide; the administrator's `on_error` says what then happens.
    fn on_message() -> Result<MessageVerdict, HookError>;
}

/// Choosing the next hop.
pub trait Router: Plugin {
    /// Chooses next hops for the recipients of one domain of one message. No verdict: no opinion.
    ///
    /// # Errors
    /// The plugin could not decide; the administrator's `on_error` says what then happens, and
    /// the default is to defer.
    fn route(request: Request) -> Result<Vec<Verdict>, HookError>;
}

/// After an attempt to deliver.
pub trait OnDeliveryResult: Plugin {
    /// Learns how an attempt went, and may advise what to do next. Advice counts only after a
    /// temporary failure.
    ///
    /// # Errors
    /// The plugin could not decide; the queue goes by its own schedule.
    fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError>;
}

/// Makes a type the plugin that this crate is: exports `lifecycle` and the phases named, and no
/// others, so that the relay asks for nothing that the plugin has no answer to. Name and version
/// are the crate's.
///
/// ```no_run
/// use waypost_sdk::{
///     Advice, Attempt, HookError, OnDeliveryResult, Plugin, Request, Router, Verdict, log_info,
/// };
///
/// struct Example;
///
/// impl Plugin for Example {}
///
/// impl Router for Example {
///     fn route(_request: Request) -> Result<Vec<Verdict>, HookError> {
///         Ok(Vec::new())
///     }
/// }
///
/// impl OnDeliveryResult for Example {
///     fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError> {
///         log_info(&format!("attempt {} for {}", attempt.attempts, attempt.domain));
///         Ok(Advice::Usual)
///     }
/// }
///
/// waypost_sdk::export!(Example: Router, OnDeliveryResult);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident : $($phase:ident),+ $(,)?) => {
        const _: () = {
            impl $crate::bindings::lifecycle::exports::waypost::policy::lifecycle::Guest for $plugin {
                fn identify() -> $crate::Identity {
                    $crate::Identity {
                        name: env!("CARGO_PKG_NAME").into(),
                        version: env!("CARGO_PKG_VERSION").into(),
                    }
                }

                fn check_config() -> Vec<String> {
                    $crate::log_panics();
                    <$plugin as $crate::Plugin>::check_config()
                }

                fn init() -> Result<(), String> {
                    $crate::log_panics();
                    <$plugin as $crate::Plugin>::init()
                }
            }
        };
        $crate::bindings::lifecycle::export_lifecycle!(
            $plugin with_types_in $crate::bindings::lifecycle
        );
        $( $crate::export_phase!($plugin, $phase); )+
    };
}

/// One phase of [`export!`](crate::export).
#[doc(hidden)]
#[macro_export]
macro_rules! export_phase {
    ($plugin:ident, OnMailFrom) => {
        impl $crate::bindings::sender::exports::waypost::policy::sender_phase::Guest for $plugin {
            fn on_mail_from(
                peer: $crate::Peer,
                sender: $crate::Sender,
            ) -> Result<$crate::SenderVerdict, $crate::HookError> {
                <$plugin as $crate::OnMailFrom>::on_mail_from(peer, sender)
            }
        }
        $crate::bindings::sender::export_sender!($plugin with_types_in $crate::bindings::sender);
    };
    ($plugin:ident, OnRcpt) => {
        impl $crate::bindings::recipient::exports::waypost::policy::recipient_phase::Guest
            for $plugin
        {
            fn on_rcpt(
                recipient: $crate::Recipient,
            ) -> Result<$crate::RecipientVerdict, $crate::HookError> {
                <$plugin as $crate::OnRcpt>::on_rcpt(recipient)
            }
        }
        $crate::bindings::recipient::export_recipient!(
            $plugin with_types_in $crate::bindings::recipient
        );
    };
    ($plugin:ident, OnMessage) => {
        impl $crate::bindings::content::exports::waypost::policy::message_phase::Guest for $plugin {
            fn on_message() -> Result<$crate::MessageVerdict, $crate::HookError> {
                <$plugin as $crate::OnMessage>::on_message()
            }
        }
        $crate::bindings::content::export_message!($plugin with_types_in $crate::bindings::content);
    };
    ($plugin:ident, Router) => {
        impl $crate::bindings::routing::exports::waypost::policy::routing_phase::Guest for $plugin {
            fn route(
                request: $crate::Request,
            ) -> Result<Vec<$crate::Verdict>, $crate::HookError> {
                <$plugin as $crate::Router>::route(request)
            }
        }
        $crate::bindings::routing::export_routing!($plugin with_types_in $crate::bindings::routing);
    };
    ($plugin:ident, OnDeliveryResult) => {
        impl $crate::bindings::delivery::exports::waypost::policy::delivery_phase::Guest
            for $plugin
        {
            fn on_delivery_result(
                attempt: $crate::Attempt,
            ) -> Result<$crate::Advice, $crate::HookError> {
                <$plugin as $crate::OnDeliveryResult>::on_delivery_result(attempt)
            }
        }
        $crate::bindings::delivery::export_delivery!(
            $plugin with_types_in $crate::bindings::delivery
        );
    };
}
