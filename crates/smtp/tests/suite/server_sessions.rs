//! Dialogues of the server from beginning to end.

use proptest::prelude::*;
use smtp::{
    Answer, BodyType, CloseReason, ForwardPath, Question, Reply, ReversePath, ServerAction,
    ServerConfig, ServerPhase, ServerSession, ServerTls,
};

use crate::support::{Event, ServerDriver, server_config};

#[test]
fn a_message_from_greeting_to_quit() {
    let mut driver = ServerDriver::new(server_config());
    assert_eq!(driver.take_sent(), "220 mx.example ESMTP Waypost\r\n");
    assert_eq!(
        driver.say("EHLO c.example"),
        "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 52428800\r\n\
         250 ENHANCEDSTATUSCODES\r\n"
    );
    driver.say("MAIL FROM:<@relay.example:a@A.example> SIZE=20 BODY=8BITMIME");
    driver.say("RCPT TO:<\"b\"@b.example>");
    driver.say("RCPT TO:<postmaster>");
    driver.say("DATA");
    assert_eq!(driver.session.phase(), ServerPhase::Content);
    driver.feed(b"Subject: x\r\n\r\n..\r\n.\r\n");
    assert_eq!(driver.take_sent(), "250 2.0.0 queued\r\n");
    assert_eq!(driver.say("QUIT"), "221 2.0.0 Bye\r\n");
    assert_eq!(driver.close_reason(), Some(CloseReason::Quit));
    assert_eq!(driver.session.phase(), ServerPhase::Closed);

    let (envelope, content) = driver.messages()[0];
    assert_eq!(content, b"Subject: x\r\n\r\n.\r\n");
    assert_eq!(envelope.reverse_path.to_string(), "a@a.example");
    assert_eq!(envelope.parameters.size, Some(20));
    assert_eq!(envelope.parameters.body, BodyType::EightBitMime);
    let paths: Vec<String> = envelope
        .recipients
        .iter()
        .map(|to| to.path.to_string())
        .collect();
    assert_eq!(paths, ["b@b.example", "Postmaster"]);
    assert_eq!(envelope.recipients[1].path, ForwardPath::Postmaster);
}

#[test]
fn replies_to_a_pipelined_group_leave_together() {
    // RFC 2920 section 3.2.
    let mut driver = ServerDriver::new(server_config());
    driver.say("EHLO c.example");
    driver.feed(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<>\r\nDATA\r\n");
    assert_eq!(driver.send_count, 1);
    let sent = driver.take_sent();
    let codes: Vec<&str> = sent.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "501", "354"]);
}

#[test]
fn a_second_introduction_ends_the_transaction_unless_refused() {
    let policy = |question: &Question| match question {
        Question::Ehlo { name, .. } if name.as_str() == "bad.example" => {
            Answer::Reply(Reply::new(550, (5, 7, 1), "not you"))
        }
        _ => Answer::Accept,
    };
    let mut driver = ServerDriver::with_policy(server_config(), policy);
    assert!(driver.say("EHLO c.example").contains("250-"));
    driver.say("MAIL FROM:<>");
    // No enhanced code in answers to EHLO (RFC 2034 section 4).
    assert_eq!(driver.say("EHLO bad.example"), "550 not you\r\n");
    assert!(driver.say("RCPT TO:<b@b.example>").starts_with("250 "));
    driver.say("EHLO c.example");
    assert!(driver.say("RCPT TO:<b@b.example>").starts_with("503 "));
}

#[test]
fn answers_of_the_policy_are_what_the_client_hears() {
    let policy = |question: &Question| match question {
        Question::Rcpt { path, .. } => Answer::Reply(match path.to_string().as_str() {
            "moved@b.example" => Reply::new(251, (2, 1, 5), "will forward"),
            "later@b.example" => Reply::new(450, (4, 2, 0), "later"),
            "never@b.example" => Reply::new(550, (5, 1, 1), "never"),
            "bye@b.example" => Reply::new(421, (4, 7, 0), "bye"),
            _ => Reply::bare(354, "nonsense"),
        }),
        _ => Answer::Accept,
    };
    let mut driver = ServerDriver::with_policy(server_config(), policy);
    driver.say("EHLO c.example");
    driver.say("MAIL FROM:<>");
    assert_eq!(
        driver.say("RCPT TO:<moved@b.example>"),
        "251 2.1.5 will forward\r\n"
    );
    assert_eq!(
        driver.say("RCPT TO:<later@b.example>"),
        "450 4.2.0 later\r\n"
    );
    assert_eq!(
        driver.say("RCPT TO:<never@b.example>"),
        "550 5.1.1 never\r\n"
    );
    assert!(
        driver
            .say("RCPT TO:<odd@b.example>")
            .starts_with("451 4.3.0 ")
    );
    assert_eq!(
        driver
            .session
            .envelope()
            .map(|envelope| envelope.recipients.len()),
        Some(1)
    );
    assert_eq!(driver.say("RCPT TO:<bye@b.example>"), "421 4.7.0 bye\r\n");
    assert_eq!(driver.close_reason(), Some(CloseReason::Refused));
}

