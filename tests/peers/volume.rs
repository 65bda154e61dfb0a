//! Twenty thousand messages from Postfix's smtp-source into its smtp-sink.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Process, Relay, find, free_address, wait_for};
use crate::programs::{SMTP_SINK, SMTP_SOURCE};

const MESSAGES: usize = 20_000;

#[test]
fn smtp_source_many_messages_a_connection() {
    volume("smtp_source_many_messages_a_connection", &["-d"]);
}

#[test]
fn smtp_source_one_message_a_connection() {
    volume("smtp_source_one_message_a_connection", &[]);
}

/// All of them arrive, none twice.
fn volume(test: &str, options: &[&str]) {
    let (Some(source), Some(sink)) = (find(SMTP_SOURCE, test), find(SMTP_SINK, test)) else {
        return;
    };
    let sink_address = free_address();
    let relay = Relay::start(sink_address, "");
    let (mut sink, dump) = start_sink(&sink, sink_address, &relay);
    // -N puts a number before each recipient: that is what tells the messages apart.
    let status = Command::new(source)
        .args([
            "-s",
            "20",
            "-m",
            &MESSAGES.to_string(),
            "-l",
            "4096",
            "-N",
            "-C",
            "50",
        ])
        .args([
            "-f",
            "sender@source.test",
            "-t",
            "recipient@destination.test",
        ])
        .args(options)
        .arg(relay.smtp.to_string())
        .status()
        .expect("smtp-source runs");
    assert!(
        status.success(),
        "smtp-source ended with {status}\n{}",
        relay.log_tail()
    );
    relay.wait_empty();
    assert!(sink.is_running(), "smtp-sink ended by itself");
    sink.terminate();

    let (recipients, queue_ids) = dumped(&dump);
    assert_eq!(recipients.len(), MESSAGES, "messages at the sink");
    assert_eq!(
        distinct(&recipients),
        MESSAGES,
        "messages at the sink, each counted once"
    );
    assert_eq!(queue_ids.len(), MESSAGES, "Received fields with a queue id");
    assert_eq!(distinct(&queue_ids), MESSAGES, "queue ids");
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let expected = MESSAGES as f64;
    for name in [
        "waypost_messages_accepted_total",
        "waypost_recipients_delivered_total",
    ] {
        assert!(
            (relay.metric(name) - expected).abs() < 0.5,
            "{name} is {}",
            relay.metric(name)
        );
    }
}

/// smtp-sink, and the file that it appends each message to.
fn start_sink(program: &Path, address: SocketAddr, relay: &Relay) -> (Process, PathBuf) {
    // smtp-sink gives its rights up and writes as nobody.
    let dump_dir = relay.dir().join("dump");
    std::fs::create_dir(&dump_dir).expect("it is new");
    for dir in [relay.dir(), &dump_dir] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    }
    let dump = dump_dir.join("mail");
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    command
        .arg("-D")
        .arg(&dump)
        .args(["-m", "1000", &address.to_string(), "1000"]);
    let process = Process::start(&mut command, &relay.dir().join("sink.log"));
    wait_for("smtp-sink", || TcpStream::connect(address).ok());
    (process, dump)
}

fn distinct(values: &[String]) -> usize {
    values.iter().collect::<BTreeSet<_>>().len()
}

/// Recipients and our queue ids, from the file that smtp-sink has appended each message to.
fn dumped(path: &Path) -> (Vec<String>, Vec<String>) {
    let file = std::fs::File::open(path).expect("smtp-sink has written it");
    let (mut recipients, mut queue_ids) = (Vec::new(), Vec::new());
    // In a field of ours until a line that does not continue it.
    let mut ours = false;
    for line in BufReader::new(file).lines() {
        let line = line.expect("it is text");
        if let Some(recipient) = line.strip_prefix("X-Rcpt-Args: ") {
            recipients.push(recipient.to_owned());
        }
        ours = line.starts_with("Received:") && !line.contains("smtp-sink")
            || ours && line.starts_with([' ', '\t']);
        if ours && let Some(id) = queue_id(&line) {
            queue_ids.push(id);
            ours = false;
        }
    }
    (recipients, queue_ids)
}

/// The word after `id` if it is as long as a queue id.
fn queue_id(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let id = words.windows(2).find(|pair| pair[0] == "id")?[1].trim_end_matches(';');
    (id.len() == 13).then(|| id.to_owned())
}
