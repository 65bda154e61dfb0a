//! What each command and each answer does to the dialogue (RFC 5321 section 4.1).

use std::io::Write as _;

use crate::address::{ForwardPath, ReversePath};
use crate::content::DotUnstuffer;
use crate::envelope::{Envelope, MailParameters, RcptParameters, Recipient};
use crate::reply::{Reply, Severity};

use super::command::Command;
use super::session::{Asked, Dialogue, ServerSession, State};
use super::{CloseReason, Question, ServerAction, ServerTls, replies};

impl ServerSession {
    pub(super) fn run(&mut self, command: Command, dialogue: Dialogue) -> State {
        let needs_tls = self.config.tls == ServerTls::Required && !self.is_tls;
        match command {
            Command::Noop => self.stay(replies::OK, dialogue),
            Command::Ehlo { name, extended } => self.ask(
                Question::Ehlo { name, extended },
                Asked::Ehlo {
                    extended,
                    before: dialogue,
                },
            ),
            Command::StartTls => self.start_tls(dialogue),
            Command::Quit => self.close(replies::BYE, CloseReason::Quit),
            _ if needs_tls => self.error(replies::NEED_TLS, State::Command(dialogue)),
            Command::Mail {
                reverse_path,
                parameters,
            } => self.mail(reverse_path, parameters, dialogue),
            Command::Rcpt { path, parameters } => self.rcpt(path, parameters, dialogue),
            Command::Data => self.data(dialogue),
            Command::Rset => {
                self.is_behind_refused_mail = false;
                let dialogue = match dialogue {
                    Dialogue::Transaction(_) => Dialogue::Identified,
                    other => other,
                };
                self.stay(replies::OK, dialogue)
            }
            Command::Vrfy => self.stay(replies::CANNOT_VERIFY, dialogue),
            Command::Expn => self.error(replies::NOT_IMPLEMENTED, State::Command(dialogue)),
            Command::Help => self.stay(replies::HELP, dialogue),
        }
    }

    fn mail(
        &mut self,
        reverse_path: ReversePath,
        parameters: MailParameters,
        dialogue: Dialogue,
    ) -> State {
        match dialogue {
            Dialogue::Identified => {}
            Dialogue::Unidentified => {
                return self.error(replies::SAY_EHLO, State::Command(dialogue));
            }
            Dialogue::Transaction(_) => {
                return self.error(replies::NESTED_MAIL, State::Command(dialogue));
            }
        }
        if self.message_count >= self.config.max_message_count {
            return self.close(replies::TOO_MANY_MESSAGES, CloseReason::TooManyMessages);
        }
        let max = self.config.max_message_bytes.unwrap_or(u64::MAX);
        if parameters.size.is_some_and(|size| size > max) {
            self.is_behind_refused_mail = true;
            return self.stay(replies::TOO_LARGE, dialogue);
        }
        let asked = Asked::Mail {
            reverse_path: reverse_path.clone(),
            parameters: parameters.clone(),
        };
        let question = Question::Mail {
            reverse_path,
            parameters,
        };
        self.ask(question, asked)
    }

    fn rcpt(&mut self, path: ForwardPath, parameters: RcptParameters, dialogue: Dialogue) -> State {
        let Dialogue::Transaction(envelope) = dialogue else {
            return self.say_mail(dialogue);
        };
        if envelope.recipients.len() >= self.config.max_recipient_count {
            return self.stay(
                replies::TOO_MANY_RECIPIENTS,
                Dialogue::Transaction(envelope),
            );
        }
        let asked = Asked::Rcpt {
            envelope,
            recipient: Recipient {
                path: path.clone(),
                parameters: parameters.clone(),
            },
        };
        self.ask(Question::Rcpt { path, parameters }, asked)
    }

    fn data(&mut self, dialogue: Dialogue) -> State {
        match dialogue {
            Dialogue::Transaction(envelope) if envelope.recipients.is_empty() => {
                // All of them may have been refused, so it is no error.
                self.stay(replies::NO_RECIPIENTS, Dialogue::Transaction(envelope))
            }
            Dialogue::Transaction(envelope) => {
                self.held_replies.extend_from_slice(replies::START_CONTENT);
                State::Content {
                    envelope,
                    unstuffer: DotUnstuffer::new(),
                    received_bytes: 0,
                }
            }
            _ => self.say_mail(dialogue),
        }
    }

