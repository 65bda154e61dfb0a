//! Hosts that fail the client: refusals, TLS, nonsense, and the lost connection.

use smtp::{
    Cause, ClientAction, ClientConfig, ClientTls, HostFailure, ProtocolError, RecipientOutcome,
    Stage, TransactionOutcome,
};

use crate::support::{ClientDriver, domain, send, transaction};

fn config(tls: ClientTls) -> ClientConfig {
    ClientConfig {
        tls,
        ..ClientConfig::new(domain("client.example"))
    }
}

/// A client with a transaction for two waiting from the start.
fn waiting(tls: ClientTls) -> ClientDriver {
    let mut client = ClientDriver::new(config(tls));
    client.start(transaction(
        "a@a.example",
        &["b@b.example", "c@b.example"],
        7,
    ));
    client
}

/// The outcome, and what was done after it.
fn end(client: &mut ClientDriver) -> (TransactionOutcome, Vec<ClientAction>) {
    let actions = client.take();
    let at = actions
        .iter()
        .position(|action| matches!(action, ClientAction::Outcome(_)))
        .unwrap_or_else(|| panic!("no outcome in {actions:?}"));
    let ClientAction::Outcome(outcome) = actions[at].clone() else {
        unreachable!("found above");
    };
    (outcome, actions[at + 1..].to_vec())
}

fn all_deferred(outcome: &TransactionOutcome) -> bool {
    outcome.recipients.len() == 2
        && outcome
            .recipients
            .iter()
            .all(|recipient| matches!(recipient, RecipientOutcome::Deferred(_)))
}

#[test]
fn hosts_that_refuse_before_mail() {
    let quits = [send("QUIT\r\n"), ClientAction::Close];
    let closes = [ClientAction::Close];
    let cases: &[(&[&str], Stage, &[ClientAction])] = &[
        (&["554 no mail here"], Stage::Greeting, &quits),
        (&["421 busy"], Stage::Greeting, &closes),
        (&["450 later"], Stage::Greeting, &quits),
        (&["220 mx", "421 busy"], Stage::Hello, &closes),
        (&["220 mx", "451 later"], Stage::Hello, &quits),
        (&["220 mx", "500 what", "550 no"], Stage::Hello, &quits),
        (&["220 mx", "250 mx", "421 busy"], Stage::Mail, &closes),
    ];
    for (lines, stage, after) in cases {
        let mut client = waiting(ClientTls::IfOffered);
        for line in *lines {
            client.feed(&format!("{line}\r\n"));
        }
        let (outcome, rest) = end(&mut client);
        assert!(all_deferred(&outcome), "{lines:?}");
        assert!(outcome.try_next_host && !outcome.reusable, "{lines:?}");
        assert_eq!(outcome.stage, *stage, "{lines:?}");
        let Some(HostFailure::Refused(reply)) = &outcome.host_failure else {
            panic!("{lines:?}: {:?}", outcome.host_failure);
        };
        assert_eq!(outcome.recipients[0].reply(), reply);
        assert_eq!(rest, *after, "{lines:?}");
    }
}

