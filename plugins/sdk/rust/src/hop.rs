//! Next hops, built step by step.

use crate::{Endpoint, NextHop, Protocol, TlsPolicy};

impl From<Endpoint> for NextHop {
    /// SMTP at the default port, nothing else said.
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            port: None,
            priority: 0,
            weight: 1,
            protocol: Protocol::Smtp,
            tls: None,
            auth: None,
            source_pool: None,
            site: None,
        }
    }
}

impl NextHop {
    /// A host by its name: its addresses, no MX look-up.
    ///
    /// ```
    /// use waypost_sdk::{NextHop, TlsPolicy};
    ///
    /// let hop = NextHop::host("smtp.provider.example")
    ///     .port(587)
    ///     .tls(TlsPolicy::Verify(Vec::new()))
    ///     .auth("provider");
    /// assert_eq!(hop.port, Some(587));
    /// ```
    pub fn host(name: impl Into<String>) -> Self {
        Endpoint::Host(name.into()).into()
    }

    /// Wherever the MX records of this domain point.
    pub fn mx_of(domain: impl Into<String>) -> Self {
        Endpoint::MxOf(domain.into()).into()
    }

    /// An address.
    pub fn address(ip: impl ToString) -> Self {
        Endpoint::Address(ip.to_string()).into()
    }

    /// A local socket.
    pub fn unix_socket(path: impl Into<String>) -> Self {
        Endpoint::UnixSocket(path.into()).into()
    }

    /// This port instead of the protocol's own.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Lower is tried first.
    #[must_use]
    pub fn priority(mut self, priority: u16) -> Self {
        self.priority = priority;
        self
    }

    /// Share among equal priorities.
    #[must_use]
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// LMTP instead of SMTP.
    #[must_use]
    pub fn lmtp(mut self) -> Self {
        self.protocol = Protocol::Lmtp;
        self
    }

    /// How the connection is protected.
    #[must_use]
    pub fn tls(mut self, policy: TlsPolicy) -> Self {
        self.tls = Some(policy);
        self
    }

    /// Name of the credential to log in with.
    #[must_use]
    pub fn auth(mut self, name: impl Into<String>) -> Self {
        self.auth = Some(name.into());
        self
    }

    /// Name of the pool of source addresses.
    #[must_use]
    pub fn source_pool(mut self, name: impl Into<String>) -> Self {
        self.source_pool = Some(name.into());
        self
    }

    /// Group that connections and limits are counted by.
    #[must_use]
    pub fn site(mut self, name: impl Into<String>) -> Self {
        self.site = Some(name.into());
        self
    }
}
