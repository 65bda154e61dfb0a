//! A TCP connection, in the clear or under TLS: one type for both sides of the relay.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// See the module.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In the clear.
    Tcp(TcpStream),
    /// Under TLS, as client or as server.
    Tls(Box<TlsStream<TcpStream>>),
    /// Lost in a TLS handshake that failed; every use is an error.
    Gone,
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl Stream {
    /// Whether TLS is up.
    #[must_use]
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The socket; none is left after a handshake that failed.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Gone => None,
        }
    }

    /// The address on our side.
    #[must_use]
    pub(crate) fn local_ip(&self) -> Option<std::net::IpAddr> {
        let address = self.tcp()?.local_addr().ok()?;
        Some(address.ip().to_canonical())
    }

    /// Version and cipher suite, as a plugin is told of them; none in the clear.
    #[must_use]
    pub(crate) fn tls_facts(&self, sni: Option<String>) -> Option<plugin::TlsFacts> {
        let Self::Tls(stream) = self else {
            return None;
        };
        let session = stream.get_ref().1;
        let version = match session.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
            rustls::ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let cipher = session.negotiated_cipher_suite()?.suite();
        Some(plugin::TlsFacts {
            version,
            // The library has a prefix of its own for the suites of TLS 1.3.
            cipher: format!("{cipher:?}").replacen("TLS13_", "TLS_", 1),
            sni,
            verified_names: Vec::new(),
        })
    }

    /// True when the peer has closed the connection or has sent something unasked: either way
    /// it is of no use for another transaction.
    #[must_use]
    pub(crate) fn is_stale(&self) -> bool {
        let Some(tcp) = self.tcp() else {
            return true;
        };
        let mut octet = [0_u8; 1];
        !matches!(tcp.try_read(&mut octet), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => gone(),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Gone => gone(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Gone => gone(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => gone(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => gone(),
        }
    }
}
