//! The operator's and the plugins' say in where mail goes.

pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod convert;
pub(crate) mod environment;
pub(crate) mod host;
pub(crate) mod meters;
