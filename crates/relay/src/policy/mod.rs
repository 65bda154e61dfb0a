//! The operator's and the plugins' say in where mail goes.

pub(crate) mod breaker;
pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod convert;
pub(crate) mod dialogue;
pub(crate) mod edits;
pub(crate) mod environment;
pub(crate) mod gate;
pub(crate) mod guard;
pub(crate) mod host;
pub(crate) mod meters;
pub(crate) mod session_environment;
