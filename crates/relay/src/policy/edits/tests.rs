//! Edits over every cut of the content, folding, encoded words.

use super::*;

const MESSAGE: &[u8] =
    b"Received: from a\r\n\tby b\r\nSubject: one\r\n two\r\nX-A : b\r\nx-a: c\r\n\
    To: you@test\r\n\r\nbody\r\nX-A: not a field\r\n";

fn field(name: &str, value: &str) -> NewField {
    NewField {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn changed(content: &[Bytes], edits: &[HeaderEdit]) -> Vec<u8> {
    let mut changes = HeaderChanges::default();
    for edit in edits {
        changes.apply(edit).expect("a good field");
    }
    changes.write(content).concat()
}

fn text(content: &[u8], edits: &[HeaderEdit]) -> String {
    let content = [Bytes::copy_from_slice(content)];
    String::from_utf8(changed(&content, edits)).expect("ASCII")
}

#[test]
fn each_edit_does_what_it_says_over_any_cut() {
    let edits = [
        HeaderEdit::Prepend(field("X-First", "1")),
        HeaderEdit::Prepend(field("X-Zeroth", "0")),
        HeaderEdit::Append(field("X-Last", "9")),
        HeaderEdit::Remove("x-A".to_owned()),
        HeaderEdit::Replace(field("Subject", "three")),
    ];
    let wanted = "Subject: three\r\nX-Zeroth: 0\r\nX-First: 1\r\nReceived: from a\r\n\tby b\r\n\
        To: you@test\r\nX-Last: 9\r\n\r\nbody\r\nX-A: not a field\r\n";
    for cut in 0..MESSAGE.len() {
        let pieces = [
            Bytes::copy_from_slice(&MESSAGE[..cut]),
            Bytes::copy_from_slice(&MESSAGE[cut..]),
        ];
        let made = String::from_utf8(changed(&pieces, &edits)).expect("ASCII");
        assert_eq!(made, wanted, "cut at {cut}");
    }
}

#[test]
fn an_edit_sees_what_the_one_before_it_did() {
    let add = || HeaderEdit::Append(field("X-B", "1"));
    let remove = || HeaderEdit::Remove("X-B".to_owned());
    let content = b"X-B: 0\r\n\r\nbody";
    assert_eq!(text(content, &[add(), remove()]), "\r\nbody");
    assert_eq!(text(content, &[remove(), add()]), "X-B: 1\r\n\r\nbody");
}

#[test]
fn what_follows_sees_the_header_as_it_will_be() {
    let mut changes = HeaderChanges::default();
    for edit in [
        HeaderEdit::Replace(field("X-A", "new")),
        HeaderEdit::Append(field("X-Last", "9")),
    ] {
        changes.apply(&edit).expect("a good field");
    }
    let fields = changes.fields(&[Bytes::from_static(MESSAGE)]);
    let shown: Vec<_> = fields
        .iter()
        .map(|field| (&*field.name, &*field.value))
        .collect();
    assert_eq!(
        shown,
        [
            ("X-A", &b" new"[..]),
            ("Received", b" from a\r\n\tby b"),
            ("Subject", b" one\r\n two"),
            ("To", b" you@test"),
            ("X-Last", b" 9"),
        ]
    );
}

#[test]
fn a_message_without_body_or_header_takes_edits_too() {
    let append = [HeaderEdit::Append(field("X-B", "1"))];
    assert_eq!(text(b"", &append), "X-B: 1\r\n");
    assert_eq!(text(b"A: b\r\n", &append), "A: b\r\nX-B: 1\r\n");
    assert_eq!(text(b"A: b", &append), "A: b\r\nX-B: 1\r\n");
    assert_eq!(text(b"\r\nbody", &append), "X-B: 1\r\n\r\nbody");
    assert_eq!(
        text(b"A: b\r\nno field\r\n\r\n", &append),
        "A: b\r\nX-B: 1\r\nno field\r\n\r\n"
    );
}

#[test]
fn the_body_is_not_copied() {
    let body = Bytes::from(vec![b'x'; 1000]);
    let content = [Bytes::from_static(b"A: b\r\n\r\n"), body.clone()];
    let mut changes = HeaderChanges::default();
    changes
        .apply(&HeaderEdit::Remove("a".to_owned()))
        .expect("a name");
    let pieces = changes.write(&content);
    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[1].as_ptr(), body.as_ptr());
}

#[test]
fn long_values_are_folded_at_blanks_and_come_back() {
    let value = "word ".repeat(400);
    let octets = written("X-Long", &value).expect("it folds");
    let text = String::from_utf8(octets.to_vec()).expect("ASCII");
    assert!(text.lines().all(|line| line.len() <= LINE_WIDTH), "{text}");
    assert_eq!(
        text.replace("\r\n", ""),
        format!("X-Long: {}", value.trim())
    );
    let whole = written("X-Whole", &"x".repeat(900)).expect("one line of less than 998");
    assert_eq!(whole.len(), "X-Whole: ".len() + 900 + 2);
}

#[test]
fn what_cannot_be_written_is_refused() {
    for (name, value, fault) in [
        ("", "x", FieldFault::Name),
        ("a b", "x", FieldFault::Name),
        ("a:b", "x", FieldFault::Name),
        ("é", "x", FieldFault::Name),
        ("X", "a\r\nBcc: b", FieldFault::Control),
        ("X", "a\0", FieldFault::Control),
        ("X", &*"x".repeat(1000), FieldFault::Line),
    ] {
        assert_eq!(written(name, value), Err(fault), "{name:?} {value:.20?}");
    }
}

#[test]
fn words_outside_ascii_are_encoded() {
    let text = |value: &str| {
        let octets = written("X", value).expect("a value");
        String::from_utf8(octets.to_vec()).expect("ASCII")
    };
    assert_eq!(text("plain café"), "X: plain =?UTF-8?Q?caf=C3=A9?=\r\n");
    assert_eq!(text("ä ö u"), "X: =?UTF-8?Q?=C3=A4_=C3=B6?= u\r\n");
    let long = text(&"ö".repeat(300));
    assert!(long.lines().all(|line| line.len() <= LINE_WIDTH), "{long}");
    assert!(long.is_ascii());
}
