//! One question to one guest: the input lowered, the export called, the answer as
//! it came.

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::bindings::{
    delivery_phase, message_phase, recipient_phase, routing_phase, sender_phase, types,
};
use crate::error::FailureReason;
use crate::guest::{Exports, Guest};
use crate::phase::Input;
use crate::run::Ended;
use crate::state::CallState;

/// An answer that nobody has looked at yet.
pub(crate) enum Answer {
    Sender(sender_phase::Verdict),
    Recipient(recipient_phase::Verdict),
    Message(message_phase::Verdict),
    Routing(Vec<routing_phase::Verdict>),
    Delivery(delivery_phase::Advice),
}

/// Asks; `input` is of a phase that the plugin exports.
pub(crate) async fn ask(
    exports: &Exports,
    guest: &mut Guest,
    store: &mut Store<CallState>,
    instance: &Instance,
    input: &Input,
) -> Result<Answer, Ended> {
    Ok(match input {
        Input::MailFrom(given) => {
            let phase = guest.sender(exports, store, instance)?;
            let (peer, sender) = (given.peer.clone().into(), given.sender.clone().into());
            store.data_mut().asked = true;
            let answer = phase.call_on_mail_from(store, &peer, &sender).await?;
            Answer::Sender(answer?)
        }
        Input::Rcpt(recipient) => {
            let phase = guest.recipient(exports, store, instance)?;
            let recipient = recipient.into();
            store.data_mut().asked = true;
            Answer::Recipient(phase.call_on_rcpt(store, &recipient).await??)
        }
        Input::Message => {
            let phase = guest.message(exports, store, instance)?;
            store.data_mut().asked = true;
            Answer::Message(phase.call_on_message(store).await??)
        }
        Input::Route(request) => {
            let phase = guest.routing(exports, store, instance)?;
            let request = routing_phase::Request::from(&**request);
            store.data_mut().asked = true;
            Answer::Routing(phase.call_route(store, &request).await??)
        }
        Input::Delivery(report) => {
            let phase = guest.delivery(exports, store, instance)?;
            let attempt = delivery_phase::Attempt::from(&**report);
            store.data_mut().asked = true;
            let answer = phase.call_on_delivery_result(store, &attempt).await?;
            Answer::Delivery(answer?)
        }
    })
}

impl From<types::HookError> for Ended {
    fn from(error: types::HookError) -> Self {
        match error {
            types::HookError::Temporary(words) => Self::Guest(FailureReason::Temporary, words),
            types::HookError::Broken(words) => Self::Guest(FailureReason::Broken, words),
        }
    }
}
