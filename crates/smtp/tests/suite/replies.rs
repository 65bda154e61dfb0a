//! Replies and enhanced status codes on the wire.

use proptest::prelude::*;
use smtp::{EnhancedStatusCode, Reply, ReplyError, Severity};

fn wire(reply: &Reply) -> String {
    let mut out = Vec::new();
    reply.write_to(&mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn lines_are_well_formed() {
    let cases = [
        (Reply::new(250, (2, 0, 0), "Ok"), "250 2.0.0 Ok\r\n"),
        (Reply::bare(250, "a\nb"), "250-a\r\n250 b\r\n"),
        (
            Reply::new(550, (5, 7, 1), "a\nb"),
            "550-5.7.1 a\r\n550 5.7.1 b\r\n",
        ),
        (Reply::bare(220, ""), "220 \r\n"),
        (Reply::bare(250, "a\r\nb\rc\0d"), "250-a\r\n250 b c d\r\n"),
        (Reply::bare(250, "naïve\t"), "250 na?ve \r\n"),
        (Reply::new(450, (5, 7, 1), "class"), "450 class\r\n"),
        (Reply::bare(99, "low"), "451 low\r\n"),
        (Reply::new(600, (6, 0, 0), "high"), "451 high\r\n"),
    ];
    for (reply, expected) in cases {
        assert_eq!(wire(&reply), expected);
    }
    assert_eq!(Reply::bare(600, "").check(), Err(ReplyError(600)));
    assert_eq!(Reply::bare(599, "").check(), Ok(()));
}

#[test]
fn long_lines_are_broken() {
    let text = "x".repeat(1200);
    let shown = wire(&Reply::new(550, (5, 1, 1), text.as_str()));
    let lines: Vec<&str> = shown.split_terminator("\r\n").collect();
    assert!(lines.iter().all(|line| line.len() + 2 <= 512), "{lines:?}");
    let joined: String = lines.iter().map(|line| &line[10..]).collect();
    assert_eq!(joined, text);
}

#[test]
fn severities_by_first_digit() {
    let severity = |code| Reply::bare(code, "").severity();
    assert_eq!(severity(250), Severity::Positive);
    assert_eq!(severity(354), Severity::Intermediate);
    assert_eq!(severity(450), Severity::Transient);
    assert_eq!(severity(554), Severity::Permanent);
}

#[test]
fn enhanced_status_codes_as_text() {
    assert_eq!("2.1.5".parse(), Ok(EnhancedStatusCode::new(2, 1, 5)));
    assert_eq!(
        "5.999.999".parse(),
        Ok(EnhancedStatusCode::new(5, 999, 999))
    );
    assert_eq!(EnhancedStatusCode::new(4, 7, 0).to_string(), "4.7.0");
    for text in [
        "", "2", "2.1", "3.1.1", "2.1.1.1", "2.1.1000", "2..1", "2.+1.1", "22.1.1",
    ] {
        assert!(text.parse::<EnhancedStatusCode>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_reply_is_well_formed(code in any::<u16>(), text in any::<String>(), class in 0u8..9) {
        let shown = wire(&Reply::new(code, (class, 1, 1), text));
        prop_assert!(shown.ends_with("\r\n"));
        let lines: Vec<&str> = shown.split_terminator("\r\n").collect();
        for (index, line) in lines.iter().enumerate() {
            prop_assert!(line.len() + 2 <= 512);
            prop_assert!(line.bytes().all(|octet| (32..127).contains(&octet)));
            let separator = if index + 1 == lines.len() { " " } else { "-" };
            prop_assert_eq!(&line[..3], &lines[0][..3]);
            prop_assert_eq!(&line[3..4], separator);
        }
    }
}
