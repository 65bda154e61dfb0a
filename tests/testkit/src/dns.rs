//! The DNS in a test: zone text in, answers out.
//!
//! [`DnsServer`] answers over real UDP and TCP sockets on loopback, as a
//! recursive resolver would; [`ZoneResolver`] answers the same without sockets.
//! Both read from a [`Script`]: zones that can be changed while it runs, faults
//! by name and type, and counts of what was asked.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::dns::{DnsServer, Fault, Zone};
//!
//! let server = DnsServer::start([Zone::parse(
//!     "
//!     $ORIGIN example.test.
//!     $TTL 300
//!     @    MX 10 mx1
//!     @    MX 20 mx2
//!     mx1  A  127.0.0.2
//!     mx2  A  127.0.0.3
//!     ",
//! )])
//! .await;
//! server.set_fault("mx1.example.test", "A", Fault::ServFail);
//! // … point a resolver at server.addr() …
//! assert_eq!(server.count("example.test", "MX"), 1);
//! # }
//! ```

mod resolver;
mod script;
mod server;
mod zone;

pub use resolver::ZoneResolver;
pub use script::{Fault, Script};
pub use server::DnsServer;
pub use zone::Zone;
