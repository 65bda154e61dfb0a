//! What an operator, a metric or a watchdog may ask.

use std::sync::Arc;

use smtp::QueueId;

use crate::UnixMs;

/// Where a message is in the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// On disk, waiting for its time (or, once that has passed, for room).
    Resting {
        /// When it is due.
        due_at: UnixMs,
    },
    /// On disk, kept aside.
    Held {
        /// When it goes on by itself; `None`: not.
        release_at: Option<UnixMs>,
    },
    /// Being read.
    Loading,
    /// In memory, with this many jobs of each stage.
    Active {
        /// Jobs being routed.
        routing: usize,
        /// Jobs waiting for their destination.
        ready: usize,
        /// Jobs being delivered.
        in_flight: usize,
        /// Jobs whose attempt is over and about which policies are being heard.
        advised: usize,
    },
}

/// A message and where it is.
pub type MessageEntry = (QueueId, MessageState);

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages on disk waiting for their time or for room; held ones not included.
    pub resting: usize,
    /// Messages kept aside. After a restart, those with a release time count as
    /// resting until they are looked at.
    pub held: usize,
    /// Messages in memory, those being loaded included.
    pub active: usize,
    /// Of these, being loaded.
    pub loading: usize,
    /// Jobs being routed.
    pub routing: usize,
    /// Jobs waiting for their destination.
    pub ready: usize,
    /// Jobs being delivered.
    pub in_flight: usize,
    /// Jobs whose attempt is over and about which policies are being heard.
    pub advised: usize,
    /// Destinations remembered.
    pub destinations: usize,
    /// Of these, suspended.
    pub suspended: usize,
}

/// A destination as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationState {
    /// As named by the routes.
    pub name: Arc<str>,
    /// Attempts it may have at once.
    pub concurrency: u32,
    /// Attempts it has.
    pub in_flight: u32,
    /// Jobs that wait for it.
    pub ready: usize,
    /// Failed attempts in a row.
    pub failures: u32,
    /// No attempts before this; `None`: not suspended.
    pub suspended_until: Option<UnixMs>,
}
