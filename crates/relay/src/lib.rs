//! The relay: listeners, drivers of the machines, policy chain, dispatch, egress, admin.
//!
//! Hands, no opinions: everything that touches a socket, a file or a clock is here, and
//! everything that decides about SMTP, schedules or MX records is not. [`Relay`] is where to
//! start reading.

mod addresses;
pub mod admin;
mod app;
mod bounce;
pub mod clock;
pub mod config;
pub mod content;
pub mod control_candidates;
pub mod control_plugins;
pub mod core;
pub mod dispatch;
mod door;
pub mod dsn;
pub mod egress;
pub mod explain;
mod ids;
mod ingress;
mod listen;
pub mod logging;
mod plugin_state;
mod policy;
mod reception;
pub mod replay;
pub mod routing;
mod setup;
pub mod store;
mod story;
mod stream;
mod tables;
pub mod telemetry;
mod tls;
pub mod trace;

pub use app::{Relay, StartError};
pub use clock::Clock;
pub use config::Config;
