//! What a call can look at, as text: the tests compare it with what they gave.

use waypost_sdk::{destination, message};

/// The message and the destination as they look from a phase that is not routing.
pub fn world() -> String {
    format!(
        "id={} at={} size={} rcpts={} helo={} subject={} attributes={} candidates={} queued={} sts={:?}",
        message::id(),
        message::received_at(),
        message::size(),
        message::recipient_count(),
        message::origin().helo,
        message::header("subject").join("|"),
        message::attributes().len(),
        destination::candidates().is_ok(),
        destination::queued(),
        destination::mta_sts_mode(),
    )
}
