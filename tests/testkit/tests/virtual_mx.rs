//! The scripted mail host keeps to its script.

use std::net::Ipv4Addr;
use std::time::Duration;

use testkit::virtual_mx::{Phase, Script, Step, VirtualMx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);
const ENVELOPE: &str =
    "EHLO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@b.test>\r\n";

async fn start(script: Script) -> VirtualMx {
    VirtualMx::start(Ipv4Addr::LOCALHOST.into(), 0, script)
        .await
        .expect("a port on loopback")
}

/// Says all of it at once and returns all answers until the host closes.
async fn say(host: &VirtualMx, text: &str) -> String {
    let mut stream = TcpStream::connect(host.address())
        .await
        .expect("it listens");
    stream.write_all(text.as_bytes()).await.expect("it reads");
    stream.shutdown().await.expect("it reads");
    let mut answers = Vec::new();
    // A host that drops may reset; what it said before is what counts.
    while matches!(stream.read_buf(&mut answers).await, Ok(count) if count > 0) {}
    String::from_utf8(answers).expect("ASCII")
}

fn codes(answers: &str) -> Vec<&str> {
    answers
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .map(|line| &line[..3])
        .collect()
}

#[tokio::test]
async fn takes_and_keeps_messages() {
    let host = start(Script::accept()).await;
    let text = format!("{ENVELOPE}DATA\r\nx\r\n..y\r\n.\r\nQUIT\r\n");
    let answers = say(&host, &text).await;
    assert_eq!(
        codes(&answers),
        ["220", "250", "250", "250", "250", "354", "250", "221"]
    );
    say(&host, &text).await;
    let messages = host
        .wait_for_messages(2, DEADLINE)
        .await
        .expect("they came");
    assert_eq!(messages[0].content, "x\r\n.y\r\n");
    assert_eq!(messages[0].envelope.recipients.len(), 2);
    assert_eq!(messages[0].client_name, "c.test");
    assert_eq!(messages[1].connection, 2);
    let record = host
        .wait_for(DEADLINE, |record| record.closed_count == 2)
        .await
        .expect("both closed");
    assert_eq!(
        (
            record.connection_count,
            record.mail_count,
            record.content_count
        ),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn follows_its_script() {
    let later = || Step::reply(450, (4, 2, 0), "later");
    let text = format!("{ENVELOPE}DATA\r\nx\r\n.\r\nQUIT\r\n");
    let cases: [(Script, &[&str]); 6] = [
        (Script::accept().at(Phase::Ehlo, later()), &["220", "450"]),
        (
            Script::accept().at(Phase::Mail, later()),
            &["220", "250", "450"],
        ),
        (
            Script::accept().recipient("a@b.test", later()),
            &["220", "250", "250", "450", "250", "354", "250", "221"],
        ),
        (
            Script::accept().at(Phase::Content, later()),
            &["220", "250", "250", "250", "250", "354", "450", "221"],
        ),
        (
            Script::accept().at(Phase::EndOfData, later()),
            &["220", "250", "250", "250", "250", "354", "450", "221"],
        ),
        (
            Script::accept().at(Phase::Data, later()),
            &["220", "250", "250", "250", "250", "450"],
        ),
    ];
    for (script, expected) in cases {
        let host = start(script).await;
        let answers = say(&host, &text).await;
        let found = codes(&answers);
        assert!(found.starts_with(expected), "{found:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn drops_at_each_phase_as_often_as_told() {
    let text = format!("{ENVELOPE}DATA\r\nx\r\n.\r\nQUIT\r\n");
    let phases = [
        (Phase::Greeting, 0),
        (Phase::Ehlo, 1),
        (Phase::Mail, 2),
        (Phase::Rcpt, 3),
        (Phase::Data, 5),
        (Phase::Content, 6),
        (Phase::EndOfData, 6),
    ];
    for (phase, answer_count) in phases {
        let host = start(Script::accept().first(1, phase, Step::Drop)).await;
        let answers = say(&host, &text).await;
        assert!(
            codes(&answers).len() <= answer_count,
            "{phase:?}: {answers}"
        );
        assert!(host.messages().is_empty(), "{phase:?}");
        let answers = say(&host, &text).await;
        assert_eq!(codes(&answers).len(), 8, "{phase:?}");
        assert_eq!(host.messages().len(), 1, "{phase:?}");
    }
}

#[tokio::test]
async fn hangs_until_the_client_gives_up_and_stops_when_told() {
    let host = start(Script::accept().at(Phase::Mail, Step::Hang)).await;
    // The client closes its side, which is what ends the hanging.
    let answers = say(&host, "EHLO c.test\r\nMAIL FROM:<>\r\n").await;
    assert_eq!(codes(&answers), ["220", "250"]);
    let missed = host.wait_for_messages(1, Duration::ZERO).await;
    assert_eq!(missed.expect_err("none came").record.mail_count, 1);
    host.set_script(Script::accept());
    let address = host.address();
    assert_eq!(codes(&say(&host, "QUIT\r\n").await), ["220", "221"]);
    assert_eq!(host.stop().await.connection_count, 2);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}
