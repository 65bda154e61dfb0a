//! Asks a DNS block list about the client.

use waypost_sdk::dns::{Answer, Question, lookup};
use waypost_sdk::{DnsFailure, HookError, OnMailFrom, Peer, Plugin, Reply, Sender, SenderVerdict};

struct Blocklist;

impl Plugin for Blocklist {}

impl OnMailFrom for Blocklist {
    fn on_mail_from(peer: Peer, _sender: Sender) -> Result<SenderVerdict, HookError> {
        let octets: Vec<&str> = peer.ip.split('.').rev().collect();
        if octets.len() != 4 || peer.user.is_some() {
            return Ok(SenderVerdict::proceed());
        }
        let name = format!("{}.list.example", octets.join("."));
        match lookup(&Question::Address(name)) {
            Ok(Answer::Address(found)) if !found.is_empty() => {
                let reply = Reply::new(550, "5.7.1", "your address is on list.example");
                Ok(SenderVerdict::reject(reply).note(format!("listed: {}", found.join(" "))))
            }
            Ok(_) | Err(DnsFailure::NoSuchDomain | DnsFailure::NoData) => {
                Ok(SenderVerdict::proceed())
            }
            // A list that does not answer blocks nobody.
            Err(DnsFailure::Temporary | DnsFailure::NullMx) => {
                Ok(SenderVerdict::proceed().note("the list does not answer"))
            }
            Err(DnsFailure::Denied) => Err(HookError::broken("the grant `dns` is missing")),
        }
    }
}

waypost_sdk::export!(Blocklist: OnMailFrom);

fn main() {}
