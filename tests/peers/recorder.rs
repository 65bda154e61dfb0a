//! A destination that outlives the relay and remembers everything: a small SMTP server of its own,
//! made without Waypost's protocol code, so that a fault there cannot hide itself.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::harness::LIMIT;

/// One message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Which life of the relay opened the connection; see [`Recorder::next_life`].
    pub(crate) life: usize,
    /// Argument of MAIL, without angle brackets.
    pub(crate) sender: String,
    /// Arguments of RCPT, without angle brackets.
    pub(crate) recipients: Vec<String>,
    /// The header and body, as they came.
    pub(crate) content: String,
}

impl Arrival {
    /// The value of a header field, folded lines included.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let head = self
            .content
            .split("\r\n\r\n")
            .next()?
            .replace("\r\n\t", " ");
        let head = head.replace("\r\n ", " ");
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

#[derive(Debug, Default)]
struct State {
    arrivals: Vec<Arrival>,
    life: usize,
    /// Who connected last.
    last_client: Option<SocketAddr>,
    /// Every RCPT is answered 451.
    is_deferring: bool,
}

/// The destination.
#[derive(Clone)]
pub(crate) struct Recorder {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Recorder {
    /// Listens on a free port until the process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("it is bound");
        let recorder = Self {
            address,
            shared: Arc::default(),
        };
        let accepting = recorder.clone();
        std::thread::spawn(move || accepting.accept(&listener));
        recorder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .0
            .lock()
            .expect("no test panics while it holds this")
    }

    fn accept(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let life = {
                let mut state = self.state();
                state.last_client = stream.peer_addr().ok();
                state.life
            };
            self.shared.1.notify_all();
            let recorder = self.clone();
            std::thread::spawn(move || recorder.serve(&stream, life));
        }
    }

    /// From now on RCPT is answered 451, or no longer.
    pub(crate) fn defer(&self, is_deferring: bool) {
        self.state().is_deferring = is_deferring;
    }

    /// Connections that are opened after this belong to the relay's next life.
    ///
    /// The relay is dead, but connections that it had opened may still be in the kernel's queue.
    /// One of ours comes after all of them.
    pub(crate) fn next_life(&self) {
        let ours = TcpStream::connect(self.address).expect("it listens");
        let client = ours.local_addr().expect("it is connected");
        let (lock, told) = &*self.shared;
        let state = lock.lock().expect("no test panics while it holds this");
        let (mut state, waited) = told
            .wait_timeout_while(state, LIMIT, |state| state.last_client != Some(client))
            .expect("no test panics while it holds this");
        assert!(!waited.timed_out(), "our connection was not accepted");
        state.life += 1;
    }

    /// What has arrived so far, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state().arrivals.clone()
    }

    /// Waits until what has arrived is enough.
    ///
    /// # Panics
    /// When that takes longer than [`LIMIT`].
    pub(crate) fn wait_until(&self, what: &str, enough: impl Fn(&[Arrival]) -> bool) {
        let (lock, told) = &*self.shared;
        let state = lock.lock().expect("no test panics while it holds this");
        let (state, waited) = told
            .wait_timeout_while(state, LIMIT, |state| !enough(&state.arrivals))
            .expect("no test panics while it holds this");
        let count = state.arrivals.len();
        drop(state);
        assert!(
            !waited.timed_out(),
            "waited for {what}; {count} messages have arrived"
        );
    }

    /// Waits for a message with this Subject.
    pub(crate) fn wait_subject(&self, subject: &str) -> Arrival {
        let has = |arrival: &Arrival| arrival.field("Subject").as_deref() == Some(subject);
        self.wait_until(subject, |arrivals| arrivals.iter().any(has));
        self.arrivals()
            .into_iter()
            .find(has)
            .expect("it has just been seen")
    }

    /// One connection; ends with the client, however that ends.
    fn serve(&self, stream: &TcpStream, life: usize) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        stream
            .set_read_timeout(Some(LIMIT + Duration::from_secs(60)))
            .ok()?;
        let mut reader = BufReader::new(stream);
        let mut replies = b"220 recorder.test ESMTP\r\n".to_vec();
        let (mut sender, mut recipients) = (String::new(), Vec::new());
        loop {
            // A pipelining client sends its next commands before it has our replies.
            if reader.buffer().is_empty() {
                (&mut &*stream)
                    .write_all(&std::mem::take(&mut replies))
                    .ok()?;
            }
            let line = read_line(&mut reader)?;
            let reply = match line.get(..4)?.to_ascii_uppercase().as_str() {
                "EHLO" => "250-recorder.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                "MAIL" => {
                    sender = path(&line)?;
                    "250 ok\r\n"
                }
                "RCPT" if self.state().is_deferring => "451 4.3.0 not now\r\n",
                "RCPT" => {
                    recipients.push(path(&line)?);
                    "250 ok\r\n"
                }
                "DATA" if recipients.is_empty() => "554 no recipients\r\n",
                "DATA" => {
                    replies.extend_from_slice(b"354 go on\r\n");
                    (&mut &*stream)
                        .write_all(&std::mem::take(&mut replies))
                        .ok()?;
                    let content = read_content(&mut reader)?;
                    let (sender, recipients) =
                        (std::mem::take(&mut sender), std::mem::take(&mut recipients));
                    // Taken is taken, whether or not the client lives to hear it.
                    self.state().arrivals.push(Arrival {
                        life,
                        sender,
                        recipients,
                        content,
                    });
                    self.shared.1.notify_all();
                    "250 taken\r\n"
                }
                "RSET" => {
                    recipients.clear();
                    "250 ok\r\n"
                }
                "QUIT" => {
                    replies.extend_from_slice(b"221 bye\r\n");
                    (&mut &*stream).write_all(&replies).ok()?;
                    return Some(());
                }
                _ => "502 unknown\r\n",
            };
            replies.extend_from_slice(reply.as_bytes());
        }
    }
}

/// A line without its end; `None` when the connection has ended.
fn read_line(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok()?;
    line.ends_with(b"\r\n")
        .then(|| String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

fn read_content(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut content = String::new();
    loop {
        let line = read_line(reader)?;
        if line == "." {
            return Some(content);
        }
        content.push_str(line.strip_prefix('.').unwrap_or(&line));
        content.push_str("\r\n");
    }
}

/// What is in angle brackets.
fn path(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}
