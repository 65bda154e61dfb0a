//! From a place in a plan to the addresses it stands for.

use std::net::IpAddr;

use mx::{Directory, Endpoint, LookupError};

/// The addresses of an endpoint: its own, or what the DNS says; none for a local socket.
///
/// # Errors
/// When the DNS has no address for the host, or does not answer.
pub(crate) async fn of(
    directory: &Directory,
    endpoint: &Endpoint,
) -> Result<Vec<IpAddr>, LookupError> {
    match endpoint {
        Endpoint::Address(address) => Ok(vec![*address]),
        Endpoint::Host(host) => directory
            .addresses(host)
            .await
            .outcome
            .map(|answer| answer.records.clone()),
        Endpoint::UnixSocket(_) => Ok(Vec::new()),
    }
}
