//! What the dispatcher has done beside it: each task ends with an input to the dispatcher,
//! whatever happens. A job without an answer would wait for ever.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use queue::{
    AttemptOutcome, AttemptRecord, Disposition, JobId, Notification, NotificationKind, OperatorEnd,
    QueuedMessage, RecipientOutcome,
};
use smtp::{Domain, QueueId};
use spool::{RecordId, SpoolError};
use tokio::sync::Semaphore;

use super::feedback::{Heard, Hearing};
use super::{Input, LoadFailure, Plan, feedback};
use crate::core::{Core, Snapshot};
use crate::routing::RoutedJob;
use crate::telemetry::Meters;
use crate::{bounce, egress, routing, store};

/// Pause before a bounce that could not be stored is tried again.
const BOUNCE_RETRY: Duration = Duration::from_secs(5);

/// Routes a job, by this snapshot. Where the DNS gives no plan plugins are told, as after an
/// attempt.
pub(super) async fn route(
    core: Arc<Core>,
    snapshot: Snapshot,
    job: JobId,
    message: Arc<QueuedMessage>,
    (domain, recipients, attempt): (Domain, Vec<u32>, u32),
) {
    let id = message.id;
    let work = async {
        let (about, to) = (Arc::clone(&message), domain.clone());
        let routed = routing::route_job(&core, &snapshot, about, to, recipients, attempt).await;
        if routed.unresolved.is_empty() {
            return routed;
        }
        feedback::unresolved(&core, &snapshot, &message, (domain, attempt), routed).await
    };
    let routed = AssertUnwindSafe(work).catch_unwind().await;
    let RoutedJob {
        routes, attributes, ..
    } = routed.unwrap_or_else(|_| {
        tracing::error!(%id, "routing panicked; the message waits");
        // Recipients that no route names are deferred as a local fault.
        RoutedJob::default()
    });
    core.tell(Input::Routed {
        job,
        id,
        routes,
        attributes,
    })
    .await;
}

/// Makes a delivery attempt, unless the relay is cut off first, and lets plugins hear of it.
pub(super) async fn attempt(
    core: Arc<Core>,
    job: JobId,
    message: Arc<QueuedMessage>,
    (recipients, plan, destination): (Vec<u32>, Plan, Arc<str>),
) {
    let id = message.id;
    let snapshot = Snapshot::take(&core);
    let mut hearing = Hearing::begin(&core, &snapshot, &message, &recipients, &plan);
    drop(snapshot);
    let route = (&*destination, &*plan.plan);
    let work = egress::attempt(&core, &message, &recipients, route, hearing.is_some());
    let ended = tokio::select! {
        ended = AssertUnwindSafe(work).catch_unwind() => ended,
        // The spool closes: a delivery now could not be recorded and would be repeated.
        () = core.cut.cancelled() => return,
    };
    let (mut outcome, aftermath) = ended.unwrap_or_else(|_| {
        tracing::error!(%id, "a delivery panicked; the message waits");
        (interrupted(&core, &destination), None)
    });
    if !is_all_delivered(&message, &outcome) {
        outcome.record.decisions = plan.decisions();
    }
    if let Some(hearing) = &mut hearing {
        hearing.take(&outcome, aftermath.unwrap_or_default());
        outcome.awaits_advice = hearing.may_advise();
    }
    let awaits_advice = outcome.awaits_advice;
    // First of all: what has happened must not wait for what somebody makes of it.
    core.tell(Input::Attempted { job, outcome }).await;
    let Some(hearing) = hearing else {
        return;
    };
    let heard = tokio::select! {
        heard = AssertUnwindSafe(hearing.hear()).catch_unwind() => heard,
        () = core.cut.cancelled() => return,
    };
    let heard = heard.unwrap_or_else(|_| {
        tracing::error!(%id, "telling plugins of a delivery panicked; mail goes its usual way");
        Heard::default()
    });
    if awaits_advice {
        let Heard { advice, attributes } = heard;
        core.tell(Input::Advised {
            job,
            id,
            advice,
            attributes,
        })
        .await;
    }
}

/// Recipients without an outcome are deferred as a local fault.
fn interrupted(core: &Core, destination: &str) -> AttemptOutcome {
    AttemptOutcome {
        recipients: Vec::new(),
        host: None,
        destination_failed: false,
        record: AttemptRecord {
            at: core.now(),
            destination: destination.to_owned(),
            stage: "fault".to_owned(),
            outcome: "a fault of this relay".to_owned(),
            ..AttemptRecord::default()
        },
        awaits_advice: false,
    }
}

/// Nothing of the message is left of which anything could be told.
fn is_all_delivered(message: &QueuedMessage, outcome: &AttemptOutcome) -> bool {
    let is_delivered = |one: &RecipientOutcome| matches!(one, RecipientOutcome::Delivered(_));
    outcome.recipients.len() == message.recipients.len()
        && outcome.recipients.iter().all(is_delivered)
}

