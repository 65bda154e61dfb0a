//! Names of annotations.

/// `[a-z0-9._-]{1,64}`.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_attribute_name("a.b_c-9"));
        assert!(is_attribute_name(&"x".repeat(64)));
        for name in ["", "A", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_attribute_name(name), "{name:?}");
        }
    }
}
