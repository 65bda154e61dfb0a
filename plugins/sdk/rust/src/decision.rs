//! Short ways to make what the routing phase answers.

use std::time::Duration;

use crate::reply::whole_seconds;
use crate::{
    CandidateChange, Decision, Deferral, ExplicitRoute, Flow, Hold, NextHop, Reply, Settings,
    TlsPolicy, Verdict,
};

impl Verdict {
    /// A decision for every recipient that no other verdict names.
    ///
    /// ```
    /// use waypost_sdk::{Decision, Verdict};
    ///
    /// let verdict = Verdict::all(Decision::defer("the partner is closed on Sundays"))
    ///     .note("calendar")
    ///     .stop();
    /// assert!(verdict.recipients.is_empty());
    /// ```
    pub fn all(decision: Decision) -> Self {
        Self::of(Vec::new(), decision)
    }

    /// A decision for the recipients at these positions of [`Request::recipients`](crate::Request).
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
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With settings for the delivery.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// So that later plugins are not asked.
    #[must_use]
    pub fn stop(mut self) -> Self {
        self.flow = Flow::Stop;
        self
    }
}

impl Decision {
    /// These hops and nothing else.
    ///
    /// ```
    /// use waypost_sdk::{Decision, NextHop};
    ///
    /// let first = NextHop::host("a.relay.example").port(587);
    /// let second = NextHop::host("b.relay.example").port(587).priority(1);
    /// assert!(matches!(Decision::hops([first, second]), Decision::UseHops(route) if !route.fall_back_to_mx));
    /// ```
    pub fn hops(hops: impl IntoIterator<Item = NextHop>) -> Self {
        Self::UseHops(ExplicitRoute {
            hops: hops.into_iter().collect(),
            fall_back_to_mx: false,
        })
    }

    /// These hops, and the MX-based list after all of them failed for now.
    pub fn hops_then_mx(hops: impl IntoIterator<Item = NextHop>) -> Self {
        Self::UseHops(ExplicitRoute {
            hops: hops.into_iter().collect(),
            fall_back_to_mx: true,
        })
    }

    /// Not now; by the queue's own schedule.
    pub fn defer(reason: impl Into<String>) -> Self {
        Self::Defer(Deferral {
            reason: reason.into(),
            retry_after: None,
        })
    }

    /// Not now; again after this time, in whole seconds and at least one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use waypost_sdk::{Decision, Deferral};
    ///
    /// let decision = Decision::defer_for("over the rate", Duration::from_millis(1500));
    /// assert_eq!(
    ///     decision,
    ///     Decision::Defer(Deferral { reason: "over the rate".into(), retry_after: Some(2) })
    /// );
    /// ```
    pub fn defer_for(reason: impl Into<String>, time: Duration) -> Self {
        Self::Defer(Deferral {
            reason: reason.into(),
            retry_after: Some(whole_seconds(time)),
        })
    }

    /// Never: a bounce with this reply. A text alone gets the relay's default codes.
    ///
    /// ```
    /// use waypost_sdk::{Decision, Reply};
    ///
    /// Decision::reject("no such partner");
    /// Decision::reject(Reply::new(550, "5.1.2", "no such partner"));
    /// ```
    pub fn reject(reply: impl Into<Reply>) -> Self {
        Self::Reject(reply.into())
    }

    /// Dropped, without a bounce.
    pub fn discard(reason: impl Into<String>) -> Self {
        Self::Discard(reason.into())
    }

    /// Kept aside until somebody releases it.
    pub fn hold(reason: impl Into<String>) -> Self {
        Self::Hold(Hold {
            reason: reason.into(),
            release_after: None,
        })
    }

    /// Kept aside for this time, in whole seconds, or until somebody releases it.
    pub fn hold_for(reason: impl Into<String>, time: Duration) -> Self {
        Self::Hold(Hold {
            reason: reason.into(),
            release_after: Some(whole_seconds(time)),
        })
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

#[allow(clippy::derivable_impls, reason = "the type is generated")]
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

impl Settings {
    /// Nothing said yet.
    ///
    /// ```
    /// use waypost_sdk::{Settings, TlsPolicy};
    ///
    /// let settings = Settings::new().traffic_class("slow").tls(TlsPolicy::Encrypt);
    /// assert_eq!(settings.traffic_class.as_deref(), Some("slow"));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Protection of every hop.
    #[must_use]
    pub fn tls(mut self, policy: TlsPolicy) -> Self {
        self.tls = Some(policy);
        self
    }

    /// Name of the pool of source addresses.
    #[must_use]
    pub fn source_pool(mut self, name: impl Into<String>) -> Self {
        self.source_pool = Some(name.into());
        self
    }

    /// Name of the traffic class.
    #[must_use]
    pub fn traffic_class(mut self, name: impl Into<String>) -> Self {
        self.traffic_class = Some(name.into());
        self
    }

    /// Given up after this time since reception, in whole seconds.
    #[must_use]
    pub fn expires_after(mut self, time: Duration) -> Self {
        self.expires_after = Some(whole_seconds(time));
        self
    }

    /// The plugin is asked again before each retry.
    #[must_use]
    pub fn reroute_on_retry(mut self) -> Self {
        self.reroute_on_retry = true;
        self
    }
}