#[test]
fn tls_where_it_is_offered() {
    let mut client = waiting(ClientTls::IfOffered);
    client.feed("220 mx\r\n");
    client.feed("250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
    client.feed("220 go\r\n");
    let expected = [
        send("EHLO client.example\r\n"),
        send("STARTTLS\r\n"),
        ClientAction::UpgradeTls,
    ];
    assert_eq!(client.take(), expected);
    client.feed("250 in clear\r\n");
    client.session.tls_started();
    client.run();
    assert_eq!(client.take(), [send("EHLO client.example\r\n")]);
    // What was offered in clear counts no more, and STARTTLS is not said twice.
    client.feed("250-mx\r\n250 STARTTLS\r\n");
    assert_eq!(client.take(), [send("MAIL FROM:<a@a.example>\r\n")]);
    assert!(client.session.is_tls());
}

#[test]
fn tls_refused_or_missing() {
    for tls in [ClientTls::IfOffered, ClientTls::Required] {
        for (offer, answer) in [("250 STARTTLS", "454 4.7.0 not now"), ("250 HELP", "")] {
            let mut client = waiting(tls);
            client.feed("220 mx\r\n");
            client.feed(&format!("250-mx\r\n{offer}\r\n"));
            if !answer.is_empty() {
                client.feed(&format!("{answer}\r\n"));
            }
            if tls == ClientTls::IfOffered {
                let actions = client.take();
                assert_eq!(actions.last(), Some(&send("MAIL FROM:<a@a.example>\r\n")));
                continue;
            }
            let (outcome, rest) = end(&mut client);
            assert!(all_deferred(&outcome) && outcome.try_next_host && !outcome.reusable);
            assert_eq!(outcome.stage, Stage::Tls);
            assert_eq!(
                outcome.recipients[0].reply().enhanced,
                Some((4, 7, 4).into())
            );
            assert!(matches!(
                outcome.host_failure,
                Some(HostFailure::TlsNotOffered | HostFailure::TlsRefused(_))
            ));
            assert_eq!(rest, [send("QUIT\r\n"), ClientAction::Close]);
        }
    }
}

#[test]
fn tls_off_is_off_and_implicit_tls_is_up() {
    for config in [
        config(ClientTls::Off),
        ClientConfig {
            is_tls: true,
            ..config(ClientTls::Required)
        },
    ] {
        let mut client = ClientDriver::new(config);
        client.feed("220 mx\r\n");
        client.feed("250-mx\r\n250 STARTTLS\r\n");
        assert_eq!(client.take().last(), Some(&ClientAction::Ready));
    }
}

#[test]
fn replies_injected_before_tls_end_the_connection() {
    let mut client = waiting(ClientTls::IfOffered);
    client.feed("220 mx\r\n");
    client.feed("250-mx\r\n250 STARTTLS\r\n");
    client.take();
    client.feed("220 go\r\n250 evil\r\n");
    let (outcome, rest) = end(&mut client);
    assert!(all_deferred(&outcome) && outcome.try_next_host);
    assert_eq!(
        outcome.host_failure,
        Some(HostFailure::Protocol(ProtocolError::Unasked))
    );
    assert_eq!(rest, [ClientAction::Close]);
}

#[test]
fn a_failed_handshake() {
    let mut client = waiting(ClientTls::IfOffered);
    client.feed("220 mx\r\n");
    client.feed("250-mx\r\n250 STARTTLS\r\n");
    client.feed("220 go\r\n");
    client
        .session
        .disconnected(Cause::Tls("bad certificate".to_owned()));
    client.run();
    let (outcome, rest) = end(&mut client);
    assert!(all_deferred(&outcome) && outcome.try_next_host);
    assert_eq!(outcome.stage, Stage::Tls);
    assert_eq!(
        outcome.recipients[0].reply().enhanced,
        Some((4, 7, 5).into())
    );
    assert_eq!(rest, [ClientAction::Close]);
}

#[test]
fn nonsense_instead_of_replies() {
    let endless = "2".repeat(3000);
    let long_reply = "220-x\r\n".repeat(101);
    let cases = [
        ("SSH-2.0-OpenSSH\r\n", ProtocolError::NotAReply),
        ("22\r\n", ProtocolError::NotAReply),
        ("220mx\r\n", ProtocolError::NotAReply),
        ("120 wait\r\n", ProtocolError::NotAReply),
        ("620 what\r\n", ProtocolError::NotAReply),
        ("220 mx\n", ProtocolError::LineBreak),
        ("220 m\rx\r\n", ProtocolError::LineBreak),
        ("220-mx\r\n250 mx\r\n", ProtocolError::MixedCodes),
        ("220 mx\r\n250 mx\r\n", ProtocolError::Unasked),
        ("250 mx\r\n", ProtocolError::Unexpected),
        ("354 mx\r\n", ProtocolError::Unexpected),
        (endless.as_str(), ProtocolError::LineTooLong),
        (long_reply.as_str(), ProtocolError::TooManyLines),
    ];
    for (text, error) in cases {
        for chunk_bytes in [1, text.len()] {
            if error == ProtocolError::Unasked && chunk_bytes == 1 {
                // Told from an answer to EHLO only by coming too early.
                continue;
            }
            let mut client = waiting(ClientTls::Off);
            for chunk in text.as_bytes().chunks(chunk_bytes) {
                client.session.receive(chunk);
                client.run();
            }
            let (outcome, rest) = end(&mut client);
            assert!(all_deferred(&outcome) && outcome.try_next_host, "{text:?}");
            assert_eq!(
                outcome.host_failure,
                Some(HostFailure::Protocol(error)),
                "{text:?}"
            );
            assert_eq!(rest, [ClientAction::Close], "{text:?}");
        }
    }
}

#[test]
fn longest_lines_and_replies_that_are_taken() {
    let mut client = ClientDriver::plain();
    client.feed(&"220-x\r\n".repeat(99));
    client.feed(&format!("220 {}\r\n", "x".repeat(2042)));
    assert_eq!(client.take(), [send("EHLO client.example\r\n")]);
}

/// The replies up to a point, where the connection is lost there, whether the
/// next host may be tried at once.
#[test]
fn drops_at_every_point() {
    let cases: &[(&[&str], Stage, bool)] = &[
        (&[], Stage::Greeting, true),
        (&["220 mx"], Stage::Hello, true),
        (&["220 mx", "500 x"], Stage::Hello, true),
        (&["220 mx", "250 PIPELINING"], Stage::Mail, true),
        (&["220 mx", "250 mx", "250 mail"], Stage::Rcpt, true),
        (
            &["220 mx", "250 mx", "250 mail", "250 rcpt"],
            Stage::Rcpt,
            true,
        ),
        (
            &["220 mx", "250 mx", "250 mail", "250 rcpt", "250 rcpt"],
            Stage::Data,
            true,
        ),
        (
            &[
                "220 mx", "250 mx", "250 mail", "250 rcpt", "250 rcpt", "354 go",
            ],
            Stage::Content,
            true,
        ),
        (
            &[
                "220 mx", "250 mx", "250 mail", "250 rcpt", "250 rcpt", "354 go", "sent",
            ],
            Stage::EndOfData,
            false,
        ),
    ];
    for (lines, stage, try_next_host) in cases {
        for cause in [
            Cause::Closed,
            Cause::TimedOut,
            Cause::Network("reset".to_owned()),
        ] {
            let mut client = waiting(ClientTls::Off);
            for line in *lines {
                if *line == "sent" {
                    client.session.content_sent();
                } else {
                    client.feed(&format!("{line}\r\n"));
                }
            }
            client.session.disconnected(cause.clone());
            client.run();
            let (outcome, rest) = end(&mut client);
            assert!(all_deferred(&outcome), "{lines:?}");
            assert_eq!(outcome.stage, *stage, "{lines:?}");
            assert_eq!(outcome.try_next_host, *try_next_host, "{lines:?}");
            assert!(!outcome.reusable);
            assert_eq!(
                outcome.recipients[0].reply().enhanced,
                Some((4, 4, 2).into())
            );
            assert_eq!(outcome.host_failure, Some(HostFailure::Disconnected(cause)));
            assert_eq!(rest, [ClientAction::Close]);
        }
    }
}

#[test]
fn what_was_refused_before_a_drop_stays_refused() {
    let mut client = ClientDriver::ready(&["PIPELINING"]);
    client.start(transaction(
        "<>",
        &["a@b.example", "b@b.example", "c@b.example"],
        7,
    ));
    client.feed("250 ok\r\n550 5.1.1 unknown\r\n250 ok\r\n");
    client.session.disconnected(Cause::Closed);
    client.run();
    let (outcome, _) = end(&mut client);
    let kinds: Vec<u16> = outcome
        .recipients
        .iter()
        .map(|to| to.reply().code)
        .collect();
    assert_eq!(kinds, [550, 451, 451]);
    assert!(matches!(outcome.recipients[0], RecipientOutcome::Failed(_)));
    assert!(outcome.try_next_host);

    // Nobody is left for whom another host could be tried.
    let mut client = ClientDriver::ready(&[]);
    client.start(transaction("<>", &["a@b.example"], 7));
    client.feed("250 ok\r\n");
    client.feed("550 unknown\r\n");
    let (outcome, rest) = end(&mut client);
    assert!(outcome.reusable && !outcome.try_next_host);
    assert_eq!(rest, [send("RSET\r\n")]);
    client.session.disconnected(Cause::Closed);
    client.run();
    assert_eq!(client.take(), [ClientAction::Close], "no second outcome");
}

#[test]
fn four_twenty_one_at_every_point() {
    let replies = ["250 mail", "250 rcpt", "550 rcpt", "354 go", "sent"];
    for count in 0..=replies.len() {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("<>", &["a@b.example", "b@b.example"], 7));
        for reply in &replies[..count] {
            if *reply == "sent" {
                client.session.content_sent();
            } else {
                client.feed(&format!("{reply}\r\n"));
            }
        }
        client.feed("421 4.3.2 going down\r\n");
        let (outcome, rest) = end(&mut client);
        assert!(outcome.try_next_host && !outcome.reusable, "{count}");
        assert_eq!(outcome.recipients[0].reply().code, 421, "{count}");
        let second = if count >= 3 { 550 } else { 421 };
        assert_eq!(outcome.recipients[1].reply().code, second, "{count}");
        assert_eq!(rest, [ClientAction::Close]);
    }
}

