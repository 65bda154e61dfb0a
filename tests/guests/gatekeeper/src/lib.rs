//! A plugin for tests that takes part in the whole SMTP dialogue and does what its configuration
//! says about each sender, recipient and message.
//!
//! `[plugin.config.sender]` and `.recipient` have a rule for each address (`<>` is the null
//! reverse-path), `.message` for each value of the field `X-Do`; `*` is the rule for all others.

mod facts;
mod rule;

use rule::{Rule, rule};
use waypost_sdk::{
    Decision, HeaderEdit, HookError, Mailbox, MessageAction, MessageHold, MessageVerdict, NextHop,
    OnMailFrom, OnMessage, OnRcpt, Peer, Plugin, Recipient, RecipientVerdict, Request, Rewrite,
    Router, Sender, SenderVerdict, Verdict, message, state,
};

struct Gatekeeper;

impl Plugin for Gatekeeper {}

impl OnMailFrom for Gatekeeper {
    fn on_mail_from(peer: Peer, sender: Sender) -> Result<SenderVerdict, HookError> {
        let address = sender.mailbox.as_ref().map_or("<>".into(), text);
        let rule = rule("sender", &address)?;
        if rule.report {
            message::set_attribute("seen-at-mail", Some(&facts::of_peer(&peer)));
        }
        rule.prepare()?;
        let verdict = match rule.action.as_str() {
            "proceed" => SenderVerdict::proceed(),
            "rewrite" => SenderVerdict::rewrite(match rule.to.first() {
                None => None,
                Some(to) => Some(mailbox(to)?),
            }),
            "defer" => SenderVerdict::defer(rule.reply()),
            "reject" => SenderVerdict::reject(rule.reply()),
            other => return Err(HookError::broken(format!("no action {other:?}"))),
        };
        Ok(SenderVerdict {
            flow: rule.flow(),
            note: rule.note,
            ..verdict
        })
    }
}

impl OnRcpt for Gatekeeper {
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        let rule = rule("recipient", &text(&recipient.mailbox))?;
        if rule.report {
            let count = message::recipient_count();
            message::set_attribute("seen-at-rcpt", Some(&format!("after {count}")));
        }
        rule.prepare()?;
        let verdict = match rule.action.as_str() {
            "proceed" => RecipientVerdict::proceed(),
            "rewrite" => RecipientVerdict::rewrite(rule.mailboxes()?),
            "greylist" => greylist(&text(&recipient.mailbox))?,
            "defer" => RecipientVerdict::defer(rule.reply()),
            "reject" => RecipientVerdict::reject(rule.reply()),
            other => return Err(HookError::broken(format!("no action {other:?}"))),
        };
        Ok(RecipientVerdict {
            flow: rule.flow(),
            note: rule.note,
            ..verdict
        })
    }
}

impl OnMessage for Gatekeeper {
    fn on_message() -> Result<MessageVerdict, HookError> {
        let wanted = message::header("X-Do").into_iter().next();
        let rule = rule("message", &wanted.unwrap_or_default())?;
        rule.prepare()?;
        let verdict = match rule.action.as_str() {
            "proceed" => MessageVerdict::proceed(),
            "rewrite" => MessageVerdict::rewrite(rewrite(&rule)?),
            "hold" => MessageVerdict::of(MessageAction::Hold(MessageHold {
                reason: rule.text.clone(),
                release_after: rule.release_after,
            })),
            "discard" => MessageVerdict::discard(rule.text.clone()),
            "defer" => MessageVerdict::defer(rule.reply()),
            "reject" => MessageVerdict::reject(rule.reply()),
            other => return Err(HookError::broken(format!("no action {other:?}"))),
        };
        Ok(MessageVerdict {
            flow: rule.flow(),
            note: rule.note,
            ..verdict
        })
    }
}

/// Where the message's attribute `route` says, as address and port.
impl Router for Gatekeeper {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let route = request.attributes.iter().find(|one| one.name == "route");
        let Some((host, port)) = route.and_then(|route| route.value.split_once(' ')) else {
            return Ok(Vec::new());
        };
        let port = port.parse().map_err(|_| HookError::broken("no port"))?;
        let hop = NextHop::address(host).port(port);
        Ok(vec![Verdict::all(Decision::hops([hop]))])
    }
}

waypost_sdk::export!(Gatekeeper: OnMailFrom, OnRcpt, OnMessage, Router);

/// Not the first time.
fn greylist(address: &str) -> Result<RecipientVerdict, HookError> {
    match state::add(address, 1, Some(60_000)) {
        Ok(1) => Ok(RecipientVerdict::defer("come again")),
        Ok(_) => Ok(RecipientVerdict::proceed()),
        Err(error) => Err(HookError::broken(format!("{error:?}"))),
    }
}

fn rewrite(rule: &Rule) -> Result<Rewrite, HookError> {
    let mut headers: Vec<HeaderEdit> = rule.edits()?;
    if rule.report {
        headers.extend(facts::of_message());
    }
    Ok(Rewrite {
        headers,
        recipients: if rule.to.is_empty() {
            None
        } else {
            Some(rule.mailboxes()?)
        },
        sender: match rule.sender.as_deref() {
            None => None,
            Some("<>") => Some(None),
            Some(sender) => Some(Some(mailbox(sender)?)),
        },
    })
}

fn mailbox(address: &str) -> Result<Mailbox, HookError> {
    Mailbox::parse(address).ok_or_else(|| HookError::broken(format!("no address: {address:?}")))
}

fn text(mailbox: &Mailbox) -> String {
    format!("{}@{}", mailbox.local_part, mailbox.domain)
}
