//! The state machine of the sending side.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::reply::{Reply, Severity};

use super::replies::ReplyReader;
use super::transaction::{Expects, Next, Transaction};
use super::{
    Capabilities, Cause, ClientAction, ClientConfig, ClientPhase, ClientTls, ClientTransaction,
    HostFailure, ProtocolError, RecipientOutcome, Stage, TransactionOutcome,
};

/// One SMTP connection from the client's side (RFC 5321), without the
/// connection, for any number of transactions one after the other.
///
/// A new session waits for the greeting. [`ClientSession::start`] may be called
/// from the beginning; then, if the host fails, the outcome has all recipients.
#[derive(Debug)]
pub struct ClientSession {
    config: ClientConfig,
    replies: ReplyReader,
    /// Commands being composed; the buffer is reused.
    out: Vec<u8>,
    actions: VecDeque<ClientAction>,
    state: State,
    /// Started before its turn.
    waiting: Option<ClientTransaction>,
    capabilities: Capabilities,
    is_tls: bool,
    transaction_count: u32,
    reply_count: u64,
}

/// Each reply consumes the state and makes the next one.
#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// Until [`ClientSession::tls_started`].
    Handshake,
    Ready,
    Transaction(Box<Transaction>),
    Reset,
    Quit,
    Closed,
}

