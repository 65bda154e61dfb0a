//! What the policy server is told.

use serde_json::{Value, json};
use waypost_sdk::{Mailbox, Request, message};

/// The request as the `route` stage describes it.
pub fn of(request: &Request, headers: &[String]) -> Value {
    let recipients: Vec<Value> = request
        .recipients
        .iter()
        .map(|recipient| json!({ "address": recipient.mailbox.to_string() }))
        .collect();
    let fields: Vec<Value> = headers
        .iter()
        .flat_map(|name| {
            let values = message::header(name);
            values
                .into_iter()
                .map(move |value| json!({ "name": name, "value": value }))
        })
        .collect();
    let origin = message::origin();
    json!({
        "stage": "route",
        "queue": {
            "id": request.message_id,
            "attempt": request.attempt,
            "receivedAt": request.received_at,
        },
        "client": { "ip": origin.ip, "helo": origin.helo, "listener": request.listener },
        "auth": { "user": request.user },
        "envelope": {
            "from": request.sender.as_ref().map(Mailbox::to_string),
            "to": recipients,
        },
        "domain": request.domain,
        "message": { "size": request.size, "headers": fields },
    })
}
