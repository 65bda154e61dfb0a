//! A piece of work of one message, between the action that hands it out and the
//! event that answers it.

use smtp::QueueId;

use crate::UnixMs;
use crate::destinations::DestinationId;

/// One job.
#[derive(Debug)]
pub(crate) struct Job<P> {
    pub(crate) message: QueueId,
    /// Positions in the message's recipient list.
    pub(crate) recipients: Vec<u32>,
    pub(crate) stage: JobStage<P>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum JobStage<P> {
    /// `Action::Route` is out.
    Routing,
    /// In the ready queue of its destination.
    Ready {
        destination: DestinationId,
        plan: P,
        queued_at: UnixMs,
        /// When the first of its recipients expires: its key in the list of
        /// deadlines.
        deadline: UnixMs,
    },
    /// `Action::Attempt` is out.
    InFlight {
        destination: DestinationId,
        /// Its number in the row of all attempts.
        started: u64,
    },
    /// The attempt is over and noted; `Event::Advised` is to come. Only recipients that are
    /// pending are left.
    Advised,
}
