//! A mail host with a script: our own `ServerSession` on a real socket.
//!
//! It does what the script says at each phase of a connection, and keeps what it
//! took. A host that refuses connections is simply one that was not started.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smtp::{
    Answer, Envelope, Question, Reply, ServerAction, ServerConfig, ServerPhase, ServerSession,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Where in a connection a [`Step`] is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The connection has been made.
    Greeting,
    /// EHLO or HELO has come.
    Ehlo,
    /// MAIL has come.
    Mail,
    /// RCPT has come.
    Rcpt,
    /// DATA has come, and there is a recipient.
    Data,
    /// The first line of the content has come.
    Content,
    /// The content is whole.
    EndOfData,
}

/// What the host does at a phase instead of accepting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answers this; a message is kept if it is a positive answer to its end.
    Reply(Reply),
    /// Closes the connection without an answer.
    Drop,
    /// Never answers, and holds the connection until the client gives up.
    Hang,
}

impl Step {
    /// A reply with an enhanced status code.
    pub fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Self {
        Self::Reply(Reply::new(code, enhanced, text))
    }
}

#[derive(Debug, Clone)]
struct Rule {
    phase: Phase,
    /// Only for this recipient, as RCPT names it in canonical form.
    recipient: Option<String>,
    step: Step,
    /// How often it still applies; `None` for always.
    remaining_count: Option<usize>,
}

/// What a host does. The first rule that fits and is not used up counts; where
/// none fits the host accepts.
#[derive(Debug, Clone)]
pub struct Script {
    config: ServerConfig,
    rules: Vec<Rule>,
}

impl Script {
    /// Accepts everything.
    pub fn accept() -> Self {
        let hostname = "virtual-mx.test".parse().expect("a domain name");
        Self {
            config: ServerConfig::new(hostname),
            rules: Vec::new(),
        }
    }

    /// Speaks as this config says; of TLS it knows nothing.
    pub fn with_config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Takes the step whenever the phase is reached.
    pub fn at(self, phase: Phase, step: Step) -> Self {
        self.rule(phase, None, step, None)
    }

    /// Takes the step the first `count` times that the phase is reached.
    pub fn first(self, count: usize, phase: Phase, step: Step) -> Self {
        self.rule(phase, None, step, Some(count))
    }

    /// Takes the step at RCPT for one recipient.
    pub fn recipient(self, address: &str, step: Step) -> Self {
        self.rule(Phase::Rcpt, Some(address.to_owned()), step, None)
    }

    /// Takes the step at RCPT for one recipient the first `count` times.
    pub fn recipient_first(self, count: usize, address: &str, step: Step) -> Self {
        self.rule(Phase::Rcpt, Some(address.to_owned()), step, Some(count))
    }

    fn rule(
        mut self,
        phase: Phase,
        recipient: Option<String>,
        step: Step,
        remaining_count: Option<usize>,
    ) -> Self {
        self.rules.push(Rule {
            phase,
            recipient,
            step,
            remaining_count,
        });
        self
    }

    fn take_step(&mut self, phase: Phase, recipient: Option<&str>) -> Option<Step> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.phase == phase
                && rule.remaining_count != Some(0)
                && (rule.recipient.is_none() || rule.recipient.as_deref() == recipient)
        })?;
        if let Some(count) = &mut rule.remaining_count {
            *count -= 1;
        }
        Some(rule.step.clone())
    }
}

/// A message that the host took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Its envelope.
    pub envelope: Envelope,
    /// Its content without stuffing.
    pub content: Bytes,
    /// On which connection it came, counted from 1.
    pub connection: usize,
    /// How the client introduced itself.
    pub client_name: String,
    /// Where it came from.
    pub client_address: Option<IpAddr>,
}

/// What a host has seen.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Messages taken, in order.
    pub messages: Vec<ReceivedMessage>,
    /// Connections made.
    pub connection_count: usize,
    /// Connections that are no more.
    pub closed_count: usize,
    /// MAIL commands that were well-formed and in sequence.
    pub mail_count: usize,
    /// Contents received to their end, whatever was answered.
    pub content_count: usize,
}

