//! One transaction: its commands, pipelined where that is offered, and what the
//! replies to them mean (RFC 5321 section 3.3, RFC 2920 section 3.1).

use std::io::Write as _;

use crate::address::{ForwardPath, ReversePath};
use crate::envelope::BodyType;
use crate::reply::{Reply, Severity};

use super::{
    Capabilities, ClientConfig, ClientTransaction, EightBitToSevenBitHop, ProtocolError,
    RecipientOutcome, Stage,
};

/// Recipients per pipelined group: their commands and the replies to them fit
/// into the smallest windows, so that both sides cannot wait for each other
/// (RFC 2920 section 3.1).
const GROUP_RECIPIENT_COUNT: usize = 100;

/// The command whose reply comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    Mail,
    /// Of the recipient at this index.
    Rcpt(usize),
    Data,
    /// None: the content is being sent.
    Nothing,
    EndOfData,
    /// That of the empty content sent after 354 although there is no recipient.
    EmptyEnd,
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Transaction {
    message: ClientTransaction,
    is_pipelined: bool,
    /// Answers to RCPT, as many as have come.
    answers: Vec<Reply>,
    accepted_count: usize,
    sent_count: usize,
    is_data_sent: bool,
    /// What decided for all, or for those accepted, by stage.
    mail_refusal: Option<Reply>,
    final_reply: Option<Reply>,
    expects: Expects,
}

/// What a reply leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More replies are to come.
    Wait,
    /// Commands have been written.
    Send,
    SendContent,
    /// All is decided. With `needs_reset` the server still holds a transaction.
    Finish {
        needs_reset: bool,
    },
    /// All is decided, and the server no longer reads what we send.
    FinishEarly,
    Fail(ProtocolError),
}

impl Transaction {
    /// Starts one: the first commands are appended to `out`.
    ///
    /// # Errors
    /// The reply that refuses it for all recipients, when what the server offers
    /// already decides.
    pub(super) fn begin(
        message: ClientTransaction,
        capabilities: &Capabilities,
        config: &ClientConfig,
        out: &mut Vec<u8>,
    ) -> Result<Self, Vec<RecipientOutcome>> {
        let is_eight_bit = message.parameters.body == BodyType::EightBitMime;
        let refusal = if capabilities
            .max_message_bytes
            .is_some_and(|max| message.size_bytes > max)
        {
            Some(Reply::new(
                552,
                (5, 3, 4),
                "The message is larger than the host takes",
            ))
        } else if is_eight_bit
            && !capabilities.eight_bit_mime
            && config.eight_bit_to_seven_bit_hop == EightBitToSevenBitHop::Fail
        {
            Some(Reply::new(
                554,
                (5, 6, 3),
                "The host does not take 8-bit content",
            ))
        } else {
            None
        };
        if let Some(reply) = refusal {
            let outcome = RecipientOutcome::Failed(reply);
            return Err(vec![outcome; message.recipients.len()]);
        }
        if message.recipients.is_empty() {
            return Err(Vec::new());
        }
        let mut transaction = Self {
            is_pipelined: capabilities.pipelining,
            answers: Vec::with_capacity(message.recipients.len()),
            accepted_count: 0,
            sent_count: 0,
            is_data_sent: false,
            mail_refusal: None,
            final_reply: None,
            expects: Expects::Mail,
            message,
        };
        transaction.write_mail(capabilities, out);
        if transaction.is_pipelined {
            transaction.write_group(out);
        }
        Ok(transaction)
    }

    pub(super) fn expects(&self) -> Expects {
        self.expects
    }

    pub(super) fn stage(&self) -> Stage {
        match self.expects {
            Expects::Mail => Stage::Mail,
            Expects::Rcpt(_) => Stage::Rcpt,
            // A pipelined DATA that nobody is left for decides nothing.
            Expects::Data | Expects::EmptyEnd
                if self.accepted_count == 0 && self.mail_refusal.is_none() =>
            {
                Stage::Rcpt
            }
            Expects::Data | Expects::EmptyEnd => Stage::Data,
            Expects::Nothing => Stage::Content,
            Expects::EndOfData => Stage::EndOfData,
        }
    }

    /// What MAIL was refused with.
    pub(super) fn mail_refusal(&self) -> Option<&Reply> {
        self.mail_refusal.as_ref()
    }

    pub(super) fn content_sent(&mut self) {
        if self.expects == Expects::Nothing {
            self.expects = Expects::EndOfData;
        }
    }

