//! Replies of a plugin, made well-formed whatever is in them.

use smtp::{EnhancedStatusCode, Reply};

use crate::bindings::types;
use crate::text::one_line;

/// Characters of a reply that are kept: one line of RFC 5321 section 4.5.3.1.5.
const REPLY_CHARACTERS: usize = 480;

/// What a verdict calls for: the class of the reply, and what stands in for what is
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Not now.
    Deferred,
    /// Refused in the SMTP dialogue.
    Refused,
    /// Never, said by a routing plugin.
    Routing,
    /// Given up after an attempt.
    GivenUp,
}

impl Class {
    fn default_code(self) -> u16 {
        match self {
            Self::Deferred => 451,
            Self::Refused | Self::Routing | Self::GivenUp => 550,
        }
    }

    fn default_enhanced(self) -> EnhancedStatusCode {
        match self {
            // RFC 3463 section 3.8: delivery not authorised, message refused.
            Self::Deferred => EnhancedStatusCode::new(4, 7, 1),
            Self::Refused | Self::Routing => EnhancedStatusCode::new(5, 7, 1),
            // Section 3.1: other or undefined status.
            Self::GivenUp => EnhancedStatusCode::new(5, 0, 0),
        }
    }

    fn default_text(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred by policy",
            Self::Refused => "Refused by policy",
            Self::Routing => "Refused by routing policy",
            Self::GivenUp => "Given up by delivery policy",
        }
    }
}

/// A temporary reply.
pub(super) fn defer(reply: &types::Reply) -> Reply {
    of(reply, Class::Deferred)
}

/// The reply that a verdict calls for: the code and the enhanced code are replaced
/// where they are of another class, and the text is one line of printable ASCII.
pub(super) fn of(reply: &types::Reply, class: Class) -> Reply {
    let (code, enhanced) = (class.default_code(), class.default_enhanced());
    let text = one_line(&reply.text, REPLY_CHARACTERS)
        .replace(|character: char| !character.is_ascii(), "?");
    Reply::new(
        if reply.code / 100 == code / 100 {
            reply.code
        } else {
            code
        },
        reply
            .enhanced
            .parse::<EnhancedStatusCode>()
            .ok()
            .filter(|given| given.class == enhanced.class)
            .unwrap_or(enhanced),
        if text.is_empty() {
            class.default_text().to_owned()
        } else {
            text
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, enhanced: &str, text: &str) -> types::Reply {
        types::Reply {
            code,
            enhanced: enhanced.to_owned(),
            text: text.to_owned(),
        }
    }

    fn rejection(reply: &types::Reply) -> Reply {
        of(reply, Class::Routing)
    }

    #[test]
    fn a_good_reply_stays() {
        assert_eq!(
            rejection(&reply(551, "5.1.6", "Moved")),
            Reply::new(551, (5, 1, 6), "Moved")
        );
        assert_eq!(
            defer(&reply(452, "4.2.2", "Full")),
            Reply::new(452, (4, 2, 2), "Full")
        );
    }

    #[test]
    fn what_is_missing_or_of_another_class_is_replaced() {
        let default = Reply::new(550, (5, 7, 1), "Refused by routing policy");
        assert_eq!(rejection(&reply(0, "", "")), default);
        assert_eq!(rejection(&reply(450, "4.7.1", "\r\n")), default);
        assert_eq!(rejection(&reply(999, "5.x", " ")), default);
        let default = Reply::new(451, (4, 7, 1), "Deferred by policy");
        assert_eq!(defer(&reply(550, "5.7.1", "")), default);
        assert_eq!(defer(&reply(250, "2.0.0", "")), default);
    }

    #[test]
    fn the_text_is_one_line_of_ascii() {
        let text = rejection(&reply(550, "", "no\r\n250 Ok caf\u{e9}")).text;
        assert_eq!(text, "no  250 Ok caf?");
        assert_eq!(
            rejection(&reply(550, "", &"x".repeat(9000))).text.len(),
            REPLY_CHARACTERS
        );
    }
}