/// The deadline passed and what was waited for had not come.
#[derive(Debug)]
pub struct DeadlinePassed {
    /// What had been seen by then.
    pub record: Record,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    record: watch::Sender<Record>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running host. Dropping it closes its listener and its connections.
#[derive(Debug)]
pub struct VirtualMx {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl VirtualMx {
    /// Listens at the address; port 0 for any.
    ///
    /// # Errors
    /// Those of binding the socket.
    pub async fn start(bind_ip: IpAddr, port: u16, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((bind_ip, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            record: watch::Sender::new(Record::default()),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does as this script says from the next phase on; connections keep the
    /// config they began with.
    pub fn set_script(&self, script: Script) {
        *self.shared.script() = script;
    }

    /// What it has seen so far.
    pub fn record(&self) -> Record {
        self.shared.record.borrow().clone()
    }

    /// The messages taken so far.
    pub fn messages(&self) -> Vec<ReceivedMessage> {
        self.shared.record.borrow().messages.clone()
    }

    /// The messages taken since the last time, forgetting them: for tests that would drown in them.
    pub fn take_messages(&self) -> Vec<ReceivedMessage> {
        let mut taken = Vec::new();
        self.shared
            .record
            .send_modify(|record| taken = std::mem::take(&mut record.messages));
        taken
    }

    /// The connections made so far.
    pub fn connection_count(&self) -> usize {
        self.shared.record.borrow().connection_count
    }

    /// Waits until that many messages have been taken and returns all there are.
    ///
    /// # Errors
    /// [`DeadlinePassed`] when they do not come within `deadline`.
    pub async fn wait_for_messages(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<ReceivedMessage>, DeadlinePassed> {
        let record = self
            .wait_for(deadline, |record| record.messages.len() >= count)
            .await?;
        Ok(record.messages)
    }

    /// Waits until what has been seen fulfils the condition.
    ///
    /// # Errors
    /// [`DeadlinePassed`] when it does not within `deadline`.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&Record) -> bool,
    ) -> Result<Record, DeadlinePassed> {
        let mut records = self.shared.record.subscribe();
        let waited = tokio::time::timeout(deadline, records.wait_for(|record| condition(record)));
        match waited.await {
            Ok(Ok(record)) => Ok(record.clone()),
            // The sender lives as long as `self`, so only time can have run out.
            Ok(Err(_)) | Err(_) => Err(DeadlinePassed {
                record: self.record(),
            }),
        }
    }

    /// Closes the listener and all connections; when it returns the port is free.
    pub async fn stop(mut self) -> Record {
        self.task.abort();
        // Cancelled is what it has to be.
        drop((&mut self.task).await);
        self.record()
    }
}

impl Drop for VirtualMx {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and with it the connections.
    let mut connections = JoinSet::new();
    let mut connection_count = 0;
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // As real hosts do: a reply in two writes must not wait for the client's delayed ACK.
        drop(stream.set_nodelay(true));
        connection_count += 1;
        shared
            .record
            .send_modify(|record| record.connection_count = connection_count);
        let connection = Connection::new(Arc::clone(&shared), connection_count);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that resets the connection is part of what is tested.
            drop(connection.run(stream).await);
            shared.record.send_modify(|record| record.closed_count += 1);
        });
    }
}

/// What becomes of a connection after all actions are carried out.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Read,
    Close,
    Hang,
}

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    session: ServerSession,
    client_name: String,
    client_address: Option<IpAddr>,
    /// Read and not yet fed to the session.
    input: Vec<u8>,
    output: Vec<u8>,
    content: Vec<u8>,
    content_has_begun: bool,
}

impl Connection {
    fn new(shared: Arc<Shared>, number: usize) -> Self {
        let config = Arc::new(shared.script().config.clone());
        Self {
            shared,
            number,
            session: ServerSession::new(config),
            client_name: String::new(),
            client_address: None,
            input: Vec::new(),
            output: Vec::new(),
            content: Vec::new(),
            content_has_begun: false,
        }
    }