    /// Takes the next reply; commands it leads to are appended to `out`.
    pub(super) fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Next {
        match self.expects {
            Expects::Mail => self.mail_reply(reply, out),
            Expects::Rcpt(index) => self.rcpt_reply(index, reply, out),
            Expects::Data => self.data_reply(reply, out),
            Expects::Nothing => match reply.severity() {
                Severity::Transient | Severity::Permanent => {
                    self.final_reply = Some(reply);
                    Next::FinishEarly
                }
                // A 250 for content that it has not seen the end of.
                Severity::Positive | Severity::Intermediate => {
                    Next::Fail(ProtocolError::Unexpected)
                }
            },
            Expects::EndOfData | Expects::EmptyEnd => {
                if reply.severity() == Severity::Intermediate {
                    return Next::Fail(ProtocolError::Unexpected);
                }
                if self.expects == Expects::EndOfData {
                    self.final_reply = Some(reply);
                }
                Next::Finish { needs_reset: false }
            }
        }
    }

    /// One outcome per recipient; `undecided` for those that nothing was said of.
    pub(super) fn outcomes(&self, undecided: &RecipientOutcome) -> Vec<RecipientOutcome> {
        if let Some(reply) = &self.mail_refusal {
            return vec![RecipientOutcome::of(reply.clone()); self.message.recipients.len()];
        }
        let of_accepted = match &self.final_reply {
            Some(reply) => RecipientOutcome::of(reply.clone()),
            None => undecided.clone(),
        };
        (0..self.message.recipients.len())
            .map(|index| match self.answers.get(index) {
                Some(reply) if !reply.is_positive() => RecipientOutcome::of_rcpt(reply.clone()),
                Some(_) => of_accepted.clone(),
                None => undecided.clone(),
            })
            .collect()
    }

    fn mail_reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Next {
        match reply.severity() {
            Severity::Positive => {}
            Severity::Intermediate => return Next::Fail(ProtocolError::Unexpected),
            Severity::Transient | Severity::Permanent => self.mail_refusal = Some(reply),
        }
        self.expects = Expects::Rcpt(0);
        if self.is_pipelined {
            return Next::Wait;
        }
        if self.mail_refusal.is_some() {
            return Next::Finish { needs_reset: false };
        }
        self.write_rcpt(out);
        Next::Send
    }

    fn rcpt_reply(&mut self, index: usize, reply: Reply, out: &mut Vec<u8>) -> Next {
        if reply.severity() == Severity::Intermediate {
            return Next::Fail(ProtocolError::Unexpected);
        }
        if self.mail_refusal.is_none() {
            self.accepted_count += usize::from(reply.is_positive());
            self.answers.push(reply);
        }
        self.expects = Expects::Rcpt(index + 1);
        if index + 1 < self.sent_count {
            return Next::Wait;
        }
        if self.is_data_sent {
            self.expects = Expects::Data;
            return Next::Wait;
        }
        if self.mail_refusal.is_some() {
            return Next::Finish { needs_reset: false };
        }
        if self.sent_count < self.message.recipients.len() {
            if self.is_pipelined {
                self.write_group(out);
            } else {
                self.write_rcpt(out);
            }
            return Next::Send;
        }
        if self.accepted_count == 0 {
            return Next::Finish { needs_reset: true };
        }
        self.write_data(out);
        self.expects = Expects::Data;
        Next::Send
    }

    fn data_reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Next {
        let has_recipients = self.accepted_count > 0;
        match reply.severity() {
            Severity::Intermediate if reply.code == 354 => {
                if has_recipients {
                    self.expects = Expects::Nothing;
                    return Next::SendContent;
                }
                // RFC 2920 section 3.1: the server now waits for content.
                out.extend_from_slice(b".\r\n");
                self.expects = Expects::EmptyEnd;
                Next::Send
            }
            Severity::Positive | Severity::Intermediate => Next::Fail(ProtocolError::Unexpected),
            Severity::Transient | Severity::Permanent => {
                if has_recipients {
                    self.final_reply = Some(reply);
                }
                Next::Finish {
                    needs_reset: self.mail_refusal.is_none(),
                }
            }
        }
    }

    fn write_mail(&self, capabilities: &Capabilities, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        if let ReversePath::Mailbox(mailbox) = &self.message.reverse_path {
            append(out, format_args!("{mailbox}"));
        }
        out.push(b'>');
        if capabilities.size {
            append(out, format_args!(" SIZE={}", self.message.size_bytes));
        }
        if capabilities.eight_bit_mime && self.message.parameters.body == BodyType::EightBitMime {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The next recipients, and DATA behind the last one.
    fn write_group(&mut self, out: &mut Vec<u8>) {
        let total = self.message.recipients.len();
        let end = total.min(self.sent_count + GROUP_RECIPIENT_COUNT);
        while self.sent_count < end {
            self.write_rcpt(out);
        }
        if end == total {
            self.write_data(out);
        }
    }

    fn write_rcpt(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        match &self.message.recipients[self.sent_count].path {
            ForwardPath::Postmaster => out.extend_from_slice(b"Postmaster"),
            ForwardPath::Mailbox(mailbox) => append(out, format_args!("{mailbox}")),
        }
        out.extend_from_slice(b">\r\n");
        self.sent_count += 1;
    }

    fn write_data(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"DATA\r\n");
        self.is_data_sent = true;
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
}
