//! Listeners: taking connections, within limits per address and in all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
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

/// A bound socket with its name.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Name in the configuration.
    pub name: String,
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
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
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
                // for: a flood must not cost us tasks.
                let line = format!("421 4.7.0 {} Too many connections\r\n", core.hostname());
                drop(stream.try_write(line.as_bytes()));
                return;
            }
        };
        drop(stream.set_nodelay(true));
        let session = ingress::Session {
            core: Arc::clone(core),
            listener: self.name.clone(),
            meters: Arc::clone(&self.meters),
            peer: SocketAddr::new(address, peer.port()),
            stop: stop.clone(),
        };
        tasks.spawn(async move {
            session.meters.open.increment(1.0);
            let meters = Arc::clone(&session.meters);
            session.run(stream).await;
            meters.open.decrement(1.0);
            drop(slot);
        });
    }
}

/// Counts incoming connections, in all and by address.
#[derive(Debug, Default)]
pub struct ConnectionCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place in [`ConnectionCounts`], free again when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    counts: Arc<ConnectionCounts>,
    address: IpAddr,
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
        let here = counts.by_address.entry(address).or_default();
        if *here >= limit_per_address {
            return Err("connections_per_address");
        }
        *here += 1;
        counts.all += 1;
        Ok(ConnectionSlot {
            counts: Arc::clone(self),
            address,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
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
}