    async fn run(mut self, mut stream: TcpStream) -> io::Result<()> {
        self.client_address = stream.peer_addr().ok().map(|address| address.ip());
        let mut next = self.act();
        loop {
            stream.write_all(&self.output).await?;
            self.output.clear();
            match next {
                Next::Read => {
                    if stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                    next = self.feed();
                }
                Next::Close => return Ok(()),
                Next::Hang => {
                    self.input.clear();
                    if stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Feeds whole lines one by one, so that DATA can be answered by the script.
    fn feed(&mut self) -> Next {
        while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let next = match self.data_step(&line) {
                Some(Step::Reply(reply)) => {
                    reply.write_to(&mut self.output);
                    Next::Read
                }
                Some(Step::Drop) => Next::Close,
                Some(Step::Hang) => Next::Hang,
                None => {
                    self.session.receive(Bytes::from(line));
                    self.act()
                }
            };
            if next != Next::Read {
                return next;
            }
        }
        Next::Read
    }

    /// What the script has for this line, if it is a DATA that would be granted.
    fn data_step(&self, line: &[u8]) -> Option<Step> {
        let has_recipients = self
            .session
            .envelope()
            .is_some_and(|envelope| !envelope.recipients.is_empty());
        if has_recipients
            && self.session.phase() == ServerPhase::Command
            && line.trim_ascii().eq_ignore_ascii_case(b"DATA")
        {
            self.shared.script().take_step(Phase::Data, None)
        } else {
            None
        }
    }

    fn act(&mut self) -> Next {
        while let Some(action) = self.session.poll() {
            let next = match action {
                ServerAction::Send(octets) => {
                    self.output.extend_from_slice(&octets);
                    Next::Read
                }
                ServerAction::Ask(question) => self.ask(question),
                ServerAction::Content(piece) => self.take_content(&piece),
                ServerAction::DiscardContent => {
                    self.content.clear();
                    Next::Read
                }
                ServerAction::Commit => self.commit(),
                // STARTTLS is not offered: there is no certificate here.
                ServerAction::UpgradeTls | ServerAction::Close(_) => Next::Close,
            };
            if next != Next::Read {
                return next;
            }
        }
        Next::Read
    }

    fn ask(&mut self, question: Question) -> Next {
        let (phase, recipient) = match question {
            Question::Connect => (Phase::Greeting, None),
            Question::Ehlo { name, .. } => {
                name.as_str().clone_into(&mut self.client_name);
                (Phase::Ehlo, None)
            }
            Question::Mail { .. } => {
                self.content_has_begun = false;
                self.shared
                    .record
                    .send_modify(|record| record.mail_count += 1);
                (Phase::Mail, None)
            }
            Question::Rcpt { path, .. } => (Phase::Rcpt, Some(path.to_string())),
        };
        let step = self.shared.script().take_step(phase, recipient.as_deref());
        match step {
            None => self.session.answer(Answer::Accept),
            Some(Step::Reply(reply)) => self.session.answer(Answer::Reply(reply)),
            Some(Step::Drop) => return Next::Close,
            Some(Step::Hang) => return Next::Hang,
        }
        Next::Read
    }

    fn take_content(&mut self, piece: &[u8]) -> Next {
        self.content.extend_from_slice(piece);
        if std::mem::replace(&mut self.content_has_begun, true) {
            return Next::Read;
        }
        let step = self.shared.script().take_step(Phase::Content, None);
        match step {
            None => {}
            Some(Step::Reply(reply)) => self.session.abort_content(reply),
            Some(Step::Drop) => return Next::Close,
            Some(Step::Hang) => return Next::Hang,
        }
        Next::Read
    }

    fn commit(&mut self) -> Next {
        let step = self.shared.script().take_step(Phase::EndOfData, None);
        let envelope = self.session.take_envelope();
        let content = Bytes::from(std::mem::take(&mut self.content));
        let reply = match &step {
            None => Some(Reply::new(250, (2, 0, 0), "Taken")),
            Some(Step::Reply(reply)) => Some(reply.clone()),
            Some(Step::Drop | Step::Hang) => None,
        };
        let message = envelope
            .filter(|_| reply.as_ref().is_some_and(Reply::is_positive))
            .map(|envelope| ReceivedMessage {
                envelope,
                content,
                connection: self.number,
                client_name: self.client_name.clone(),
                client_address: self.client_address,
            });
        self.shared.record.send_modify(|record| {
            record.content_count += 1;
            record.messages.extend(message);
        });
        match (reply, step) {
            (Some(reply), _) => {
                self.session.committed(reply);
                Next::Read
            }
            (None, Some(Step::Hang)) => Next::Hang,
            (None, _) => Next::Close,
        }
    }
}
