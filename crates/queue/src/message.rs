//! A message as the queue knows it: envelope, fate of each recipient, story so far.
//!
//! Everything here is persisted (the spool's metadata), so that a restart finds
//! attempts, due times and holds as they were. The body is not here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smtp::{MailParameters, Mailbox, QueueId, RcptParameters, Reply, ReversePath};

use crate::{Deferral, DeferralKind, History, UnixMs};

/// A message we have taken responsibility for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its name in logs, in the spool and at the operator's prompt.
    pub id: QueueId,
    /// When we answered 250.
    pub received_at: UnixMs,
    /// After this, recipients that are still pending are given up; see
    /// [`QueuedMessage::expiry_of`].
    pub expires_at: UnixMs,
    /// Size of the content, in bytes.
    pub size_bytes: u64,
    /// How it came to us.
    pub origin: Origin,
    /// Where notifications go; null: nowhere.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL.
    pub parameters: MailParameters,
    /// Positions in this list name recipients in events and actions; they never
    /// change during the message's life.
    pub recipients: Vec<QueuedRecipient>,
    /// Annotations by rules and plugins.
    pub attributes: Vec<(String, String)>,
    /// Set while the message is kept aside.
    pub hold: Option<Hold>,
    /// When the last hold ended. A policy that holds mail looks here first, or it
    /// would hold what the operator has just released.
    pub released_at: Option<UnixMs>,
    /// The newest attempts, oldest first.
    pub history: History,
}

impl QueuedMessage {
    /// When the recipient at `position` is given up, or `None` when there is no
    /// such recipient or it is final.
    ///
    /// One that has been tried, or that local faults kept from being tried,
    /// expires at `expires_at` (its own or the message's, whichever is earlier).
    /// One that never had its turn gets as long again: mail must not bounce merely
    /// because we were switched off.
    #[must_use]
    pub fn expiry_of(&self, position: u32) -> Option<UnixMs> {
        let recipient = self.recipients.get(position as usize)?;
        let RecipientState::Pending {
            attempts,
            local_deferrals,
            ..
        } = recipient.state
        else {
            return None;
        };
        let expires_at = recipient
            .expires_at
            .map_or(self.expires_at, |at| at.min(self.expires_at));
        if attempts > 0 || local_deferrals > 0 {
            return Some(expires_at);
        }
        Some(expires_at.plus_ms(expires_at.since_ms(self.received_at)))
    }

    /// When something has to happen next: the earliest due time or expiry of a
    /// pending recipient, the end of a hold, [`UnixMs::NEVER`] for a hold without
    /// an end. `None`: every recipient is final.
    ///
    /// This is the `due_at` to store with a new message.
    #[must_use]
    pub fn due_at(&self) -> Option<UnixMs> {
        let mut due: Option<UnixMs> = None;
        for (position, recipient) in (0_u32..).zip(&self.recipients) {
            let RecipientState::Pending { due_at, .. } = recipient.state else {
                continue;
            };
            let at = self
                .expiry_of(position)
                .map_or(due_at, |expiry| expiry.min(due_at));
            due = Some(due.map_or(at, |earliest| earliest.min(at)));
        }
        match &self.hold {
            Some(hold) => due.map(|_| hold.release_at.unwrap_or(UnixMs::NEVER)),
            None => due,
        }
    }

    /// True when no recipient is pending.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| recipient.state.is_final())
    }
}

/// One recipient and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Where it goes now.
    pub mailbox: Mailbox,
    /// Parameters of RCPT.
    pub parameters: RcptParameters,
    /// What the sender wrote, where an alias or rule changed it.
    pub original: Option<Mailbox>,
    /// Given up earlier than the message, by advice of a routing policy.
    pub expires_at: Option<UnixMs>,
    /// Its fate.
    pub state: RecipientState,
}

impl QueuedRecipient {
    /// A fresh recipient, due at once.
    #[must_use]
    pub const fn new(mailbox: Mailbox, parameters: RcptParameters, now: UnixMs) -> Self {
        Self {
            mailbox,
            parameters,
            original: None,
            expires_at: None,
            state: RecipientState::Pending {
                attempts: 0,
                local_deferrals: 0,
                due_at: now,
                last: None,
            },
        }
    }
}

/// The fate of a recipient. All but `Pending` are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientState {
    /// Still to be delivered.
    Pending {
        /// Real tries so far: those that reached for a host of the recipient.
        attempts: u32,
        /// Deferrals since the last real try that were our own fault.
        local_deferrals: u32,
        /// Not to be tried before this.
        due_at: UnixMs,
        /// Why it was not delivered the last time.
        last: Option<LastDeferral>,
    },
    /// A host has taken responsibility.
    Delivered {
        /// When.
        at: UnixMs,
        /// What that host said.
        reply: Reply,
        /// Which host.
        host: Option<String>,
    },
    /// Refused for good.
    Failed {
        /// When.
        at: UnixMs,
        /// The refusal.
        reply: Reply,
        /// Who refused; `None`: we did.
        host: Option<String>,
        /// Real tries, this one included.
        attempts: u32,
        /// The sender has been told.
        notified: bool,
    },
    /// Given up after too long a time.
    Expired {
        /// When.
        at: UnixMs,
        /// The last reason for not delivering; `None`: never tried.
        last: Option<LastDeferral>,
        /// Real tries.
        attempts: u32,
        /// The sender has been told.
        notified: bool,
    },
    /// Dropped by policy, without a word to the sender.
    Discarded {
        /// When.
        at: UnixMs,
        /// By what reason.
        reason: String,
    },
}

impl RecipientState {
    /// Nothing will change any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    /// Failed or expired, and the sender has not been told yet.
    #[must_use]
    pub const fn is_unnotified(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                notified: false,
                ..
            } | Self::Expired {
                notified: false,
                ..
            }
        )
    }
}

/// Why a pending recipient was not delivered the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDeferral {
    /// When.
    pub at: UnixMs,
    /// The reply of the host, or one of ours that stands for the fault.
    pub reply: Reply,
    /// Whose fault it was.
    pub kind: DeferralKind,
    /// The host, as far as it came.
    pub host: Option<String>,
}

impl LastDeferral {
    pub(crate) fn new(deferral: Deferral, host: Option<String>, now: UnixMs) -> Self {
        Self {
            at: now,
            reply: deferral.reply,
            kind: deferral.kind,
            host,
        }
    }
}

/// How a message came to us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the listener in the configuration.
    pub listener: String,
    /// The client; `None`: made here (a notification).
    pub client_ip: Option<IpAddr>,
    /// What it called itself in EHLO or HELO.
    pub helo: Option<String>,
    /// The authenticated user.
    pub user: Option<String>,
    /// It came over TLS.
    pub tls: bool,
}

/// Why and until when a message is kept aside. Time on hold does not count
/// towards expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// For the operator to read.
    pub reason: String,
    /// Since when.
    pub held_at: UnixMs,
    /// Goes on by itself then; `None`: when an operator says so.
    pub release_at: Option<UnixMs>,
}
