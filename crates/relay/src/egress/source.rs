//! Which of our own addresses a connection goes out from, and under which name.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mx::Chance;
use smtp::{Domain, QueueId};
use tokio::net::{TcpSocket, TcpStream};

use crate::config::{Config, SourceConfig};

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotConnected {
    /// By a fault of ours: there is no socket with our address.
    Ours(io::Error),
    /// The other side was not reached.
    Theirs(io::Error),
}

/// Our side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// None: the system chooses.
    pub(super) address: Option<IpAddr>,
    /// Our name in EHLO.
    pub(super) ehlo: Domain,
}

impl Source {
    /// From the pool of this name, for a connection to `remote`. A message keeps its address over
    /// all attempts, as long as the pool stays the same; each address gets the share of messages
    /// that its weight says.
    ///
    /// # Errors
    /// There is no such pool, or it has no address of the family; for the queue and the log.
    pub(super) fn choose(
        config: &Config,
        pool: Option<&str>,
        id: QueueId,
        remote: IpAddr,
    ) -> Result<Self, String> {
        let ehlo = &config.delivery.ehlo;
        let Some(name) = pool else {
            return Ok(Self {
                address: None,
                ehlo: ehlo.clone(),
            });
        };
        let pools = &config.source_pools;
        let pool = pools.iter().find(|pool| pool.name == name);
        let pool = pool.ok_or_else(|| format!("no source pool {name:?} is configured"))?;
        let of_family = pool
            .sources
            .iter()
            .filter(|source| source.address.is_ipv4() == remote.is_ipv4());
        let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
        let source = of_family
            .max_by_key(|source| score(id, source))
            .ok_or_else(|| format!("the source pool {name:?} has no {family} address"))?;
        Ok(Self {
            address: Some(source.address),
            ehlo: source.ehlo.as_ref().unwrap_or(ehlo).clone(),
        })
    }

    /// Connects from here.
    ///
    /// # Errors
    /// What the system says; it names the address where that cannot be bound.
    pub(super) async fn connect(&self, remote: SocketAddr) -> Result<TcpStream, NotConnected> {
        let connected = match self.address {
            None => TcpStream::connect(remote).await,
            Some(address) => {
                let socket = bound(address).map_err(|error| {
                    let text = format!("from {address}: {error}");
                    NotConnected::Ours(io::Error::new(error.kind(), text))
                })?;
                socket.connect(remote).await
            }
        };
        connected.map_err(NotConnected::Theirs)
    }
}

fn bound(address: IpAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// Weighted rendezvous hashing: the largest of as many draws as the weight says.
fn score(id: QueueId, source: &SourceConfig) -> u64 {
    let address = match source.address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            // Both halves count.
            Chance::new((bits >> 64) as u64).next_u64() ^ (bits & u128::from(u64::MAX)) as u64
        }
    };
    let seed = Chance::new(id.get()).next_u64() ^ Chance::new(address).next_u64();
    let mut chance = Chance::new(seed);
    (0..source.weight)
        .map(|_| chance.next_u64())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(addresses: &str) -> Config {
        let text = format!(
            "hostname = \"relay.example\"\nlisten = [\"127.0.0.1:0\"]\nspool = \"s\"\n\
             [[source_pool]]\nname = \"bulk\"\naddresses = [{addresses}]\n"
        );
        Config::parse(&text, "waypost.toml").unwrap()
    }

    fn choose(
        config: &Config,
        pool: Option<&str>,
        id: u64,
        remote: &str,
    ) -> Result<Source, String> {
        Source::choose(config, pool, QueueId::new(id), remote.parse().unwrap())
    }

    #[test]
    fn without_a_pool_the_system_chooses() {
        let config = config("{ address = \"192.0.2.1\" }");
        let source = choose(&config, None, 1, "198.51.100.1").unwrap();
        assert_eq!(source.address, None);
        assert_eq!(source.ehlo.as_str(), "relay.example");
    }

    #[test]
    fn messages_are_shared_out_by_weight_and_keep_their_address() {
        let config = config(
            "{ address = \"192.0.2.1\", weight = 3, ehlo = \"one.example\" }, \
             { address = \"192.0.2.2\" }, { address = \"2001:db8::1\" }",
        );
        let mut first = 0;
        for id in 1..=4000 {
            let source = choose(&config, Some("bulk"), id, "198.51.100.1").unwrap();
            let again = choose(&config, Some("bulk"), id, "198.51.100.9").unwrap();
            assert_eq!(source, again);
            first += usize::from(source.ehlo.as_str() == "one.example");
        }
        assert!((2850..3150).contains(&first), "{first}");
        let source = choose(&config, Some("bulk"), 1, "2001:db8::9").unwrap();
        assert_eq!(source.address, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_a_pool_does_not_have_is_said() {
        let config = config("{ address = \"192.0.2.1\" }");
        let fault = choose(&config, Some("bulk"), 1, "2001:db8::9").unwrap_err();
        assert_eq!(fault, "the source pool \"bulk\" has no IPv6 address");
        let fault = choose(&config, Some("cold"), 1, "198.51.100.1").unwrap_err();
        assert_eq!(fault, "no source pool \"cold\" is configured");
    }
}
