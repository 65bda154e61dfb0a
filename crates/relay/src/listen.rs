//! Listeners: taking connections, within limits per address and in all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::Core;
use crate::ingress;
use crate::telemetry::ListenerMeters;

/// Pending connections that the kernel may keep for us.
const BACKLOG: i32 = 1024;
/// Pause after the process ran out of descriptors: accepting at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Bits of an IPv6 address that tell one client from another: the rest is the client's own to
/// choose (RFC 4291 section 2.5.1), and a limit on whole addresses would be none.
const IPV6_CLIENT_BITS: u32 = 64;

/// A bound socket with its name.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Name in the configuration.
    pub name: String,
    /// As configured: the port may be 0.
    configured: SocketAddr,
    socket: TcpListener,
    meters: Arc<ListenerMeters>,
}

/// Binds a listening socket.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Listener {
    /// Binds the listener `name`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) fn bind(name: &str, address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            configured: address,
            socket: bind(address)?,
            meters: Arc::new(ListenerMeters::new(name)),
        })
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes connections until `stop`; each runs in `tasks`.
    pub(crate) async fn serve(self, core: Arc<Core>, stop: CancellationToken, tasks: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.start(stream, peer, &core, &stop, &tasks),
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot take a connection");
                    // All else is the fault of that one connection.
                    if is_exhausted(&error) {
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                }
            }
        }
    }

    fn start(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        core: &Arc<Core>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        self.meters.connections.increment(1);
        let limits = &core.settings.load().config.limits;
        let address = peer.ip().to_canonical();
        let slot = core.connections.take(
            address,
            limits.connections_count,
            limits.connections_per_address_count,
        );
        let slot = match slot {
            Ok(slot) => slot,
            Err(reason) => {
                self.meters.connection_refused(reason);
                // One write that either fits the socket's empty buffer or is not worth waiting
                // for: a flood must not cost us tasks. Past tokio, which does not know yet that
                // a new socket can be written to.
                let line = format!("421 4.7.0 {} Too many connections\r\n", core.hostname());
                drop(SockRef::from(&stream).send(line.as_bytes()));
                return;
            }
        };
        drop(stream.set_nodelay(true));
        let session = ingress::Session {
            core: Arc::clone(core),
            listener: self.name.clone(),
            configured: self.configured,
            meters: Arc::clone(&self.meters),
            peer: SocketAddr::new(address, peer.port()),
            stop: stop.clone(),
        };
        let open = OpenConnection::new(Arc::clone(&self.meters), slot);
        tasks.spawn(async move {
            let _open = open;
            session.run(stream).await;
        });
    }
}

/// The process or the machine has no room for another connection now.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// A connection as the limits and the gauge count it, for as long as its task lives, however
/// that ends.
#[derive(Debug)]
struct OpenConnection {
    meters: Arc<ListenerMeters>,
    _slot: ConnectionSlot,
}

impl OpenConnection {
    fn new(meters: Arc<ListenerMeters>, slot: ConnectionSlot) -> Self {
        meters.open.increment(1.0);
        Self {
            meters,
            _slot: slot,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.meters.open.decrement(1.0);
    }
}

/// What the limit per address counts: an IPv4 address, or the network of an IPv6 one.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - IPV6_CLIENT_BITS);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

/// Counts incoming connections, in all and by client: an IPv4 address or an IPv6 /64.
#[derive(Debug, Default)]
pub struct ConnectionCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A connection's place in [`ConnectionCounts`], free again when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    counts: Arc<ConnectionCounts>,
    client: IpAddr,
}

impl ConnectionCounts {
    /// Takes a place.
    ///
    /// # Errors
    /// The label of the limit that was reached: `connections`, `connections_per_address`.
    pub fn take(
        self: &Arc<Self>,
        address: IpAddr,
        limit: usize,
        limit_per_address: usize,
    ) -> Result<ConnectionSlot, &'static str> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= limit {
            return Err("connections");
        }
        let client = client_of(address);
        let here = counts.by_client.get(&client).copied().unwrap_or(0);
        if here >= limit_per_address {
            return Err("connections_per_address");
        }
        counts.by_client.insert(client, here + 1);
        counts.all += 1;
        Ok(ConnectionSlot {
            counts: Arc::clone(self),
            client,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(here) = counts.by_client.get_mut(&self.client) {
            *here -= 1;
            if *here == 0 {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_come_back() {
        let counts = Arc::new(ConnectionCounts::default());
        let a: IpAddr = "192.0.2.1".parse().expect("an address");
        let b: IpAddr = "192.0.2.2".parse().expect("an address");
        let first = counts.take(a, 2, 1).expect("there is room");
        assert_eq!(
            counts.take(a, 2, 1).expect_err("one is the limit"),
            "connections_per_address"
        );
        let _second = counts.take(b, 2, 1).expect("there is room");
        assert_eq!(counts.take(b, 2, 9).expect_err("two in all"), "connections");
        drop(first);
        assert!(counts.take(a, 2, 1).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let counts = Arc::new(ConnectionCounts::default());
        let take = |address: &str| counts.take(address.parse().expect("an address"), 9, 1);
        let _first = take("2001:db8:0:1::1").expect("there is room");
        assert_eq!(
            take("2001:db8:0:1:ffff::2").expect_err("the same network"),
            "connections_per_address"
        );
        take("2001:db8:0:2::1").expect("another network");
    }
}
