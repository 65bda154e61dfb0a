//! The right side of an access(5) entry.

use waypost_sdk::{Mailbox, RecipientVerdict, Reply};

#[derive(Debug, PartialEq)]
pub enum Action {
    /// No opinion.
    Dunno,
    /// Taken, and nobody else of this phase is asked.
    Ok,
    Reject(Reply),
    Defer(Reply),
    Redirect(Mailbox),
    /// Taken and dropped.
    Discard,
}

impl Action {
    /// Reads an action; what Postfix knows and this cannot do is an error, never an OK.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let reply = |default: &str| Reply::parse(if rest.is_empty() { default } else { rest });
        if word.len() == 3 && word.bytes().all(|octet| octet.is_ascii_digit()) {
            return match word.as_bytes().first() {
                Some(b'4') => Ok(Self::Defer(Reply::parse(text))),
                Some(b'5') => Ok(Self::Reject(Reply::parse(text))),
                _ => Err(format!("{text:?}: a reply of 4xx or 5xx is wanted")),
            };
        }
        // access(5): an action of digits alone is an OK.
        if !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_digit()) {
            return Ok(Self::Ok);
        }
        match word.to_uppercase().as_str() {
            "OK" | "PERMIT" => Ok(Self::Ok),
            "DUNNO" => Ok(Self::Dunno),
            "REJECT" => Ok(Self::Reject(reply(
                "5.7.1 Recipient address rejected: Access denied",
            ))),
            "DEFER" | "DEFER_IF_PERMIT" => Ok(Self::Defer(reply("4.7.1 Try again later"))),
            "DISCARD" => Ok(Self::Discard),
            "REDIRECT" => match Mailbox::parse(rest) {
                Some(mailbox) => Ok(Self::Redirect(mailbox)),
                None => Err(format!("{text:?}: an address is wanted")),
            },
            _ => Err(format!(
                "the action {text:?} is not one that this plugin carries out"
            )),
        }
    }

    pub fn verdict(self) -> RecipientVerdict {
        match self {
            Self::Dunno => RecipientVerdict::proceed(),
            Self::Ok => RecipientVerdict::proceed().stop(),
            Self::Reject(reply) => RecipientVerdict::reject(reply),
            Self::Defer(reply) => RecipientVerdict::defer(reply),
            Self::Redirect(mailbox) => RecipientVerdict::rewrite([mailbox]),
            Self::Discard => RecipientVerdict::rewrite([]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_access_5_are_read() {
        assert_eq!(Action::parse("OK"), Ok(Action::Ok));
        assert_eq!(Action::parse("1234"), Ok(Action::Ok));
        assert_eq!(Action::parse("dunno"), Ok(Action::Dunno));
        let reply = Reply::new(550, "5.1.1", "gone");
        assert_eq!(Action::parse("550 5.1.1 gone"), Ok(Action::Reject(reply)));
        let reply = Reply::new(450, "", "later");
        assert_eq!(Action::parse("450 later"), Ok(Action::Defer(reply)));
        let to = Mailbox::new("ann", "example.com");
        assert_eq!(
            Action::parse("REDIRECT ann@example.com"),
            Ok(Action::Redirect(to))
        );
    }

    #[test]
    fn what_is_not_known_is_never_an_ok() {
        for text in [
            "",
            "FILTER smtp:x",
            "HOLD",
            "PREPEND X: y",
            "250 fine",
            "REDIRECT x",
        ] {
            Action::parse(text).unwrap_err();
        }
    }
}
