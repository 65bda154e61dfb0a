//! Stand-ins for tests, the only place where fakes live.

pub mod dns;
pub mod virtual_mx;
