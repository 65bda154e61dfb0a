//! Short ways to make what the phases of the SMTP dialogue and the delivery phase answer.

use std::time::Duration;

use crate::reply::whole_seconds;
use crate::{
    Advice, Flow, HeaderEdit, HeaderField, Mailbox, MessageAction, MessageHold, MessageVerdict,
    RecipientAction, RecipientVerdict, Reply, Rewrite, SenderAction, SenderVerdict,
};

/// What the verdicts of the SMTP dialogue have in common.
macro_rules! verdict {
    ($verdict:ident, $action:ident) => {
        impl $verdict {
            /// This action; the next plugin is asked too, where the action lets it.
            pub fn of(action: $action) -> Self {
                Self {
                    action,
                    flow: Flow::Next,
                    note: None,
                }
            }

            /// No opinion.
            pub fn proceed() -> Self {
                Self::of($action::Proceed)
            }

            /// 4xx: the client may come again. A text alone gets the relay's default codes.
            pub fn defer(reply: impl Into<Reply>) -> Self {
                Self::of($action::Defer(reply.into()))
            }

            /// 5xx. A text alone gets the relay's default codes.
            pub fn reject(reply: impl Into<Reply>) -> Self {
                Self::of($action::Reject(reply.into()))
            }

            /// With a note for the log and for `waypost explain`.
            #[must_use]
            pub fn note(mut self, note: impl Into<String>) -> Self {
                self.note = Some(note.into());
                self
            }

            /// So that later plugins of this phase are not asked.
            #[must_use]
            pub fn stop(mut self) -> Self {
                self.flow = Flow::Stop;
                self
            }
        }
    };
}

verdict!(SenderVerdict, SenderAction);
verdict!(RecipientVerdict, RecipientAction);
verdict!(MessageVerdict, MessageAction);

impl SenderVerdict {
    /// Goes on as if this sender had been given; none: the null reverse-path.
    ///
    /// ```
    /// use waypost_sdk::{Mailbox, SenderAction, SenderVerdict};
    ///
    /// let verdict = SenderVerdict::rewrite(Mailbox::parse("bounces@example.com")).note("verp");
    /// assert!(matches!(verdict.action, SenderAction::Rewrite(Some(_))));
    /// ```
    pub fn rewrite(sender: Option<Mailbox>) -> Self {
        Self::of(SenderAction::Rewrite(sender))
    }
}

impl RecipientVerdict {
    /// These in place of the one given; several: an alias; none: accepted and dropped.
    ///
    /// ```
    /// use waypost_sdk::{Mailbox, RecipientAction, RecipientVerdict, Reply};
    ///
    /// let alias = RecipientVerdict::rewrite(Mailbox::parse("team@example.com"));
    /// assert!(matches!(alias.action, RecipientAction::Rewrite(to) if to.len() == 1));
    /// RecipientVerdict::reject(Reply::new(550, "5.1.1", "no such mailbox"));
    /// ```
    pub fn rewrite(recipients: impl IntoIterator<Item = Mailbox>) -> Self {
        Self::of(RecipientAction::Rewrite(recipients.into_iter().collect()))
    }
}

impl MessageVerdict {
    /// With these changes.
    ///
    /// ```
    /// use waypost_sdk::{HeaderEdit, HeaderField, MessageVerdict, Rewrite};
    ///
    /// let edit = HeaderEdit::Prepend(HeaderField::new("X-Checked", "yes"));
    /// MessageVerdict::rewrite(Rewrite::headers([edit]));
    /// ```
    pub fn rewrite(rewrite: Rewrite) -> Self {
        Self::of(MessageAction::Rewrite(rewrite))
    }

    /// With one header field put before all others.
    pub fn tag(name: impl Into<String>, value: impl Into<String>) -> Self {
        let field = HeaderField::new(name, value);
        Self::rewrite(Rewrite::headers([HeaderEdit::Prepend(field)]))
    }

    /// Answers 250 and keeps the message aside until somebody releases it.
    pub fn hold(reason: impl Into<String>) -> Self {
        Self::of(MessageAction::Hold(MessageHold {
            reason: reason.into(),
            release_after: None,
        }))
    }

    /// Answers 250 and keeps the message aside for this time, in whole seconds.
    pub fn hold_for(reason: impl Into<String>, time: Duration) -> Self {
        Self::of(MessageAction::Hold(MessageHold {
            reason: reason.into(),
            release_after: Some(whole_seconds(time)),
        }))
    }

    /// Answers 250 and drops the message.
    pub fn discard(reason: impl Into<String>) -> Self {
        Self::of(MessageAction::Discard(reason.into()))
    }
}

impl Rewrite {
    /// Nothing changed.
    pub fn none() -> Self {
        Self {
            headers: Vec::new(),
            recipients: None,
            sender: None,
        }
    }

    /// These edits of the header, one after the other.
    pub fn headers(edits: impl IntoIterator<Item = HeaderEdit>) -> Self {
        Self {
            headers: edits.into_iter().collect(),
            ..Self::none()
        }
    }
}

impl Advice {
    /// Again after this time, in whole seconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use waypost_sdk::Advice;
    ///
    /// assert_eq!(Advice::retry_after(Duration::from_secs(90)), Advice::RetryAfter(90));
    /// ```
    pub fn retry_after(time: Duration) -> Self {
        Self::RetryAfter(whole_seconds(time))
    }

    /// A bounce with this reply.
    pub fn give_up(reply: impl Into<Reply>) -> Self {
        Self::GiveUp(reply.into())
    }
}