    /// RCPT or DATA without a transaction.
    fn say_mail(&mut self, dialogue: Dialogue) -> State {
        if self.is_behind_refused_mail {
            self.stay(replies::SAY_MAIL, dialogue)
        } else {
            self.error(replies::SAY_MAIL, State::Command(dialogue))
        }
    }

    fn start_tls(&mut self, dialogue: Dialogue) -> State {
        if self.is_tls {
            return self.error(replies::ALREADY_TLS, State::Command(dialogue));
        }
        if self.config.tls == ServerTls::Off {
            return self.error(replies::NOT_IMPLEMENTED, State::Command(dialogue));
        }
        // Whatever stands behind the command was injected in clear.
        self.input.clear();
        self.held_replies.extend_from_slice(replies::START_TLS);
        self.flush();
        self.actions.push_back(ServerAction::UpgradeTls);
        State::Upgrading
    }

    pub(super) fn accept(&mut self, asked: Asked, reply: Option<&Reply>) -> State {
        let (default, dialogue) = match asked {
            Asked::Connect => {
                self.write_greeting();
                return State::Command(Dialogue::Unidentified);
            }
            Asked::Ehlo { extended, .. } => {
                self.write_hello(extended);
                self.is_behind_refused_mail = false;
                return State::Command(Dialogue::Identified);
            }
            Asked::Mail {
                reverse_path,
                parameters,
            } => {
                let envelope = Envelope {
                    reverse_path,
                    parameters,
                    recipients: Vec::new(),
                };
                self.is_behind_refused_mail = false;
                (replies::MAIL_OK, Dialogue::Transaction(envelope))
            }
            Asked::Rcpt {
                mut envelope,
                recipient,
            } => {
                envelope.recipients.push(recipient);
                (replies::RCPT_OK, Dialogue::Transaction(envelope))
            }
        };
        match reply {
            Some(reply) => reply.write_to(&mut self.held_replies),
            None => self.held_replies.extend_from_slice(default),
        }
        State::Command(dialogue)
    }

    pub(super) fn refuse(&mut self, asked: Asked, mut reply: Reply) -> State {
        // RFC 2034 section 4: none in the greeting and in answers to EHLO.
        if matches!(asked, Asked::Connect | Asked::Ehlo { .. }) {
            reply.enhanced = None;
        }
        reply.write_to(&mut self.held_replies);
        if reply.code == 421 {
            return self.close(b"", CloseReason::Refused);
        }
        match asked {
            Asked::Connect if reply.severity() == Severity::Transient => {
                self.close(b"", CloseReason::Refused)
            }
            Asked::Connect => State::Refused,
            // RFC 5321 section 4.1.4: all stays as it was before the command.
            Asked::Ehlo { before, .. } => State::Command(before),
            Asked::Mail { .. } => {
                self.is_behind_refused_mail = true;
                State::Command(Dialogue::Identified)
            }
            Asked::Rcpt { envelope, .. } => State::Command(Dialogue::Transaction(envelope)),
        }
    }

    fn write_greeting(&mut self) {
        let config = &self.config;
        Reply::bare(220, format!("{} {}", config.hostname, config.greeting))
            .write_to(&mut self.held_replies);
    }

    fn write_hello(&mut self, extended: bool) {
        let out = &mut self.held_replies;
        let config = &self.config;
        let separator = if extended { '-' } else { ' ' };
        let written = write!(out, "250{separator}{}\r\n", config.hostname);
        debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
        if !extended {
            return;
        }
        out.extend_from_slice(b"250-PIPELINING\r\n250-8BITMIME\r\n");
        if config.tls != ServerTls::Off && !self.is_tls {
            out.extend_from_slice(b"250-STARTTLS\r\n");
        }
        let written = match config.max_message_bytes {
            Some(max) => write!(out, "250-SIZE {max}\r\n"),
            None => write!(out, "250-SIZE\r\n"),
        };
        debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
        out.extend_from_slice(b"250 ENHANCEDSTATUSCODES\r\n");
    }
}
