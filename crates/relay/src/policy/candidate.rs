//! A version of a plugin that is on trial: in the shadow of the one in force, where its answers
//! are only compared, or as a canary, where it decides for its share of the messages.

mod tally;
mod window;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plugin::record::{Difference, ScratchOverlay};
use plugin::{CallFailure, FailureReason, Phase, Plugin};
use smtp::QueueId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::tally::{CandidateStatus, Count, Example, Side};
use self::tally::{Result as Outcome, Tally};
use self::window::Window;
use super::admission::{self, Place, Refusal};
use super::host::Host;
use crate::clock::Clock;
use crate::config::{CandidateConfig, CandidateMode, Percent, PluginConfig, PluginsConfig};
use crate::telemetry;

/// One candidate with all that is known of it.
pub(crate) struct Candidate {
    /// Of the plugin in the configuration.
    name: String,
    config: CandidateConfig,
    /// What is called, or why there is nothing.
    plugin: Result<Plugin, String>,
    /// Out of a million messages.
    share: AtomicU32,
    seen: Mutex<Seen>,
    turns: Arc<Semaphore>,
    scratch: ScratchOverlay,
    clock: Clock,
}

/// What was seen of a candidate since it was loaded.
#[derive(Debug)]
struct Seen {
    tally: Tally,
    window: Window,
    /// Why it was taken out, if it was.
    stopped: Option<String>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What the candidate would be as a plugin. Its name in logs and in the metrics that it keeps itself
/// is the plugin's with `@candidate` behind.
pub(crate) fn as_plugin(plugin: &PluginConfig, config: &CandidateConfig) -> PluginConfig {
    let mut entry = PluginConfig {
        name: format!("{}@candidate", plugin.name),
        path: config.path.clone(),
        sha256: config.sha256,
        candidate: None,
        ..plugin.clone()
    };
    // Beside the candidate's own component.
    entry.live.signature = None;
    if let Some(own) = &config.config {
        entry.config = own.clone();
    }
    entry
}

async fn admit(
    host: &Host,
    rules: &PluginsConfig,
    entry: &PluginConfig,
) -> Result<Plugin, Refusal> {
    let fetched = admission::fetch(Place::configured(entry), entry.sha256, rules).await?;
    admission::admit(host, entry, &fetched).await
}

impl Candidate {
    /// Loads the candidate of a plugin, where it has one; it has to pass what a plugin has to. One
    /// that does not is there all the same, to say so.
    pub(crate) async fn load(
        host: &Host,
        rules: &PluginsConfig,
        plugin: &PluginConfig,
        active: &Plugin,
    ) -> Option<Arc<Self>> {
        let config = plugin.candidate.clone()?;
        let loaded = match admit(host, rules, &as_plugin(plugin, &config)).await {
            Ok(loaded) => fits(active, &loaded).map(|()| loaded),
            Err(refusal) => Err(refusal.to_string()),
        };
        let result = match &loaded {
            Ok(_) => "ok",
            Err(error) => {
                tracing::error!(
                    plugin = plugin.name,
                    error,
                    "the candidate does not load; the plugin in force goes on without it"
                );
                "failed"
            }
        };
        telemetry::candidate_loaded(&plugin.name, result);
        let candidate = Self {
            name: plugin.name.clone(),
            share: AtomicU32::new(config.percent.millionths()),
            seen: Mutex::new(Seen {
                tally: Tally::new(config.examples_count),
                window: Window::new(config.window),
                stopped: None,
            }),
            turns: Arc::new(Semaphore::new(config.concurrency_count)),
            scratch: ScratchOverlay::default(),
            clock: host.clock().clone(),
            plugin: loaded,
            config,
        };
        candidate.show_share();
        Some(Arc::new(candidate))
    }

    /// Why there is nothing to call.
    pub(crate) fn load_error(&self) -> Option<&str> {
        self.plugin.as_ref().err().map(String::as_str)
    }

