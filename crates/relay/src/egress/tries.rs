//! What each place made of an attempt, for plugins that are told of it. Nothing here is made
//! where none is.

use std::net::{IpAddr, SocketAddr};

use mx::{Candidate, Endpoint};
use plugin::{AttemptOutcome, AttemptStage, TlsFacts};
use smtp::{Cause, Domain, HostFailure, RecipientOutcome, Reply, Stage, TransactionOutcome};

use crate::clock::Stopwatch;

/// What an attempt leaves behind for plugins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aftermath {
    /// One for each address that was tried, and each host that has none; in order.
    pub(crate) tries: Vec<Try>,
    /// Candidates whose turn did not come, in order.
    pub(crate) rest: Vec<Candidate>,
}

/// One place and what became of the recipients there.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    /// Name of the host, where it has one.
    pub(crate) host: Option<Domain>,
    /// Its address.
    pub(crate) address: Option<IpAddr>,
    /// Address of ours.
    pub(crate) source: Option<IpAddr>,
    /// The session's TLS, if it had one.
    pub(crate) tls: Option<TlsFacts>,
    /// How far it came.
    pub(crate) stage: AttemptStage,
    /// How long it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Positions in the message's list of recipients, each with its fate.
    pub(crate) recipients: Vec<(u32, AttemptOutcome)>,
}

/// Facts of a connection that a plugin may want.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionFacts {
    pub(super) source: Option<IpAddr>,
    pub(super) tls: Option<TlsFacts>,
}

impl Try {
    /// Not even a host was found.
    pub(crate) const fn nowhere() -> Self {
        Self {
            host: None,
            address: None,
            source: None,
            tls: None,
            stage: AttemptStage::Resolve,
            elapsed_ms: 0,
            recipients: Vec::new(),
        }
    }

    /// A host that was not reached for.
    pub(super) fn unresolved(candidate: &Candidate, open: &[u32], text: &str) -> Self {
        let failed = |&position: &u32| (position, AttemptOutcome::Failed(text.to_owned()));
        Self {
            host: host(candidate),
            recipients: open.iter().map(failed).collect(),
            ..Self::nowhere()
        }
    }

    /// No host is left, and none will ever be.
    pub(super) fn hopeless(open: &[u32], reply: &Reply) -> Self {
        let failed = |&position: &u32| (position, AttemptOutcome::Permanent(reply.clone()));
        Self {
            recipients: open.iter().map(failed).collect(),
            ..Self::nowhere()
        }
    }
}

/// The tries of an attempt that is under way.
#[derive(Debug, Default)]
pub(super) struct Tries {
    all: Vec<Try>,
    /// Since when an address is being tried of which nothing is noted yet, or the newest is.
    watch: Option<Stopwatch>,
    is_noted: bool,
}

impl Tries {
    pub(super) fn push(&mut self, made: Try) {
        self.all.push(made);
    }

    /// An address is about to be tried.
    pub(super) fn begin(&mut self) {
        self.watch = Some(Stopwatch::start());
        self.is_noted = false;
    }

    /// Notes a transaction there. Further ones at the same address, for recipients that were too
    /// many for the first, are the same try.
    pub(super) fn note(
        &mut self,
        (candidate, address): (&Candidate, SocketAddr),
        recipients: &[u32],
        outcome: &TransactionOutcome,
        session: Option<SessionFacts>,
    ) {
        let session = session.unwrap_or_default();
        let elapsed_ms = self.watch.as_ref().map_or(0, Stopwatch::elapsed_ms);
        let fates = recipients.iter().zip(&outcome.recipients);
        let fates = fates.map(|(&position, result)| (position, fate(result, outcome)));
        let is_noted = std::mem::replace(&mut self.is_noted, true);
        match self.all.last_mut().filter(|_| is_noted) {
            Some(made) => {
                made.recipients
                    .retain(|(position, _)| !recipients.contains(position));
                made.recipients.extend(fates);
                (made.stage, made.elapsed_ms) = (stage(outcome), elapsed_ms);
            }
            None => self.all.push(Try {
                host: host(candidate),
                address: Some(address.ip()),
                source: session.source,
                tls: session.tls,
                stage: stage(outcome),
                elapsed_ms,
                recipients: fates.collect(),
            }),
        }
    }

