//! Transactions of the client that go as they should, or are refused in order.

use smtp::{
    BodyType, ClientAction, ClientConfig, ClientPhase, EightBitToSevenBitHop, RecipientOutcome,
    Reply, Stage, TransactionOutcome,
};

use crate::support::{ClientDriver, domain, send, transaction};

/// The only outcome among the actions.
fn outcome(actions: &[ClientAction]) -> &TransactionOutcome {
    let mut outcomes = actions.iter().filter_map(|action| match action {
        ClientAction::Outcome(outcome) => Some(outcome),
        _ => None,
    });
    let outcome = outcomes.next().expect("an outcome");
    assert!(outcomes.next().is_none(), "two outcomes");
    outcome
}

/// `+` delivered, `~` deferred, `-` failed.
fn signs(outcome: &TransactionOutcome) -> String {
    outcome
        .recipients
        .iter()
        .map(|recipient| match recipient {
            RecipientOutcome::Delivered(_) => '+',
            RecipientOutcome::Deferred(_) => '~',
            RecipientOutcome::Failed(_) => '-',
        })
        .collect()
}

const TO: [&str; 2] = ["b@b.example", "c@b.example"];

#[test]
fn a_pipelined_message_and_another() {
    let mut client = ClientDriver::ready(&["PIPELINING", "SIZE 1000", "8BITMIME", "X-OTHER on"]);
    let capabilities = client.session.capabilities();
    assert_eq!(capabilities.server_name, "mx.example");
    assert_eq!(capabilities.max_message_bytes, Some(1000));
    assert!(capabilities.others.contains("X-OTHER ON"));
    for count in 1..=2 {
        client.start(transaction("a@a.example", &TO, 7));
        assert_eq!(client.session.transaction_count(), count);
        assert_eq!(
            client.take(),
            [send(
                "MAIL FROM:<a@a.example> SIZE=7\r\nRCPT TO:<b@b.example>\r\n\
                 RCPT TO:<c@b.example>\r\nDATA\r\n"
            )]
        );
        client.feed("250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 o");
        assert_eq!(client.session.phase(), ClientPhase::Rcpt);
        client.feed("k\r\n354 go\r\n");
        assert_eq!(client.take(), [ClientAction::SendContent]);
        assert_eq!(client.session.phase(), ClientPhase::Content);
        client.session.content_sent();
        assert_eq!(client.session.phase(), ClientPhase::EndOfData);
        client.feed("250-2.0.0 taken\r\n250 2.0.0 as 42\r\n");
        let delivered = Reply::new(250, (2, 0, 0), "taken\nas 42");
        assert_eq!(
            client.take(),
            [
                ClientAction::Outcome(TransactionOutcome {
                    recipients: vec![RecipientOutcome::Delivered(delivered); 2],
                    try_next_host: false,
                    reusable: true,
                    stage: Stage::EndOfData,
                    host_failure: None,
                }),
                ClientAction::Ready,
            ]
        );
    }
    client.session.quit();
    client.run();
    assert_eq!(client.take(), [send("QUIT\r\n")]);
    client.feed("221 bye\r\n");
    assert_eq!(client.take(), [ClientAction::Close]);
}

#[test]
fn one_command_at_a_time_without_pipelining() {
    let mut client = ClientDriver::ready(&[]);
    client.start(transaction("<>", &TO, 7));
    assert_eq!(client.take(), [send("MAIL FROM:<>\r\n")]);
    client.feed("250 ok\r\n");
    assert_eq!(client.take(), [send("RCPT TO:<b@b.example>\r\n")]);
    client.feed("550 5.1.1 unknown\r\n");
    assert_eq!(client.take(), [send("RCPT TO:<c@b.example>\r\n")]);
    client.feed("250 ok\r\n");
    assert_eq!(client.take(), [send("DATA\r\n")]);
    client.feed("354 go\r\n");
    assert_eq!(client.take(), [ClientAction::SendContent]);
    client.session.content_sent();
    client.feed("250 ok\r\n");
    let actions = client.take();
    assert_eq!(signs(outcome(&actions)), "-+");
    assert_eq!(actions.last(), Some(&ClientAction::Ready));
}

