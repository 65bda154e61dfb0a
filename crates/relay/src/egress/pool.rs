//! Connections kept open for the next message to the same place.
//!
//! The key is the whole route, computed by the relay: a message may use a connection only if
//! it would have opened exactly the same one. Connections over their idle time are closed by a
//! sweep; over the limit the one that has been idle longest goes. While somebody waits for a place
//! among the outgoing connections none is kept: an idle one would starve him.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mx::{Endpoint, Protocol, TlsPolicy};
use smtp::Domain;

use super::connection::Connection;
use crate::clock::Stopwatch;

/// Everything that distinguishes one outgoing connection from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// Address and port of the hop.
    pub address: SocketAddr,
    /// What the hop was chosen by: SNI and, where verified, the certificate's name.
    pub host: Endpoint,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// What TLS must give.
    pub tls: TlsPolicy,
    /// Name of the credential, if the session is authenticated.
    pub auth: Option<String>,
    /// Name of the pool of source addresses.
    pub source_pool: Option<String>,
    /// Our name in EHLO.
    pub ehlo: Domain,
}

/// The idle connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Shelf>,
    waiting: AtomicUsize,
}

/// Somebody waits for a place among the outgoing connections; until it is dropped.
#[derive(Debug)]
pub struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct Shelf {
    by_route: HashMap<RouteKey, Vec<Idle>>,
    count: usize,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Stopwatch,
}

impl Pool {
    /// The connection for this route that was used last, if one is open and quiet.
    pub fn take(&self, key: &RouteKey) -> Option<Box<Connection>> {
        // Sockets are looked at, and closed, outside of the lock.
        loop {
            let connection = self.shelf().pop(key)?;
            if !connection.is_stale() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection; gives back the one that had to make room for it, or itself where it
    /// cannot be kept.
    pub fn put(
        &self,
        key: RouteKey,
        connection: Box<Connection>,
        limit: usize,
    ) -> Option<Box<Connection>> {
        let mut shelf = self.shelf();
        // Under the lock: who begins to wait after this finds the connection on the shelf.
        if limit == 0 || self.waiting.load(Ordering::Acquire) > 0 {
            return Some(connection);
        }
        let evicted = if shelf.count >= limit {
            shelf.evict_oldest()
        } else {
            None
        };
        shelf.by_route.entry(key).or_default().push(Idle {
            connection,
            since: Stopwatch::start(),
        });
        shelf.count += 1;
        evicted
    }

    /// Begins to wait for a place among the outgoing connections, before looking for an idle
    /// one to [evict](Self::evict).
    #[must_use]
    pub fn wait(&self) -> Waiter<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiter(&self.waiting)
    }

    /// Takes out the connection that has been idle longest.
    pub fn evict(&self) -> Option<Box<Connection>> {
        self.shelf().evict_oldest()
    }

    /// Takes out what has been idle for `limit` or longer.
    pub fn sweep(&self, limit: Duration) -> Vec<Box<Connection>> {
        let mut shelf = self.shelf();
        let mut expired = Vec::new();
        shelf.by_route.retain(|_, row| {
            // The oldest stand first: take() and put() work at the end.
            let keep_from = row.partition_point(|idle| idle.since.elapsed() >= limit);
            expired.extend(row.drain(..keep_from).map(|idle| idle.connection));
            !row.is_empty()
        });
        shelf.count -= expired.len();
        expired
    }

    /// Connections kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf().count
    }

    /// True when nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn pop(&mut self, key: &RouteKey) -> Option<Box<Connection>> {
        let row = self.by_route.get_mut(key)?;
        let idle = row.pop();
        if row.is_empty() {
            self.by_route.remove(key);
        }
        let idle = idle?;
        self.count -= 1;
        Some(idle.connection)
    }

    fn evict_oldest(&mut self) -> Option<Box<Connection>> {
        let key = self
            .by_route
            .iter()
            .filter_map(|(key, row)| row.first().map(|idle| (key, idle.since.elapsed())))
            .max_by_key(|(_, age)| *age)
            .map(|(key, _)| key.clone())?;
        let row = self.by_route.get_mut(&key)?;
        let idle = row.remove(0);
        if row.is_empty() {
            self.by_route.remove(&key);
        }
        self.count -= 1;
        Some(idle.connection)
    }
}
