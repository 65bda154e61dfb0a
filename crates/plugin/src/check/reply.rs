//! Replies of a plugin, made well-formed whatever is in them.

use smtp::{EnhancedStatusCode, Reply};

use crate::bindings::types;
use crate::text::one_line;

/// Characters of a reply that are kept: one line of RFC 5321 section 4.5.3.1.5.
const REPLY_CHARACTERS: usize = 480;

/// A permanent reply: the code and the enhanced code are replaced where they are
/// not of class 5, and the text is one line of printable ASCII.
pub(super) fn rejection(reply: &types::Reply) -> Reply {
    let code = if (500..=599).contains(&reply.code) {
        reply.code
    } else {
        550
    };
    let enhanced = reply
        .enhanced
        .parse::<EnhancedStatusCode>()
        .ok()
        .filter(|enhanced| enhanced.class == 5)
        // RFC 3463 section 3.8: delivery not authorised, message refused.
        .unwrap_or(EnhancedStatusCode::new(5, 7, 1));
    let mut text = one_line(&reply.text, REPLY_CHARACTERS)
        .replace(|character: char| !character.is_ascii(), "?");
    if text.is_empty() {
        "Refused by routing policy".clone_into(&mut text);
    }
    Reply::new(code, enhanced, text)
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

    #[test]
    fn a_good_reply_stays() {
        assert_eq!(
            rejection(&reply(551, "5.1.6", "Moved")),
            Reply::new(551, (5, 1, 6), "Moved")
        );
    }

    #[test]
    fn what_is_missing_or_of_another_class_is_replaced() {
        let default = Reply::new(550, (5, 7, 1), "Refused by routing policy");
        assert_eq!(rejection(&reply(0, "", "")), default);
        assert_eq!(rejection(&reply(450, "4.7.1", "\r\n")), default);
        assert_eq!(rejection(&reply(999, "5.x", " ")), default);
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
