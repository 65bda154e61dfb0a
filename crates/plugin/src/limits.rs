//! How much a plugin may use. One set per plugin; each has a default that suits
//! a plugin written in a compiled language.

use std::time::Duration;

/// Limits of a plugin's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of one call, instantiation included. Checked at every tick of
    /// the host, so a call may go over by one tick.
    pub cpu: Duration,
    /// Wall-clock time of one call, from the moment it has an instance.
    /// Waiting for an instance is bounded by the same length again.
    pub wall: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory_bytes: usize,
    /// Elements of all tables of one instance.
    pub table_elements: usize,
    /// Host calls of one call. A call with a list counts each element.
    pub host_calls: u32,
    /// Octets that cross from the plugin to the host in one step: the answer,
    /// or the arguments of one host call.
    pub data_bytes: usize,
    /// Log lines of one call; further ones are counted, not written.
    pub log_lines: u32,
    /// Log lines a second over all calls, with a burst of the same number.
    pub log_lines_per_second: u32,
    /// Distinct metric series; further ones go to `other`.
    pub metric_series: usize,
    /// Calls under way at the same time; further ones wait.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(20),
            wall: Duration::from_secs(5),
            memory_bytes: 32 << 20,
            table_elements: 20_000,
            host_calls: 200,
            data_bytes: 1 << 20,
            log_lines: 50,
            log_lines_per_second: 100,
            metric_series: 100,
            concurrency: 64,
        }
    }
}

/// How the instances of a plugin live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Calls that one instance serves, one after the other; 1: each call gets a new
    /// one, and nothing of a call can be seen by another. More is for guests that are
    /// slow to start. An instance that failed is never used again.
    pub reuse: u32,
    /// How long an instance may wait for its next call; its memory is held for so
    /// long.
    pub idle: Duration,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            reuse: 1,
            idle: Duration::from_secs(30),
        }
    }
}
