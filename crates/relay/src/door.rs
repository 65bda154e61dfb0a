//! The TCP door of the admin listener: so many connections at a time, none of them idle for ever.
//!
//! Whoever reaches the port could otherwise hold the descriptors that mail needs.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time; others wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// A connection on which nothing moves for so long is closed, in a request or between two.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// A listener with limits.
#[derive(Debug)]
pub(crate) struct Door {
    socket: TcpListener,
    places: Arc<Semaphore>,
    idle_limit: Duration,
}

impl Door {
    /// A door at this socket.
    pub(crate) fn new(socket: TcpListener) -> Self {
        Self {
            socket,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            idle_limit: IDLE_LIMIT,
        }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // axum's own waits where the process is out of descriptors.
        let (stream, peer) = Listener::accept(&mut self.socket).await;
        (Visitor::new(stream, place, self.idle_limit), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that ends when nothing moves.
#[derive(Debug)]
pub(crate) struct Visitor {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_limit: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visitor {
    fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>, idle_limit: Duration) -> Self {
        Self {
            stream,
            idle: Box::pin(tokio::time::sleep(idle_limit)),
            idle_limit,
            _place: place,
        }
    }

    /// What the stream says, or that it has said nothing for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = poll(Pin::new(&mut self.stream), cx) {
            let until = Instant::now() + self.idle_limit;
            self.idle.as_mut().reset(until);
            return Poll::Ready(result);
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut()
            .watch(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .watch(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_silent_visitor_is_shown_out() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let mut door = Door::new(socket);
        door.idle_limit = Duration::from_millis(10);
        let client = TcpStream::connect(door.local_addr().expect("it is bound"));
        let (_client, (mut visitor, _)) =
            tokio::join!(async { client.await.expect("it listens") }, door.accept());
        let read = visitor.read_u8().await;
        assert_eq!(
            read.expect_err("nothing was said").kind(),
            io::ErrorKind::TimedOut
        );
    }
}
