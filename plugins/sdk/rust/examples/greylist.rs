//! Greylisting: a new triple of client network, sender and recipient has to come again.

use std::time::Duration;

use waypost_sdk::{
    HookError, OnRcpt, Plugin, Recipient, RecipientVerdict, Reply, ambient, message, read_state,
    write_state,
};

struct Greylist;

impl Plugin for Greylist {}

impl OnRcpt for Greylist {
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        let peer = message::origin();
        let sender = message::envelope_sender().and_then(|sender| sender.mailbox);
        let sender = sender.map_or_else(|| "<>".to_owned(), |sender| sender.key());
        let network = peer
            .ip
            .rsplit_once('.')
            .map_or(peer.ip.as_str(), |(network, _)| network);
        let key = format!("{network} {sender} {}", recipient.mailbox.key());
        let month = Some(Duration::from_secs(30 * 86_400));
        let Some(first_seen) = read_state::<u64>(&key)? else {
            write_state(&key, &ambient::now(), month)?;
            return Ok(RecipientVerdict::defer(Reply::new(451, "4.7.1", "come again")).note("new"));
        };
        if ambient::now() < first_seen + 60_000 {
            return Ok(
                RecipientVerdict::defer(Reply::new(451, "4.7.1", "not yet")).note("too soon")
            );
        }
        Ok(RecipientVerdict::proceed())
    }
}

waypost_sdk::export!(Greylist: OnRcpt);

fn main() {}