    pub(super) fn into_all(self) -> Vec<Try> {
        self.all
    }
}

fn host(candidate: &Candidate) -> Option<Domain> {
    match &candidate.endpoint {
        Endpoint::Host(name) => Some(name.clone()),
        Endpoint::Address(_) | Endpoint::UnixSocket(_) => None,
    }
}

/// What the contract calls it. Only a host that said nothing has no reply to go by.
fn fate(result: &RecipientOutcome, outcome: &TransactionOutcome) -> AttemptOutcome {
    match result {
        RecipientOutcome::Delivered(reply) => AttemptOutcome::Delivered(reply.clone()),
        RecipientOutcome::Failed(reply) => AttemptOutcome::Permanent(reply.clone()),
        RecipientOutcome::Deferred(reply) => match &outcome.host_failure {
            // Some may have been refused one by one before the host fell silent.
            Some(failure @ HostFailure::Disconnected(_)) if failure.reply() == *reply => {
                AttemptOutcome::Failed(reply.text.clone())
            }
            _ => AttemptOutcome::Temporary(reply.clone()),
        },
    }
}

fn stage(outcome: &TransactionOutcome) -> AttemptStage {
    let is_dial = matches!(
        &outcome.host_failure,
        Some(HostFailure::Disconnected(Cause::DialFailed(_)))
    );
    match outcome.stage {
        Stage::Greeting if is_dial => AttemptStage::Connect,
        Stage::Greeting | Stage::Hello => AttemptStage::Greeting,
        Stage::Tls => AttemptStage::Tls,
        Stage::Mail => AttemptStage::MailFrom,
        Stage::Rcpt => AttemptStage::RcptTo,
        Stage::Data | Stage::Content | Stage::EndOfData => AttemptStage::Data,
    }
}

#[cfg(test)]
mod tests {
    use mx::CandidateOrigin;

    use super::*;

    fn outcome(
        recipients: Vec<RecipientOutcome>,
        failure: Option<HostFailure>,
    ) -> TransactionOutcome {
        TransactionOutcome {
            recipients,
            try_next_host: true,
            reusable: false,
            stage: Stage::Rcpt,
            host_failure: failure,
        }
    }

    #[test]
    fn who_was_too_many_is_told_of_once() {
        let endpoint = Endpoint::Host("mx.test".parse().expect("a name"));
        let candidate = Candidate::new(endpoint, 25, CandidateOrigin::Mx);
        let place = (&candidate, "127.0.0.2:25".parse().expect("an address"));
        let (taken, later) = (
            Reply::new(250, (2, 0, 0), "taken"),
            Reply::bare(452, "too many"),
        );
        let mut tries = Tries::default();
        tries.begin();
        let first = vec![
            RecipientOutcome::Delivered(taken.clone()),
            RecipientOutcome::Deferred(later),
        ];
        tries.note(place, &[0, 1], &outcome(first, None), None);
        let second = vec![RecipientOutcome::Delivered(taken.clone())];
        tries.note(place, &[1], &outcome(second, None), None);
        tries.begin();
        let gone = HostFailure::Disconnected(Cause::Closed);
        let third = vec![RecipientOutcome::Deferred(gone.reply())];
        tries.note(place, &[2], &outcome(third, Some(gone)), None);
        let all = tries.into_all();
        let told: Vec<_> = all.iter().map(|made| made.recipients.as_slice()).collect();
        let delivered = AttemptOutcome::Delivered(taken);
        assert_eq!(told[0], [(0, delivered.clone()), (1, delivered)]);
        assert!(matches!(told[1], [(2, AttemptOutcome::Failed(_))]));
    }
}
