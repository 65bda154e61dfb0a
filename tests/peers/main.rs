//! Against programs that are not ours: the real `waypost` binary, Postfix's tools, swaks, Python's
//! smtplib, lettre's client, promtool; and kill -9.
//!
//! The binary is the one beside this test in the target directory: `cargo xtask test` builds it
//! first. A program that is not installed makes its tests skip, which `cargo xtask test` reports;
//! with WAYPOST_REQUIRE_PEERS=1 they fail instead.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "other programs run on the machine's own clock, and some counts are to be seen"
)]

mod clients;
mod harness;
mod injector;
mod kill;
mod metrics;
#[path = "../../crates/xtask/src/programs.rs"]
mod programs;
mod queue_state;
mod quickstart;
mod recorder;
mod sdk_quickstart;
mod sdk_samples;
mod volume;
