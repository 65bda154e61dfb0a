//! What one call knows while it runs: the data of its store. Nothing of it but the
//! memory meter outlives the call, also where the instance does.

use std::sync::Arc;
use std::time::Duration;

use smtp::Domain;
use tokio::time::Instant;

use crate::call::{CallStats, LogLine};
use crate::environment::{CallEnvironment, HeaderField, empty_environment};
use crate::imports::OpenTables;
use crate::meter::{CpuMeter, MemoryMeter};
use crate::phase::Input;
use crate::profile::Profile;

/// A reason of ours to stop a guest, carried through the engine as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("over its budget of CPU time")]
    Cpu,
    #[error("over its number of host calls")]
    HostCalls,
}

/// The data of a store.
pub(crate) struct CallState {
    pub(crate) profile: Arc<Profile>,
    /// What the guest is asked; `None`: it is being started, or asked about
    /// itself, and there is no message.
    pub(crate) input: Option<Input>,
    pub(crate) environment: Arc<dyn CallEnvironment>,
    pub(crate) memory: MemoryMeter,
    pub(crate) cpu: Arc<CpuMeter>,
    pub(crate) cpu_budget: Duration,
    pub(crate) metrics: Arc<dyn crate::host::MetricSink>,
    pub(crate) deadline: Instant,
    pub(crate) host_calls: u32,
    /// Hosts of the candidates that the guest was given; `None`: not asked.
    pub(crate) candidates: Option<Vec<Domain>>,
    pub(crate) headers: Option<Arc<[HeaderField]>>,
    pub(crate) attributes: Vec<(String, Option<String>)>,
    /// Tables that were asked for.
    pub(crate) open_tables: OpenTables,
    /// The plugin's shared state, once it was asked for.
    pub(crate) shared_state: Option<Arc<dyn crate::shared::StateStore>>,
    pub(crate) log: LogBook,
    pub(crate) seed: u64,
    pub(crate) random: u64,
    /// The guest was asked: what fails now may be its answer.
    pub(crate) asked: bool,
}

/// Log lines of one call.
#[derive(Debug, Default)]
pub(crate) struct LogBook {
    /// Kept for whoever wants them.
    pub(crate) kept: Vec<LogLine>,
    pub(crate) line_count: u32,
    pub(crate) dropped_count: u32,
    /// The last error line: guests log what they die of.
    pub(crate) last_error: Option<String>,
}

impl CallState {
    /// Lets go of everything of the relay's that the call had, between calls. The
    /// next call begins with a state of its own.
    pub(crate) fn release(&mut self) {
        self.environment = empty_environment();
        self.input = None;
        self.candidates = None;
        self.headers = None;
        self.attributes = Vec::new();
        self.open_tables = OpenTables::default();
        self.shared_state = None;
        self.log = LogBook::default();
    }

    /// Counts host calls and stops the guest when there are too many.
    pub(crate) fn charge(&mut self, count: usize) -> wasmtime::Result<()> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.host_calls = self.host_calls.saturating_add(count);
        if self.host_calls > self.profile.limits.host_calls {
            return Err(Stop::HostCalls.into());
        }
        Ok(())
    }

    /// What knows of the message, where there is one.
    pub(crate) fn subject(&self) -> Option<&dyn CallEnvironment> {
        self.input.is_some().then_some(&*self.environment)
    }

    /// Whether the call is about the way to a destination.
    pub(crate) fn is_routing(&self) -> bool {
        matches!(self.input, Some(Input::Route(_)))
    }

    /// Identity of the message; empty where there is none.
    pub(crate) fn message_id(&self) -> String {
        match &self.input {
            None => String::new(),
            Some(Input::Route(request)) => request.message_id.clone(),
            Some(Input::Delivery(report)) => report.message_id.clone(),
            Some(_) => self.environment.message_id(),
        }
    }

    /// The time as the guest is told it.
    pub(crate) fn now_ms(&self) -> u64 {
        self.environment
            .now_ms()
            .unwrap_or_else(|| (self.profile.clock)())
    }

    /// The next random number: SplitMix64, so that a seed replays a call.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// What the call cost as far as its state knows.
    pub(crate) fn take_stats(&mut self) -> CallStats {
        CallStats {
            cpu: self.cpu.spent(),
            memory_peak_bytes: self.memory.used_bytes(),
            host_calls: self.host_calls,
            log_lines_dropped: self.log.dropped_count,
            log: std::mem::take(&mut self.log.kept),
            ..CallStats::default()
        }
    }
}
