//! Answers that come late: a driver that has to ask somebody else first.

use std::sync::Arc;

use bytes::Bytes;
use smtp::{Answer, Question, Reply, ServerAction, ServerPhase, ServerSession};

use crate::support::server_config;

/// Carries out what the machine wants until it asks something or has nothing more to do.
fn until_asked(session: &mut ServerSession, sent: &mut Vec<u8>) -> Option<ServerAction> {
    while let Some(action) = session.poll() {
        match action {
            ServerAction::Send(octets) => sent.extend_from_slice(&octets),
            action @ (ServerAction::Ask(_) | ServerAction::Commit) => return Some(action),
            ServerAction::Content(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    None
}

/// A session that has been greeted and has this group of commands before it.
fn session(group: &'static [u8]) -> ServerSession {
    let mut session = ServerSession::new(Arc::new(server_config()));
    let mut sent = Vec::new();
    while let Some(ServerAction::Ask(question)) = until_asked(&mut session, &mut sent) {
        assert!(matches!(
            question,
            Question::Connect | Question::Ehlo { .. }
        ));
        session.answer(Answer::Accept);
        if question == Question::Connect {
            session.receive(Bytes::from_static(b"EHLO c.example\r\n"));
        }
    }
    session.receive(Bytes::from_static(group));
    session
}

#[test]
fn nothing_is_read_while_a_question_is_open() {
    let group = b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\n\
        DATA\r\nSubject: x\r\n\r\n.\r\nMAIL FROM:<>\r\n";
    let mut session = session(group);
    let mut sent = Vec::new();
    let mut asked = Vec::new();
    while let Some(action) = until_asked(&mut session, &mut sent) {
        assert!(!session.wants_input());
        assert_eq!(session.phase(), ServerPhase::Driver);
        // However often it is looked at, the machine waits; what it held back goes out first.
        for _ in 0..3 {
            assert_eq!(until_asked(&mut session, &mut sent), None);
        }
        let codes = String::from_utf8_lossy(&sent).lines().count();
        asked.push((format!("{action:?}"), codes));
        match action {
            ServerAction::Ask(Question::Rcpt { path, .. }) if path.to_string() == "c@b.example" => {
                session.answer(Answer::Reply(Reply::new(450, (4, 2, 0), "later")));
            }
            ServerAction::Ask(_) => session.answer(Answer::Accept),
            _ => {
                assert!(session.take_envelope().is_some());
                session.committed(Reply::new(250, (2, 0, 0), "queued"));
            }
        }
    }
    // Each is asked when all before it has been answered, and in the order of the commands.
    let order: Vec<(&str, usize)> = asked
        .iter()
        .map(|(what, sent)| (what.split([' ', '(']).nth(1).unwrap_or("Commit"), *sent))
        .collect();
    assert_eq!(
        order,
        [
            ("Mail", 0),
            ("Rcpt", 1),
            ("Rcpt", 2),
            ("Commit", 4),
            ("Mail", 5)
        ]
    );
    let codes: Vec<String> = String::from_utf8_lossy(&sent)
        .lines()
        .map(|line| line[..3].to_owned())
        .collect();
    assert_eq!(codes, ["250", "250", "450", "354", "250", "250"]);
}

#[test]
fn what_comes_while_a_question_is_open_waits_in_the_machine() {
    let mut session = session(b"MAIL FROM:<a@a.example>\r\n");
    let mut sent = Vec::new();
    assert!(until_asked(&mut session, &mut sent).is_some());
    session.receive(Bytes::from_static(b"RCPT TO:<b@b.example>\r\nQU"));
    assert_eq!(until_asked(&mut session, &mut sent), None);
    assert!(sent.is_empty(), "{sent:?}");
    // Refused at last: the RCPT of the same group is no error of the client's.
    session.answer(Answer::Reply(Reply::new(451, (4, 3, 0), "not now")));
    assert_eq!(until_asked(&mut session, &mut sent), None);
    let sent = String::from_utf8(sent).expect("ASCII");
    let codes: Vec<&str> = sent.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["451", "503"]);
    assert!(session.wants_input());
}

#[test]
fn the_envelope_goes_with_the_transaction() {
    // What a driver keeps for a transaction it can drop when the machine has none.
    let mut session = session(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nRSET\r\n");
    let mut sent = Vec::new();
    for _ in 0..2 {
        assert!(until_asked(&mut session, &mut sent).is_some());
        session.answer(Answer::Accept);
    }
    assert!(session.envelope().is_some());
    assert_eq!(until_asked(&mut session, &mut sent), None);
    assert!(session.envelope().is_none());
}
