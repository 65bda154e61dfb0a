//! Connections kept open for the next message to the same place.
//!
//! The key is the whole route, computed by the relay: a message may use a connection only if
//! it would have opened exactly the same one. Connections over their idle time are closed by a
//! sweep; over the limit the one that has been idle longest goes. While somebody waits for a place
//! among the outgoing connections none is kept: it goes to whoever waits for the same route, first
//! come first served, and else it is closed, so that its place is free for another route.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mx::{Endpoint, Protocol, TlsPolicy};
use smtp::Domain;
use tokio::sync::oneshot;

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
    /// Our address, where a pool of source addresses says so.
    pub source: Option<IpAddr>,
    /// Our name in EHLO.
    pub ehlo: Domain,
}

/// The idle connections, and those who wait for one.
#[derive(Debug, Default)]
pub struct Pool {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    by_route: HashMap<RouteKey, Vec<Idle>>,
    count: usize,
    /// Whoever waits for a place, by the route that he wants; the first to come stands first.
    waiting: HashMap<RouteKey, VecDeque<Waiting>>,
    waiting_count: usize,
    /// Told apart by a number that is never given twice.
    last_ticket: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    hand_over: oneshot::Sender<Box<Connection>>,
}

/// Somebody waits for a place among the outgoing connections, or for a connection on this very
/// route; until it is dropped.
#[derive(Debug)]
pub struct Waiter<'a> {
    pool: &'a Pool,
    key: &'a RouteKey,
    ticket: u64,
    handed: oneshot::Receiver<Box<Connection>>,
}

impl Waiter<'_> {
    /// The connection that another message has no more use for, when there is one.
    pub async fn handed(&mut self) -> Box<Connection> {
        match (&mut self.handed).await {
            Ok(connection) => connection,
            // Not before the wait is over.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends the wait; gives the connection that came all the same.
    #[must_use]
    pub fn leave(mut self) -> Option<Box<Connection>> {
        self.pool.shelf().forget(self.key, self.ticket);
        self.handed.try_recv().ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.pool.shelf().forget(self.key, self.ticket);
    }
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

    /// As [`take`](Self::take); where there is none, begins to wait for one in the same breath,
    /// so that none goes past him who waits.
    ///
    /// # Errors
    /// There is none; with the wait.
    pub fn take_or_wait<'a>(&'a self, key: &'a RouteKey) -> Result<Box<Connection>, Waiter<'a>> {
        loop {
            let mut shelf = self.shelf();
            let Some(connection) = shelf.pop(key) else {
                let (ticket, handed) = shelf.enlist(key);
                return Err(Waiter {
                    pool: self,
                    key,
                    ticket,
                    handed,
                });
            };
            drop(shelf);
            if !connection.is_stale() {
                return Ok(connection);
            }
        }
    }

    /// Hands a connection to whoever waits for it, or keeps it; gives back the one that had to
    /// make room for it, or itself where it cannot be kept.
    pub fn put(
        &self,
        key: RouteKey,
        connection: Box<Connection>,
        limit: usize,
    ) -> Option<Box<Connection>> {
        let mut shelf = self.shelf();
        let connection = shelf.hand_over(&key, connection)?;
        if limit == 0 || shelf.waiting_count > 0 {
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
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn enlist(&mut self, key: &RouteKey) -> (u64, oneshot::Receiver<Box<Connection>>) {
        let (hand_over, handed) = oneshot::channel();
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let row = self.waiting.entry(key.clone()).or_default();
        row.push_back(Waiting { ticket, hand_over });
        self.waiting_count += 1;
        (ticket, handed)
    }

    /// Whoever has this ticket waits no longer, if he still did.
    fn forget(&mut self, key: &RouteKey, ticket: u64) {
        let Some(row) = self.waiting.get_mut(key) else {
            return;
        };
        let before = row.len();
        row.retain(|waiting| waiting.ticket != ticket);
        self.waiting_count -= before - row.len();
        if row.is_empty() {
            self.waiting.remove(key);
        }
    }

    /// Gives the connection back where nobody waits for it, or where it has had its turn and
    /// others wait: a busy destination would else keep all the places to itself.
    fn hand_over(
        &mut self,
        key: &RouteKey,
        connection: Box<Connection>,
    ) -> Option<Box<Connection>> {
        let Some(row) = self.waiting.get_mut(key) else {
            return Some(connection);
        };
        if self.waiting_count > row.len() && connection.has_had_its_turn() {
            return Some(connection);
        }
        let mut left = Some(connection);
        while let Some(unclaimed) = left.take() {
            let Some(first) = row.pop_front() else {
                left = Some(unclaimed);
                break;
            };
            self.waiting_count -= 1;
            left = first.hand_over.send(unclaimed).err();
        }
        if row.is_empty() {
            self.waiting.remove(key);
        }
        left
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
