//! Everything generated from the contract: what all plugins import, and a module for each
//! interface that a plugin may export, so that a component exports no more than it has.

#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    world: "waypost:policy/imports",
    additional_derives: [Clone, PartialEq],
    generate_all,
});

/// The module of one exported interface, over the types that all share.
macro_rules! interface {
    ($module:ident, $world:tt, $inline:tt, $export:tt, { $($with:tt)* }) => {
        #[allow(missing_docs, clippy::all)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "wit",
                inline: $inline,
                world: $world,
                pub_export_macro: true,
                export_macro_name: $export,
                additional_derives: [Clone, PartialEq],
                with: { $($with)* },
            });
        }
    };
}

interface!(
    lifecycle,
    "waypost:sdk/exports-lifecycle",
    "package waypost:sdk; world exports-lifecycle { export waypost:policy/lifecycle@0.1.0; }",
    "export_lifecycle",
    {}
);
interface!(
    sender,
    "waypost:sdk/exports-sender",
    "package waypost:sdk; world exports-sender { export waypost:policy/sender-phase@0.1.0; }",
    "export_sender",
    { "waypost:policy/types@0.1.0": crate::types }
);
interface!(
    recipient,
    "waypost:sdk/exports-recipient",
    "package waypost:sdk; world exports-recipient { export waypost:policy/recipient-phase@0.1.0; }",
    "export_recipient",
    { "waypost:policy/types@0.1.0": crate::types }
);
interface!(
    content,
    "waypost:sdk/exports-message",
    "package waypost:sdk; world exports-message { export waypost:policy/message-phase@0.1.0; }",
    "export_message",
    { "waypost:policy/types@0.1.0": crate::types }
);
interface!(
    routing,
    "waypost:sdk/exports-routing",
    "package waypost:sdk; world exports-routing { export waypost:policy/routing-phase@0.1.0; }",
    "export_routing",
    {
        "waypost:policy/types@0.1.0": crate::types,
        "waypost:policy/routes@0.1.0": crate::routes,
    }
);
interface!(
    delivery,
    "waypost:sdk/exports-delivery",
    "package waypost:sdk; world exports-delivery { export waypost:policy/delivery-phase@0.1.0; }",
    "export_delivery",
    { "waypost:policy/types@0.1.0": crate::types }
);