#[test]
fn refused_at_connect() {
    // RFC 5321 section 3.1: 554, then everything but QUIT is out of sequence.
    let mut driver = ServerDriver::with_policy(server_config(), |_| {
        Answer::Reply(Reply::new(554, (5, 7, 1), "no service"))
    });
    assert_eq!(driver.take_sent(), "554 no service\r\n");
    assert!(driver.say("EHLO c.example").starts_with("503 5.5.1 "));
    assert!(driver.say("QUIT").starts_with("221 "));
    assert_eq!(driver.close_reason(), Some(CloseReason::Quit));

    let mut driver = ServerDriver::with_policy(server_config(), |_| {
        Answer::Reply(Reply::new(421, (4, 3, 2), "too busy"))
    });
    assert_eq!(driver.take_sent(), "421 too busy\r\n");
    assert_eq!(driver.close_reason(), Some(CloseReason::Refused));
}

fn tls_driver(tls: ServerTls) -> ServerDriver {
    let mut driver = ServerDriver::new(ServerConfig {
        tls,
        ..server_config()
    });
    driver.take_sent();
    driver
}

#[test]
fn nothing_said_before_tls_is_seen_after_it() {
    let mut driver = tls_driver(ServerTls::Offered);
    driver.grants_tls = false;
    assert!(driver.say("EHLO c.example").contains("250-STARTTLS\r\n"));
    driver.feed(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@a.example>\r\n");
    assert_eq!(driver.take_sent(), "220 2.0.0 Ready to start TLS\r\n");
    assert_eq!(driver.events.last(), Some(&Event::UpgradedTls));
    assert!(!driver.session.wants_input());
    driver.feed(b"RSET\r\n");
    driver.session.tls_started();
    driver.run();
    assert_eq!(driver.take_sent(), "", "what came in clear was dropped");
    assert!(driver.session.is_tls());
    // RFC 3207 section 4.2: introduced anew, and STARTTLS no longer offered.
    assert!(driver.say("MAIL FROM:<>").starts_with("503 "));
    let hello = driver.say("EHLO c.example");
    assert!(
        hello.starts_with("250-") && !hello.contains("STARTTLS"),
        "{hello}"
    );
    assert!(driver.say("STARTTLS").starts_with("503 5.5.1 "));
    assert!(driver.say("MAIL FROM:<>").starts_with("250 "));
}

#[test]
fn required_tls_is_required() {
    let mut driver = tls_driver(ServerTls::Required);
    driver.say("EHLO c.example");
    for line in ["MAIL FROM:<>", "VRFY x", "RSET"] {
        assert!(driver.say(line).starts_with("530 5.7.0 "), "{line}");
    }
    assert!(driver.say("NOOP").starts_with("250 "));
    assert!(driver.say("STARTTLS now").starts_with("501 5.5.4 "));
    driver.say("STARTTLS");
    driver.say("EHLO c.example");
    assert!(driver.say("MAIL FROM:<>").starts_with("250 "));

    let config = ServerConfig {
        tls: ServerTls::Required,
        ..server_config()
    };
    assert!(ServerSession::over_tls(config.into()).is_tls());
}

#[test]
fn shutdown_waits_for_the_transaction() {
    let mut driver = ServerDriver::new(server_config());
    driver.say("EHLO c.example");
    driver.say("MAIL FROM:<>");
    driver.session.shutdown();
    driver.run();
    assert!(driver.say("RCPT TO:<b@b.example>").starts_with("250 "));
    driver.say("DATA");
    driver.feed(b".\r\nNOOP\r\n");
    assert_eq!(
        driver.take_sent(),
        "250 2.0.0 queued\r\n421 4.3.2 The service is shutting down\r\n"
    );
    assert_eq!(driver.close_reason(), Some(CloseReason::Shutdown));

    let mut driver = ServerDriver::new(server_config());
    driver.take_sent();
    driver.session.shutdown();
    driver.run();
    assert!(driver.take_sent().starts_with("421 4.3.2 "));
}

#[test]
fn a_silent_peer_is_told_and_closed() {
    let mut driver = ServerDriver::new(server_config());
    driver.take_sent();
    driver.session.time_out();
    driver.run();
    assert!(driver.take_sent().starts_with("421 4.4.2 "));
    assert_eq!(driver.close_reason(), Some(CloseReason::TimedOut));

    // In the handshake there is nobody to tell.
    let mut driver = tls_driver(ServerTls::Offered);
    driver.grants_tls = false;
    driver.say("EHLO c.example");
    driver.say("STARTTLS");
    driver.session.time_out();
    driver.run();
    assert_eq!(driver.take_sent(), "");
    assert_eq!(driver.close_reason(), Some(CloseReason::TimedOut));
}

fn until_content(input: &'static [u8]) -> ServerSession {
    let mut session = ServerSession::new(server_config().into());
    session.receive(input.into());
    loop {
        match session.poll().expect("content comes") {
            ServerAction::Ask(_) => session.answer(Answer::Accept),
            ServerAction::Content(_) => return session,
            _ => {}
        }
    }
}

#[test]
fn content_aborted_by_the_driver_is_read_on_and_refused() {
    let mut session = until_content(
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@b>\r\nDATA\r\nx\r\n..y\r\n.\r\nNOOP\r\n",
    );
    session.abort_content(Reply::new(452, (4, 3, 1), "full"));
    assert_eq!(session.poll(), Some(ServerAction::DiscardContent));
    assert_eq!(session.refusal().map(|reply| reply.code), Some(452));
    let Some(ServerAction::Send(sent)) = session.poll() else {
        panic!("the replies");
    };
    assert!(
        sent.ends_with(b"452 4.3.1 full\r\n250 2.0.0 Ok\r\n"),
        "{sent:?}"
    );
    assert_eq!(session.poll(), None);
}

#[test]
fn a_refused_commit_is_told_and_421_closes() {
    for (reply, closes) in [
        (Reply::new(451, (4, 3, 0), "disk"), false),
        (Reply::new(421, (4, 3, 0), "disk"), true),
    ] {
        let mut session =
            until_content(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@b>\r\nDATA\r\nx\r\n.\r\n");
        assert_eq!(session.poll(), Some(ServerAction::Commit));
        let envelope = session.take_envelope().expect("an envelope");
        assert_eq!(envelope.reverse_path, ReversePath::Null);
        assert_eq!(session.take_envelope(), None, "once");
        session.committed(reply);
        assert!(matches!(session.poll(), Some(ServerAction::Send(_))));
        let last = session.poll();
        assert_eq!(
            last == Some(ServerAction::Close(CloseReason::Refused)),
            closes
        );
    }
}

/// Lines that mix everything, some of them broken.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("EHLO c.example\r\n".to_owned()),
        Just("MAIL FROM:<a@a.example> SIZE=9\r\n".to_owned()),
        Just("RCPT TO:<b@b.example>\r\n".to_owned()),
        Just("RCPT TO:<refused@b.example>\r\n".to_owned()),
        Just("DATA\r\n".to_owned()),
        Just(".\r\n".to_owned()),
        Just("..\r\n".to_owned()),
        Just("RSET\r\n".to_owned()),
        Just("STARTTLS\r\n".to_owned()),
        Just("QUIT\r\n".to_owned()),
        "[a.\r\n]{0,12}",
        "NOOP x{480,600}\r\n",
    ];
    proptest::collection::vec(line, 0..30).prop_map(|lines| {
        let start = "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n";
        format!("{start}{}", lines.concat()).into_bytes()
    })
}

