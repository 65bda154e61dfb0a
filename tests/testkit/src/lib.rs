//! Stand-ins for tests, the only place where fakes live.

pub mod dns;
pub mod sim_disk;
pub mod spool_contract;
pub mod virtual_mx;
