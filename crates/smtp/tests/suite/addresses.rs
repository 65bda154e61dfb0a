//! Addresses: what is one, what is none, and their text form.

use proptest::prelude::*;
use smtp::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};

#[test]
fn domains_have_one_canonical_form() {
    let cases = [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[192.000.002.001]", "[192.0.2.1]"),
        ("[ipv6:2001:DB8:0::1]", "[IPv6:2001:db8::1]"),
        ("[IPv6:::ffff:192.0.2.1]", "[IPv6:::ffff:192.0.2.1]"),
        ("[X-Tag:some{thing}]", "[x-tag:some{thing}]"),
    ];
    for (text, canonical) in cases {
        let domain: Domain = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(domain.as_str(), canonical);
        assert_eq!(canonical.parse::<Domain>().as_ref(), Ok(&domain));
    }
    let literal = |text: &str| {
        text.parse::<Domain>()
            .ok()
            .and_then(|domain| domain.literal())
    };
    assert_eq!(literal("[192.0.2.1]"), "192.0.2.1".parse().ok());
    assert_eq!(literal("[IPv6:2001:db8::1]"), "2001:db8::1".parse().ok());
    assert_eq!(literal("[x:y]"), None);
    assert_eq!(literal("192.0.2.1"), None);
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address = address.parse().expect("an address");
        assert_eq!(Domain::from(address).literal(), Some(address));
    }
}

#[test]
fn what_is_no_domain() {
    let long_label = "a".repeat(64);
    let long = format!(
        "{}.{}.{}.{}",
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(64)
    );
    let cases = [
        ("", AddressError::Empty),
        (".", AddressError::Empty),
        ("a..b", AddressError::Domain),
        (".a", AddressError::Domain),
        ("a..", AddressError::Domain),
        ("-a.b", AddressError::Domain),
        ("a-.b", AddressError::Domain),
        ("a b", AddressError::Domain),
        ("a@b", AddressError::Domain),
        ("a\r\nb", AddressError::Domain),
        (&long_label, AddressError::DomainTooLong),
        (&long, AddressError::DomainTooLong),
        ("[", AddressError::Literal),
        ("[]", AddressError::Literal),
        ("[192.0.2]", AddressError::Literal),
        ("[192.0.2.256]", AddressError::Literal),
        ("[192.0.2.1.5]", AddressError::Literal),
        ("[2001:db8::1", AddressError::Literal),
        ("[IPv6:2001:db8::g]", AddressError::Literal),
        ("[IPv6:fe80::1%eth0]", AddressError::Literal),
        ("[tag-:x]", AddressError::Literal),
        ("[tag:]", AddressError::Literal),
        ("[tag:a[b]", AddressError::Literal),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Domain>(), Err(error), "{text}");
    }
}

#[test]
fn mailboxes_are_unquoted_inside_and_quoted_outside() {
    let cases = [
        ("joe@x.example", "joe", "joe@x.example"),
        ("\"joe\"@x.example", "joe", "joe@x.example"),
        ("\"j o e\"@x.example", "j o e", "\"j o e\"@x.example"),
        ("\"a@b\"@x.example", "a@b", "\"a@b\"@x.example"),
        (
            r#""a\"b\\c"@x.example"#,
            r#"a"b\c"#,
            r#""a\"b\\c"@x.example"#,
        ),
        (r#""\j\o\e"@x.example"#, "joe", "joe@x.example"),
        ("\"\"@x.example", "", "\"\"@x.example"),
        ("\"a..b\"@x.example", "a..b", "\"a..b\"@x.example"),
        ("a.b+c=d@X.Example", "a.b+c=d", "a.b+c=d@x.example"),
        (
            "!#$%&'*+-/=?^_`{|}~@x",
            "!#$%&'*+-/=?^_`{|}~",
            "!#$%&'*+-/=?^_`{|}~@x",
        ),
        ("joe@bücher.example", "joe", "joe@xn--bcher-kva.example"),
    ];
    for (text, local_part, shown) in cases {
        let mailbox: Mailbox = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(mailbox.local_part(), local_part);
        assert_eq!(mailbox.to_string(), shown);
    }
}

#[test]
fn what_is_no_mailbox() {
    let long = format!("{}@x", "a".repeat(65));
    let cases = [
        ("", AddressError::Empty),
        ("joe", AddressError::MissingDomain),
        ("joe@", AddressError::Empty),
        ("@x", AddressError::LocalPart),
        (".joe@x", AddressError::LocalPart),
        ("joe.@x", AddressError::LocalPart),
        ("j..e@x", AddressError::LocalPart),
        ("j e@x", AddressError::LocalPart),
        ("joe\r\n@x", AddressError::LocalPart),
        ("\"joe@x", AddressError::LocalPart),
        ("\"joe\"x@x", AddressError::LocalPart),
        ("\"j\r\ne\"@x", AddressError::LocalPart),
        ("\"j\\\ne\"@x", AddressError::LocalPart),
        ("\"joe\"", AddressError::MissingDomain),
        ("jöe@x", AddressError::NonAscii),
        ("\"jöe\"@x", AddressError::NonAscii),
        (&long, AddressError::LocalPartTooLong),
        ("a@b@c", AddressError::Domain),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Mailbox>(), Err(error), "{text}");
    }
    let domain: Domain = "x".parse().expect("a domain");
    assert_eq!(
        Mailbox::new("a\nb", domain.clone()),
        Err(AddressError::LocalPart)
    );
    assert_eq!(
        Mailbox::new(&"a".repeat(65), domain.clone()),
        Err(AddressError::LocalPartTooLong)
    );
    assert_eq!(Mailbox::new("é", domain), Err(AddressError::NonAscii));
}

#[test]
fn paths_as_text() {
    assert_eq!("".parse(), Ok(ReversePath::Null));
    assert_eq!("<>".parse(), Ok(ReversePath::Null));
    assert_eq!(ReversePath::Null.to_string(), "");
    let path: ReversePath = "<joe@x>".parse().expect("a path");
    assert_eq!("joe@x".parse(), Ok(path.clone()));
    assert_eq!(path.to_string(), "joe@x");
    assert_eq!("PostMaster".parse(), Ok(ForwardPath::Postmaster));
    assert_eq!("<postmaster>".parse(), Ok(ForwardPath::Postmaster));
    assert_eq!(ForwardPath::Postmaster.to_string(), "Postmaster");
    assert_eq!("<>".parse::<ForwardPath>(), Err(AddressError::Empty));
    assert!(matches!(
        "postmaster@x".parse(),
        Ok(ForwardPath::Mailbox(_))
    ));
}

proptest! {
    /// Whatever a local part holds, its written form reads back as the same.
    #[test]
    fn a_mailbox_survives_its_text(local_part in "[ -~]{0,64}", name in "[a-z0-9]{1,20}(\\.[a-z]{2,6}){0,3}") {
        let domain: Domain = name.parse().expect("a domain");
        let mailbox = Mailbox::new(&local_part, domain).expect("a mailbox");
        prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox));
    }

    /// Nothing that parses can break a line.
    #[test]
    fn no_text_smuggles_a_line_break(text in "[\"<>@a-c.\\\\ \r\n\\[\\]:\u{0}é]{0,24}") {
        if let Ok(mailbox) = text.parse::<Mailbox>() {
            prop_assert!(mailbox.to_string().bytes().all(|octet| (32..127).contains(&octet)));
        }
    }
}
