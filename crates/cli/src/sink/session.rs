//! One connection: drives a [`ServerSession`] as the script says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use smtp::{Answer, ForwardPath, Question, Reply, ReversePath, ServerAction, ServerSession};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Sink;
use super::arrivals::Incoming;
use super::script::{Decision, Effect, Phase};

/// Enough for a common message in one read.
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// One client.
struct Connection<'a> {
    sink: &'a Sink,
    session: ServerSession,
    stream: TcpStream,
    client: SocketAddr,
    /// The message that is coming in, from its first octets.
    incoming: Option<Incoming>,
    /// `--exit-after` is reached; told when the reply has been written.
    is_enough: bool,
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoesOn,
    Ends,
}

/// Serves one client until it or the script ends the connection.
///
/// # Errors
/// When the socket fails.
pub(super) async fn drive(stream: TcpStream, client: SocketAddr, sink: &Sink) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sink.arrivals.connected();
    let session = ServerSession::new(Arc::clone(&sink.config));
    let mut connection = Connection {
        sink,
        session,
        stream,
        client,
        incoming: None,
        is_enough: false,
    };
    let result = connection.serve().await;
    // Where the client hung up before the reply, too.
    connection.tell_enough();
    result
}

impl Connection<'_> {
    async fn serve(&mut self) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(action) = self.session.poll() {
                if self.act(action).await? == Flow::Ends {
                    return Ok(());
                }
            }
            buffer.reserve(READ_BUFFER_BYTES);
            if self.stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            self.session.receive(buffer.split().freeze());
        }
    }

    fn tell_enough(&mut self) {
        if std::mem::take(&mut self.is_enough) {
            self.sink.enough.notify_one();
        }
    }

    async fn act(&mut self, action: ServerAction) -> io::Result<Flow> {
        match action {
            ServerAction::Send(octets) => {
                self.stream.write_all(&octets).await?;
                self.tell_enough();
            }
            ServerAction::Ask(question) => return self.ask(&question).await,
            ServerAction::Content(piece) => {
                if self.incoming.is_none() {
                    self.incoming = Some(Incoming::default());
                    if self.refuses_content().await == Flow::Ends {
                        return Ok(Flow::Ends);
                    }
                }
                if let Some(incoming) = &mut self.incoming {
                    incoming.take(piece, &self.sink.arrivals);
                }
            }
            ServerAction::DiscardContent => self.incoming = None,
            ServerAction::Commit => return self.commit().await,
            // The sink has no certificate and does not offer TLS.
            ServerAction::UpgradeTls | ServerAction::Close(_) => {
                self.stream.shutdown().await?;
                return Ok(Flow::Ends);
            }
        }
        Ok(Flow::GoesOn)
    }

    async fn ask(&mut self, question: &Question) -> io::Result<Flow> {
        let script = &self.sink.script;
        let decision = match question {
            Question::Connect if script.knows(Phase::Connect) => {
                script.decide(Phase::Connect, &[&self.client.ip().to_string()])
            }
            Question::Ehlo { name, .. } if script.knows(Phase::Ehlo) => {
                script.decide(Phase::Ehlo, &[name.as_str()])
            }
            Question::Mail { reverse_path, .. } if script.knows(Phase::Mail) => {
                script.decide(Phase::Mail, &[&sender(reverse_path)])
            }
            Question::Rcpt { path, .. } if script.knows(Phase::Rcpt) => {
                script.decide(Phase::Rcpt, &[&recipient(path)])
            }
            _ => {
                self.session.answer(Answer::Accept);
                return Ok(Flow::GoesOn);
            }
        };
        let answer = match self.carry_out(decision).await {
            None => return Ok(Flow::Ends),
            Some(Effect::Reply(reply)) => Answer::Reply(reply),
            Some(_) => Answer::Accept,
        };
        self.session.answer(answer);
        Ok(Flow::GoesOn)
    }

    /// The rules for the first octets of a message.
    async fn refuses_content(&mut self) -> Flow {
        let Some(decision) = self.decide_message(Phase::Content) else {
            return Flow::GoesOn;
        };
        match self.carry_out(decision).await {
            None => return Flow::Ends,
            Some(Effect::Reply(reply)) if !reply.is_positive() => {
                self.incoming = None;
                self.session.abort_content(reply);
            }
            Some(_) => {}
        }
        Flow::GoesOn
    }

    async fn commit(&mut self) -> io::Result<Flow> {
        let incoming = self.incoming.take().unwrap_or_default();
        let effect = match self.decide_message(Phase::Data) {
            Some(decision) => self.carry_out(decision).await,
            None => Some(Effect::Accept),
        };
        if let Some(delay) = self.sink.delay {
            tokio::time::sleep(delay).await;
        }
        let given = match effect {
            None => return Ok(Flow::Ends),
            Some(Effect::Reply(reply)) if !reply.is_positive() => {
                self.session.committed(reply);
                return Ok(Flow::GoesOn);
            }
            Some(Effect::Reply(reply)) => Some(reply),
            Some(_) => None,
        };
        // There is an envelope: the machine has just asked for the commit.
        let Some(envelope) = self.session.take_envelope() else {
            return Ok(Flow::Ends);
        };
        let client = self.client.to_string();
        let reply = match self.sink.arrivals.arrived(&envelope, &incoming, &client) {
            Ok(number) => {
                let count = self.sink.arrivals.count_at(number);
                self.is_enough = self.sink.exit_after.is_some_and(|last| count >= last);
                given.unwrap_or_else(|| Reply::new(250, (2, 0, 0), format!("Taken as {number}")))
            }
            Err(error) => Reply::new(451, (4, 3, 0), format!("Cannot write it: {error}")),
        };
        self.session.committed(reply);
        Ok(Flow::GoesOn)
    }

    /// What the rules say about the message under way, if any rule is about this phase.
    fn decide_message(&self, phase: Phase) -> Option<Decision> {
        if !self.sink.script.knows(phase) {
            return None;
        }
        let envelope = self.session.envelope()?;
        let mut subjects = vec![sender(&envelope.reverse_path)];
        subjects.extend(
            envelope
                .recipients
                .iter()
                .map(|taken| recipient(&taken.path)),
        );
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        Some(self.sink.script.decide(phase, &subjects))
    }

    /// Waits as long as the rule says; nothing when the connection is to be dropped.
    async fn carry_out(&self, decision: Decision) -> Option<Effect> {
        if !decision.delay.is_zero() {
            tokio::time::sleep(decision.delay).await;
        }
        match decision.effect {
            Effect::Drop => {
                self.sink.arrivals.refused();
                None
            }
            Effect::Reply(reply) => {
                if !reply.is_positive() {
                    self.sink.arrivals.refused();
                }
                Some(Effect::Reply(reply))
            }
            Effect::Accept => Some(Effect::Accept),
        }
    }
}

/// Without angle brackets, as patterns are written; the null reverse-path is `<>`.
fn sender(path: &ReversePath) -> String {
    path.mailbox()
        .map_or_else(|| "<>".to_owned(), ToString::to_string)
}

fn recipient(path: &ForwardPath) -> String {
    path.mailbox()
        .map_or_else(|| "postmaster".to_owned(), ToString::to_string)
}
