//! What has arrived: counted, shown, written to files.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use smtp::Envelope;
use tokio::time::Instant;

/// How much of a message is kept to show header fields from, in bytes.
const SHOWN_LIMIT_BYTES: usize = 16 * 1024;
/// Fields that tell people which message this is.
const SHOWN_FIELDS: [&str; 4] = ["Subject", "From", "To", "Message-ID"];

/// How arrivals are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    /// Each message with its envelope and first header fields.
    Messages,
    /// One line a second with count and rate.
    Counts,
    /// Nothing before the end.
    Quiet,
}

/// Counters and where messages go.
#[derive(Debug)]
pub(super) struct Arrivals {
    display: Display,
    directory: Option<PathBuf>,
    /// Number of the last message of an earlier run.
    last_number: u64,
    messages: AtomicU64,
    recipients: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    /// First and last arrival, for the rate.
    span: Mutex<Option<(Instant, Instant)>>,
}

/// One message while it comes in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    length_bytes: u64,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

impl Incoming {
    /// Takes a piece of content; keeps what `arrivals` needs of it.
    pub(super) fn take(&mut self, piece: Bytes, arrivals: &Arrivals) {
        self.length_bytes += piece.len() as u64;
        let keep = match (&arrivals.directory, arrivals.display) {
            (Some(_), _) => true,
            (None, Display::Messages) => self.kept_bytes < SHOWN_LIMIT_BYTES,
            (None, _) => false,
        };
        if keep {
            self.kept_bytes += piece.len();
            self.kept.push_back(piece);
        }
    }
}

impl Arrivals {
    /// Nothing has arrived; messages are written to `directory` if there is one, with numbers
    /// above `last_number`.
    pub(super) fn new(display: Display, directory: Option<PathBuf>, last_number: u64) -> Self {
        Self {
            display,
            directory,
            last_number,
            messages: AtomicU64::new(0),
            recipients: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            span: Mutex::new(None),
        }
    }

    /// Whether [`Self::tell_counts`] has anything to tell.
    pub(super) fn shows_counts(&self) -> bool {
        self.display == Display::Counts
    }

    /// A connection was opened.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A rule has refused or dropped something.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages of this run had come with the one of this number.
    pub(super) fn count_at(&self, number: u64) -> u64 {
        number - self.last_number
    }

    /// Messages so far.
    pub(super) fn message_count(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// A message is complete: its number.
    ///
    /// # Errors
    /// When it cannot be written to its file; then it must not be acknowledged.
    pub(super) fn arrived(
        &self,
        envelope: &Envelope,
        incoming: &Incoming,
        client: &str,
    ) -> std::io::Result<u64> {
        let number = self.last_number + self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(directory) = &self.directory
            && let Err(error) = write_message(directory, number, envelope, incoming)
        {
            // The number stays used: another message may have the next one already.
            self.refused();
            return Err(error);
        }
        self.recipients
            .fetch_add(envelope.recipients.len() as u64, Ordering::Relaxed);
        self.bytes
            .fetch_add(incoming.length_bytes, Ordering::Relaxed);
        let now = Instant::now();
        {
            let mut span = self
                .span
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let (first, _) = span.unwrap_or((now, now));
            *span = Some((first, now));
        }
        if self.display == Display::Messages {
            show(&described(number, envelope, incoming, client));
        }
        Ok(number)
    }

    /// Shows count and rate every second, while the display is [`Display::Counts`].
    pub(super) async fn tell_counts(&self) {
        let mut last_count = 0;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let count = self.message_count();
            if count != last_count {
                show(&format!("{count} messages, {}/s\n", count - last_count));
            }
            last_count = count;
        }
    }

    /// The closing line.
    pub(super) fn summary(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let messages = load(&self.messages);
        let mut text = format!(
            "{messages} messages for {} recipients, {} bytes, over {} connections; {} refused",
            load(&self.recipients),
            load(&self.bytes),
            load(&self.connections),
            load(&self.refused),
        );
        let span = *self
            .span
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((first, last)) = span
            && last > first
            && messages > 1
        {
            #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let rate = (messages - 1) as f64 / (last - first).as_secs_f64();
            // Writing to a String does not fail.
            let _ = write!(text, "; {rate:.0} messages/s");
        }
        text.push('\n');
        text
    }
}

