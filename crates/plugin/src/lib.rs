//! The WebAssembly policy host: the only crate that knows wasmtime.
//!
//! A [`PluginHost`] loads components ([`PluginSpec`]) into [`Plugin`]s; a
//! [`PluginSlot`] lets a running relay change one for another. A call
//! ([`Plugin::route`]) gets a new instance, a [`RouteRequest`] and a
//! [`CallEnvironment`] for what it asks while it runs, and ends in checked
//! [`Verdict`]s or in a [`CallFailure`] with a [`FailureReason`].
//!
//! What cannot be seen from the types: nothing a guest does stops another task of
//! the runtime for longer than a tick; nothing it answers reaches the relay
//! unchecked; a failed call leaves nothing behind.

mod ask;
mod attempt;
mod attribute;
mod bindings;
mod cache;
mod call;
pub mod cases;
mod check;
mod config_tree;
mod debug;
mod dialogue;
mod digest;
mod environment;
mod error;
mod failure;
mod grants;
mod guest;
mod host;
mod http;
mod idle;
mod imports;
mod instance;
mod limits;
mod load;
mod lower;
mod meter;
mod octets;
mod phase;
mod plugin;
mod profile;
pub mod record;
mod request;
mod run;
mod shared;
mod slot;
mod state;
mod table;
mod text;
mod ticker;
mod verdict;

pub use attempt::{Advice, AttemptOutcome, AttemptReport, AttemptStage};
pub use call::{Call, CallStats, LogLevel, LogLine, RouteCall};
pub use dialogue::{
    HeaderEdit, MessageAction, MessageRewrite, MessageVerdict, NewField, RecipientAction,
    RecipientVerdict, SenderAction, SenderVerdict,
};
pub use digest::{Digest, DigestError};
pub use environment::{
    Answer, AuthResult, AuthSummary, BodyType, CallEnvironment, Candidate, CandidateOrigin,
    EmptyEnvironment, HeaderField, HostHealth, Ingress, LookupFailure, Peer, Question, Sender,
    TlsFacts,
};
pub use error::{CallFailure, FailureReason, HostError, LoadError};
pub use grants::{Grants, HopPattern, HopPatternError};
pub use host::{
    Allocation, Clock, DiscardMetrics, HostOptions, MetricSink, PluginHost, PluginSpec,
};
pub use http::{HttpFailure, HttpMethod, HttpRequest, HttpResponse, Origin, OriginError};
pub use limits::{Instances, Limits};
pub use phase::{Input, MailFrom, Output, Phase, PhaseError};
pub use plugin::{Inspection, Plugin};
pub use request::{MAX_RECIPIENTS, Notify, Recipient, RouteRequest};
pub use shared::{StateEntry, StateFailure, StateStore};
pub use slot::PluginSlot;
pub use table::{Table, TableFailure};
pub use verdict::{
    AddressFamily, CandidateChange, Decision, Endpoint, Flow, HopChoice, HostPattern,
    HostPatternError, MxEdit, NextHop, Protocol, Settings, TlsPolicy, Verdict,
};
