//! Dot-stuffing in both directions, cut anywhere.

use bytes::Bytes;
use proptest::prelude::*;
use smtp::{BareLineBreak, DotStuffer, DotUnstuffer, Unstuffed};

/// Un-stuffs chunks: content, fault, and what was left behind the end.
fn unstuff(chunks: &[&[u8]]) -> (Vec<u8>, Option<BareLineBreak>, Option<Vec<u8>>) {
    let mut unstuffer = DotUnstuffer::new();
    let mut content = Vec::new();
    let mut fault = None;
    let mut chunks = chunks.iter();
    while let Some(chunk) = chunks.next() {
        let mut input = Bytes::copy_from_slice(chunk);
        loop {
            match unstuffer.next(&mut input) {
                Unstuffed::Piece(piece) => {
                    assert!(!piece.is_empty());
                    if fault.is_none() {
                        content.extend_from_slice(&piece);
                    }
                }
                Unstuffed::Fault(found) => assert_eq!(fault.replace(found), None, "told twice"),
                Unstuffed::More => break,
                Unstuffed::End => {
                    let mut rest = input.to_vec();
                    chunks.for_each(|chunk| rest.extend_from_slice(chunk));
                    assert_eq!(unstuffer.fault(), fault);
                    return (content, fault, Some(rest));
                }
            }
        }
        assert!(input.is_empty(), "More with input left");
    }
    (content, fault, None)
}

fn stuff(chunks: &[&[u8]]) -> Vec<u8> {
    let mut stuffer = DotStuffer::new();
    let mut wire = Vec::new();
    for chunk in chunks {
        for piece in stuffer.stuff(chunk) {
            assert!(!piece.is_empty());
            wire.extend_from_slice(piece);
        }
    }
    wire.extend_from_slice(stuffer.terminator());
    wire
}

/// Cuts `octets` at every position that `cuts` names.
fn cut<'a>(octets: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut positions: Vec<usize> = cuts.iter().map(|at| at % (octets.len() + 1)).collect();
    positions.sort_unstable();
    let mut start = 0;
    let mut chunks = Vec::new();
    for at in positions.into_iter().chain([octets.len()]) {
        chunks.push(&octets[start..at]);
        start = at;
    }
    chunks
}