    /// The component; none: it did not load.
    pub(crate) fn plugin(&self) -> Option<&Plugin> {
        self.plugin.as_ref().ok()
    }

    /// Out of a million messages, so many are decided by it from now on.
    pub(crate) fn canary_share(&self) -> u32 {
        if self.config.mode == CandidateMode::Canary && self.plugin.is_ok() {
            self.share.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// The component, where it is asked beside the plugin in force about this message.
    pub(crate) fn shadows(&self, id: QueueId, phase: Phase) -> Option<&Plugin> {
        let plugin = self.plugin.as_ref().ok()?;
        let is_asked = self.config.mode == CandidateMode::Shadow && plugin.has(phase);
        (is_asked && self.has(id)).then_some(plugin)
    }

    /// Whether this message is in the candidate's share: the same answer for the same message,
    /// and where it is yes it stays so when the share grows.
    fn has(&self, id: QueueId) -> bool {
        is_in_share(&self.name, id, self.share.load(Ordering::Relaxed))
    }

    /// A turn for a call in the shadow; none: so many are under way already.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }

    /// What it writes to the state in the shadow.
    pub(crate) fn scratch(&self) -> ScratchOverlay {
        self.scratch.clone()
    }

    /// A call in the shadow was compared.
    pub(crate) fn compared(&self, id: QueueId, phase: Phase, differences: Vec<Difference>) {
        let Some(first) = differences.first() else {
            return self.count_shadow(phase, Outcome::Same, "");
        };
        self.count_shadow(phase, Outcome::Differs, first.kind.as_str());
        tracing::debug!(%id, plugin = self.name, phase = phase.as_str(), kind = %first.kind,
            "the candidate decides otherwise");
        self.example(id, phase, Side::Shadow, differences, None);
    }

    /// A call in the shadow failed.
    pub(crate) fn shadow_failed(&self, id: QueueId, phase: Phase, failure: &CallFailure) {
        if failure.reason == FailureReason::Busy {
            return self.skipped(phase, "busy");
        }
        self.count_shadow(phase, Outcome::Failed, failure.reason.as_str());
        let failed = Some(failure.to_string());
        self.example(id, phase, Side::Shadow, Vec::new(), failed);
    }

    /// A call in the shadow was not made, or its answer cannot be compared.
    pub(crate) fn skipped(&self, phase: Phase, reason: &'static str) {
        self.count_shadow(phase, Outcome::Skipped, reason);
    }

    fn count_shadow(&self, phase: Phase, result: Outcome, reason: &'static str) {
        telemetry::shadow_call(&self.name, phase, result.as_str(), reason);
        self.seen().tally.count(Side::Shadow, phase, result, reason);
    }

    /// A call that decides was answered.
    pub(crate) fn answered(&self, phase: Phase) {
        telemetry::canary_call(&self.name, phase, "ok", "");
        let mut seen = self.seen();
        seen.tally.count(Side::Canary, phase, Outcome::Ok, "");
        seen.window.ended(self.clock.now().0, false);
    }

    /// A call that decides failed, by the candidate's fault: too many, and it is taken out.
    pub(crate) fn failed(&self, id: QueueId, phase: Phase, reason: &'static str, detail: &str) {
        telemetry::canary_call(&self.name, phase, "failed", reason);
        let detail = format!("{reason}: {detail}");
        self.example(id, phase, Side::Canary, Vec::new(), Some(detail));
        let now_ms = self.clock.now().0;
        let mut seen = self.seen();
        seen.tally
            .count(Side::Canary, phase, Outcome::Failed, reason);
        seen.window.ended(now_ms, true);
        let (failed, ended) = seen.window.sums(now_ms);
        if seen.stopped.is_some() || !self.is_too_much(failed, ended) {
            return;
        }
        let window = self.config.window;
        let why = format!("{failed} of {ended} calls failed within {window:?}, the last: {reason}");
        self.stop(&mut seen, &why);
        tracing::error!(
            plugin = self.name,
            why,
            "the candidate fails too often: no message is decided by it until the configuration \
             is reloaded or its share is set anew"
        );
    }

    /// Takes it out where it leaves out a phase that another version of the plugin decides.
    pub(crate) fn stop_unless_fit(&self, active: &Plugin) {
        let Err(why) = self.fits(active) else {
            return;
        };
        self.stop(&mut self.seen(), &why);
        tracing::error!(
            plugin = self.name,
            why,
            "the candidate does not go with the version in force: no message is decided by it \
             until the configuration is reloaded or its share is set anew"
        );
    }

    fn stop(&self, seen: &mut Seen, why: &str) {
        self.settle(seen, 0, Some(why.to_owned()));
        telemetry::candidate_stopped(&self.name);
    }

    /// The only place that changes the share, and only for who has the lock: a share that is set
    /// while the candidate is taken out must not undo that.
    fn settle(&self, seen: &mut Seen, millionths: u32, stopped: Option<String>) {
        seen.stopped = stopped;
        self.share.store(millionths, Ordering::Relaxed);
        self.show_share();
    }

    /// Whether it takes part in all that this version of the plugin decides.
    ///
    /// # Errors
    /// What is missing. One that did not load fits: it decides nothing.
    pub(crate) fn fits(&self, active: &Plugin) -> Result<(), String> {
        self.plugin()
            .map_or(Ok(()), |candidate| fits(active, candidate))
    }

    fn is_too_much(&self, failed: u64, ended: u64) -> bool {
        let share = u64::from(self.config.failures_max.millionths());
        failed > u64::from(self.config.failures_max_count)
            && failed.saturating_mul(1_000_000) > share.saturating_mul(ended)
    }

    /// Sets its share beside this version in force, until the next reload. One that was taken out
    /// is back.
    ///
    /// # Errors
    /// There is no component that could be asked, or it leaves out what the plugin decides.
    pub(crate) fn set_share(&self, percent: Percent, active: &Plugin) -> Result<(), String> {
        if let Some(error) = self.load_error() {
            return Err(format!("the candidate did not load: {error}"));
        }
        self.fits(active)?;
        let mut seen = self.seen();
        seen.window = Window::new(self.config.window);
        self.settle(&mut seen, percent.millionths(), None);
        drop(seen);
        tracing::warn!(plugin = self.name, share = %percent, "the candidate's share was set");
        Ok(())
    }

    fn show_share(&self) {
        self.hide_share();
        let share = self.share.load(Ordering::Relaxed);
        telemetry::candidate_share(&self.name, self.config.mode.as_str(), share);
    }

    /// Shows that no messages are its, in either mode.
    pub(crate) fn hide_share(&self) {
        for mode in [CandidateMode::Shadow, CandidateMode::Canary] {
            telemetry::candidate_share(&self.name, mode.as_str(), 0);
        }
    }

    fn example(
        &self,
        id: QueueId,
        phase: Phase,
        side: Side,
        differences: Vec<Difference>,
        failure: Option<String>,
    ) {
        let example = Example {
            at_ms: self.clock.now().0,
            message: id.to_string(),
            phase,
            side,
            differences,
            failure,
        };
        self.seen().tally.keep(example);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known, for people and programs.
    pub(crate) fn status(&self, active: &Plugin) -> CandidateStatus {
        let loaded = self.plugin.as_ref().ok().map(Plugin::inspect);
        let seen = self.seen();
        let (failed_recently, ended_recently) = seen.window.sums(self.clock.now().0);
        CandidateStatus {
            plugin: self.name.clone(),
            path: self.config.path.clone(),
            mode: self.config.mode.as_str().to_owned(),
            percent: Percent::from_millionths(self.share.load(Ordering::Relaxed)).get(),
            configured_percent: self.config.percent.get(),
            digest: loaded.map(|loaded| loaded.sha256.to_string()),
            version: loaded.and_then(|loaded| Some(loaded.identity.clone()?.1)),
            active_digest: active.inspect().sha256.to_string(),
            load_error: self.load_error().map(ToOwned::to_owned),
            stopped: seen.stopped.clone(),
            failed_recently,
            ended_recently,
            counts: seen.tally.counts(),
            examples: seen.tally.examples(),
        }
    }
}

/// A candidate that leaves out a phase would leave out a decision.
fn fits(active: &Plugin, candidate: &Plugin) -> Result<(), String> {
    let missing = Phase::ALL
        .into_iter()
        .filter(|phase| active.has(*phase) && !candidate.has(*phase));
    let missing: Vec<&str> = missing.map(Phase::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "it takes no part in phases that the plugin decides: {}",
        missing.join(", ")
    ))
}

/// Whether a message belongs to the share of so many in a million. The number that a message has
/// among all is fixed by its id and the salt.
pub(crate) fn is_in_share(salt: &str, id: QueueId, millionths: u32) -> bool {
    let place = (u128::from(hash(salt, id)) * 1_000_000) >> 64;
    place < u128::from(millionths)
}

/// FNV-1a over the salt, then the finaliser of SplitMix64 over both: the same on every machine and
/// in every version.
fn hash(salt: &str, id: QueueId) -> u64 {
    let mut mixed: u64 = 0xCBF2_9CE4_8422_2325;
    for octet in salt.bytes() {
        mixed = (mixed ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    mixed = mixed.wrapping_add(id.get().wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_grow_without_a_change_of_sides() {
        let ids: Vec<QueueId> = (0..200_000)
            .map(|n| QueueId::new(1_700_000_000 + n))
            .collect();
        let mut before: Vec<bool> = vec![false; ids.len()];
        for percent in [0.0, 0.5, 1.0, 10.0, 50.0, 100.0] {
            let share = Percent::new(percent).expect("a share").millionths();
            let now: Vec<bool> = ids
                .iter()
                .map(|id| is_in_share("routes", *id, share))
                .collect();
            assert!(
                before.iter().zip(&now).all(|(was, is)| *is || !was),
                "{percent}"
            );
            let count = now.iter().filter(|is| **is).count() as f64;
            let expected = ids.len() as f64 * percent / 100.0;
            // Five standard deviations of the binomial distribution.
            let spread = 5.0 * (expected * (1.0 - percent / 100.0)).sqrt();
            assert!((count - expected).abs() <= spread, "{percent}: {count}");
            before = now;
        }
    }

    #[test]
    fn two_plugins_choose_different_messages() {
        let both = (0..100_000)
            .map(QueueId::new)
            .filter(|id| is_in_share("one", *id, 100_000) && is_in_share("two", *id, 100_000));
        // A hundredth, not a tenth.
        let count = both.count();
        assert!((800..1200).contains(&count), "{count}");
    }

    /// FNV-1a (64 bits) of the salt; to it the id times the increment of SplitMix64 is added, and
    /// SplitMix64 mixes the sum. The numbers are not of this code: another program of both, which
    /// gives their published values (FNV-1a of `foobar` is 85944171f73967e8, the first output of
    /// SplitMix64 from 0 is e220a8397b1dcdaf), made them.
    #[test]
    fn the_hash_is_the_same_for_ever() {
        for (salt, id, expected) in [
            ("", 0, 17_665_956_581_633_026_203),
            ("routes", 0, 6_579_892_362_409_252_833),
            ("routes", 1, 14_305_068_559_331_422_853),
            ("decision-log", u64::MAX, 10_666_522_100_581_934_296),
            ("a", 1_700_000_000, 10_955_236_869_606_014_218),
        ] {
            assert_eq!(hash(salt, QueueId::new(id)), expected, "{salt} {id}");
        }
    }
}
