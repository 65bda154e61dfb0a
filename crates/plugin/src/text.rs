//! Text of a guest made fit for a log line, a reply, a terminal.

/// Without control characters (each becomes a space) and cut to so many
/// characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|character| if is_odd(character) { ' ' } else { character })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Control characters, and those that reorder what a terminal shows.
fn is_odd(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_line() {
        assert_eq!(one_line("a\r\nb\u{1b}[31mc\u{202e}d ", 100), "a  b [31mc d");
        assert_eq!(one_line("äöü", 2), "äö");
    }
}