impl ClientSession {
    /// A connection that has just been made, or is being made.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            is_tls: config.is_tls,
            config,
            replies: ReplyReader::default(),
            out: Vec::new(),
            actions: VecDeque::new(),
            state: State::Greeting,
            waiting: None,
            capabilities: Capabilities::default(),
            transaction_count: 0,
            reply_count: 0,
        }
    }

    /// Takes octets from the peer. They are dropped while TLS is being set up
    /// and after the end. To be followed by [`Self::poll`] until it returns
    /// `None`, which bounds what is held.
    pub fn receive(&mut self, octets: &[u8]) {
        if !matches!(self.state, State::Handshake | State::Closed) {
            self.replies.push(octets);
        }
    }

    /// The next thing to do; `None` when the session waits.
    pub fn poll(&mut self) -> Option<ClientAction> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if matches!(self.state, State::Handshake | State::Closed) {
                return None;
            }
            match self.replies.next() {
                Ok(None) => return None,
                Ok(Some(reply)) => self.take_reply(reply),
                Err(error) => self.fail(HostFailure::Protocol(error)),
            }
        }
    }

    /// Sends a message. Before [`ClientAction::Ready`] it waits for its turn;
    /// one can wait. After the end it is deferred at once.
    pub fn start(&mut self, transaction: ClientTransaction) {
        match self.state {
            State::Ready => self.begin(transaction),
            State::Closed => {
                self.waiting = Some(transaction);
                let failure = HostFailure::Disconnected(Cause::Closed);
                self.push_outcome(Stage::Greeting, failure, true);
            }
            _ => {
                debug_assert!(self.waiting.is_none(), "one transaction at a time");
                self.waiting = Some(transaction);
            }
        }
    }

    /// The content and its terminator have been written.
    pub fn content_sent(&mut self) {
        if let State::Transaction(transaction) = &mut self.state {
            transaction.content_sent();
        }
    }

    /// TLS is up: EHLO is said anew, what was offered before is forgotten
    /// (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.is_tls = true;
            self.capabilities = Capabilities::default();
            self.state = self.say_ehlo();
        }
    }

    /// Ends the connection: politely between transactions, at once before the
    /// first could start. Does nothing while a transaction is under way or waits.
    pub fn quit(&mut self) {
        if self.waiting.is_some() {
            return;
        }
        match self.state {
            State::Ready | State::Reset => {
                self.out.extend_from_slice(b"QUIT\r\n");
                self.flush();
                self.state = State::Quit;
            }
            State::Transaction(_) | State::Quit | State::Closed => {}
            State::Greeting | State::Ehlo | State::Helo | State::StartTls | State::Handshake => {
                self.close();
            }
        }
    }

    /// The connection is no more, or could not be made. Yields the outcome of
    /// what was under way, then Close.
    pub fn disconnected(&mut self, cause: Cause) {
        match self.state {
            State::Closed => {}
            State::Quit => self.close(),
            _ => self.fail(HostFailure::Disconnected(cause)),
        }
    }

    /// What the server offered last.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether TLS is up.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Transactions begun on this connection. A failure before any answer to
    /// the second or a later one may only mean that the server had closed the
    /// idle connection.
    pub fn transaction_count(&self) -> u32 {
        self.transaction_count
    }

    /// Whole replies taken so far. A time-out of RFC 5321 section 4.5.3.2 is for
    /// a reply: it starts anew when this grows or the phase changes, and not with
    /// a part of a reply.
    pub fn reply_count(&self) -> u64 {
        self.reply_count
    }

    /// What the session waits for.
    pub fn phase(&self) -> ClientPhase {
        match &self.state {
            State::Greeting => ClientPhase::Greeting,
            State::Ehlo | State::Helo | State::StartTls => ClientPhase::Hello,
            State::Handshake => ClientPhase::Tls,
            State::Ready => ClientPhase::Ready,
            State::Transaction(transaction) => match transaction.expects() {
                Expects::Mail => ClientPhase::Mail,
                Expects::Rcpt(_) => ClientPhase::Rcpt,
                Expects::Data => ClientPhase::Data,
                Expects::Nothing => ClientPhase::Content,
                Expects::EndOfData | Expects::EmptyEnd => ClientPhase::EndOfData,
            },
            State::Reset => ClientPhase::Reset,
            State::Quit => ClientPhase::Quit,
            State::Closed => ClientPhase::Closed,
        }
    }

    fn take_reply(&mut self, reply: Reply) {
        self.reply_count += 1;
        if reply.code == 421 && !matches!(self.state, State::Quit) {
            return self.fail(HostFailure::Refused(reply));
        }
        let code = reply.code;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Greeting => match code {
                220 => self.state = self.say_ehlo(),
                _ => self.refused(reply, State::Greeting),
            },
            State::Ehlo => match reply.severity() {
                Severity::Positive if code == 250 => {
                    self.capabilities = Capabilities::parse(&reply);
                    self.after_hello();
                }
                Severity::Permanent => {
                    let name = self.config.ehlo_name.clone();
                    self.state = self.say(&["HELO ", name.as_str()], State::Helo);
                }
                _ => self.refused(reply, State::Ehlo),
            },
            State::Helo => match code {
                250 => {
                    self.capabilities = Capabilities::of_helo(&reply.text);
                    self.after_hello();
                }
                _ => self.refused(reply, State::Helo),
            },
            State::StartTls => self.start_tls_reply(reply),
            State::Transaction(transaction) => self.transaction_reply(transaction, reply),
            State::Reset if reply.is_positive() => self.ready(),
            State::Reset => self.refused(reply, State::Reset),
            State::Ready => self.fail(HostFailure::Protocol(ProtocolError::Unasked)),
            State::Quit => self.close(),
            state @ (State::Handshake | State::Closed) => self.state = state,
        }
    }

    /// A reply between transactions that was not the one hoped for.
    fn refused(&mut self, reply: Reply, state: State) {
        self.state = state;
        self.fail(match reply.severity() {
            Severity::Transient | Severity::Permanent => HostFailure::Refused(reply),
            Severity::Positive | Severity::Intermediate => {
                HostFailure::Protocol(ProtocolError::Unexpected)
            }
        });
    }

    fn after_hello(&mut self) {
        if self.is_tls || self.config.tls == ClientTls::Off {
            self.ready();
        } else if self.capabilities.start_tls {
            self.state = self.say(&["STARTTLS"], State::StartTls);
        } else if self.config.tls == ClientTls::Required {
            self.state = State::StartTls;
            self.fail(HostFailure::TlsNotOffered);
        } else {
            self.ready();
        }
    }

    fn start_tls_reply(&mut self, reply: Reply) {
        if reply.code == 220 {
            // Anything behind it came in clear and would be read as if under TLS.
            if !self.replies.is_empty() {
                self.state = State::StartTls;
                return self.fail(HostFailure::Protocol(ProtocolError::Unasked));
            }
            self.actions.push_back(ClientAction::UpgradeTls);
            self.state = State::Handshake;
        } else if self.config.tls == ClientTls::Required {
            self.state = State::StartTls;
            self.fail(HostFailure::TlsRefused(reply));
        } else {
            self.ready();
        }
    }

    fn transaction_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        let stage = transaction.stage();
        let next = transaction.reply(reply, &mut self.out);
        match next {
            Next::Wait => self.state = State::Transaction(transaction),
            Next::Send => {
                self.state = State::Transaction(transaction);
                if self.replies.is_empty() {
                    self.flush();
                } else {
                    self.fail(HostFailure::Protocol(ProtocolError::Unasked));
                }
            }
            Next::SendContent => {
                self.actions.push_back(ClientAction::SendContent);
                self.state = State::Transaction(transaction);
            }
            Next::Finish { needs_reset } => self.finish(&transaction, stage, needs_reset),
            Next::FinishEarly => {
                self.push_finished(&transaction, stage, false);
                // In the middle of content QUIT would be content.
                self.hang_up(false);
            }
            Next::Fail(error) => {
                self.state = State::Transaction(transaction);
                self.fail(HostFailure::Protocol(error));
            }
        }
    }

    fn finish(&mut self, transaction: &Transaction, stage: Stage, needs_reset: bool) {
        let reusable = self.replies.is_empty();
        self.push_finished(transaction, stage, reusable);
        if !reusable {
            self.hang_up(true);
        } else if needs_reset {
            self.state = self.say(&["RSET"], State::Reset);
        } else {
            self.ready();
        }
    }

    fn push_finished(&mut self, transaction: &Transaction, stage: Stage, reusable: bool) {
        // Nobody is undecided at the end; were it so, deferring loses nothing.
        let undecided = RecipientOutcome::Deferred(Reply::new(451, (4, 5, 0), "No answer"));
        let mail_refusal = transaction.mail_refusal().map(Reply::severity);
        self.actions
            .push_back(ClientAction::Outcome(TransactionOutcome {
                recipients: transaction.outcomes(&undecided),
                try_next_host: mail_refusal == Some(Severity::Transient),
                reusable,
                stage: mail_refusal.map_or(stage, |_| Stage::Mail),
                host_failure: None,
            }));
    }

    fn ready(&mut self) {
        self.state = State::Ready;
        match self.waiting.take() {
            Some(transaction) => self.begin(transaction),
            None => self.actions.push_back(ClientAction::Ready),
        }
    }

    fn begin(&mut self, message: ClientTransaction) {
        if !self.replies.is_empty() {
            self.waiting = Some(message);
            return self.fail(HostFailure::Protocol(ProtocolError::Unasked));
        }
        self.transaction_count = self.transaction_count.saturating_add(1);
        match Transaction::begin(message, &self.capabilities, &self.config, &mut self.out) {
            Ok(transaction) => {
                self.state = State::Transaction(Box::new(transaction));
                self.flush();
            }
            Err(recipients) => {
                self.actions
                    .push_back(ClientAction::Outcome(TransactionOutcome {
                        recipients,
                        try_next_host: false,
                        reusable: true,
                        stage: Stage::Mail,
                        host_failure: None,
                    }));
                self.ready();
            }
        }
    }

    /// The host failed. Nothing more is expected of this connection.
    fn fail(&mut self, failure: HostFailure) {
        let may_quit = match &failure {
            HostFailure::Refused(reply) => reply.code != 421,
            HostFailure::TlsNotOffered | HostFailure::TlsRefused(_) => true,
            HostFailure::Protocol(_) | HostFailure::Disconnected(_) => false,
        };
        // Whether the message has been taken is unknown only when its end was
        // sent and no sensible reply to it came.
        let is_answered = matches!(failure, HostFailure::Refused(_));
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Transaction(transaction) => {
                let stage = transaction.stage();
                let undecided = RecipientOutcome::Deferred(failure.reply());
                self.actions
                    .push_back(ClientAction::Outcome(TransactionOutcome {
                        recipients: transaction.outcomes(&undecided),
                        try_next_host: stage != Stage::EndOfData || is_answered,
                        reusable: false,
                        stage,
                        host_failure: Some(failure),
                    }));
            }
            state => {
                let (stage, is_idle) = match state {
                    State::Greeting => (Stage::Greeting, false),
                    State::Ehlo | State::Helo => (Stage::Hello, false),
                    State::StartTls | State::Handshake => (Stage::Tls, false),
                    _ => (Stage::Mail, true),
                };
                if !is_idle || self.waiting.is_some() {
                    self.push_outcome(stage, failure, true);
                }
            }
        }
        self.hang_up(may_quit);
    }

    /// The outcome of a host that failed before the transaction had its turn.
    fn push_outcome(&mut self, stage: Stage, failure: HostFailure, try_next_host: bool) {
        let outcome = RecipientOutcome::Deferred(failure.reply());
        let waiting = self.waiting.take();
        let recipient_count = waiting.map_or(0, |transaction| transaction.recipients.len());
        self.actions
            .push_back(ClientAction::Outcome(TransactionOutcome {
                recipients: vec![outcome; recipient_count],
                try_next_host,
                reusable: false,
                stage,
                host_failure: Some(failure),
            }));
    }

    /// Closes without waiting for an answer.
    fn hang_up(&mut self, may_quit: bool) {
        self.out.clear();
        if may_quit {
            self.out.extend_from_slice(b"QUIT\r\n");
            self.flush();
        }
        self.close();
    }

    fn close(&mut self) {
        self.actions.push_back(ClientAction::Close);
        self.replies.clear();
        self.state = State::Closed;
    }

    fn say_ehlo(&mut self) -> State {
        let name = self.config.ehlo_name.clone();
        self.say(&["EHLO ", name.as_str()], State::Ehlo)
    }

    /// Says one command and waits for its reply in `state`; a reply that is
    /// there already cannot be one to it.
    fn say(&mut self, words: &[&str], state: State) -> State {
        if !self.replies.is_empty() {
            self.state = state;
            self.fail(HostFailure::Protocol(ProtocolError::Unasked));
            return State::Closed;
        }
        for word in words {
            self.out.extend_from_slice(word.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.flush();
        state
    }

    fn flush(&mut self) {
        let octets = Bytes::copy_from_slice(&self.out);
        self.out.clear();
        self.actions.push_back(ClientAction::Send(octets));
    }
}
