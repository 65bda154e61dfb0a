//! After MAIL FROM and after RCPT TO.

use waypost_sdk::{
    Flow, HookError, Mailbox, Peer, Recipient, RecipientAction, RecipientVerdict, Reply, Sender,
    SenderAction, SenderVerdict,
};

use crate::seen;

pub fn reply(code: u16, text: &str) -> Reply {
    Reply {
        code,
        enhanced: String::new(),
        text: text.into(),
    }
}

pub fn mailbox(local_part: &str, domain: &str) -> Mailbox {
    Mailbox {
        local_part: local_part.into(),
        domain: domain.into(),
    }
}

pub fn sender(behaviour: &str, peer: &Peer, sender: &Sender) -> Result<SenderVerdict, HookError> {
    let mut note = None;
    let action = match behaviour {
        "trap" => std::arch::wasm32::unreachable(),
        "temporary" => return Err(HookError::Temporary("not now".into())),
        "rewrite" => SenderAction::Rewrite(Some(mailbox("bounces", "Example.ORG."))),
        "null" => SenderAction::Rewrite(None),
        "bad-mailbox" => SenderAction::Rewrite(Some(mailbox("a", "ex ample.org"))),
        "defer" => SenderAction::Defer(reply(550, "come\r\nback")),
        "reject" => SenderAction::Reject(reply(0, "")),
        "report" => {
            note = Some(format!(
                "{} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {} {}",
                peer.ip,
                peer.port,
                peer.ingress,
                peer.helo,
                peer.fcrdns,
                peer.user,
                peer.tls.as_ref().map(|tls| tls.verified_names.join(",")),
                sender.mailbox.as_ref().map(|from| &from.local_part),
                sender.declared_size,
                sender.smtputf8,
                sender.requiretls,
                seen::world(),
            ));
            SenderAction::Proceed
        }
        _ => SenderAction::Proceed,
    };
    Ok(SenderVerdict {
        action,
        flow: Flow::Next,
        note,
    })
}

pub fn recipient(behaviour: &str, given: &Recipient) -> Result<RecipientVerdict, HookError> {
    let mut note = None;
    let action = match behaviour {
        "alias" => RecipientAction::Rewrite(vec![
            mailbox("one", "example.net"),
            mailbox("odd name", "example.net"),
        ]),
        "drop" => RecipientAction::Rewrite(Vec::new()),
        "twice" => RecipientAction::Rewrite(vec![
            mailbox("one", "example.net"),
            mailbox("one", "EXAMPLE.net"),
        ]),
        "many" => RecipientAction::Rewrite(
            (0..1001)
                .map(|n| mailbox(&format!("n{n}"), "example.net"))
                .collect(),
        ),
        "bad-mailbox" => RecipientAction::Rewrite(vec![mailbox("a\r\nRCPT TO:<x", "example.net")]),
        "defer" => RecipientAction::Defer(reply(452, "full")),
        "reject" => RecipientAction::Reject(reply(551, "moved")),
        "report" => {
            note = Some(format!(
                "{}@{} {:?} {:?} {}",
                given.mailbox.local_part,
                given.mailbox.domain,
                given.notify,
                given.original,
                seen::world(),
            ));
            RecipientAction::Proceed
        }
        _ => RecipientAction::Proceed,
    };
    Ok(RecipientVerdict {
        action,
        flow: Flow::Next,
        note,
    })
}