#[test]
fn helo_where_ehlo_is_unknown() {
    let mut client = ClientDriver::plain();
    client.feed("220-mx.example\r\n220 welcome\r\n");
    client.feed("502 5.5.1 what?\r\n");
    client.feed("250 mx.example\r\n");
    let expected = [
        send("EHLO client.example\r\n"),
        send("HELO client.example\r\n"),
    ];
    assert_eq!(
        client.take(),
        [&expected[..], &[ClientAction::Ready]].concat()
    );
    assert!(!client.session.capabilities().pipelining);
    client.start(transaction("a@a.example", &TO[..1], 7));
    assert_eq!(client.take(), [send("MAIL FROM:<a@a.example>\r\n")]);
}

#[test]
fn a_transaction_started_early_waits_for_its_turn() {
    let mut client = ClientDriver::plain();
    client.start(transaction("<>", &TO[..1], 7));
    assert_eq!(client.take(), []);
    client.feed("220 mx.example\r\n");
    client.feed("250 mx.example\r\n");
    let expected = [send("EHLO client.example\r\n"), send("MAIL FROM:<>\r\n")];
    assert_eq!(client.take(), expected);
}

/// Replies to a pipelined MAIL, two RCPT and DATA, and what comes of it: the
/// signs of the recipients, try_next_host, stage, and what is sent afterwards.
type MixedReplies = (&'static str, &'static str, bool, Stage, &'static str);

#[rustfmt::skip]
const MIXED_REPLIES: &[MixedReplies] = &[
    ("550 no|503 x|503 x|503 x", "--", false, Stage::Mail, ""),
    ("450 no|503 x|503 x|503 x", "~~", true, Stage::Mail, ""),
    ("552 5.3.4 big|503 x|503 x|554 x", "--", false, Stage::Mail, ""),
    ("250 ok|550 no|550 no|503 x", "--", false, Stage::Rcpt, "RSET\r\n"),
    ("250 ok|450 no|550 no|554 x", "~-", false, Stage::Rcpt, "RSET\r\n"),
    ("250 ok|550 no|250 ok|451 x", "-~", false, Stage::Data, "RSET\r\n"),
    ("250 ok|250 ok|452 no|554 x", "-~", false, Stage::Data, "RSET\r\n"),
    // 552 as "too many recipients" passes, unless the code says otherwise.
    ("250 ok|250 ok|552 many|554 x", "-~", false, Stage::Data, "RSET\r\n"),
    ("250 ok|250 ok|552 5.5.3 many|554 x", "-~", false, Stage::Data, "RSET\r\n"),
    ("250 ok|250 ok|552 5.2.2 full|451 x", "~-", false, Stage::Data, "RSET\r\n"),
];

#[test]
fn mixed_replies_to_a_pipelined_group() {
    for (replies, expected, try_next_host, stage, sent) in MIXED_REPLIES {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("a@a.example", &TO, 7));
        client.take();
        client.feed(&format!("{}\r\n", replies.replace('|', "\r\n")));
        let actions = client.take();
        let found = outcome(&actions);
        assert_eq!(signs(found), *expected, "{replies}");
        assert_eq!(found.try_next_host, *try_next_host, "{replies}");
        assert_eq!(found.stage, *stage, "{replies}");
        assert!(found.reusable, "{replies}");
        let next = if sent.is_empty() {
            ClientAction::Ready
        } else {
            send(sent)
        };
        assert_eq!(actions[1..], [next], "{replies}");
        if !sent.is_empty() {
            assert_eq!(client.session.phase(), ClientPhase::Reset);
            client.feed("250 reset\r\n");
            assert_eq!(client.take(), [ClientAction::Ready]);
        }
    }
}

#[test]
fn data_accepted_for_nobody_gets_empty_content() {
    // RFC 2920 section 3.1.
    for (replies, signs_expected) in [
        ("250 ok|550 no|450 no|354 go", "-~"),
        ("550 no|503 no|503 no|354 go", "--"),
    ] {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("a@a.example", &TO, 7));
        client.take();
        client.feed(&format!("{}\r\n", replies.replace('|', "\r\n")));
        assert_eq!(client.take(), [send(".\r\n")], "no content may be sent");
        client.feed("250 2.0.0 taken for nobody\r\n");
        let actions = client.take();
        assert_eq!(signs(outcome(&actions)), signs_expected);
        assert_eq!(actions.last(), Some(&ClientAction::Ready));
    }
}