#[test]
fn replies_that_a_command_cannot_have() {
    let cases: &[&[&str]] = &[
        &["354 mail"],
        &["250 ok", "354 rcpt"],
        &["250 ok", "250 ok", "250 data"],
        &["250 ok", "250 ok", "350 data"],
        &["250 ok", "250 ok", "354 go", "250 before the end"],
    ];
    for replies in cases {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("<>", &["a@b.example"], 7));
        for reply in *replies {
            client.feed(&format!("{reply}\r\n"));
        }
        let (outcome, rest) = end(&mut client);
        assert!(
            matches!(outcome.recipients[0], RecipientOutcome::Deferred(_)),
            "{replies:?}"
        );
        assert_eq!(
            outcome.host_failure,
            Some(HostFailure::Protocol(ProtocolError::Unexpected)),
            "{replies:?}"
        );
        assert!(outcome.try_next_host && !outcome.reusable);
        assert_eq!(rest, [ClientAction::Close]);
    }
}

#[test]
fn an_unclear_answer_to_the_content_does_not_send_it_elsewhere() {
    for text in ["354 more\r\n", "hello\r\n"] {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("<>", &["a@b.example"], 7));
        client.feed("250 ok\r\n250 ok\r\n354 go\r\n");
        client.session.content_sent();
        client.feed(text);
        let (outcome, _) = end(&mut client);
        assert!(matches!(
            outcome.recipients[0],
            RecipientOutcome::Deferred(_)
        ));
        assert!(!outcome.try_next_host && !outcome.reusable, "{text:?}");
    }
}

