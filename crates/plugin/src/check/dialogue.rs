//! Answers of the SMTP phases and of the delivery phase.

use smtp::{Domain, Mailbox, ReversePath};

use super::reply::{self, Class};
use super::{Check, Fault, TEXT_CHARACTERS, each, too_many};
use crate::attempt::Advice;
use crate::bindings::{delivery_phase, message_phase, recipient_phase, sender_phase, types};
use crate::dialogue::{
    HeaderEdit, MessageAction, MessageRewrite, MessageVerdict, NewField, RecipientAction,
    RecipientVerdict, SenderAction, SenderVerdict,
};
use crate::request::MAX_RECIPIENTS;
use crate::text::one_line;
use crate::verdict::Flow;

/// Octets of the name of a header field: a line holds it, and its colon, with room.
const FIELD_NAME_BYTES: usize = 76;
/// Octets of the value of a header field.
const FIELD_VALUE_BYTES: usize = 8192;
/// Octets without a blank: RFC 5322 section 2.1.1 ends a line at 998, and it can be
/// folded at a blank only.
const UNBROKEN_BYTES: usize = 900;
/// Fields that no plugin takes away: without them a loop is never seen.
const KEPT_FIELDS: [&str; 1] = ["received"];

impl Check<'_> {
    pub(super) fn sender(verdict: sender_phase::Verdict) -> Result<SenderVerdict, Fault> {
        let action = match verdict.action {
            sender_phase::Action::Proceed => SenderAction::Proceed,
            sender_phase::Action::Rewrite(None) => SenderAction::Rewrite(None),
            sender_phase::Action::Rewrite(Some(given)) => {
                SenderAction::Rewrite(Some(mailbox("rewrite", &given)?))
            }
            sender_phase::Action::Defer(given) => SenderAction::Defer(reply::defer(&given)),
            sender_phase::Action::Reject(given) => {
                SenderAction::Reject(reply::of(&given, Class::Refused))
            }
        };
        let is_final = matches!(action, SenderAction::Defer(_) | SenderAction::Reject(_));
        Ok(SenderVerdict {
            action,
            flow: flow(verdict.flow, is_final),
            note: note(verdict.note),
        })
    }

    pub(super) fn recipient(verdict: recipient_phase::Verdict) -> Result<RecipientVerdict, Fault> {
        let action = match verdict.action {
            recipient_phase::Action::Proceed => RecipientAction::Proceed,
            recipient_phase::Action::Rewrite(given) => {
                RecipientAction::Rewrite(mailboxes("rewrite", &given)?)
            }
            recipient_phase::Action::Defer(given) => RecipientAction::Defer(reply::defer(&given)),
            recipient_phase::Action::Reject(given) => {
                RecipientAction::Reject(reply::of(&given, Class::Refused))
            }
        };
        let is_final = matches!(
            action,
            RecipientAction::Defer(_) | RecipientAction::Reject(_)
        );
        Ok(RecipientVerdict {
            action,
            flow: flow(verdict.flow, is_final),
            note: note(verdict.note),
        })
    }

    pub(super) fn message(verdict: message_phase::Verdict) -> Result<MessageVerdict, Fault> {
        let action = match verdict.action {
            message_phase::Action::Proceed => MessageAction::Proceed,
            message_phase::Action::Rewrite(given) => {
                MessageAction::Rewrite(rewrite(given).map_err(|fault| fault.within("rewrite"))?)
            }
            message_phase::Action::Hold(hold) => MessageAction::Hold {
                reason: one_line(&hold.reason, TEXT_CHARACTERS),
                release_after_seconds: hold.release_after,
            },
            message_phase::Action::Discard(reason) => {
                MessageAction::Discard(one_line(&reason, TEXT_CHARACTERS))
            }
            message_phase::Action::Defer(given) => MessageAction::Defer(reply::defer(&given)),
            message_phase::Action::Reject(given) => {
                MessageAction::Reject(reply::of(&given, Class::Refused))
            }
        };
        let is_final = !matches!(action, MessageAction::Proceed | MessageAction::Rewrite(_));
        Ok(MessageVerdict {
            action,
            flow: flow(verdict.flow, is_final),
            note: note(verdict.note),
        })
    }

    pub(super) fn advice(advice: delivery_phase::Advice) -> Advice {
        match advice {
            delivery_phase::Advice::Usual => Advice::Usual,
            delivery_phase::Advice::RetryAfter(seconds) => Advice::RetryAfter { seconds },
            delivery_phase::Advice::NextHopNow => Advice::NextHopNow,
            delivery_phase::Advice::Reroute => Advice::Reroute,
            delivery_phase::Advice::GiveUp(given) => {
                Advice::GiveUp(reply::of(&given, Class::GivenUp))
            }
            delivery_phase::Advice::Hold(reason) => {
                Advice::Hold(one_line(&reason, TEXT_CHARACTERS))
            }
        }
    }
}

fn flow(flow: types::Flow, is_final: bool) -> Flow {
    match flow {
        types::Flow::Next if !is_final => Flow::Next,
        types::Flow::Next | types::Flow::Stop => Flow::Stop,
    }
}

fn note(note: Option<String>) -> Option<String> {
    note.map(|note| one_line(&note, TEXT_CHARACTERS))
}

