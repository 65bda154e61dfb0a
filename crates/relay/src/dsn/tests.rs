//! Bounces, taken apart again: what a program reads, what a person reads, and what
//! hostile replies and headers can do.

use std::sync::Arc;

use queue::{
    DeferralKind, History, LastDeferral, Origin, QueuedMessage, QueuedRecipient, RecipientState,
};
use smtp::{MailParameters, RcptParameters, ReversePath};

use super::*;

const NOW: UnixMs = UnixMs(1_795_000_000_000);
const HEADER: &[u8] =
    b"From: a@example.com\r\nMessage-ID:\r\n <m1@example.com>\r\nSubject: hello\r\n";

fn recipient(mailbox: &str, state: RecipientState) -> QueuedRecipient {
    let fresh = QueuedRecipient::new(mailbox.parse().unwrap(), RcptParameters::default(), NOW);
    QueuedRecipient { state, ..fresh }
}

fn failed(reply: Reply, host: Option<&str>) -> RecipientState {
    let host = host.map(str::to_owned);
    RecipientState::Failed {
        at: NOW,
        reply,
        host,
        attempts: 1,
        notified: false,
    }
}

fn notification(kind: NotificationKind, recipients: Vec<QueuedRecipient>) -> Notification {
    let positions = (0..u32::try_from(recipients.len()).unwrap()).collect();
    let message = QueuedMessage {
        id: QueueId::new(77),
        received_at: UnixMs(NOW.0 - 432_000_000),
        expires_at: NOW,
        size_bytes: 1000,
        origin: Origin {
            helo: Some("client.example".to_owned()),
            ..Origin::default()
        },
        reverse_path: ReversePath::Mailbox("sender@example.com".parse().unwrap()),
        parameters: MailParameters::default(),
        recipients,
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    };
    Notification {
        message: Arc::new(message),
        recipients: positions,
        kind,
    }
}

fn refused(text: &str) -> Notification {
    let state = failed(Reply::new(550, (5, 1, 1), text), Some("mx.example.net"));
    notification(
        NotificationKind::Failure,
        vec![recipient("user@example.net", state)],
    )
}

fn context() -> DsnContext {
    let hostname = "relay.example.org".parse().unwrap();
    DsnContext {
        hostname,
        now: NOW,
        id: QueueId::new(4711),
    }
}

/// A header section as (name, value) in order, unfolded, and what follows it.
fn entity(text: &str) -> (Fields, String) {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .expect("an empty line ends the header section");
    let unfolded = head.replace("\r\n ", " ");
    let pair = |line: &str| {
        let (name, value) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_owned(), value.to_owned())
    };
    (unfolded.split("\r\n").map(pair).collect(), body.to_owned())
}

fn value<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    let mut all = fields.iter().filter(|(field, _)| field == name);
    let found = all
        .next()
        .unwrap_or_else(|| panic!("no {name} in {fields:?}"));
    assert!(all.next().is_none(), "{name} twice in {fields:?}");
    &found.1
}

/// Names and values of header fields.
type Fields = Vec<(String, String)>;

struct Bounce {
    head: Fields,
    /// Header and decoded content of each part.
    parts: Vec<(Fields, Vec<u8>)>,
}

/// Takes a bounce apart after looking at what holds for every one.
fn take_apart(octets: &[u8]) -> Bounce {
    assert!(octets.is_ascii());
    let text = std::str::from_utf8(octets).unwrap();
    assert!(text.ends_with("\r\n"));
    for line in text.strip_suffix("\r\n").unwrap().split("\r\n") {
        assert!(line.len() <= 998, "{} octets", line.len());
        assert!(
            line.bytes()
                .all(|octet| octet == b'\t' || (b' '..=b'~').contains(&octet)),
            "{line:?}"
        );
    }
    let (head, body) = entity(text);
    let kind = value(&head, "Content-Type");
    let boundary = kind
        .split_once("boundary=\"")
        .unwrap()
        .1
        .trim_end_matches('"');
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces = body.split(&delimiter);
    pieces.next().unwrap();
    let mut pieces: Vec<&str> = pieces.collect();
    assert_eq!(pieces.pop(), Some("--\r\n"));
    let part = |piece: &&str| {
        let (fields, content) = entity(piece.strip_prefix("\r\n").unwrap());
        let content = match value(&fields, "Content-Transfer-Encoding") {
            "quoted-printable" => unquote(&content),
            other => {
                assert_eq!(other, "7bit");
                content.into_bytes()
            }
        };
        (fields, content)
    };
    let parts: Vec<_> = pieces.iter().map(part).collect();
    assert_eq!(parts.len(), 3);
    Bounce { head, parts }
}

