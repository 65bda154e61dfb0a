//! Clients of others: swaks, Python's smtplib, lettre.

use std::process::Command;

use lettre::Transport as _;

use crate::harness::{Relay, find};
use crate::programs::{PYTHON, SWAKS};
use crate::recorder::Recorder;

#[test]
fn swaks_sends() {
    let Some(swaks) = find(SWAKS, "swaks_sends") else {
        return;
    };
    let recorder = Recorder::start();
    let relay = Relay::start(recorder.address, "");
    let output = Command::new(swaks)
        .args([
            "--server",
            &relay.smtp.ip().to_string(),
            "--port",
            &relay.smtp.port().to_string(),
        ])
        .args([
            "--from",
            "a@swaks.test",
            "--to",
            "b@destination.test,c@destination.test",
        ])
        .args([
            "--header",
            "Subject: from swaks",
            "--body",
            ".a line that opens with a dot",
        ])
        .output()
        .expect("swaks runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let arrival = recorder.wait_subject("from swaks");
    assert_eq!(arrival.sender, "a@swaks.test");
    assert_eq!(
        arrival.recipients,
        ["b@destination.test", "c@destination.test"]
    );
    assert!(
        arrival
            .content
            .contains("\r\n.a line that opens with a dot\r\n"),
        "{arrival:?}"
    );
}

#[test]
fn python_smtplib_sends() {
    const SCRIPT: &str = r#"
import smtplib, sys
from email.message import EmailMessage
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=60) as client:
    for number in range(3):
        message = EmailMessage()
        message["From"] = "a@python.test"
        message["To"] = "b@destination.test"
        message["Subject"] = f"from python {number}"
        message.set_content(".\r\n..\r\nGrüße\r\n" * 100)
        refused = client.send_message(message)
        assert not refused, refused
    client.sendmail("", ["b@destination.test"], "Subject: from python, null\r\n\r\nno end")
"#;
    let Some(python) = find(PYTHON, "python_smtplib_sends") else {
        return;
    };
    let recorder = Recorder::start();
    let relay = Relay::start(recorder.address, "");
    let output = Command::new(python)
        .args([
            "-c",
            SCRIPT,
            &relay.smtp.ip().to_string(),
            &relay.smtp.port().to_string(),
        ])
        .output()
        .expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for number in 0..3 {
        let arrival = recorder.wait_subject(&format!("from python {number}"));
        assert_eq!(arrival.sender, "a@python.test");
        assert_eq!(
            arrival.content.matches("\r\n..\r\n").count(),
            100,
            "{arrival:?}"
        );
    }
    let bounce = recorder.wait_subject("from python, null");
    assert_eq!(bounce.sender, "");
    assert!(bounce.content.ends_with("no end\r\n"));
}

#[test]
fn lettre_sends() {
    let recorder = Recorder::start();
    let relay = Relay::start(recorder.address, "");
    let client = lettre::SmtpTransport::builder_dangerous(relay.smtp.ip().to_string())
        .port(relay.smtp.port())
        .build();
    for number in 0..3 {
        let message = lettre::Message::builder()
            .from("Anna <a@lettre.test>".parse().expect("an address"))
            .to("b@destination.test".parse().expect("an address"))
            .cc("c@destination.test".parse().expect("an address"))
            .subject(format!("from lettre {number}"))
            .body("A body.\r\n".to_owned())
            .expect("a message");
        let reply = client.send(&message).expect("the relay takes it");
        assert!(reply.is_positive());
    }
    for number in 0..3 {
        let arrival = recorder.wait_subject(&format!("from lettre {number}"));
        assert_eq!(arrival.sender, "a@lettre.test");
        assert_eq!(
            arrival.recipients,
            ["b@destination.test", "c@destination.test"]
        );
    }
}
