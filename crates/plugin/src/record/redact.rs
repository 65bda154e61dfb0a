//! Records that show less of the mail, and can still be run again.
//!
//! A record with holes would not replay. So what is to be hidden is exchanged for
//! pseudonyms in the input and in every question and answer, and then the call is
//! made once more in that world: the record is of this second call, and replays
//! exactly. Where its decision is not the one that was really made, pseudonyms
//! exchanged in that too, the plugin looks at what was hidden, and
//! [`Record::unlike`] says so.

mod veil;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::veil::Veil;
use super::{Ending, Record, Recorder, Replay, differences};
use crate::plugin::Plugin;

/// What a record shows of the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privacy {
    /// Pseudonyms for local parts, domains of the envelope, the client's name and
    /// address, user names, header values and bodies.
    Hash,
    /// As `Hash`, with the domains and the client's name and address as they are.
    Domains,
    /// Everything as it is.
    Full,
}

/// Makes records show less. Pseudonyms are keyed digests: the same for the same
/// text as long as the key is, and nothing to anybody who has not the key.
#[derive(Clone)]
pub struct Redactor {
    privacy: Privacy,
    key: [u8; 32],
    /// Lower case.
    keep_headers: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("privacy", &self.privacy)
            .field("keep_headers", &self.keep_headers)
            .finish_non_exhaustive()
    }
}

/// Why a record cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("the record cannot be put into pseudonyms: {0}")]
pub struct RedactError(String);

impl Redactor {
    /// `key` should be random and need not be kept. `keep_headers`: fields whose
    /// values are shown as they are, in lower case.
    pub fn new(privacy: Privacy, key: [u8; 32], keep_headers: Vec<String>) -> Self {
        Self {
            privacy,
            key,
            keep_headers,
        }
    }

    /// The record as it may be shown, made by calling `plugin` once more where
    /// something is hidden. `route_headers`: the names of the header fields whose
    /// values are in a routing request.
    ///
    /// # Errors
    /// The record cannot be shown without what is to be hidden.
    pub async fn record(
        &self,
        plugin: &Plugin,
        record: Record,
        route_headers: &[String],
    ) -> Result<Record, RedactError> {
        if self.privacy == Privacy::Full {
            return Ok(Record {
                privacy: Privacy::Full,
                ..record
            });
        }
        let veil = Veil::of(self, &record, route_headers);
        let mut shown = veil
            .record(&record)
            .map_err(|error| RedactError(error.to_string()))?;
        shown.privacy = self.privacy;
        if !record.ending.is_repeatable() {
            return Ok(shown);
        }
        let meant = shown.ending.clone();
        let world = Arc::new(Replay::new(&shown.tape));
        let at_ms = shown.at_ms;
        let seed = shown.tape.seed;
        let told = Arc::clone(&world);
        let recorder = Arc::new(Recorder::new(told, Arc::new(move || at_ms), seed));
        let asked = Arc::clone(&recorder);
        let result = plugin.call(shown.input.clone(), asked).await;
        shown.ending = Ending::of(&result);
        shown.tape = recorder.tape();
        shown.unlike = unlike(&shown, &meant, &world.news());
        Ok(shown)
    }
}

fn unlike(shown: &Record, meant: &Ending, news: &[String]) -> Option<String> {
    let differences = differences(&shown.input, meant, &shown.ending);
    if let Some(first) = differences.first() {
        return Some(format!(
            "with pseudonyms it decides otherwise: {}: {} in place of {}",
            first.kind, first.after, first.before
        ));
    }
    let first = news.first()?;
    Some(format!("with pseudonyms it asks otherwise: {first}"))
}
