//! The state machine of the receiving side.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::ReversePath;
use crate::content::{BareLineBreak, DotUnstuffer, Unstuffed};
use crate::envelope::{Envelope, MailParameters, Recipient};
use crate::reply::Reply;

use super::command::{self, Command, Refusal};
use super::lines::{Input, Line, LineFault};
use super::{Answer, CloseReason, Question, ServerAction, ServerConfig, ServerPhase, replies};

/// Replies held back for coalescing are sent when they reach this size.
const HELD_REPLIES_MAX_BYTES: usize = 16 * 1024;
/// With this much unread the driver should poll before it reads on.
const BUFFERED_INPUT_MAX_BYTES: usize = 64 * 1024;

/// One SMTP connection from the server's side (RFC 5321), without the
/// connection. See the [crate documentation](crate) for how it is driven.
///
/// Replies to a pipelined group are held back until the machine needs input
/// (RFC 2920 section 3.2) and leave in one [`ServerAction::Send`].
#[derive(Debug)]
pub struct ServerSession {
    pub(super) config: Arc<ServerConfig>,
    pub(super) input: Input,
    /// Replies held back; the buffer is reused.
    pub(super) held_replies: Vec<u8>,
    pub(super) actions: VecDeque<ServerAction>,
    state: State,
    pub(super) is_tls: bool,
    is_shutting_down: bool,
    error_count: u32,
    pub(super) message_count: u32,
    /// The last MAIL was refused: commands of the same pipelined group that now
    /// lack it are no errors of the client (RFC 2920 section 3.1).
    pub(super) is_behind_refused_mail: bool,
}

/// Each step consumes the state and makes the next one.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing has happened.
    Opening,
    /// A question is open.
    Asking(Asked),
    /// Between commands.
    Command(Dialogue),
    Content {
        envelope: Envelope,
        unstuffer: DotUnstuffer,
        received_bytes: u64,
    },
    /// Reading a refused message to its end.
    Discarding {
        unstuffer: DotUnstuffer,
        reply: Reply,
        discarded_bytes: u64,
    },
    /// The content is whole and the driver decides.
    Committing(Option<Envelope>),
    /// Until [`ServerSession::tls_started`].
    Upgrading,
    /// Refused at Connect: only QUIT is answered kindly.
    Refused,
    Closed,
}

/// What the client has said so far.
#[derive(Debug)]
pub(super) enum Dialogue {
    Unidentified,
    Identified,
    Transaction(Envelope),
}

/// A question with what it is about.
#[derive(Debug)]
pub(super) enum Asked {
    Connect,
    Ehlo {
        extended: bool,
        before: Dialogue,
    },
    Mail {
        reverse_path: ReversePath,
        parameters: MailParameters,
    },
    Rcpt {
        envelope: Envelope,
        recipient: Recipient,
    },
}