/// Reads a message's record.
pub(super) async fn load(core: Arc<Core>, loads: Arc<Semaphore>, id: QueueId) {
    let _turn = tokio::select! {
        turn = loads.acquire_owned() => turn,
        () = core.draining.cancelled() => return,
    };
    let spool = Arc::clone(&core.spool);
    let read = tokio::task::spawn_blocking(move || {
        let stored = spool.read_meta(RecordId(id.get()))?;
        Ok::<_, SpoolError>(store::decode(&stored.meta))
    });
    let result = match read.await {
        Ok(Ok(Ok(message))) => Ok(Arc::new(message)),
        Ok(Ok(Err(error))) => {
            tracing::error!(%id, %error, "cannot read a message's record; it stays in the spool");
            Err(LoadFailure::Unreadable)
        }
        Ok(Err(SpoolError::NotFound(_))) => Err(LoadFailure::Gone),
        Ok(Err(error)) if error.may_pass() || error == SpoolError::Closed => {
            tracing::warn!(%id, %error, "cannot load a message now");
            Err(LoadFailure::Temporary)
        }
        Ok(Err(error)) => {
            tracing::error!(%id, %error, "cannot load a message; it stays in the spool");
            Err(LoadFailure::Unreadable)
        }
        Err(error) => {
            tracing::error!(%id, %error, "reading a message panicked");
            Err(LoadFailure::Temporary)
        }
    };
    core.tell(Input::Loaded { id, result }).await;
}

/// Makes a bounce durable, however long the spool has no room for it.
pub(super) async fn notify(core: Arc<Core>, notification: Notification) {
    let id = notification.message.id;
    let told = loop {
        let work = bounce::store(&core, &notification);
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => break true,
            Ok(Err(error)) if error.may_pass() => {
                tracing::warn!(%id, %error, "cannot store a bounce; trying again");
            }
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "cannot store a bounce; the message stays in the spool");
                break false;
            }
            Err(_) => {
                tracing::error!(%id, "composing a bounce panicked; the message stays in the spool");
                break false;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BOUNCE_RETRY) => {}
            () = core.cut.cancelled() => break false,
        }
    };
    core.tell(Input::Notified { id, told }).await;
}

/// Counts recipients that ran out of time.
pub(super) fn count_expired(meters: &Meters, notification: &Notification) {
    if notification.kind == NotificationKind::Expired {
        meters
            .expired
            .increment(notification.recipients.len() as u64);
    }
}

/// Counts and logs what routing decided about recipients that are not tried now. Those that
/// are get their line when the attempt ends.
pub(super) fn report_routes(meters: &Meters, id: QueueId, routes: &[queue::Route<Plan>]) {
    for route in routes {
        let count = route.recipients.len() as u64;
        let (result, reason) = match &route.disposition {
            Disposition::Defer(deferral) => {
                meters.deferred_local.increment(count);
                ("deferred", deferral.reply.to_string())
            }
            Disposition::Reject(reply) => {
                meters.failed.increment(count);
                ("rejected", reply.to_string())
            }
            Disposition::Discard(reason) => {
                meters.discarded.increment(count);
                ("discarded", reason.clone())
            }
            Disposition::Hold { reason, .. } => ("held", reason.clone()),
            Disposition::Deliver { .. } => continue,
        };
        tracing::info!(%id, result, recipients = count, reason, "routing");
    }
}

/// Counts recipients that a next hop refused for good.
pub(super) fn count_failures(meters: &Meters, outcome: &AttemptOutcome) {
    let failed = |result: &&RecipientOutcome| matches!(result, RecipientOutcome::Failed(_));
    meters
        .failed
        .increment(outcome.recipients.iter().filter(failed).count() as u64);
}

/// Counts and logs recipients that an operator has brought to an end.
pub(super) fn report_end(meters: &Meters, id: QueueId, recipients: u32, how: OperatorEnd) {
    let (counter, result) = match how {
        OperatorEnd::Bounced => (&meters.bounced_by_operator, "bounced"),
        OperatorEnd::Removed => (&meters.discarded, "removed"),
    };
    counter.increment(u64::from(recipients));
    tracing::info!(%id, result, recipients, "by the operator");
}

/// Logs what plugins advise.
pub(super) fn report_advice(id: QueueId, advice: &[queue::Advised<Plan>]) {
    for advised in advice {
        let count = advised.recipients.len() as u64;
        for decision in &advised.decisions {
            tracing::info!(%id, recipients = count, advice = %decision, "after an attempt");
        }
    }
}

/// Removes a message from the spool by an operator's wish, and counts the recipients that were
/// still to be delivered to.
pub(super) async fn remove_counted(core: Arc<Core>, id: QueueId) {
    let spool = Arc::clone(&core.spool);
    let removed = tokio::task::spawn_blocking(move || {
        let read = spool.read_meta(RecordId(id.get()));
        let message = read
            .ok()
            .and_then(|stored| store::decode(&stored.meta).ok());
        (message, spool.remove(RecordId(id.get())))
    });
    let Ok((message, result)) = removed.await else {
        tracing::error!(%id, "removing a message panicked");
        return;
    };
    if let Err(error) = result {
        tracing::error!(%id, %error, "the spool did not take a removal");
    }
    let recipients = message.map_or(0, |message| {
        let pending = message.recipients.iter();
        pending.filter(|one| !one.state.is_final()).count()
    });
    let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
    report_end(&core.meters, id, recipients, OperatorEnd::Removed);
}
