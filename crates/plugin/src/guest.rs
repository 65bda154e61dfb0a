//! What a component exports of the contract, and the same of one instance.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use crate::bindings::{
    delivery_phase, lifecycle, message_phase, recipient_phase, routing_phase, sender_phase,
};
use crate::load::is_ours;
use crate::phase::Phase;
use crate::state::CallState;

/// Where a component's exports are.
pub(crate) struct Exports {
    pub(crate) lifecycle: Option<lifecycle::GuestIndices>,
    sender: Option<sender_phase::GuestIndices>,
    recipient: Option<recipient_phase::GuestIndices>,
    message: Option<message_phase::GuestIndices>,
    routing: Option<routing_phase::GuestIndices>,
    delivery: Option<delivery_phase::GuestIndices>,
}

/// Looks for one interface; an error where its functions are not the contract's.
macro_rules! indices {
    ($pre:expr, $names:expr, $module:ident, $interface:literal) => {
        if $names.iter().any(|name| is_ours(name, $interface)) {
            Some($module::GuestIndices::new($pre)?)
        } else {
            None
        }
    };
}

impl Exports {
    /// `names`: everything that the component exports.
    pub(crate) fn of(pre: &InstancePre<CallState>, names: &[String]) -> wasmtime::Result<Self> {
        Ok(Self {
            lifecycle: indices!(pre, names, lifecycle, "lifecycle"),
            sender: indices!(pre, names, sender_phase, "sender-phase"),
            recipient: indices!(pre, names, recipient_phase, "recipient-phase"),
            message: indices!(pre, names, message_phase, "message-phase"),
            routing: indices!(pre, names, routing_phase, "routing-phase"),
            delivery: indices!(pre, names, delivery_phase, "delivery-phase"),
        })
    }

    pub(crate) fn has(&self, phase: Phase) -> bool {
        match phase {
            Phase::Sender => self.sender.is_some(),
            Phase::Recipient => self.recipient.is_some(),
            Phase::Message => self.message.is_some(),
            Phase::Routing => self.routing.is_some(),
            Phase::Delivery => self.delivery.is_some(),
        }
    }
}

/// The exports of one instance, each looked up when it is first called.
#[derive(Default)]
pub(crate) struct Guest {
    sender: Option<sender_phase::Guest>,
    recipient: Option<recipient_phase::Guest>,
    message: Option<message_phase::Guest>,
    routing: Option<routing_phase::Guest>,
    delivery: Option<delivery_phase::Guest>,
}

/// The accessor of one phase.
macro_rules! accessor {
    ($field:ident, $module:ident) => {
        pub(crate) fn $field(
            &mut self,
            exports: &Exports,
            store: &mut Store<CallState>,
            instance: &Instance,
        ) -> wasmtime::Result<&$module::Guest> {
            if self.$field.is_none() {
                let indices = exports.$field.as_ref();
                let indices = indices.expect("asked only of a plugin that exports the phase");
                self.$field = Some(indices.load(store, instance)?);
            }
            Ok(self.$field.as_ref().expect("it was put there just now"))
        }
    };
}

impl Guest {
    accessor!(sender, sender_phase);
    accessor!(recipient, recipient_phase);
    accessor!(message, message_phase);
    accessor!(routing, routing_phase);
    accessor!(delivery, delivery_phase);
}