fn unquote(text: &str) -> Vec<u8> {
    assert!(text.split("\r\n").all(|line| line.len() <= 76));
    let joined = text.replace("=\r\n", "");
    let mut octets = joined.bytes();
    let mut out = Vec::new();
    while let Some(octet) = octets.next() {
        if octet == b'=' {
            let digits = [octets.next().unwrap(), octets.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            out.push(octet);
        }
    }
    out
}

/// The per-message and per-recipient groups of the delivery status.
fn groups(bounce: &Bounce) -> Vec<Fields> {
    let text = String::from_utf8(bounce.parts[1].1.clone()).unwrap();
    text.split("\r\n\r\n")
        .map(|group| entity(&format!("{}\r\n\r\n", group.trim_end())).0)
        .collect()
}

fn explanation_of(bounce: &Bounce) -> String {
    String::from_utf8(bounce.parts[0].1.clone()).unwrap()
}

#[test]
fn a_refusal_reads_well_for_people_and_programs() {
    let bounce = take_apart(&compose(&refused("No such user here"), HEADER, &context()));
    assert_eq!(value(&bounce.head, "To"), "<sender@example.com>");
    assert_eq!(
        value(&bounce.head, "From"),
        "Mail Delivery System <MAILER-DAEMON@relay.example.org>"
    );
    assert_eq!(value(&bounce.head, "Auto-Submitted"), "auto-replied");
    assert_eq!(value(&bounce.head, "In-Reply-To"), "<m1@example.com>");
    assert_eq!(value(&bounce.head, "MIME-Version"), "1.0");
    assert_eq!(value(&bounce.head, "Date"), date(NOW));
    let message_id = value(&bounce.head, "Message-ID");
    assert_eq!(
        message_id,
        format!("<{}@relay.example.org>", QueueId::new(4711))
    );
    let kinds: Vec<&str> = bounce
        .parts
        .iter()
        .map(|(f, _)| value(f, "Content-Type"))
        .collect();
    let expected = [
        "text/plain; charset=us-ascii",
        "message/delivery-status",
        "text/rfc822-headers",
    ];
    assert_eq!(kinds, expected);
    let text = explanation_of(&bounce);
    assert!(text.contains("<user@example.net>\r\n"), "{text}");
    assert!(
        text.contains("The host mx.example.net refused it:\r\n"),
        "{text}"
    );
    assert!(
        text.contains("    550 5.1.1 No such user here\r\n"),
        "{text}"
    );
    let groups = groups(&bounce);
    assert_eq!(value(&groups[0], "Reporting-MTA"), "dns; relay.example.org");
    assert_eq!(
        value(&groups[0], "Received-From-MTA"),
        "dns; client.example"
    );
    assert_eq!(
        value(&groups[0], "Arrival-Date"),
        date(UnixMs(NOW.0 - 432_000_000))
    );
    assert_eq!(
        value(&groups[1], "Final-Recipient"),
        "rfc822; user@example.net"
    );
    assert_eq!(value(&groups[1], "Action"), "failed");
    assert_eq!(value(&groups[1], "Status"), "5.1.1");
    assert_eq!(value(&groups[1], "Remote-MTA"), "dns; mx.example.net");
    assert_eq!(
        value(&groups[1], "Diagnostic-Code"),
        "smtp; 550 5.1.1 No such user here"
    );
    assert_eq!(bounce.parts[2].1, HEADER);
}

#[test]
fn expiry_says_how_long_and_why() {
    let last = LastDeferral {
        at: NOW,
        reply: Reply::new(451, (4, 4, 1), "no answer"),
        kind: DeferralKind::Remote,
        host: Some("mx.example.net".to_owned()),
    };
    let state = |last| RecipientState::Expired {
        at: NOW,
        last,
        attempts: 12,
        notified: false,
    };
    let recipients = vec![
        recipient("a@example.net", state(Some(last))),
        recipient("b@example.net", state(None)),
    ];
    let notification = notification(NotificationKind::Expired, recipients);
    let bounce = take_apart(&compose(&notification, HEADER, &context()));
    let text = explanation_of(&bounce);
    assert!(text.contains("It was tried 12 times in 5 days."), "{text}");
    assert!(text.contains("    451 4.4.1 no answer"), "{text}");
    let groups = groups(&bounce);
    assert_eq!(groups.len(), 3);
    assert_eq!(value(&groups[1], "Status"), "4.4.1");
    assert_eq!(value(&groups[2], "Status"), "4.4.7");
    assert_eq!(value(&groups[2], "Action"), "failed");
    assert!(groups[2].iter().all(|(name, _)| name != "Diagnostic-Code"));
}

#[test]
fn only_the_named_recipients_are_reported() {
    let gone = || failed(Reply::new(550, (5, 1, 1), "gone"), None);
    let recipients = ["a", "b", "c"].map(|name| recipient(&format!("{name}@example.net"), gone()));
    let mut notification = notification(NotificationKind::Failure, recipients.to_vec());
    notification.recipients = vec![2, 0, 99];
    let bounce = take_apart(&compose(&notification, HEADER, &context()));
    let groups = groups(&bounce);
    let reported: Vec<&str> = groups[1..]
        .iter()
        .map(|g| value(g, "Final-Recipient"))
        .collect();
    assert_eq!(reported, ["rfc822; c@example.net", "rfc822; a@example.net"]);
    assert_eq!(
        value(&groups[1], "Diagnostic-Code"),
        "x-waypost; 550 5.1.1 gone"
    );
    assert!(groups[1].iter().all(|(name, _)| name != "Remote-MTA"));
    assert!(!explanation_of(&bounce).contains("b@example.net"));
}

#[test]
fn a_status_of_another_class_is_not_passed_on() {
    let of = |reply: Reply| Verdict::of(&failed(reply, Some("h"))).status.to_string();
    assert_eq!(of(Reply::new(550, (4, 2, 2), "full")), "5.0.0");
    assert_eq!(of(Reply::bare(554, "no")), "5.0.0");
    assert_eq!(of(Reply::new(554, (5, 7, 1), "no")), "5.7.1");
}

#[test]
fn a_hostile_reply_adds_no_field_and_no_part() {
    let id = context().id;
    let text = format!(
        "x\r\nBcc: victim@example.com\n\r\n--=_waypost_{id}_0\r\nContent-Type: text/html\r\n\r\n\u{0}\u{1b}[31m"
    );
    let bounce = take_apart(&compose(&refused(&text), HEADER, &context()));
    let groups = groups(&bounce);
    let names: Vec<&str> = groups[1].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Final-Recipient",
            "Action",
            "Status",
            "Remote-MTA",
            "Diagnostic-Code",
            "Last-Attempt-Date"
        ]
    );
    assert!(bounce.head.iter().all(|(name, _)| name != "Bcc"));
    let kind = value(&bounce.head, "Content-Type");
    assert!(kind.contains(&format!("_waypost_{id}_1")), "{kind}");
}

