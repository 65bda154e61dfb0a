//! Answers to what the machine asks: limits, relay control, then plugins.
//!
//! Where no plugin takes part, every answer is there at once. Where one does, the client waits
//! with us: the machine reads no further command while a question is open, so pipelined
//! commands stay in order, and no time-out of the session runs.

use std::future::Future;
use std::io;

use futures_util::FutureExt as _;
use plugin::{Ingress, Peer};
use smtp::{Answer, ForwardPath, MailParameters, Question, Reply, ReversePath, ServerAction};

use super::{Dialogue, FAREWELL};
use crate::clock::Stopwatch;
use crate::policy::dialogue::{Beginning, Refusal, Transaction};
use crate::reception;
use crate::stream::Stream;

/// The reply where we stop while a plugin still thinks.
pub(super) fn stopping() -> Reply {
    Reply::new(421, (4, 3, 2), "The service is shutting down")
}

impl Dialogue {
    pub(super) async fn decide(&mut self, question: Question) -> io::Result<()> {
        let answer = match question {
            Question::Connect => Answer::Accept,
            Question::Ehlo { name, extended } => {
                self.client.helo = name.to_string();
                self.client.extended = extended;
                Answer::Accept
            }
            Question::Mail {
                reverse_path,
                parameters,
            } => match self.decide_mail(&reverse_path, &parameters) {
                Answer::Accept if self.transaction.is_some() => self.ask_of_mail().await?,
                answer => answer,
            },
            Question::Rcpt { path, parameters } => match self.decide_rcpt() {
                Answer::Accept if self.transaction.is_some() => {
                    self.ask_of_rcpt(&path, parameters).await?
                }
                answer => answer,
            },
        };
        self.machine.answer(answer);
        Ok(())
    }

    fn decide_mail(&mut self, reverse_path: &ReversePath, parameters: &MailParameters) -> Answer {
        // A pipelined group may end one content and begin the next.
        self.content_since = None;
        self.transaction = None;
        if self.profile.is_closed {
            let text = "This listener is being moved: try again later";
            return Answer::Reply(Reply::new(421, (4, 3, 2), text));
        }
        if self.age() >= self.settings.config.limits.session_timeout {
            return Answer::Reply(Reply::new(
                421,
                (4, 4, 2),
                "This session has lasted too long",
            ));
        }
        self.forget_content();
        let now = self.session.core.now();
        self.id = self.session.core.ids.next(now);
        // One snapshot for all phases of this message, whatever is loaded meanwhile.
        let settings = self.session.core.settings.load();
        let beginning = Beginning {
            id: self.id,
            now,
            listener: &self.session.listener,
            reverse_path,
            parameters,
        };
        self.transaction = Transaction::begin(&settings, &beginning, || self.peer());
        Answer::Accept
    }

    /// Relay control. There is one rule and no exception to it: the client's address lies in
    /// one of the listener's networks, or nothing is taken from it. No plugin is asked before.
    fn decide_rcpt(&mut self) -> Answer {
        let listener = &self.profile.listener;
        if listener.relay_from.contains(self.session.peer.ip()) {
            return Answer::Accept;
        }
        self.session.meters.recipient_refused("relay_denied");
        if self.refused_count == 0 {
            // Once a session, or whoever tries many addresses fills the log.
            tracing::info!(peer = %self.session.peer, listener = listener.name, "relaying denied");
        }
        self.refused_count += 1;
        if self.refused_count > self.settings.config.limits.errors_per_connection_count {
            let text = "Too many refused recipients";
            return Answer::Reply(Reply::new(421, (4, 7, 0), text));
        }
        Answer::Reply(Reply::new(
            550,
            (5, 7, 1),
            "Relaying denied: your address may not relay through this host",
        ))
    }

    async fn ask_of_mail(&mut self) -> io::Result<Answer> {
        let Some(mut transaction) = self.transaction.take() else {
            return Ok(Answer::Accept);
        };
        let decided = self.wait(transaction.on_mail()).await?;
        if matches!(decided, Some(Ok(()))) {
            self.transaction = Some(transaction);
        }
        Ok(match decided {
            Some(Ok(())) => Answer::Accept,
            Some(Err(refusal)) => {
                self.session.meters.sender_refused(refusal.reason);
                Answer::Reply(refusal.reply)
            }
            None => Answer::Reply(stopping()),
        })
    }

    async fn ask_of_rcpt(
        &mut self,
        path: &ForwardPath,
        parameters: smtp::RcptParameters,
    ) -> io::Result<Answer> {
        let Some(mut transaction) = self.transaction.take() else {
            return Ok(Answer::Accept);
        };
        let mailbox = reception::mailbox(path, &self.settings.config.hostname);
        let decided = self.wait(transaction.on_rcpt(mailbox, parameters)).await?;
        self.transaction = Some(transaction);
        Ok(match decided {
            Some(Ok(())) => Answer::Accept,
            Some(Err(Refusal { reply, reason })) => {
                self.session.meters.recipient_refused(reason);
                Answer::Reply(reply)
            }
            None => Answer::Reply(stopping()),
        })
    }

    /// Waits for plugins. What a call does without waiting, most do all, costs no more than
    /// that. Where it does wait, replies that were held back go out meanwhile: the client may
    /// need them to see that we are there. One that does not take them holds up itself and no
    /// call, which has turns that others wait for. None: the relay stops, and the plugin had its
    /// time.
    pub(super) async fn wait<T>(
        &mut self,
        asking: impl Future<Output = T>,
    ) -> io::Result<Option<T>> {
        let watch = Stopwatch::start();
        let mut asking = std::pin::pin!(asking);
        if let Some(answer) = asking.as_mut().now_or_never() {
            self.waited += watch.elapsed();
            return Ok(Some(answer));
        }
        let stop = self.session.stop.clone();
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        let asked = async {
            let answer = tokio::select! {
                biased;
                answer = asking => Some(answer),
                () = stopped => None,
            };
            Ok((answer, watch.elapsed()))
        };
        let ((answer, waited), ()) = tokio::try_join!(asked, self.write_held_back())?;
        // Only the plugins' share: what the client takes to read is its own time.
        self.waited += waited;
        Ok(answer)
    }

    /// Writes the replies that wait for the end of a pipelined group. While a question is open
    /// the machine has nothing else to do.
    async fn write_held_back(&mut self) -> io::Result<()> {
        while let Some(ServerAction::Send(octets)) = self.machine.poll() {
            self.write(&octets).await?;
        }
        Ok(())
    }

    /// A transaction that RSET or EHLO ended must not keep plugins in memory.
    pub(super) fn forget_transaction(&mut self) {
        if self.transaction.is_some() && self.machine.envelope().is_none() {
            self.transaction = None;
        }
    }

    /// The client as plugins see it.
    fn peer(&self) -> Peer {
        Peer {
            ip: Some(self.session.peer.ip()),
            port: self.session.peer.port(),
            listener: self.session.listener.clone(),
            ingress: Ingress::Smtp,
            helo: self.client.helo.clone(),
            fcrdns: None,
            user: None,
            // Client certificates are not asked for, so there are no verified names.
            tls: self.stream.tls_facts(sni(&self.stream)),
        }
    }
}

/// The server name that the client asked for.
fn sni(stream: &Stream) -> Option<String> {
    let Stream::Tls(tls) = stream else {
        return None;
    };
    match &**tls {
        tokio_rustls::TlsStream::Server(server) => {
            server.get_ref().1.server_name().map(ToOwned::to_owned)
        }
        tokio_rustls::TlsStream::Client(_) => None,
    }
}
