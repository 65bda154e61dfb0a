//! The relay: listeners, drivers of the machines, policy chain, dispatch, egress, admin.

pub mod config;