impl ServerSession {
    /// A connection that has just been accepted, in clear.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            input: Input::default(),
            held_replies: Vec::new(),
            actions: VecDeque::new(),
            state: State::Opening,
            is_tls: false,
            is_shutting_down: false,
            error_count: 0,
            message_count: 0,
            is_behind_refused_mail: false,
        }
    }

    /// A connection on a port of implicit TLS (RFC 8314), TLS being up.
    pub fn over_tls(config: Arc<ServerConfig>) -> Self {
        Self {
            is_tls: true,
            ..Self::new(config)
        }
    }

    /// Takes octets from the peer. They are dropped while TLS is being set up
    /// and after the end.
    pub fn receive(&mut self, octets: Bytes) {
        if !matches!(self.state, State::Upgrading | State::Closed) {
            self.input.push(octets);
        }
    }

    /// Whether the driver should read. False while a question, a commit or TLS
    /// is open, so that a peer that sends ahead is held back by its own window.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Command(_)
            | State::Content { .. }
            | State::Discarding { .. }
            | State::Refused => self.input.buffered_bytes() < BUFFERED_INPUT_MAX_BYTES,
            State::Opening
            | State::Asking(_)
            | State::Committing(_)
            | State::Upgrading
            | State::Closed => false,
        }
    }

    /// The next thing to do; `None` when the machine waits.
    pub fn poll(&mut self) -> Option<ServerAction> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            let is_waiting = self.held_replies.len() >= HELD_REPLIES_MAX_BYTES || !self.step();
            if is_waiting {
                return self.take_held_replies().map(ServerAction::Send);
            }
        }
    }

    /// Answers the open question. Without one nothing happens.
    pub fn answer(&mut self, answer: Answer) {
        let asked = match std::mem::replace(&mut self.state, State::Closed) {
            State::Asking(asked) => asked,
            state => {
                debug_assert!(false, "no question is open");
                self.state = state;
                return;
            }
        };
        self.state = match answer {
            Answer::Accept => self.accept(asked, None),
            Answer::Reply(reply) if reply.is_positive() => self.accept(asked, Some(&reply)),
            Answer::Reply(reply) => self.refuse(asked, refusal(reply)),
        };
    }

    /// The reply to the content: after [`ServerAction::Commit`] only.
    pub fn committed(&mut self, reply: Reply) {
        if !matches!(self.state, State::Committing(_)) {
            debug_assert!(false, "nothing to commit");
            return;
        }
        let reply = if reply.is_positive() {
            self.error_count = 0;
            reply
        } else {
            refusal(reply)
        };
        self.message_count = self.message_count.saturating_add(1);
        self.state = self.end_transaction(&reply);
    }

    /// Refuses the content that is being received, e.g. with 452 4.3.1: the
    /// rest is read and dropped, then this reply is sent, there is no Commit.
    /// After [`ServerAction::Commit`] it is the same as [`Self::committed`].
    pub fn abort_content(&mut self, reply: Reply) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Content {
                unstuffer,
                received_bytes,
                ..
            } => {
                self.state = self.discard(unstuffer, received_bytes, refusal(reply));
            }
            state @ State::Committing(_) => {
                self.state = state;
                self.committed(refusal(reply));
            }
            state => self.state = state,
        }
    }

    /// The transaction under way, from its MAIL to its commit.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.state {
            State::Command(Dialogue::Transaction(envelope))
            | State::Asking(Asked::Rcpt { envelope, .. })
            | State::Content { envelope, .. } => Some(envelope),
            State::Committing(envelope) => envelope.as_ref(),
            _ => None,
        }
    }

    /// The reply to content that was refused and is being read to its end, from
    /// [`ServerAction::DiscardContent`] on.
    pub fn refusal(&self) -> Option<&Reply> {
        match &self.state {
            State::Discarding { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// The envelope of the message to commit; once, after [`ServerAction::Commit`].
    pub fn take_envelope(&mut self) -> Option<Envelope> {
        match &mut self.state {
            State::Committing(envelope) => envelope.take(),
            _ => None,
        }
    }

    /// TLS is up: the client has to introduce itself anew (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::Upgrading) {
            self.is_tls = true;
            self.state = State::Command(Dialogue::Unidentified);
        }
    }

    /// Whether TLS is up.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Messages that were committed on this connection, refused ones included.
    pub fn message_count(&self) -> u32 {
        self.message_count
    }

    /// Whom the session waits for.
    pub fn phase(&self) -> ServerPhase {
        match self.state {
            State::Command(_) | State::Refused => ServerPhase::Command,
            State::Content { .. } | State::Discarding { .. } => ServerPhase::Content,
            State::Opening | State::Asking(_) | State::Committing(_) => ServerPhase::Driver,
            State::Upgrading => ServerPhase::Tls,
            State::Closed => ServerPhase::Closed,
        }
    }

    /// Closes with 421 as soon as no transaction is under way (RFC 5321
    /// section 3.8); a message being received may still be finished.
    pub fn shutdown(&mut self) {
        self.is_shutting_down = true;
    }

    /// Closes with 421 4.4.2 at once: the peer has been silent for too long.
    pub fn time_out(&mut self) {
        match self.state {
            State::Closed => {}
            State::Upgrading => {
                // The peer expects TLS, so there is no way to tell it.
                self.held_replies.clear();
                self.state = self.close(b"", CloseReason::TimedOut);
            }
            _ => self.state = self.close(replies::TIMED_OUT, CloseReason::TimedOut),
        }
    }

    /// Goes one step; false when it cannot.
    fn step(&mut self) -> bool {
        let (state, moved) = match std::mem::replace(&mut self.state, State::Closed) {
            State::Opening => {
                self.actions.push_back(ServerAction::Ask(Question::Connect));
                (State::Asking(Asked::Connect), true)
            }
            State::Command(dialogue) => self.step_command(dialogue),
            State::Content {
                envelope,
                unstuffer,
                received_bytes,
            } => self.step_content(envelope, unstuffer, received_bytes),
            State::Discarding {
                unstuffer,
                reply,
                discarded_bytes,
            } => self.step_discarding(unstuffer, reply, discarded_bytes),
            State::Refused => self.step_refused(),
            state => (state, false),
        };
        self.state = state;
        moved
    }

    fn step_command(&mut self, dialogue: Dialogue) -> (State, bool) {
        if self.is_shutting_down && !matches!(dialogue, Dialogue::Transaction(_)) {
            return (
                self.close(replies::SHUTTING_DOWN, CloseReason::Shutdown),
                true,
            );
        }
        match self.input.next_line() {
            Line::Incomplete => (State::Command(dialogue), false),
            Line::Fault(fault) => (self.line_fault(fault, State::Command(dialogue)), true),
            Line::Whole(line) => {
                let state = match Command::parse(&line) {
                    Ok(command) => self.run(command, dialogue),
                    Err(refusal) => {
                        self.is_behind_refused_mail |= command::is_mail(&line);
                        self.error(refusal, State::Command(dialogue))
                    }
                };
                (state, true)
            }
        }
    }

    fn step_refused(&mut self) -> (State, bool) {
        if self.is_shutting_down {
            return (
                self.close(replies::SHUTTING_DOWN, CloseReason::Shutdown),
                true,
            );
        }
        match self.input.next_line() {
            Line::Incomplete => (State::Refused, false),
            Line::Fault(fault) => (self.line_fault(fault, State::Refused), true),
            Line::Whole(line) => {
                let state = match Command::parse(&line) {
                    Ok(Command::Quit) => self.close(replies::BYE, CloseReason::Quit),
                    _ => self.error(replies::ONLY_QUIT, State::Refused),
                };
                (state, true)
            }
        }
    }

    fn step_content(
        &mut self,
        envelope: Envelope,
        mut unstuffer: DotUnstuffer,
        mut received_bytes: u64,
    ) -> (State, bool) {
        let unstuffed = match self.input.chunk() {
            Some(chunk) => unstuffer.next(chunk),
            None => {
                let state = State::Content {
                    envelope,
                    unstuffer,
                    received_bytes,
                };
                return (state, false);
            }
        };
        match unstuffed {
            Unstuffed::Piece(piece) => {
                received_bytes += piece.len() as u64;
                if self
                    .config
                    .max_message_bytes
                    .is_some_and(|max| received_bytes > max)
                {
                    let reply = Reply::new(552, (5, 3, 4), "The message is larger than the limit");
                    return (self.discard(unstuffer, received_bytes, reply), true);
                }
                self.actions.push_back(ServerAction::Content(piece));
            }
            Unstuffed::Fault(fault) => {
                let text = match fault {
                    BareLineBreak::CarriageReturn => {
                        "Refused: a carriage return without a line feed"
                    }
                    BareLineBreak::LineFeed => "Refused: a line feed without a carriage return",
                };
                let reply = Reply::new(554, (5, 6, 0), text);
                return (self.discard(unstuffer, received_bytes, reply), true);
            }
            Unstuffed::More => {}
            Unstuffed::End => {
                self.actions.push_back(ServerAction::Commit);
                return (State::Committing(Some(envelope)), true);
            }
        }
        let state = State::Content {
            envelope,
            unstuffer,
            received_bytes,
        };
        (state, true)
    }

    fn step_discarding(
        &mut self,
        mut unstuffer: DotUnstuffer,
        reply: Reply,
        mut discarded_bytes: u64,
    ) -> (State, bool) {
        // Before more is read, so that the cuts of the input make no difference.
        let max = self.config.max_message_bytes.unwrap_or(0);
        if discarded_bytes > max.saturating_add(self.config.max_discarded_bytes) {
            reply.write_to(&mut self.held_replies);
            return (self.close(b"", CloseReason::Flood), true);
        }
        let unstuffed = self.input.chunk().map(|chunk| unstuffer.next(chunk));
        match &unstuffed {
            Some(Unstuffed::End) => return (self.end_transaction(&reply), true),
            Some(Unstuffed::Piece(piece)) => discarded_bytes += piece.len() as u64,
            Some(Unstuffed::Fault(_) | Unstuffed::More) | None => {}
        }
        let state = State::Discarding {
            unstuffer,
            reply,
            discarded_bytes,
        };
        (state, unstuffed.is_some())
    }

    /// Starts to drop content: what has come of it counts as dropped.
    fn discard(&mut self, unstuffer: DotUnstuffer, discarded_bytes: u64, reply: Reply) -> State {
        self.actions.push_back(ServerAction::DiscardContent);
        State::Discarding {
            unstuffer,
            reply,
            discarded_bytes,
        }
    }

    /// The reply to the content has been decided.
    fn end_transaction(&mut self, reply: &Reply) -> State {
        reply.write_to(&mut self.held_replies);
        if reply.code == 421 {
            self.close(b"", CloseReason::Refused)
        } else {
            State::Command(Dialogue::Identified)
        }
    }

    pub(super) fn ask(&mut self, question: Question, asked: Asked) -> State {
        self.actions.push_back(ServerAction::Ask(question));
        State::Asking(asked)
    }

    pub(super) fn stay(&mut self, reply: &'static [u8], dialogue: Dialogue) -> State {
        self.held_replies.extend_from_slice(reply);
        State::Command(dialogue)
    }

    fn line_fault(&mut self, fault: LineFault, state: State) -> State {
        let refusal = match fault {
            LineFault::TooLong => replies::LINE_TOO_LONG,
            LineFault::BareLf => replies::BARE_LF,
            LineFault::BareCr => replies::BARE_CR,
            LineFault::Control => replies::CONTROL,
            LineFault::Endless => return self.close(replies::FLOOD, CloseReason::Flood),
        };
        self.error(refusal, state)
    }

    /// Refuses what was no valid command; the last one allowed closes.
    pub(super) fn error(&mut self, refusal: Refusal, state: State) -> State {
        self.error_count += 1;
        if self.error_count >= self.config.max_error_count {
            return self.close(replies::TOO_MANY_ERRORS, CloseReason::TooManyErrors);
        }
        self.held_replies.extend_from_slice(refusal);
        state
    }

    pub(super) fn close(&mut self, reply: &'static [u8], reason: CloseReason) -> State {
        self.held_replies.extend_from_slice(reply);
        self.flush();
        self.actions.push_back(ServerAction::Close(reason));
        self.input.clear();
        State::Closed
    }

    pub(super) fn flush(&mut self) {
        let replies = self.take_held_replies();
        self.actions.extend(replies.map(ServerAction::Send));
    }

    fn take_held_replies(&mut self) -> Option<Bytes> {
        if self.held_replies.is_empty() {
            return None;
        }
        let replies = Bytes::copy_from_slice(&self.held_replies);
        self.held_replies.clear();
        Some(replies)
    }
}

/// A reply that refuses: one that does not can only be a fault of ours.
fn refusal(reply: Reply) -> Reply {
    match reply.code {
        400..=599 => reply,
        _ => Reply::new(451, (4, 3, 0), "A fault in the local system"),
    }
}
