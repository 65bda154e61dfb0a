//! Drivers for the machines: what a socket and a policy would do.

use std::sync::Arc;

use bytes::Bytes;
use smtp::{
    Answer, ClientAction, ClientConfig, ClientSession, ClientTransaction, CloseReason, Domain,
    Envelope, ForwardPath, MailParameters, Question, RcptParameters, Recipient, Reply, ReversePath,
    ServerAction, ServerConfig, ServerSession,
};

pub(crate) fn domain(text: &str) -> Domain {
    text.parse().expect("a domain of a test")
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig::new(domain("mx.example"))
}

pub(crate) fn recipient(address: &str) -> Recipient {
    Recipient {
        path: address.parse::<ForwardPath>().expect("a path of a test"),
        parameters: RcptParameters::default(),
    }
}

pub(crate) fn transaction(from: &str, to: &[&str], size_bytes: u64) -> ClientTransaction {
    ClientTransaction {
        reverse_path: from.parse::<ReversePath>().expect("a path of a test"),
        parameters: MailParameters::default(),
        recipients: to.iter().map(|address| recipient(address)).collect(),
        size_bytes,
    }
}

/// What a server did, without where its output was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Asked(Question),
    Committed(Envelope, Vec<u8>),
    Discarded,
    UpgradedTls,
    Closed(CloseReason),
}

/// A server with a policy of fixed answers, fed with octets.
pub(crate) struct ServerDriver {
    pub(crate) session: ServerSession,
    pub(crate) sent: Vec<u8>,
    pub(crate) send_count: usize,
    pub(crate) events: Vec<Event>,
    pub(crate) policy: fn(&Question) -> Answer,
    /// TLS is "started" as soon as it is asked for.
    pub(crate) grants_tls: bool,
    content: Vec<u8>,
}

impl ServerDriver {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self::with_policy(config, |_| Answer::Accept)
    }

    pub(crate) fn with_policy(config: ServerConfig, policy: fn(&Question) -> Answer) -> Self {
        let mut driver = Self {
            session: ServerSession::new(Arc::new(config)),
            sent: Vec::new(),
            send_count: 0,
            events: Vec::new(),
            policy,
            grants_tls: true,
            content: Vec::new(),
        };
        driver.run();
        driver
    }

    pub(crate) fn feed(&mut self, octets: &[u8]) {
        self.session.receive(Bytes::copy_from_slice(octets));
        self.run();
    }

    pub(crate) fn run(&mut self) {
        while let Some(action) = self.session.poll() {
            match action {
                ServerAction::Send(octets) => {
                    assert!(!octets.is_empty(), "an empty Send");
                    self.sent.extend_from_slice(&octets);
                    self.send_count += 1;
                }
                ServerAction::Ask(question) => {
                    let answer = (self.policy)(&question);
                    self.events.push(Event::Asked(question));
                    self.session.answer(answer);
                }
                ServerAction::Content(piece) => {
                    assert!(!piece.is_empty(), "an empty piece");
                    self.content.extend_from_slice(&piece);
                }
                ServerAction::DiscardContent => {
                    self.content.clear();
                    self.events.push(Event::Discarded);
                }
                ServerAction::Commit => {
                    let envelope = self.session.take_envelope().expect("an envelope");
                    let content = std::mem::take(&mut self.content);
                    self.events.push(Event::Committed(envelope, content));
                    self.session.committed(Reply::new(250, (2, 0, 0), "queued"));
                }
                ServerAction::UpgradeTls => {
                    self.events.push(Event::UpgradedTls);
                    if self.grants_tls {
                        self.session.tls_started();
                    }
                }
                ServerAction::Close(reason) => self.events.push(Event::Closed(reason)),
            }
        }
    }

    /// What has been sent since the last call.
    pub(crate) fn take_sent(&mut self) -> String {
        self.send_count = 0;
        String::from_utf8(std::mem::take(&mut self.sent)).expect("replies are ASCII")
    }

    /// Feeds one line and returns the whole answer to it.
    pub(crate) fn say(&mut self, line: &str) -> String {
        self.feed(line.as_bytes());
        self.feed(b"\r\n");
        self.take_sent()
    }

    pub(crate) fn messages(&self) -> Vec<(&Envelope, &[u8])> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Committed(envelope, content) => Some((envelope, content.as_slice())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(*reason),
            _ => None,
        })
    }
}

/// A client with what it has done; a test plays the server by hand.
pub(crate) struct ClientDriver {
    pub(crate) session: ClientSession,
    pub(crate) actions: Vec<ClientAction>,
}

impl ClientDriver {
    pub(crate) fn new(config: ClientConfig) -> Self {
        let session = ClientSession::new(config);
        let mut driver = Self {
            session,
            actions: Vec::new(),
        };
        driver.run();
        driver
    }

    pub(crate) fn plain() -> Self {
        Self::new(ClientConfig::new(domain("client.example")))
    }

    /// Greeted, and told these extensions.
    pub(crate) fn ready(extensions: &[&str]) -> Self {
        let mut driver = Self::plain();
        driver.feed("220 mx.example\r\n");
        let mut answer = String::from("250-mx.example\r\n");
        for extension in extensions {
            answer.push_str(&format!("250-{extension}\r\n"));
        }
        answer.push_str("250 HELP\r\n");
        assert_eq!(driver.take(), [send("EHLO client.example\r\n")]);
        driver.feed(&answer);
        assert_eq!(driver.take(), [ClientAction::Ready]);
        driver
    }

    pub(crate) fn feed(&mut self, text: &str) {
        self.session.receive(text.as_bytes());
        self.run();
    }

    pub(crate) fn run(&mut self) {
        while let Some(action) = self.session.poll() {
            self.actions.push(action);
        }
    }

    pub(crate) fn start(&mut self, transaction: ClientTransaction) {
        self.session.start(transaction);
        self.run();
    }

    /// The actions since the last call.
    pub(crate) fn take(&mut self) -> Vec<ClientAction> {
        std::mem::take(&mut self.actions)
    }
}

pub(crate) fn send(text: &'static str) -> ClientAction {
    ClientAction::Send(Bytes::from_static(text.as_bytes()))
}