#[test]
fn unstuffing_in_cases() {
    use BareLineBreak::{CarriageReturn, LineFeed};
    type Case = (
        &'static [u8],
        &'static [u8],
        Option<BareLineBreak>,
        Option<&'static [u8]>,
    );
    let cases: &[Case] = &[
        (b".\r\n", b"", None, Some(b"")),
        (b".\r\nQUIT\r\n", b"", None, Some(b"QUIT\r\n")),
        (b"a\r\n.\r\n", b"a\r\n", None, Some(b"")),
        (b"..\r\n.\r\n", b".\r\n", None, Some(b"")),
        (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", None, Some(b"")),
        (b".a\r\n.\r\n", b"a\r\n", None, Some(b"")),
        (b"a.\r\n.\r\n", b"a.\r\n", None, Some(b"")),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n", None, Some(b"")),
        (b"a\0b\xff\r\n.\r\n", b"a\0b\xff\r\n", None, Some(b"")),
        (b"a\r\n.", b"a\r\n", None, None),
        (b"a\r\n.\r", b"a\r\n", None, None),
        (b"a\n.\n", b"a\n", Some(LineFeed), None),
        (b"a\n.\r\nMAIL\r\n.\r\n", b"a\n", Some(LineFeed), Some(b"")),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\n", Some(LineFeed), Some(b"")),
        (
            b"a\r.\r\nb\r\n.\r\n",
            b"a\r",
            Some(CarriageReturn),
            Some(b""),
        ),
        (
            b"a\r\n.\rb\r\n.\r\n",
            b"a\r\n",
            Some(CarriageReturn),
            Some(b""),
        ),
        (b"a\r\r\n.\r\n", b"a\r", Some(CarriageReturn), Some(b"")),
        (
            b"a\r\n.\r\r\n.\r\n",
            b"a\r\n",
            Some(CarriageReturn),
            Some(b""),
        ),
        (b"\n.\r\n\r\n.\r\n", b"\n", Some(LineFeed), Some(b"")),
    ];
    for (wire, content, fault, rest) in cases {
        let found = unstuff(&[wire]);
        let expected = (content.to_vec(), *fault, rest.map(<[u8]>::to_vec));
        assert_eq!(found, expected, "{}", wire.escape_ascii());
        let octets: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(
            unstuff(&octets),
            expected,
            "octet by octet: {}",
            wire.escape_ascii()
        );
    }
}

#[test]
fn unstuffing_copies_nothing() {
    let wire = Bytes::from_static(b"one\r\ntwo\r\n..three\r\n.\r\n");
    let mut input = wire.clone();
    let mut unstuffer = DotUnstuffer::new();
    let Unstuffed::Piece(first) = unstuffer.next(&mut input) else {
        panic!("a piece");
    };
    assert_eq!(first, "one\r\ntwo\r\n");
    assert_eq!(first.as_ptr(), wire.as_ptr());
    let Unstuffed::Piece(second) = unstuffer.next(&mut input) else {
        panic!("a piece");
    };
    assert_eq!(second, ".three\r\n");
    assert_eq!(second.as_ptr(), wire[11..].as_ptr());
}

#[test]
fn stuffing_in_cases() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n.a\r\n", b"...\r\n..a\r\n.\r\n"),
        (b"a.b\r\nc.\r\n", b"a.b\r\nc.\r\n.\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n..\r\n.\r\n"),
    ];
    for (content, wire) in cases {
        assert_eq!(stuff(&[content]), *wire, "{}", content.escape_ascii());
        let octets: Vec<&[u8]> = content.chunks(1).collect();
        assert_eq!(stuff(&octets), *wire, "{}", content.escape_ascii());
    }
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec("[.a\u{0}\u{e9}]{0,4}", 0..12).prop_map(|lines| {
        let mut content = Vec::new();
        for line in lines {
            content.extend_from_slice(line.as_bytes());
            content.extend_from_slice(b"\r\n");
        }
        content
    })
}

proptest! {
    /// Stuffed and un-stuffed, whatever the cuts, content is what it was.
    #[test]
    fn content_survives(
        content in lines(),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
        wire_cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let mut wire = stuff(&cut(&content, &cuts));
        wire.extend_from_slice(b"RSET\r\n");
        let found = unstuff(&cut(&wire, &wire_cuts));
        prop_assert_eq!(found, (content, None, Some(b"RSET\r\n".to_vec())));
    }

    /// What is found in anything at all does not depend on the cuts.
    #[test]
    fn cuts_do_not_matter(
        wire in "[.a\r\n]{0,40}",
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        prop_assert_eq!(unstuff(&cut(wire.as_bytes(), &cuts)), unstuff(&[wire.as_bytes()]));
    }

    /// Only CRLF "." CRLF ends content, wherever bare breaks stand.
    #[test]
    fn the_end_is_where_the_standard_has_it(wire in "[.a\r\n]{0,40}") {
        let with_start = format!("\r\n{wire}");
        let end = with_start.find("\r\n.\r\n").map(|at| &with_start.as_bytes()[at + 5..]);
        let (_, _, rest) = unstuff(&[wire.as_bytes()]);
        prop_assert_eq!(rest.as_deref(), end);
    }

    /// Any content, bare breaks included, ends only at its own end for a strict
    /// and for a lenient receiver.
    #[test]
    fn nothing_is_smuggled_out(content in "[.a\r\n]{0,40}") {
        let wire = stuff(&[content.as_bytes()]);
        let text = String::from_utf8(wire).expect("ASCII");
        let lenient = format!("\n{text}");
        let first = lenient.find("\n.\r\n").expect("a terminator");
        prop_assert_eq!(first + 4, lenient.len());
        prop_assert!(!lenient.contains("\n.\n"));
    }
}
