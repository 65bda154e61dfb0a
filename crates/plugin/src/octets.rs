//! Octets in JSON: text where they are UTF-8, otherwise `{"hex": "…"}`.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Hex { hex: String },
}

pub(crate) fn serialize<S: Serializer>(
    octets: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let octets = octets.as_ref();
    match std::str::from_utf8(octets) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => {
            let mut hex = String::with_capacity(octets.len() * 2);
            for octet in octets {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{octet:02x}");
            }
            Form::Hex { hex }.serialize(serializer)
        }
    }
}

pub(crate) fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let octets = match Form::deserialize(deserializer)? {
        Form::Text(text) => text.into_bytes(),
        Form::Hex { hex } => from_hex(&hex).ok_or_else(|| {
            serde::de::Error::custom("pairs of hexadecimal digits are wanted in `hex`")
        })?,
    };
    Ok(octets.into())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| value.try_into().ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] Vec<u8>);

    #[test]
    fn all_octets_come_back() {
        for (octets, json) in [
            (b"caf\xc3\xa9".to_vec(), r#""café""#),
            (b"\xff\x0a".to_vec(), r#"{"hex":"ff0a"}"#),
            (Vec::new(), r#""""#),
        ] {
            let written = serde_json::to_string(&Holder(octets.clone())).unwrap();
            assert_eq!(written, json);
            assert_eq!(
                serde_json::from_str::<Holder>(&written).unwrap(),
                Holder(octets)
            );
        }
        assert!(serde_json::from_str::<Holder>(r#"{"hex":"f"}"#).is_err());
    }
}
