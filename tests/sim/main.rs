//! Many seeds, faults and real sockets: what shows only in the long run or on a
//! wire.

mod dns;
mod spool;