fn seen(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Event>) {
    let config = ServerConfig {
        max_message_bytes: Some(60),
        max_discarded_bytes: 40,
        ..server_config()
    };
    let mut driver = ServerDriver::with_policy(config, |question| match question {
        Question::Rcpt { path, .. } if path.to_string().starts_with("refused") => {
            Answer::Reply(Reply::new(550, (5, 1, 1), "unknown"))
        }
        _ => Answer::Accept,
    });
    for chunk in chunks {
        driver.feed(chunk);
    }
    (driver.sent, driver.events)
}

proptest! {
    /// However the input is cut, the server does the same.
    #[test]
    fn cuts_do_not_matter(
        input in input(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut positions: Vec<usize> = cuts.iter().map(|at| at % (input.len() + 1)).collect();
        positions.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for at in positions.into_iter().chain([input.len()]) {
            chunks.push(&input[start..at]);
            start = at;
        }
        prop_assert_eq!(seen(&chunks), seen(&[&input]));
    }

    /// Octets of any kind neither panic nor are held without bound.
    #[test]
    fn noise_is_borne(chunks in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..300), 0..40,
    )) {
        let mut driver = ServerDriver::new(server_config());
        for chunk in &chunks {
            driver.feed(chunk);
            prop_assert!(driver.close_reason().is_some() || driver.session.wants_input());
        }
    }
}
