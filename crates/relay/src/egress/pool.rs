//! Connections kept open for the next message to the same place.
//!
//! The key is the whole route, computed by the relay: a message may use a connection only if
//! it would have opened exactly the same one. Connections over their idle time are closed by a
//! sweep; over the limit the one that has been idle longest goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mx::{Protocol, TlsPolicy};

use super::connection::Connection;
use crate::clock::Stopwatch;

/// Everything that distinguishes one outgoing connection from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// Address and port of the hop.
    pub address: SocketAddr,
    /// Name that the hop was chosen by: SNI and, where verified, the certificate's name.
    pub host: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// What TLS must give.
    pub tls: TlsPolicy,
    /// Name of the credential, if the session is authenticated.
    pub auth: Option<String>,
    /// Name of the pool of source addresses.
    pub source_pool: Option<String>,
    /// Our name in EHLO.
    pub ehlo: String,
}

/// The idle connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Shelf>,
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
        let mut shelf = self.shelf();
        let mut found = None;
        let mut gone = 0;
        if let Some(row) = shelf.by_route.get_mut(key) {
            while let Some(idle) = row.pop() {
                gone += 1;
                if !idle.connection.is_stale() {
                    found = Some(idle.connection);
                    break;
                }
            }
            if row.is_empty() {
                shelf.by_route.remove(key);
            }
        }
        shelf.count -= gone;
        found
    }

    /// Keeps a connection; gives back the one that had to make room for it.
    pub fn put(
        &self,
        key: RouteKey,
        connection: Box<Connection>,
        limit: usize,
    ) -> Option<Box<Connection>> {
        if limit == 0 {
            return Some(connection);
        }
        let mut shelf = self.shelf();
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
