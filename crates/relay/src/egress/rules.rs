//! Which addresses of a host may be dialled: not our own, for one.

use std::net::{IpAddr, SocketAddr};

use mx::AddressRules;

/// The rules for a relay with these listeners, on this machine as it is now: a listener on every
/// address is all addresses of the machine's interfaces. One that gets an address later is known
/// with the next reload.
pub(crate) fn address_rules(
    listeners: impl IntoIterator<Item = SocketAddr>,
    allow_loopback_mx: bool,
) -> AddressRules {
    let listeners: Vec<SocketAddr> = listeners.into_iter().collect();
    let is_wildcard = |address: &SocketAddr| address.ip().is_unspecified();
    let interfaces = if listeners.iter().any(is_wildcard) {
        interface_addresses()
    } else {
        Vec::new()
    };
    AddressRules {
        own_addresses: own_addresses(&listeners, &interfaces),
        allow_loopback_mx,
        ..AddressRules::default()
    }
}

fn interface_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces
            .iter()
            .map(|interface| interface.ip().to_canonical())
            .collect(),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot list this machine's addresses; mail that loops back here is only \
                 stopped by its hop count"
            );
            Vec::new()
        }
    }
}

/// A wildcard listener of IPv6 takes IPv4 as well.
fn own_addresses(listeners: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let mut own = Vec::new();
    for listener in listeners {
        own.push(*listener);
        if listener.ip().is_unspecified() {
            let answered = interfaces
                .iter()
                .filter(|ip| listener.is_ipv6() || ip.is_ipv4());
            own.extend(answered.map(|ip| SocketAddr::new(*ip, listener.port())));
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listener: &str) -> Vec<String> {
        let interfaces = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address"));
        let listener = listener.parse().expect("an address and a port");
        let own = own_addresses(&[listener], &interfaces);
        own.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_families() {
        assert_eq!(own("0.0.0.0:25"), ["0.0.0.0:25", "192.0.2.1:25"]);
        assert_eq!(
            own("[::]:25"),
            ["[::]:25", "192.0.2.1:25", "[2001:db8::1]:25"]
        );
        assert_eq!(own("192.0.2.9:25"), ["192.0.2.9:25"]);
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        let found = interface_addresses();
        assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    }
}
