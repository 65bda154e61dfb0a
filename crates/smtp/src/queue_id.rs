//! The name of a queued message.

use std::fmt;
use std::str::FromStr;

use crate::serde_text::serde_as_text;

const DIGIT_COUNT: usize = 13;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Names one queued message. As text 13 upper-case digits of Crockford's
/// base 32, which sort like the numbers and can be read out on the telephone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(u64);

/// Text that is no [`QueueId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a queue id is 13 digits of 0-9 and A-Z without I, L, O and U, at most FZZZZZZZZZZZZ")]
pub struct QueueIdError;

impl QueueId {
    /// The id of this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [b'0'; DIGIT_COUNT];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.pad(str::from_utf8(&digits).expect("the alphabet is ASCII"))
    }
}

impl FromStr for QueueId {
    type Err = QueueIdError;

    /// Takes lower case too, and `O`, `I`, `L` for the digits they look like.
    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        if text.len() != DIGIT_COUNT {
            return Err(QueueIdError);
        }
        let mut id: u64 = 0;
        for octet in text.bytes() {
            let digit = match octet.to_ascii_uppercase() {
                b'O' => 0,
                b'I' | b'L' => 1,
                octet => ALPHABET
                    .iter()
                    .position(|known| *known == octet)
                    .ok_or(QueueIdError)? as u64,
            };
            id = id.checked_mul(32).ok_or(QueueIdError)? | digit;
        }
        Ok(Self(id))
    }
}

serde_as_text!(QueueId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_agree() {
        for id in [0, 1, 31, 32, 0x0123_4567_89ab_cdef, u64::MAX] {
            let text = QueueId::new(id).to_string();
            assert_eq!(text.len(), 13);
            assert_eq!(text.parse(), Ok(QueueId::new(id)));
            assert_eq!(text.to_lowercase().parse(), Ok(QueueId::new(id)));
        }
        assert_eq!(QueueId::new(u64::MAX).to_string(), "FZZZZZZZZZZZZ");
        assert_eq!("00000000000IL".parse(), Ok(QueueId::new(33)));
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "0",
            "G000000000000",
            "000000000000U",
            "00000000000000",
            "0000000000é0",
        ] {
            assert_eq!(text.parse::<QueueId>(), Err(QueueIdError), "{text}");
        }
    }
}
