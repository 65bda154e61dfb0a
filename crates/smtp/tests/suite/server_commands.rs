//! Command lines and the replies to them, with where the RFCs say so.

use crate::support::{ServerDriver, server_config};

/// What was said before the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
}

use After::{Ehlo, Greeting, Mail, Rcpt};

fn driver(after: After) -> ServerDriver {
    let mut driver = ServerDriver::new(server_config());
    let lines: &[&str] = match after {
        Greeting => &[],
        Ehlo => &["EHLO c.example"],
        Mail => &["EHLO c.example", "MAIL FROM:<a@a.example>"],
        Rcpt => &[
            "EHLO c.example",
            "MAIL FROM:<a@a.example>",
            "RCPT TO:<b@b.example>",
        ],
    };
    for line in lines {
        driver.say(line);
    }
    driver.take_sent();
    driver
}

/// RFC and section, what went before, the line, how the reply starts.
type Case = (&'static str, After, &'static str, &'static str);

fn check(cases: &[Case]) {
    for (section, after, line, expected) in cases {
        let reply = driver(*after).say(line);
        assert!(
            reply.starts_with(expected),
            "RFC {section}: {line:?} got {reply:?}"
        );
        let last = reply.trim_end_matches("\r\n").rsplit("\r\n").next();
        assert!(
            last.is_some_and(|line| line.as_bytes().get(3) == Some(&b' ')),
            "unfinished: {reply:?}"
        );
    }
}

#[rustfmt::skip]
const INTRODUCTIONS: &[Case] = &[
    ("5321 4.1.1.1", Greeting, "EHLO c.example", "250-mx.example\r\n"),
    ("5321 4.1.1.1", Greeting, "ehlo c.example", "250-mx.example\r\n"),
    ("5321 4.1.1.1", Greeting, "HELO c.example", "250 mx.example\r\n"),
    ("5321 4.1.4", Ehlo, "EHLO other.example", "250-mx.example\r\n"),
    ("5321 4.1.4", Mail, "EHLO other.example", "250-mx.example\r\n"),
    ("5321 4.1.3", Greeting, "EHLO [192.0.2.1]", "250-mx.example\r\n"),
    ("5321 4.1.3", Greeting, "EHLO [IPv6:2001:db8::1]", "250-mx.example\r\n"),
    ("5321 4.1.3", Greeting, "EHLO [x-net:42]", "250-mx.example\r\n"),
    ("5321 4.1.1.1", Greeting, "EHLO", "501 5.5.4 "),
    ("5321 4.1.1.1", Greeting, "HELO", "501 5.5.4 "),
    ("5321 4.1.2", Greeting, "EHLO two words", "501 5.5.4 "),
    ("5321 4.1.2", Greeting, "EHLO -a", "501 5.5.4 "),
    ("5321 4.1.3", Greeting, "EHLO [999.0.2.1]", "501 5.5.4 "),
    ("5321 4.1.3", Greeting, "EHLO [192.0.2.1", "501 5.5.4 "),
    ("5321 2.3.5", Greeting, "EHLO under_score.example", "250-"),
    ("5321 2.3.5", Greeting, "EHLO c.example.", "250-"),
    ("5321 4.1.1.1", Greeting, "EHLO c.example  ", "250-"),
];

#[test]
fn introductions() {
    check(INTRODUCTIONS);
}

#[rustfmt::skip]
const SEQUENCE: &[Case] = &[
    ("5321 4.1.4", Greeting, "MAIL FROM:<a@a.example>", "503 5.5.1 "),
    ("5321 4.1.4", Greeting, "RCPT TO:<b@b.example>", "503 5.5.1 "),
    ("5321 4.1.4", Greeting, "DATA", "503 5.5.1 "),
    ("5321 4.1.4", Ehlo, "RCPT TO:<b@b.example>", "503 5.5.1 "),
    ("5321 4.1.4", Ehlo, "DATA", "503 5.5.1 "),
    ("5321 4.1.4", Mail, "MAIL FROM:<a@a.example>", "503 5.5.1 "),
    ("5321 3.3", Mail, "DATA", "554 5.5.1 "),
    ("5321 4.1.1.4", Rcpt, "DATA", "354 "),
    ("5321 4.1.1.5", Greeting, "RSET", "250 2.0.0 "),
    ("5321 4.1.1.5", Rcpt, "RSET", "250 2.0.0 "),
    ("5321 4.1.1.9", Greeting, "NOOP", "250 2.0.0 "),
    ("5321 4.1.1.9", Rcpt, "NOOP with a string", "250 2.0.0 "),
    ("5321 4.1.1.10", Greeting, "QUIT", "221 2.0.0 "),
    ("5321 4.1.1.10", Rcpt, "quit", "221 2.0.0 "),
    ("5321 4.1.1.8", Greeting, "HELP", "214-2.0.0 "),
    ("5321 4.1.1.8", Ehlo, "HELP MAIL", "214-2.0.0 "),
    ("5321 3.5.3", Greeting, "VRFY joe", "252 2.0.0 "),
    ("5321 4.1.1.6", Ehlo, "VRFY", "501 5.5.4 "),
    ("5321 3.5.2", Ehlo, "EXPN list", "502 5.5.1 "),
    ("5321 4.1.1.7", Ehlo, "EXPN", "501 5.5.4 "),
    ("5321 4.1.1.4", Rcpt, "DATA now", "501 5.5.4 "),
    ("5321 4.1.1.5", Ehlo, "RSET all", "501 5.5.4 "),
    ("5321 4.1.1.10", Ehlo, "QUIT please", "501 5.5.4 "),
    ("5321 4.2.4", Ehlo, "BREW coffee", "500 5.5.2 "),
    ("5321 4.2.4", Ehlo, "", "500 5.5.2 "),
    ("5321 4.1.1", Ehlo, " NOOP", "500 5.5.2 "),
    ("5321 4.1.1", Ehlo, "NOOPS", "500 5.5.2 "),
    ("5321 4.1.1", Rcpt, "DATA ", "354 "),
    ("3207 4", Ehlo, "STARTTLS", "502 5.5.1 "),
    ("5321 2.3.8", Ehlo, "NO\rOP", "500 5.5.2 "),
    ("5321 2.3.8", Ehlo, "NO\nOP", "500 5.5.2 "),
    ("5321 4.1.2", Ehlo, "NOOP \0", "500 5.5.2 "),
    ("5321 4.1.2", Ehlo, "NOOP \u{7f}", "500 5.5.2 "),
];

#[test]
fn sequence() {
    check(SEQUENCE);
}

#[rustfmt::skip]
const SENDERS: &[Case] = &[
    ("5321 4.1.1.2", Ehlo, "MAIL FROM:<a@a.example>", "250 2.1.0 "),
    ("5321 2.4", Ehlo, "mail from:<a@a.example>", "250 2.1.0 "),
    ("5321 4.5.5", Ehlo, "MAIL FROM:<>", "250 2.1.0 "),
    ("5321 3.3", Ehlo, "MAIL FROM: <a@a.example>", "250 2.1.0 "),
    ("5321 4.1.1", Ehlo, "MAIL  FROM:<a@a.example>  ", "250 2.1.0 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<\"a b\"@a.example>", "250 2.1.0 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<\"a>b\"@a.example>", "250 2.1.0 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<\"a\\\"b\"@a.example>", "250 2.1.0 "),
    ("5321 4.1.3", Ehlo, "MAIL FROM:<a@[192.0.2.1]>", "250 2.1.0 "),
    ("5321 4.1.3", Ehlo, "MAIL FROM:<a@[IPv6:::1]>", "250 2.1.0 "),
    ("5321 C", Ehlo, "MAIL FROM:<@x.example,@y.example:a@a.example>", "250 2.1.0 "),
    ("5321 C", Ehlo, "MAIL FROM:<@[192.0.2.1],@[IPv6:::1]:a@a.example>", "250 2.1.0 "),
    ("5321 C", Ehlo, "MAIL FROM:<@x.example>", "501 5.1.7 "),
    ("5321 C", Ehlo, "MAIL FROM:<@x.example,:a@a.example>", "501 5.1.7 "),
    ("5321 C", Ehlo, "MAIL FROM:<@:a@a.example>", "501 5.1.7 "),
    ("5321 4.1.1.2", Ehlo, "MAIL", "501 5.5.2 "),
    ("5321 4.1.1.2", Ehlo, "MAIL <a@a.example>", "501 5.5.2 "),
    ("5321 4.1.1.2", Ehlo, "MAIL TO:<a@a.example>", "501 5.5.2 "),
    ("5321 4.1.1.2", Ehlo, "MAIL FROM:", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:a@a.example", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a>", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@>", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a..b@a.example>", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<\"a@a.example>", "501 5.1.7 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example.>", "501 5.1.7 "),
    ("5321 4.5.1", Ehlo, "MAIL FROM:<Postmaster>", "501 5.1.7 "),
    ("6531 3.5", Ehlo, "MAIL FROM:<jö@a.example>", "553 5.6.7 "),
    ("6531 3.5", Ehlo, "MAIL FROM:<a@bücher.example>", "553 5.6.7 "),
];

#[test]
fn senders() {
    check(SENDERS);
}

#[rustfmt::skip]
const SENDER_PARAMETERS: &[Case] = &[
    ("1870 4", Ehlo, "MAIL FROM:<a@a.example> SIZE=1000", "250 2.1.0 "),
    ("1870 4", Ehlo, "MAIL FROM:<a@a.example> size=0", "250 2.1.0 "),
    ("1870 6.1", Ehlo, "MAIL FROM:<a@a.example> SIZE=52428800", "250 2.1.0 "),
    ("1870 6.1", Ehlo, "MAIL FROM:<a@a.example> SIZE=52428801", "552 5.3.4 "),
    ("1870 3", Ehlo, "MAIL FROM:<a@a.example> SIZE", "501 5.5.4 "),
    ("1870 3", Ehlo, "MAIL FROM:<a@a.example> SIZE=", "501 5.5.4 "),
    ("1870 3", Ehlo, "MAIL FROM:<a@a.example> SIZE=x", "501 5.5.4 "),
    ("1870 3", Ehlo, "MAIL FROM:<a@a.example> SIZE=99999999999999999999", "501 5.5.4 "),
    ("1870 3", Ehlo, "MAIL FROM:<a@a.example> SIZE=000000000000000000001", "501 5.5.4 "),
    ("5321 4.1.1.11", Ehlo, "MAIL FROM:<a@a.example> SIZE=1 SIZE=1", "501 5.5.4 "),
    ("6152 2", Ehlo, "MAIL FROM:<a@a.example> BODY=8BITMIME", "250 2.1.0 "),
    ("6152 2", Ehlo, "MAIL FROM:<a@a.example> body=7bit SIZE=9", "250 2.1.0 "),
    ("6152 2", Ehlo, "MAIL FROM:<> BODY=8bitmime", "250 2.1.0 "),
    ("6152 2", Ehlo, "MAIL FROM:<a@a.example> BODY=", "501 5.5.4 "),
    ("6152 2", Ehlo, "MAIL FROM:<a@a.example> BODY", "501 5.5.4 "),
    ("3030 3", Ehlo, "MAIL FROM:<a@a.example> BODY=BINARYMIME", "555 5.5.4 "),
    ("5321 4.1.1.11", Ehlo, "MAIL FROM:<a@a.example> COLOUR=red", "555 5.5.4 "),
    ("5321 4.1.1.11", Ehlo, "MAIL FROM:<a@a.example> SMTPUTF8", "555 5.5.4 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example> =1", "501 5.5.4 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example> SI_ZE=1", "501 5.5.4 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example> SIZE=1=2", "501 5.5.4 "),
    ("5321 4.1.2", Ehlo, "MAIL FROM:<a@a.example>SIZE=1", "501 5.5.4 "),
];

#[test]
fn sender_parameters() {
    check(SENDER_PARAMETERS);
}

#[rustfmt::skip]
const RECIPIENTS: &[Case] = &[
    ("5321 4.1.1.3", Mail, "RCPT TO:<b@b.example>", "250 2.1.5 "),
    ("5321 4.1.1.3", Mail, "rcpt to:<b@b.example>", "250 2.1.5 "),
    ("5321 4.1.1.3", Rcpt, "RCPT TO: <c@b.example>", "250 2.1.5 "),
    ("5321 4.5.1", Mail, "RCPT TO:<Postmaster>", "250 2.1.5 "),
    ("5321 4.5.1", Mail, "RCPT TO:<pOSTMASTER>", "250 2.1.5 "),
    ("5321 4.5.1", Mail, "RCPT TO:<postmaster@b.example>", "250 2.1.5 "),
    ("5321 4.1.2", Mail, "RCPT TO:<\"b\\ c\"@b.example>", "250 2.1.5 "),
    ("5321 4.1.3", Mail, "RCPT TO:<b@[192.0.2.1]>", "250 2.1.5 "),
    ("5321 C", Mail, "RCPT TO:<@x.example:b@b.example>", "250 2.1.5 "),
    ("5321 4.1.1.3", Mail, "RCPT", "501 5.5.2 "),
    ("5321 4.1.1.3", Mail, "RCPT FROM:<b@b.example>", "501 5.5.2 "),
    ("5321 4.1.1.3", Mail, "RCPT TO:", "501 5.1.3 "),
    ("5321 4.1.1.3", Mail, "RCPT TO:<>", "501 5.1.3 "),
    ("5321 4.1.2", Mail, "RCPT TO:b@b.example", "501 5.1.3 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b>", "501 5.1.3 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b@b..example>", "501 5.1.3 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b@-b.example>", "501 5.1.3 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b c@b.example>", "501 5.1.3 "),
    ("5321 4.1.3", Mail, "RCPT TO:<b@[192.0.2.300]>", "501 5.1.3 "),
    ("3461 4.1", Mail, "RCPT TO:<b@b.example> NOTIFY=NEVER", "555 5.5.4 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b@b.example> NOTIFY=", "501 5.5.4 "),
    ("5321 4.1.2", Mail, "RCPT TO:<b@b.example>x", "501 5.5.4 "),
    ("6531 3.5", Mail, "RCPT TO:<bé@b.example>", "553 5.6.7 "),
];

#[test]
fn recipients() {
    check(RECIPIENTS);
}

#[test]
fn lengths() {
    let local = |length: usize| format!("{}@b.example", "b".repeat(length));
    let label = "d".repeat(63);
    // 63 * 3 + 3 dots and a rest make the domain as long as wished.
    let domain = |length: usize| format!("{label}.{label}.{label}.{}", "e".repeat(length - 192));
    let cases = [
        (
            "5321 4.5.3.1.1",
            format!("RCPT TO:<{}>", local(64)),
            "250 2.1.5 ",
        ),
        (
            "5321 4.5.3.1.1",
            format!("RCPT TO:<{}>", local(65)),
            "501 5.1.3 ",
        ),
        // The path limit of 256 leaves 252 for a domain behind `<b@` and `>`.
        (
            "5321 4.5.3.1.3",
            format!("RCPT TO:<b@{}>", domain(252)),
            "250 2.1.5 ",
        ),
        (
            "5321 4.5.3.1.3",
            format!("RCPT TO:<b@{}>", domain(253)),
            "501 5.1.3 ",
        ),
        (
            "1035 2.3.4",
            format!("RCPT TO:<b@{}>", "d".repeat(64)),
            "501 5.1.3 ",
        ),
        (
            "5321 4.5.3.1.4",
            format!("NOOP {}", "x".repeat(505)),
            "250 2.0.0 ",
        ),
        (
            "5321 4.5.3.1.4",
            format!("NOOP {}", "x".repeat(506)),
            "500 5.5.2 ",
        ),
        (
            "5321 4.5.3.1.4",
            format!("NOOP {}", "x".repeat(5000)),
            "500 5.5.2 ",
        ),
        ("5321 4.5.3.1.2", format!("EHLO {}", domain(255)), "250-"),
        (
            "5321 4.5.3.1.2",
            format!("EHLO {}e", domain(255)),
            "501 5.5.4 ",
        ),
    ];
    for (section, line, expected) in &cases {
        let reply = driver(Mail).say(line);
        assert!(
            reply.starts_with(expected),
            "RFC {section}: {line:?} got {reply:?}"
        );
    }
    // MAIL lines may be longer by what the extensions add (RFC 1870, RFC 6152).
    let spaces = |length: usize| format!("MAIL FROM:<a@a.example>{}SIZE=1", " ".repeat(length));
    let length = 555 - 2 - spaces(0).len();
    assert!(driver(Ehlo).say(&spaces(length)).starts_with("250 2.1.0 "));
    assert!(
        driver(Ehlo)
            .say(&spaces(length + 1))
            .starts_with("500 5.5.2 ")
    );
}

#[test]
fn every_reply_but_the_excepted_has_an_enhanced_code() {
    // RFC 2034 section 4, over all the lines of a long dialogue.
    let mut driver = driver(Ehlo);
    let lines = [
        "NOOP",
        "RSET",
        "VRFY x",
        "EXPN x",
        "HELP",
        "FOO",
        "MAIL",
        "RCPT TO:<b@b.example>",
        "DATA",
        "MAIL FROM:<a@a.example> X=1",
        "MAIL FROM:<a@a.example>",
        "DATA",
        "RCPT TO:<b@b.example>",
        "STARTTLS",
        "RSET",
        "QUIT",
    ];
    for line in lines {
        for reply_line in driver.say(line).split_terminator("\r\n") {
            let class = &reply_line[..1];
            let enhanced = reply_line[4..].split(' ').next().unwrap_or_default();
            assert!(
                enhanced.starts_with(&format!("{class}.")) && enhanced.split('.').count() == 3,
                "{line}: {reply_line}"
            );
        }
    }
}
