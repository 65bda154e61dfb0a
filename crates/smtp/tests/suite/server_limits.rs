//! What the server bears and where it stops.

use bytes::Bytes;
use smtp::{Answer, CloseReason, Reply, ServerAction, ServerConfig};

use crate::support::{Event, ServerDriver, server_config};

fn in_content(config: ServerConfig) -> ServerDriver {
    let mut driver = ServerDriver::new(config);
    driver.feed(b"EHLO c.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n");
    assert!(
        driver
            .take_sent()
            .ends_with("354 End data with <CR><LF>.<CR><LF>\r\n")
    );
    driver
}

#[test]
fn content_up_to_the_limit_and_not_beyond() {
    let config = ServerConfig {
        max_message_bytes: Some(10),
        ..server_config()
    };
    let mut driver = in_content(config.clone());
    // Ten octets without the stuffed dot and the terminator (RFC 1870 section 4).
    driver.feed(b"..234567\r\n\r\n.\r\n");
    assert_eq!(
        driver.take_sent(),
        "552 5.3.4 The message is larger than the limit\r\n"
    );
    let mut driver = in_content(config);
    driver.feed(b"..2345678\r\n.\r\n");
    assert_eq!(driver.take_sent(), "250 2.0.0 queued\r\n");
    assert_eq!(driver.messages()[0].1, b".2345678\r\n");
}

#[test]
fn refused_content_is_read_to_its_end_and_the_session_goes_on() {
    let mut driver = in_content(ServerConfig {
        max_message_bytes: Some(100),
        ..server_config()
    });
    for _ in 0..100 {
        driver.feed(b"0123456789\r\n");
        assert_eq!(driver.take_sent(), "");
    }
    driver.feed(b".\r\nMAIL FROM:<>\r\n");
    assert_eq!(
        driver.take_sent(),
        "552 5.3.4 The message is larger than the limit\r\n250 2.1.0 Sender ok\r\n"
    );
    assert!(driver.messages().is_empty());
    assert_eq!(
        driver
            .events
            .iter()
            .filter(|event| **event == Event::Discarded)
            .count(),
        1
    );
}

#[test]
fn endless_refused_content_closes() {
    let mut driver = in_content(ServerConfig {
        max_message_bytes: Some(100),
        max_discarded_bytes: 1000,
        ..server_config()
    });
    for _ in 0..91 {
        driver.feed(b"0123456789\r\n");
    }
    assert_eq!(driver.close_reason(), None);
    driver.feed(b"0123456789\r\n");
    assert_eq!(driver.close_reason(), Some(CloseReason::Flood));
    assert!(driver.take_sent().starts_with("552 5.3.4 "));
}

#[test]
fn bare_line_breaks_are_refused_and_end_nothing() {
    for smuggled in [
        "\n.\n",
        "\n.\r\n",
        "\r.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\n.\r",
        "\r\r\n.\nx",
    ] {
        let mut driver = in_content(server_config());
        driver.feed(format!("x{smuggled}MAIL FROM:<evil@a.example>\r\n").as_bytes());
        assert_eq!(driver.take_sent(), "", "{smuggled:?}");
        driver.feed(b".\r\n");
        assert!(driver.take_sent().starts_with("554 5.6.0 "), "{smuggled:?}");
        assert!(driver.messages().is_empty());
        assert!(driver.say("NOOP").starts_with("250 "), "{smuggled:?}");
    }
}

#[test]
fn nothing_behind_a_bare_line_feed_is_carried_out() {
    let mut driver = ServerDriver::new(server_config());
    driver.say("EHLO c.example");
    driver.feed(b"NOOP\nMAIL FROM:<a@a.example>\r\n");
    let sent = driver.take_sent();
    assert_eq!(sent.matches("500 5.5.2 ").count(), 2, "{sent}");
    assert!(driver.say("RCPT TO:<b@b.example>").starts_with("503 "));
}

#[test]
fn a_client_that_ends_lines_with_lf_hears_so_each_time_until_it_is_closed() {
    let mut driver = ServerDriver::new(server_config());
    driver.take_sent();
    driver.feed(b"EHLO c.example\n");
    assert!(driver.take_sent().starts_with("500 5.5.2 A line feed"));
    for _ in 0..30 {
        driver.feed(b"NOOP\n");
    }
    assert!(
        driver
            .take_sent()
            .ends_with("421 4.7.0 Too many errors\r\n")
    );
    assert_eq!(driver.close_reason(), Some(CloseReason::TooManyErrors));
}

