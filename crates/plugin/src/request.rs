//! What a routing call is about: the eager part of `routing-phase.route`.
//! Everything costly or rarely needed comes through
//! [`CallEnvironment`](crate::CallEnvironment) instead.

use serde::{Deserialize, Serialize};
use smtp::{Domain, Mailbox};

/// One routing question: a message, one of its destination domains, and the
/// recipients there that still wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RouteRequest {
    /// Identity in the spool; the same on every retry.
    pub message_id: String,
    /// Domain of the recipients in this call.
    pub domain: Domain,
    /// `None` is the null reverse-path.
    pub sender: Option<Mailbox>,
    /// At most [`MAX_RECIPIENTS`]; the caller splits a larger set.
    pub recipients: Vec<Recipient>,
    /// Octets of the message as it would be sent, header included.
    pub size_bytes: u64,
    /// Reception, in milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// Attempts made before; 0 on the first.
    pub attempt: u32,
    /// Listener by which the message came.
    pub listener: String,
    /// Authenticated identity that sent it, if any.
    pub user: Option<String>,
    /// Values of the header fields named in the plugin's `route-headers`, in
    /// that order; missing: empty.
    pub headers: Vec<String>,
    /// Annotations of the message, name and value.
    pub attributes: Vec<(String, String)>,
}

/// Recipients that one call may carry. Each costs some 140 ns to pass.
pub const MAX_RECIPIENTS: usize = 1000;

impl RouteRequest {
    /// A request with only what has no sensible default; the rest is empty,
    /// for callers that fill in what they know.
    pub fn new(message_id: impl Into<String>, domain: Domain, recipients: Vec<Recipient>) -> Self {
        Self {
            message_id: message_id.into(),
            domain,
            sender: None,
            recipients,
            size_bytes: 0,
            received_at_ms: 0,
            attempt: 0,
            listener: String::new(),
            user: None,
            headers: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

/// A recipient as a plugin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipient {
    /// Where the mail is to go.
    pub mailbox: Mailbox,
    /// NOTIFY= of RFC 3461; all false: not given.
    pub notify: Notify,
    /// ORCPT= of RFC 3461.
    pub original: Option<String>,
}

impl From<Mailbox> for Recipient {
    fn from(mailbox: Mailbox) -> Self {
        Self {
            mailbox,
            notify: Notify::default(),
            original: None,
        }
    }
}

/// NOTIFY= of RFC 3461 section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notify {
    /// `NEVER`.
    pub never: bool,
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}
