//! A copy of every message to an archive, with a header field that says so.

use waypost_sdk::{
    HeaderEdit, HeaderField, HookError, Mailbox, MessageVerdict, OnMessage, Plugin, Rewrite,
    message,
};

struct Archive;

impl Plugin for Archive {}

impl OnMessage for Archive {
    fn on_message() -> Result<MessageVerdict, HookError> {
        let archive = Mailbox::new("archive", "archive.example.com");
        let count = message::recipient_count();
        let mut recipients: Vec<Mailbox> = message::envelope_recipients(0, count)
            .into_iter()
            .map(|recipient| recipient.mailbox)
            .collect();
        if recipients.contains(&archive) {
            return Ok(MessageVerdict::proceed());
        }
        recipients.push(archive);
        let field = HeaderField::new("X-Archived", message::id());
        Ok(MessageVerdict::rewrite(Rewrite {
            recipients: Some(recipients),
            ..Rewrite::headers([HeaderEdit::Prepend(field)])
        }))
    }
}

waypost_sdk::export!(Archive: OnMessage);

fn main() {}