#[test]
fn a_refusal_in_the_middle_of_the_content_decides() {
    let mut client = ClientDriver::ready(&["PIPELINING"]);
    client.start(transaction("<>", &["a@b.example"], 7));
    client.feed("250 ok\r\n250 ok\r\n354 go\r\n");
    client.feed("552 5.3.4 too big\r\n");
    let (outcome, rest) = end(&mut client);
    assert!(matches!(outcome.recipients[0], RecipientOutcome::Failed(_)));
    assert!(!outcome.reusable && !outcome.try_next_host);
    assert_eq!(outcome.stage, Stage::Content);
    assert_eq!(rest, [ClientAction::Close], "QUIT would be content");
}

#[test]
fn extra_replies_make_a_connection_useless() {
    let mut client = ClientDriver::ready(&["PIPELINING"]);
    client.start(transaction("<>", &["a@b.example"], 7));
    client.feed("250 ok\r\n250 ok\r\n354 go\r\n");
    client.session.content_sent();
    client.feed("250 taken\r\n250 extra\r\n");
    let (outcome, rest) = end(&mut client);
    assert!(matches!(
        outcome.recipients[0],
        RecipientOutcome::Delivered(_)
    ));
    assert!(!outcome.reusable);
    assert_eq!(rest, [send("QUIT\r\n"), ClientAction::Close]);

    // And an idle one is closed on anything that comes.
    let mut client = ClientDriver::ready(&[]);
    client.feed("421 4.4.2 idle\r\n");
    assert_eq!(client.take(), [ClientAction::Close]);
    // What is started too late is deferred all the same.
    client.start(transaction("<>", &["a@b.example"], 7));
    let (outcome, _) = end(&mut client);
    assert!(outcome.try_next_host && outcome.recipients.len() == 1);
}

#[test]
fn a_refused_reset_ends_the_connection_and_defers_who_waits() {
    for waits in [false, true] {
        let mut client = ClientDriver::ready(&[]);
        client.start(transaction("<>", &["a@b.example"], 7));
        client.feed("250 ok\r\n");
        client.feed("550 unknown\r\n");
        end(&mut client);
        if waits {
            client.start(transaction("<>", &["a@b.example", "b@b.example"], 7));
        }
        client.feed("502 what\r\n");
        let mut actions = client.take();
        if waits {
            let ClientAction::Outcome(outcome) = actions.remove(0) else {
                panic!("no outcome in {actions:?}");
            };
            assert!(all_deferred(&outcome) && outcome.try_next_host);
        }
        assert_eq!(actions, [send("QUIT\r\n"), ClientAction::Close]);
    }
}

#[test]
fn quitting() {
    let mut client = ClientDriver::plain();
    client.session.quit();
    client.run();
    assert_eq!(client.take(), [ClientAction::Close], "before the greeting");

    let mut client = ClientDriver::ready(&[]);
    client.start(transaction("<>", &["a@b.example"], 7));
    client.take();
    client.session.quit();
    client.run();
    assert_eq!(client.take(), [], "not under way");

    let mut client = ClientDriver::ready(&[]);
    client.session.quit();
    client.session.disconnected(Cause::TimedOut);
    client.run();
    assert_eq!(client.take(), [send("QUIT\r\n"), ClientAction::Close]);
}

#[test]
fn a_host_that_fails_without_a_transaction_says_so() {
    let mut client = ClientDriver::plain();
    client
        .session
        .disconnected(Cause::DialFailed("refused".to_owned()));
    client.run();
    let (outcome, _) = end(&mut client);
    assert_eq!(outcome.recipients, []);
    assert!(outcome.try_next_host);
    let reply = outcome.host_failure.expect("a failure").reply();
    assert_eq!((reply.code, reply.enhanced), (451, Some((4, 4, 1).into())));
}