fn rewrite(rewrite: message_phase::Rewrite) -> Result<MessageRewrite, Fault> {
    let recipients = match rewrite.recipients {
        None => None,
        Some(given) if given.is_empty() => {
            let problem = "empty; `discard` drops a message";
            return Err(Fault::new("recipients", problem));
        }
        Some(given) => Some(mailboxes("recipients", &given)?),
    };
    Ok(MessageRewrite {
        headers: each("headers", rewrite.headers, edit)?,
        recipients,
        sender: match rewrite.sender {
            None => None,
            Some(None) => Some(ReversePath::Null),
            Some(Some(given)) => Some(ReversePath::Mailbox(mailbox("sender", &given)?)),
        },
    })
}

fn edit(edit: types::HeaderEdit) -> Result<HeaderEdit, Fault> {
    Ok(match edit {
        types::HeaderEdit::Prepend(given) => HeaderEdit::Prepend(field("prepend", given)?),
        types::HeaderEdit::Append(given) => HeaderEdit::Append(field("append", given)?),
        types::HeaderEdit::Remove(name) => HeaderEdit::Remove(removable("remove", name)?),
        types::HeaderEdit::Replace(given) => {
            let given = field("replace", given)?;
            HeaderEdit::Replace(NewField {
                name: removable("replace.name", given.name)?,
                value: given.value,
            })
        }
    })
}

fn field(edit: &str, given: types::HeaderField) -> Result<NewField, Fault> {
    let name = field_name(&format!("{edit}.name"), given.name)?;
    let value = field_value(&given.value).map_err(|problem| {
        Fault::new(
            format_args!("{edit}.value"),
            format!("of {name}: {problem}"),
        )
    })?;
    Ok(NewField { name, value })
}

/// RFC 5322 section 3.6.8: printable ASCII without a colon.
fn field_name(place: &str, name: String) -> Result<String, Fault> {
    let plain = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b':';
    if (1..=FIELD_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name);
    }
    let shown = one_line(&name, FIELD_NAME_BYTES);
    Err(Fault::new(
        place,
        format!("{shown:?} is no name of a header field of at most {FIELD_NAME_BYTES} octets"),
    ))
}

fn removable(place: &str, name: String) -> Result<String, Fault> {
    let name = field_name(place, name)?;
    if KEPT_FIELDS
        .iter()
        .any(|kept| kept.eq_ignore_ascii_case(&name))
    {
        let problem = format!("{name} stays: without it a mail loop is not seen");
        return Err(Fault::new(place, problem));
    }
    Ok(name)
}

/// A value that is one field and nothing more, however it is folded.
fn field_value(value: &str) -> Result<String, String> {
    let value = value.trim_matches([' ', '\t']);
    if value.len() > FIELD_VALUE_BYTES {
        let count = value.len();
        return Err(format!(
            "{count} octets, at most {FIELD_VALUE_BYTES} are taken"
        ));
    }
    if let Some(odd) = value
        .chars()
        .find(|character| character.is_control() && *character != '\t')
    {
        return Err(format!(
            "it has {odd:?}, which would end or garble the field"
        ));
    }
    let longest = value.split([' ', '\t']).map(str::len).max();
    if longest.is_some_and(|longest| longest > UNBROKEN_BYTES) {
        return Err(format!(
            "it has more than {UNBROKEN_BYTES} octets without a blank, so it cannot be folded"
        ));
    }
    Ok(value.to_owned())
}

fn mailboxes(list: &str, given: &[types::Mailbox]) -> Result<Vec<Mailbox>, Fault> {
    if given.len() > MAX_RECIPIENTS {
        return Err(too_many(list, given.len(), MAX_RECIPIENTS));
    }
    let mut seen = std::collections::HashSet::new();
    let mut all = Vec::with_capacity(given.len());
    for (index, each) in given.iter().enumerate() {
        let each = mailbox(&format!("{list}[{index}]"), each)?;
        if !seen.insert(each.clone()) {
            let problem = format!("{each} is there already");
            return Err(Fault::new(format_args!("{list}[{index}]"), problem));
        }
        all.push(each);
    }
    Ok(all)
}

fn mailbox(place: &str, given: &types::Mailbox) -> Result<Mailbox, Fault> {
    let shown = |text: &str| one_line(text, 100);
    let domain: Domain = given.domain.parse().map_err(|error| {
        let problem = format!("{:?} is no domain: {error}", shown(&given.domain));
        Fault::new(format_args!("{place}.domain"), problem)
    })?;
    Mailbox::new(&given.local_part, domain).map_err(|error| {
        let problem = format!("{:?} is no local part: {error}", shown(&given.local_part));
        Fault::new(format_args!("{place}.local-part"), problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_within_its_field() {
        assert_eq!(field_value(" one\ttwo ").unwrap(), "one\ttwo");
        assert_eq!(field_value("caf\u{e9}").unwrap(), "caf\u{e9}");
        for value in [
            "a\r\nBcc: x@example.com",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{85}b",
        ] {
            assert!(field_value(value).is_err(), "{value:?}");
        }
        assert!(field_value(&"x".repeat(UNBROKEN_BYTES)).is_ok());
        assert!(field_value(&"x".repeat(UNBROKEN_BYTES + 1)).is_err());
        assert!(field_value(&"x ".repeat(FIELD_VALUE_BYTES)).is_err());
    }

    #[test]
    fn names_are_plain() {
        for name in ["", "X Y", "X:", "X\r\nY", "caf\u{e9}", &"x".repeat(77)] {
            assert!(field_name("name", name.to_owned()).is_err(), "{name:?}");
        }
        assert!(field_name("name", "X-Spam".to_owned()).is_ok());
        assert!(removable("remove", "RECEIVED".to_owned()).is_err());
    }
}
