//! After the end of DATA.

use waypost_sdk::{
    Flow, HeaderEdit, HeaderField, HookError, MessageAction, MessageHold, MessageVerdict, Rewrite,
    message,
};

use crate::dialogue::{mailbox, reply};
use crate::seen;

fn field(name: &str, value: &str) -> HeaderField {
    HeaderField {
        name: name.into(),
        value: value.into(),
    }
}

fn edited(headers: Vec<HeaderEdit>) -> MessageAction {
    MessageAction::Rewrite(Rewrite {
        headers,
        recipients: None,
        sender: None,
    })
}

fn prepended(name: &str, value: &str) -> MessageAction {
    edited(vec![HeaderEdit::Prepend(field(name, value))])
}

pub fn message(behaviour: &str) -> Result<MessageVerdict, HookError> {
    let mut note = None;
    let action = match behaviour {
        "edit" => MessageAction::Rewrite(Rewrite {
            headers: vec![
                HeaderEdit::Prepend(field("X-First", " one ")),
                HeaderEdit::Append(field("X-Last", "caf\u{e9}")),
                HeaderEdit::Remove("X-Gone".into()),
                HeaderEdit::Replace(field("Subject", "new")),
            ],
            recipients: Some(vec![mailbox("b", "example.net")]),
            sender: Some(None),
        }),
        "inject" => prepended("X-A", "one\r\nBcc: thief@example.net"),
        "inject-name" => prepended("X-A: one\r\nBcc", "two"),
        "long" => prepended("X-A", &"x".repeat(2000)),
        "large" => prepended("X-A", &"x ".repeat(5000)),
        "received" => edited(vec![HeaderEdit::Remove("received".into())]),
        "edits" => edited(vec![HeaderEdit::Remove("X-A".into()); 65]),
        "nobody" => MessageAction::Rewrite(Rewrite {
            headers: Vec::new(),
            recipients: Some(Vec::new()),
            sender: None,
        }),
        "hold" => MessageAction::Hold(MessageHold {
            reason: "look\nat it".into(),
            release_after: Some(60),
        }),
        "discard" => MessageAction::Discard("spam".into()),
        "defer" => MessageAction::Defer(reply(0, "")),
        "reject" => MessageAction::Reject(reply(554, "spam")),
        "report" => {
            message::set_attribute("class", Some("bulk"));
            note = Some(seen::world());
            MessageAction::Proceed
        }
        _ => MessageAction::Proceed,
    };
    Ok(MessageVerdict {
        action,
        flow: Flow::Next,
        note,
    })
}
