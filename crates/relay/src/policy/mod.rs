//! The operator's and the plugins' say in where mail goes.

pub(crate) mod admission;
pub(crate) mod attribution;
pub(crate) mod breaker;
pub(crate) mod call;
pub(crate) mod candidate;
pub(crate) mod chain;
pub(crate) mod convert;
pub(crate) mod decision_log;
pub(crate) mod dialogue;
pub(crate) mod edits;
pub(crate) mod environment;
mod furnished;
pub(crate) mod gate;
pub(crate) mod guard;
pub(crate) mod host;
mod http;
pub(crate) mod live;
pub(crate) mod meters;
pub(crate) mod resources;
pub(crate) mod session_environment;
pub(crate) mod shelf;
pub(crate) mod signature;
pub(crate) mod witness;
pub(crate) mod words;
