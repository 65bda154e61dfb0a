//! Short ways to make the records of the contract.

use crate::{
    CandidateChange, Decision, Deferral, Endpoint, ExplicitRoute, Flow, Hold, NextHop, Protocol,
    Reply, Settings, Verdict,
};

impl Verdict {
    /// A decision for every recipient that no other verdict names.
    pub fn all(decision: Decision) -> Self {
        Self::of(Vec::new(), decision)
    }

    /// A decision for the recipients at these positions.
    pub fn of(recipients: Vec<u32>, decision: Decision) -> Self {
        Self {
            recipients,
            decision,
            settings: None,
            flow: Flow::Next,
            note: None,
        }
    }

    /// With a note for the log and for `waypost explain`.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With settings for the delivery.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// So that later plugins are not asked.
    pub fn stop(mut self) -> Self {
        self.flow = Flow::Stop;
        self
    }
}

impl Decision {
    /// These hops and nothing else.
    pub fn hops(hops: Vec<NextHop>) -> Self {
        Self::UseHops(ExplicitRoute {
            hops,
            fall_back_to_mx: false,
        })
    }

    /// Not now; by the queue's own schedule.
    pub fn later(reason: impl Into<String>) -> Self {
        Self::Defer(Deferral {
            reason: reason.into(),
            retry_after: None,
        })
    }

    /// Never: a bounce with this text and the relay's default codes.
    pub fn refuse(text: impl Into<String>) -> Self {
        Self::Reject(Reply {
            code: 0,
            enhanced: String::new(),
            text: text.into(),
        })
    }

    /// Kept aside until somebody releases it.
    pub fn keep_aside(reason: impl Into<String>) -> Self {
        Self::Hold(Hold {
            reason: reason.into(),
            release_after: None,
        })
    }
}

impl From<Endpoint> for NextHop {
    /// SMTP at the default port, nothing else said.
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            port: None,
            priority: 0,
            weight: 1,
            protocol: Protocol::Smtp,
            tls: None,
            auth: None,
            source_pool: None,
            site: None,
        }
    }
}

impl CandidateChange {
    /// No change yet, to the candidate at this position.
    pub fn of(index: u32) -> Self {
        Self {
            index,
            priority: None,
            port: None,
            tls: None,
            auth: None,
            source_pool: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: None,
            source_pool: None,
            traffic_class: None,
            expires_after: None,
            reroute_on_retry: false,
            extra: Vec::new(),
        }
    }
}
