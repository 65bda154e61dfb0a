//! The short form of a smarthost: `host`, `host:port`, `[address]:port`.

use std::net::{IpAddr, SocketAddr};

use smtp::Domain;

use super::types::SmarthostHost;
use super::value::Wrong;

const HELP: &str = "write a host or an address, with a port if it is not 25, as in \
                    \"smtp.example.net:587\" or \"[2001:db8::25]:587\"";

/// Host and port of `text`; the port is none where it is left out.
pub(super) fn parse(text: &str) -> Result<(SmarthostHost, Option<u16>), Wrong> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(Wrong::new(
            format!("{text:?} is a URL"),
            format!("leave {scheme}:// out and write \"{rest}\""),
        ));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((SmarthostHost::Address(address.ip()), Some(address.port())));
    }
    // An IPv6 address has colons of its own: without brackets it has no port.
    if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
        return Ok((SmarthostHost::Address(address), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    Ok((parse_host(host)?, port))
}

/// A name or an address without a port.
pub(super) fn parse_host(host: &str) -> Result<SmarthostHost, Wrong> {
    let bare = unbracketed(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SmarthostHost::Address(address));
    }
    // "192.0.2.300" has the form of a host name, but nobody means one by it.
    let last_label = bare.rsplit('.').next().unwrap_or(bare);
    let numeric = !last_label.is_empty() && last_label.bytes().all(|octet| octet.is_ascii_digit());
    match bare.parse::<Domain>() {
        Ok(name) if name.literal().is_none() && !numeric => Ok(SmarthostHost::Name(name)),
        _ => Err(Wrong::new(
            format!("{host:?} is neither a host name nor an address"),
            HELP,
        )),
    }
}

fn parse_port(text: &str) -> Result<u16, Wrong> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Wrong::new(
            format!("{text:?} is not a port"),
            "write a port from 1 to 65535",
        )),
    }
}

/// `[x]` → `x`, as Postfix users write hosts without MX look-up.
fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text)
}
