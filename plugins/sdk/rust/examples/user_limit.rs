//! So many recipients an hour for each user that has logged in, or each client address.

use waypost_sdk::{HookError, OnRcpt, Plugin, Rate, Recipient, RecipientVerdict, Reply, message};

struct UserLimit;

impl Plugin for UserLimit {}

impl OnRcpt for UserLimit {
    fn on_rcpt(_recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        let peer = message::origin();
        let who = peer.user.unwrap_or(peer.ip);
        let rate: Rate = "500/1h".parse().map_err(HookError::Broken)?;
        if rate.take(&format!("rate:{who}"), 1)? {
            return Ok(RecipientVerdict::proceed());
        }
        let reply = Reply::new(452, "4.5.3", "too many recipients this hour");
        Ok(RecipientVerdict::defer(reply).note(format!("{who} is over the rate")))
    }
}

waypost_sdk::export!(UserLimit: OnRcpt);

fn main() {}
