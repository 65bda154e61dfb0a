//! Where mail goes: DNS answers and promises turned into a delivery plan.
//!
//! The crate has three layers, each usable without the next:
//!
//! * [`Resolver`] asks the DNS, and says honestly what it found: records, a
//!   proven absence, or nothing to go by ([`LookupError`]).
//!   [`HickoryResolver`] is the real one.
//! * [`Directory`] remembers answers for as long as they may be remembered, and
//!   asks each question only once at a time.
//! * [`plan()`] applies RFC 5321 section 5.1 and RFC 7505 and gives a
//!   [`DeliveryPlan`]: what to try, in order, and why. [`expand_hops`],
//!   [`select_hops`] and [`edit_plan`] are what a configured route or a plugin
//!   makes of it; [`dial_addresses`] chooses the addresses of one candidate when
//!   its turn comes.
//!
//! There is no SMTP and no queue here, no clock (a [`Clock`] is passed in) and
//! no source of chance (a seed is).

mod cache;
mod candidate;
mod chance;
mod dial;
mod directory;
mod edit;
mod expand;
mod hickory;
mod hop;
mod plan;
mod resolver;
mod step;

pub use candidate::{
    AddressFamily, Candidate, CandidateOrigin, DeliveryPlan, Endpoint, Protocol, TlsPolicy,
};
pub use chance::Chance;
pub use dial::{AddressRefusal, AddressRules, DialAddresses, RefusedAddress, dial_addresses};
pub use directory::{
    Clock, Directory, DirectoryOptions, DirectoryStats, Lookup, LookupObserver, LookupReport,
};
pub use edit::{CandidateChange, EditFailure, HopChoice, HostPattern, MxEdit};
pub use expand::{RouteFault, edit_plan, expand_hops, select_hops};
pub use hickory::{HickoryResolver, ResolverOptions, ResolverSetupError};
pub use hop::{HopEndpoint, HopFault, NextHop};
pub use plan::{PlanFailure, PlanFailureReason, PlanOptions, plan, plan_from_answers};
pub use resolver::{
    AddressAnswer, Answer, LookupError, MxAnswer, MxExchange, MxRecord, PtrAnswer, RecordKind,
    Resolver, TemporaryCause, TxtAnswer, merge_addresses,
};
pub use step::{DropReason, Freshness, MxLine, Step};