#[test]
fn refusals_of_the_content() {
    for (reply, expected) in [("554 5.7.1 spam", "-~"), ("451 4.3.0 later", "~~")] {
        let mut client = ClientDriver::ready(&["PIPELINING"]);
        client.start(transaction("a@a.example", &TO, 7));
        client.feed("250 ok\r\n250 ok\r\n450 later\r\n354 go\r\n");
        client.session.content_sent();
        client.take();
        client.feed(&format!("{reply}\r\n"));
        let actions = client.take();
        assert_eq!(signs(outcome(&actions)), expected);
        assert!(outcome(&actions).reusable);
        assert_eq!(
            actions.last(),
            Some(&ClientAction::Ready),
            "no RSET after the end"
        );
    }
}

#[test]
fn many_recipients_go_in_groups_that_fit_a_window() {
    let addresses: Vec<String> = (0..250).map(|n| format!("u{n}@b.example")).collect();
    let to: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut client = ClientDriver::ready(&["PIPELINING"]);
    client.start(transaction("a@a.example", &to, 7));
    let mut groups = Vec::new();
    loop {
        let actions = client.take();
        let [ClientAction::Send(group)] = &actions[..] else {
            assert_eq!(actions, [ClientAction::SendContent]);
            break;
        };
        let group = String::from_utf8(group.to_vec()).expect("ASCII");
        let mut replies = String::new();
        for line in group.lines() {
            replies.push_str(if line == "DATA" {
                "354 go\r\n"
            } else {
                "250 ok\r\n"
            });
        }
        groups.push(group.lines().count());
        client.feed(&replies);
    }
    assert_eq!(groups, [101, 100, 51]);
    client.session.content_sent();
    client.feed("250 ok\r\n");
    assert_eq!(signs(outcome(&client.take())), "+".repeat(250));
}

#[test]
fn what_the_server_offers_decides_without_asking() {
    let mut client = ClientDriver::ready(&["SIZE 1000"]);
    client.start(transaction("a@a.example", &TO, 1001));
    let actions = client.take();
    assert_eq!(signs(outcome(&actions)), "--");
    let reply = outcome(&actions).recipients[0].reply();
    assert_eq!((reply.code, reply.enhanced), (552, Some((5, 3, 4).into())));
    assert_eq!(actions[1..], [ClientAction::Ready], "nothing was sent");
    client.start(transaction("a@a.example", &TO, 1000));
    assert_eq!(
        client.take(),
        [send("MAIL FROM:<a@a.example> SIZE=1000\r\n")]
    );

    let mut client = ClientDriver::ready(&["SIZE"]);
    client.start(transaction("<>", &TO, u64::MAX));
    assert_eq!(
        client.take(),
        [send("MAIL FROM:<> SIZE=18446744073709551615\r\n")]
    );
}

#[test]
fn eight_bit_content() {
    let mut eight_bit = transaction("<>", &TO[..1], 7);
    eight_bit.parameters.body = BodyType::EightBitMime;

    let mut client = ClientDriver::ready(&["8BITMIME"]);
    client.start(eight_bit.clone());
    assert_eq!(client.take(), [send("MAIL FROM:<> BODY=8BITMIME\r\n")]);

    let mut client = ClientDriver::ready(&[]);
    client.start(eight_bit.clone());
    assert_eq!(
        client.take(),
        [send("MAIL FROM:<>\r\n")],
        "sent anyway by default"
    );

    let mut client = ClientDriver::new(ClientConfig {
        eight_bit_to_seven_bit_hop: EightBitToSevenBitHop::Fail,
        ..ClientConfig::new(domain("client.example"))
    });
    client.feed("220 mx\r\n");
    client.feed("250 mx\r\n");
    client.take();
    client.start(eight_bit);
    let actions = client.take();
    assert_eq!(signs(outcome(&actions)), "-");
    assert_eq!(
        outcome(&actions).recipients[0].reply().enhanced,
        Some((5, 6, 3).into())
    );
}

#[test]
fn paths_are_written_as_the_grammar_has_them() {
    let mut client = ClientDriver::ready(&["PIPELINING"]);
    client.start(transaction(
        "\"a \\\"b\"@a.example",
        &["Postmaster", "b@[192.0.2.1]"],
        7,
    ));
    assert_eq!(
        client.take(),
        [send(
            "MAIL FROM:<\"a \\\"b\"@a.example>\r\nRCPT TO:<Postmaster>\r\n\
             RCPT TO:<b@[192.0.2.1]>\r\nDATA\r\n"
        )]
    );
}

#[test]
fn nobody_to_send_to() {
    let mut client = ClientDriver::ready(&[]);
    client.start(transaction("<>", &[], 7));
    let actions = client.take();
    assert_eq!(signs(outcome(&actions)), "");
    assert_eq!(actions[1..], [ClientAction::Ready]);
}