#[test]
fn text_outside_ascii_stays_readable() {
    let bounce = take_apart(&compose(
        &refused("Postfach gel\u{f6}scht"),
        HEADER,
        &context(),
    ));
    assert_eq!(
        value(&bounce.parts[0].0, "Content-Type"),
        "text/plain; charset=utf-8"
    );
    assert!(explanation_of(&bounce).contains("Postfach gel\u{f6}scht"));
    let diagnostic = groups(&bounce)[1]
        .iter()
        .find(|(n, _)| n == "Diagnostic-Code")
        .cloned();
    assert_eq!(diagnostic.unwrap().1, "smtp; 550 5.1.1 Postfach gel?scht");
}

#[test]
fn endless_words_are_broken() {
    let long = "\u{e4}".repeat(5_000) + &"x".repeat(5_000);
    let bounce = take_apart(&compose(&refused(&long), HEADER, &context()));
    let diagnostic = value(&groups(&bounce)[1], "Diagnostic-Code").len();
    assert!((2_000..2_100).contains(&diagnostic), "{diagnostic}");
}

#[test]
fn any_header_section_comes_back_as_it_was() {
    let long = format!("Subject: {}\r\n", "y".repeat(3_000));
    let sections: [&[u8]; 4] = [
        b"Subject: gr\xfc\xdfe\r\nX-Nul: a\0b \r\n",
        b"Subject: a\rb\r\n\tfolded = \r\n",
        long.as_bytes(),
        b"",
    ];
    for section in sections {
        let bounce = take_apart(&compose(&refused("no"), section, &context()));
        assert_eq!(bounce.parts[2].1, section);
    }
    // Bare line feeds become line ends; the body stays away.
    let bounce = take_apart(&compose(
        &refused("no"),
        b"A: 1\nB: 2\n\nsecret\n",
        &context(),
    ));
    assert_eq!(bounce.parts[2].1, b"A: 1\r\nB: 2\r\n");
}

#[test]
fn a_huge_header_section_is_cut_at_a_line() {
    let line = format!("X-Filler: {}\r\n", "z".repeat(88));
    let section = line.repeat(1_000);
    let bounce = take_apart(&compose(&refused("no"), section.as_bytes(), &context()));
    let kept = &bounce.parts[2].1;
    assert_eq!(kept.len(), HEADER_LIMIT_BYTES / line.len() * line.len());
    assert!(section.as_bytes().starts_with(kept));
}

#[test]
fn a_strange_message_id_is_not_repeated() {
    for id in [
        "none",
        "<a b@c>",
        "<a@b> <c@d>",
        "<>",
        "<a\u{e4}@b>",
        "<a>b@c>",
    ] {
        let header = format!("Message-ID: {id}\r\n");
        let bounce = take_apart(&compose(&refused("no"), header.as_bytes(), &context()));
        assert!(
            bounce.head.iter().all(|(name, _)| name != "In-Reply-To"),
            "{id}"
        );
    }
}

#[test]
fn times_are_said_as_people_say_them() {
    let minute = 60_000;
    let said = [0, 1, 119, 120, 47 * 60, 48 * 60, 7_200].map(|minutes| age(minutes * minute));
    assert_eq!(
        said,
        [
            "0 minutes",
            "1 minute",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
            "5 days"
        ]
    );
}
