//! From a notification that is owed to a message in the spool.
//!
//! `queue::notify` decides whether, [`crate::dsn`] how it looks; here it is made durable. The
//! bounce is a message like any other, with the null reverse-path, and the record of its cause
//! is not touched before it is safe.

use queue::{Notification, Origin, QueuedMessage, QueuedRecipient};
use smtp::{MailParameters, RcptParameters, ReversePath};
use spool::SpoolError;

use crate::content::{self, Content};
use crate::core::Core;
use crate::dsn::{self, DsnContext};
use crate::trace;

/// Composes the bounce and makes it durable.
///
/// # Errors
/// When the spool cannot take it now.
pub(crate) async fn store(core: &Core, notification: &Notification) -> Result<(), SpoolError> {
    let cause = &notification.message;
    let ReversePath::Mailbox(sender) = &cause.reverse_path else {
        return Ok(());
    };
    let header = match core.content(cause.id).await {
        Ok(content) => trace::header_section(&content, dsn::HEADER_LIMIT_BYTES),
        // The sender is owed the news even where the original can no longer be read.
        Err(error) if !error.may_pass() => {
            tracing::error!(id = %cause.id, %error, "the content of a bounced message is unreadable");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let now = core.now();
    let id = core.ids.next(now);
    let settings = core.settings.load_full();
    let context = DsnContext {
        hostname: settings.config.hostname.clone(),
        now,
        id,
    };
    let text = dsn::compose(notification, &header, &context);
    let body: Content = vec![bytes::Bytes::from(text)].into();
    let lifetime_ms = settings.config.queue.bounce_expires_after.as_millis();
    let bounce = QueuedMessage {
        id,
        received_at: now,
        expires_at: now.plus_ms(u64::try_from(lifetime_ms).unwrap_or(u64::MAX)),
        size_bytes: content::size_bytes(&body),
        origin: Origin::default(),
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: vec![QueuedRecipient::new(
            sender.clone(),
            RcptParameters::default(),
            now,
        )],
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: queue::History::default(),
    };
    core.accept(bounce, body).await?;
    core.meters.bounces.increment(1);
    tracing::info!(%id, cause = %cause.id, to = %sender, "bounce queued");
    Ok(())
}
