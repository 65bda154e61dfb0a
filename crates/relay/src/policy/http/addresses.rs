//! Which addresses a plugin's request may be sent to.
//!
//! The name in a URL says nothing about where it leads: whoever has its zone can point it at a
//! service of this machine or of the network behind it. So it is the address that is checked, and
//! the address that was checked is the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mx::Directory;
use plugin::{HttpFailure, Origin};
use smtp::Domain;

/// The address, where the origin names one.
pub(super) fn literal(origin: &Origin) -> Option<IpAddr> {
    let host = origin.host.as_str();
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: IpAddr = inner.unwrap_or(host).parse().ok()?;
    Some(address.to_canonical())
}

/// Where to connect, in order.
pub(super) async fn of(
    origin: &Origin,
    may_be_private: bool,
    directory: &Directory,
) -> Result<Vec<SocketAddr>, HttpFailure> {
    let found = match literal(origin) {
        Some(address) => vec![address],
        None => {
            let failed = |why: String| HttpFailure::Connect(format!("{}: {why}", origin.host));
            let name: Domain = origin
                .host
                .parse()
                .map_err(|_| failed("this is no host name".to_owned()))?;
            let outcome = directory.addresses(&name).await.outcome;
            let answer = outcome.map_err(|error| failed(error.to_string()))?;
            answer.records.clone()
        }
    };
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in found.iter().map(IpAddr::to_canonical) {
        match why_private(address) {
            Some(why) if !may_be_private => refused = Some((address, why)),
            _ => allowed.push(SocketAddr::new(address, origin.port)),
        }
    }
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some((address, why)) => Err(HttpFailure::Denied(format!(
            "{} leads to {address}, {why}",
            origin.host
        ))),
        None => Err(HttpFailure::Connect(format!(
            "{} has no address",
            origin.host
        ))),
    }
}

/// Why an address is not one of the public network; none where it is.
fn why_private(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => why_private_v4(address),
        IpAddr::V6(address) => why_private_v6(address),
    }
}

/// RFC 6890 and what came after it.
fn why_private_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (100, 64..=127, _) => Some("an address behind a carrier's translation"),
        (169, 254, _) => Some("a link-local address"),
        (192, 0, 0) | (198, 18..=19, _) => Some("an address for special use"),
        (224.., ..) => Some("a multicast or reserved address"),
        _ => None,
    }
}

fn why_private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let [first, second, ..] = segments;
    // IPv4 in IPv6 leads where the IPv4 address leads.
    let inner = match segments {
        // NAT64 (RFC 6052, RFC 8215), and the deprecated compatible form.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0, 0, high, low] => Some((high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if address.is_unspecified() {
        return Some("an unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if let Some((high, low)) = inner {
        let address = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        return why_private_v4(address);
    }
    match first {
        0xfc00..=0xfdff => Some("a private address"),
        0xfe80..=0xfeff => Some("a link-local address"),
        0xff00.. => Some("a multicast address"),
        // Teredo hides its peer; the rest of 2001::/23 is for special use.
        0x2001 if second < 0x0200 => Some("an address for special use"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_inside_is_told_from_what_leads_out() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address = inside.parse().expect("an address");
            assert!(why_private(address).is_some(), "{inside}");
        }
        for outside in [
            "192.0.2.1",
            "172.32.0.1",
            "100.128.0.1",
            "11.0.0.1",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            let address = outside.parse().expect("an address");
            assert_eq!(why_private(address), None, "{outside}");
        }
    }

    #[test]
    fn an_origin_may_name_an_address() {
        let of = |host: &str| {
            literal(&Origin {
                secure: false,
                host: host.to_owned(),
                port: 80,
            })
        };
        assert_eq!(of("127.0.0.1"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(of("[::1]"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(of("localhost"), None);
        // Only the usual form is an address; the others are names that nobody has.
        assert_eq!(of("2130706433"), None);
        assert_eq!(of("127.1"), None);
    }
}