/// One write per message, so that lines of two messages do not mix. A closed terminal is no reason
/// to stop taking mail.
pub(super) fn show(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    );
}

fn described(number: u64, envelope: &Envelope, incoming: &Incoming, client: &str) -> String {
    let recipients: Vec<String> = envelope
        .recipients
        .iter()
        .map(|recipient| format!("<{}>", recipient.path))
        .collect();
    let mut text = format!(
        "message {number} from {client}: <{}> -> {}, {} bytes\n",
        envelope.reverse_path,
        recipients.join(" "),
        incoming.length_bytes
    );
    let head: Vec<u8> = incoming.kept.iter().flatten().copied().collect();
    for (name, value) in shown_fields(&head) {
        let _ = writeln!(text, "    {name}: {value}");
    }
    text
}

/// The fields worth showing, unfolded, in the message's order; control characters as spaces.
fn shown_fields(head: &[u8]) -> Vec<(String, String)> {
    let head = String::from_utf8_lossy(head);
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut wanted = false;
    for line in head.split("\r\n").take_while(|line| !line.is_empty()) {
        let clean = |text: &str| text.trim().replace(|letter: char| letter.is_control(), " ");
        if line.starts_with([' ', '\t']) {
            if let (true, Some((_, value))) = (wanted, fields.last_mut()) {
                value.push(' ');
                value.push_str(&clean(line));
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        wanted = SHOWN_FIELDS
            .iter()
            .any(|field| field.eq_ignore_ascii_case(name));
        if wanted {
            fields.push((name.to_owned(), clean(value)));
        }
    }
    fields
}

/// The highest number of a message in the directory, 0 where there is none.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn highest_number(directory: &Path) -> std::io::Result<u64> {
    let mut highest = 0;
    for entry in std::fs::read_dir(directory)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == "eml")
            && let Some(number) = name
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok())
        {
            highest = number.max(highest);
        }
    }
    Ok(highest)
}

/// Writes `NNNNNNNN.eml`: two fields of ours with the envelope, then the message as it came.
fn write_message(
    directory: &Path,
    number: u64,
    envelope: &Envelope,
    incoming: &Incoming,
) -> std::io::Result<()> {
    let file = std::fs::File::create_new(directory.join(format!("{number:08}.eml")))?;
    let mut writer = std::io::BufWriter::new(file);
    write!(writer, "X-Envelope-From: <{}>\r\n", envelope.reverse_path)?;
    for recipient in &envelope.recipients {
        write!(writer, "X-Envelope-To: <{}>\r\n", recipient.path)?;
    }
    for piece in &incoming.kept {
        writer.write_all(piece)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_behind_the_highest() {
        let place = std::env::temp_dir().join(format!("waypost-sink-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("a temporary directory");
        assert_eq!(highest_number(&place).expect("it is there"), 0);
        for name in ["00000007.eml", "00000011.eml", "00000099.txt", "x.eml"] {
            std::fs::write(place.join(name), "").expect("it is ours");
        }
        let highest = highest_number(&place).expect("it is there");
        std::fs::remove_dir_all(&place).expect("it is ours");
        assert_eq!(highest, 11);
        let arrivals = Arrivals::new(Display::Quiet, None, highest);
        let envelope = Envelope {
            reverse_path: smtp::ReversePath::Null,
            parameters: smtp::MailParameters::default(),
            recipients: Vec::new(),
        };
        let incoming = Incoming::default();
        let number = arrivals.arrived(&envelope, &incoming, "test");
        assert_eq!(number.expect("nothing is written"), 12);
        assert_eq!(arrivals.count_at(12), 1);
    }

    #[test]
    fn fields_are_unfolded_and_harmless() {
        let head = b"Received: x\r\n by y\r\nsubject: one\x1b[2J\r\n\ttwo\r\nTo: a@b.example\r\n\r\nFrom: body\r\n";
        assert_eq!(
            shown_fields(head),
            [
                ("subject".to_owned(), "one [2J two".to_owned()),
                ("To".to_owned(), "a@b.example".to_owned()),
            ]
        );
    }
}
