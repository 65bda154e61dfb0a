//! Bounces of a newsletter come back to an address of their own.

use waypost_sdk::{HookError, Mailbox, OnMailFrom, Peer, Plugin, Sender, SenderVerdict};

struct Verp;

impl Plugin for Verp {}

impl OnMailFrom for Verp {
    fn on_mail_from(_peer: Peer, sender: Sender) -> Result<SenderVerdict, HookError> {
        let Some(mailbox) = sender
            .mailbox
            .filter(|sender| sender.domain == "news.example.com")
        else {
            return Ok(SenderVerdict::proceed());
        };
        let bounces = Mailbox::new(
            format!("{}+bounce", mailbox.local_part),
            "bounces.example.com",
        );
        Ok(SenderVerdict::rewrite(Some(bounces)).note("bounces go to their own address"))
    }
}

waypost_sdk::export!(Verp: OnMailFrom);

fn main() {}
