//! The contract as Rust types, generated from `plugins/wit`. Nothing generated
//! leaves this crate: [`crate::verdict`] and [`crate::environment`] are what the
//! relay sees.

// Generated code: `unsafe` is in the type layouts that the macro derives from
// the WIT file; the rest are matters of style.
#![allow(
    unsafe_code,
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::uninlined_format_args,
    clippy::semicolon_if_nothing_returned
)]

// The world is never instantiated as a whole: a plugin exports what it likes of it,
// and each interface is looked for by itself.
wasmtime::component::bindgen!({
    path: "../../plugins/wit",
    inline: "
        package waypost:host;
        world host {
            include waypost:policy/imports@0.1.0;
            export waypost:policy/lifecycle@0.1.0;
            export waypost:policy/sender-phase@0.1.0;
            export waypost:policy/recipient-phase@0.1.0;
            export waypost:policy/message-phase@0.1.0;
            export waypost:policy/routing-phase@0.1.0;
            export waypost:policy/delivery-phase@0.1.0;
        }
    ",
    world: "waypost:host/host",
    imports: {
        "waypost:policy/message@0.1.0.header": async | trappable | exact,
        "waypost:policy/message@0.1.0.headers": async | trappable | exact,
        "waypost:policy/message@0.1.0.header-octets": async | trappable | exact,
        "waypost:policy/message@0.1.0.body": async | trappable | exact,
        "waypost:policy/message@0.1.0.authentication": async | trappable | exact,
        "waypost:policy/destination@0.1.0.candidates": async | trappable | exact,
        "waypost:policy/destination@0.1.0.candidates-with-addresses": async | trappable | exact,
        "waypost:policy/destination@0.1.0.mta-sts-mode": async | trappable | exact,
        "waypost:policy/dns@0.1.0": async | trappable,
        "waypost:policy/http@0.1.0": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});

pub(crate) use exports::waypost::policy::{
    delivery_phase, lifecycle, message_phase, recipient_phase, routing_phase, sender_phase,
};
pub(crate) use waypost::policy::{
    ambient, config, destination, dns, http, log, message, metrics, routes, state, tables, types,
};
