//! State that plugins keep between calls: one namespace a plugin, shared by all its calls.
//!
//! In memory, under a quota, behind one short lock a namespace. Where the operator wants it
//! durable, a thread of its own writes what has changed to a log in the spool's directory.

mod keeper;
mod log;
mod namespace;
mod rules;

pub(crate) use keeper::{Durability, PluginStates};
pub(crate) use namespace::Namespace;