#[test]
fn too_many_errors_close_and_a_message_forgives() {
    let config = ServerConfig {
        max_error_count: 3,
        ..server_config()
    };
    let mut driver = in_content(config);
    driver.feed(b".\r\n");
    driver.take_sent();
    for _ in 0..2 {
        assert!(driver.say("FOO").starts_with("500 "));
    }
    driver.feed(b"MAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n.\r\n");
    driver.take_sent();
    for _ in 0..2 {
        assert!(driver.say("FOO").starts_with("500 "));
    }
    assert_eq!(driver.say("FOO"), "421 4.7.0 Too many errors\r\n");
    assert_eq!(driver.close_reason(), Some(CloseReason::TooManyErrors));
    assert_eq!(driver.say("NOOP"), "", "after the end nothing is said");
}

#[test]
fn a_pipelined_group_behind_a_refused_mail_is_no_heap_of_errors() {
    let mut driver = ServerDriver::with_policy(server_config(), |question| match question {
        smtp::Question::Mail { .. } => Answer::Reply(Reply::new(550, (5, 7, 1), "no")),
        _ => Answer::Accept,
    });
    driver.say("EHLO c.example");
    let mut group = String::from("MAIL FROM:<a@a.example>\r\n");
    group.push_str(&"RCPT TO:<b@b.example>\r\n".repeat(50));
    group.push_str("DATA\r\n");
    driver.feed(group.as_bytes());
    let sent = driver.take_sent();
    assert_eq!(sent.matches("550 5.7.1 no\r\n").count(), 1);
    assert_eq!(sent.matches("503 5.5.1 Say MAIL first\r\n").count(), 51);
    assert_eq!(driver.close_reason(), None);
}

#[test]
fn too_many_recipients_are_told_so_one_by_one() {
    let mut driver = ServerDriver::new(ServerConfig {
        max_recipient_count: 2,
        ..server_config()
    });
    driver.say("EHLO c.example");
    driver.say("MAIL FROM:<>");
    assert!(driver.say("RCPT TO:<b@b.example>").starts_with("250 "));
    assert!(driver.say("RCPT TO:<c@b.example>").starts_with("250 "));
    assert!(
        driver
            .say("RCPT TO:<d@b.example>")
            .starts_with("452 4.5.3 ")
    );
    driver.feed(b"DATA\r\n.\r\n");
    assert_eq!(driver.messages()[0].0.recipients.len(), 2);
}

#[test]
fn too_many_messages_close_at_mail() {
    let mut driver = ServerDriver::new(ServerConfig {
        max_message_count: 1,
        ..server_config()
    });
    driver.say("EHLO c.example");
    driver.feed(b"MAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n.\r\n");
    driver.take_sent();
    assert!(driver.say("MAIL FROM:<>").starts_with("421 4.7.0 "));
    assert_eq!(driver.close_reason(), Some(CloseReason::TooManyMessages));
    assert_eq!(driver.session.message_count(), 1);
}

#[test]
fn lines_without_end_close_in_any_cut() {
    for chunk_bytes in [1, 100, 70_000] {
        let mut driver = ServerDriver::new(server_config());
        driver.take_sent();
        let mut sent_bytes = 0;
        while driver.close_reason().is_none() {
            driver.feed(&vec![b'x'; chunk_bytes]);
            sent_bytes += chunk_bytes;
            assert!(sent_bytes <= 140_000, "never closed");
        }
        assert_eq!(driver.close_reason(), Some(CloseReason::Flood));
        assert!(driver.take_sent().starts_with("421 4.7.0 "));
    }
}

#[test]
fn input_is_refused_while_a_question_is_open() {
    let mut session = smtp::ServerSession::new(std::sync::Arc::new(server_config()));
    assert!(!session.wants_input());
    assert!(matches!(session.poll(), Some(ServerAction::Ask(_))));
    assert!(!session.wants_input());
    session.answer(Answer::Accept);
    assert!(session.wants_input());
    assert!(matches!(session.poll(), Some(ServerAction::Send(_))));
    assert_eq!(session.poll(), None);
    // More than the machine wants to hold, and not yet polled.
    session.receive(Bytes::from("NOOP\r\n".repeat(11_000)));
    assert!(!session.wants_input());
    while session.poll().is_some() {}
    assert!(session.wants_input());
    session.receive(Bytes::from_static(b"NOOP\r\nEHLO c.example\r\nNOOP\r\n"));
    while let Some(action) = session.poll() {
        if matches!(action, ServerAction::Ask(_)) {
            break;
        }
    }
    assert!(!session.wants_input());
    assert_eq!(
        session
            .poll()
            .map(|action| matches!(action, ServerAction::Send(_))),
        Some(true)
    );
    assert_eq!(session.poll(), None, "the NOOP waits behind the question");
}
