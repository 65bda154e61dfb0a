//! The right side of an entry: `transport:nexthop`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use waypost_sdk::{Decision, NextHop, Place, Reply, Settings};

/// What a name from master.cf means here.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    port: Option<u16>,
    tls: Option<String>,
    auth: Option<String>,
    source_pool: Option<String>,
    traffic_class: Option<String>,
}

/// What an entry comes to.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// `:`: as if there were no entry.
    Default,
    /// By MX records, with settings.
    Usual(Option<Settings>),
    Hops(Vec<NextHop>, Option<Settings>),
    Decision(Decision),
}

impl Transport {
    pub fn check(&self) -> Result<(), String> {
        self.place().map(drop)
    }

    /// The settings of a hop as a [`Place`] reads them.
    fn place(&self) -> Result<NextHop, String> {
        let mut value = serde_json::json!({ "host": "host.invalid" });
        let fields = [
            ("port", self.port.map(serde_json::Value::from)),
            ("tls", self.tls.clone().map(serde_json::Value::from)),
            ("auth", self.auth.clone().map(serde_json::Value::from)),
            (
                "source_pool",
                self.source_pool.clone().map(serde_json::Value::from),
            ),
        ];
        for (name, field) in fields {
            if let Some(field) = field {
                value[name] = field;
            }
        }
        Ok(Place::from_value(value)?.hop())
    }

    fn settings(&self) -> Option<Settings> {
        let class = self.traffic_class.as_deref()?;
        Some(Settings::new().traffic_class(class))
    }
}

/// Reads an entry for a recipient of this domain.
pub fn read(
    entry: &str,
    domain: &str,
    lmtp: bool,
    transports: &BTreeMap<String, Transport>,
) -> Result<Outcome, String> {
    let Some((transport, nexthop)) = entry.trim().split_once(':') else {
        return Err("no colon: `transport:nexthop` is wanted".into());
    };
    let (transport, nexthop) = (transport.trim(), nexthop.trim());
    if let Some(known) = transports.get(transport) {
        return by_smtp(nexthop, known);
    }
    match transport {
        "" if nexthop.is_empty() => Ok(Outcome::Default),
        "" | "smtp" | "relay" => by_smtp(nexthop, &Transport::default()),
        "smtps" => {
            let tls = Some("implicit".to_owned());
            let implicit = Transport {
                tls,
                ..Transport::default()
            };
            by_smtp(nexthop, &implicit)
        }
        "lmtp" => by_lmtp(nexthop, lmtp),
        "error" => Ok(Outcome::Decision(Decision::reject(reply(nexthop, "5.0.0")))),
        "retry" => Ok(Outcome::Decision(Decision::defer(text(
            nexthop,
            "mail is put off",
        )))),
        "discard" => Ok(Outcome::Decision(Decision::discard(text(
            nexthop,
            "discarded",
        )))),
        "hold" => Ok(Outcome::Decision(Decision::hold(text(nexthop, "held")))),
        "local" | "virtual" | "pipe" | "uucp" => Err(format!(
            "the transport {transport:?} delivers on this machine, which a relay does not"
        )),
        _ => Err(format!(
            "the transport {transport:?} of domain {domain} is not known here; name it under \
             `transports`"
        )),
    }
}

fn by_smtp(nexthop: &str, transport: &Transport) -> Result<Outcome, String> {
    let settings = transport.settings();
    if nexthop.is_empty() {
        // `smtp:` alone: by the recipient's own domain. What the transport says of the hop needs
        // to stand somewhere, and settings have no port.
        return Ok(Outcome::Usual(usual_settings(transport, settings)?));
    }
    Ok(Outcome::Hops(hops(nexthop, transport)?, settings))
}

fn usual_settings(
    transport: &Transport,
    settings: Option<Settings>,
) -> Result<Option<Settings>, String> {
    if transport.port.is_some() || transport.auth.is_some() {
        return Err("port and auth need a next hop to go with".into());
    }
    let hop = transport.place()?;
    if hop.tls.is_none() && hop.source_pool.is_none() {
        return Ok(settings);
    }
    let settings = settings.unwrap_or_default();
    Ok(Some(Settings {
        tls: hop.tls,
        source_pool: hop.source_pool,
        ..settings
    }))
}

/// `[host]`, `host` (its MX records), each with `:port`; several, in order, with commas between.
pub fn hops(nexthop: &str, transport: &Transport) -> Result<Vec<NextHop>, String> {
    let model = transport.place()?;
    let mut hops = Vec::new();
    for (position, text) in nexthop
        .split([',', ' ', '\t'])
        .filter(|text| !text.is_empty())
        .enumerate()
    {
        let priority = u16::try_from(position).map_err(|_| "too many next hops")?;
        let hop = place(text)?.priority(priority);
        hops.push(NextHop {
            port: hop.port.or(model.port),
            tls: model.tls.clone(),
            auth: model.auth.clone(),
            source_pool: model.source_pool.clone(),
            ..hop
        });
    }
    if hops.is_empty() {
        return Err("no next hop".into());
    }
    Ok(hops)
}

/// Brackets turn MX look-ups off; an address is written in brackets too.
fn place(text: &str) -> Result<NextHop, String> {
    let Some((inside, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) else {
        return match text.parse::<IpAddr>() {
            Ok(_) => Err(format!("write the address in brackets, [{text}]")),
            Err(_) => Ok(format!("mx:{text}").parse::<Place>()?.hop()),
        };
    };
    let inside = match inside.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("ipv6:") => &inside[5..],
        _ => inside,
    };
    let inside = if inside.contains(':') {
        format!("[{inside}]")
    } else {
        inside.to_owned()
    };
    Ok(format!("{inside}{rest}").parse::<Place>()?.hop())
}

fn by_lmtp(nexthop: &str, passed_on: bool) -> Result<Outcome, String> {
    if !passed_on {
        return Err("LMTP: this relay does not speak it; set `lmtp = true` once it does".into());
    }
    let hop = match nexthop.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => NextHop::unix_socket(path),
        Some(_) => return Err("LMTP: the path of a socket begins with a slash here".into()),
        None => {
            let nexthop = nexthop.strip_prefix("inet:").unwrap_or(nexthop);
            // There is no MX for LMTP: Postfix takes the name for a host, brackets or not.
            let (host, port) = match nexthop.rsplit_once(':') {
                Some((host, port)) if !host.ends_with(':') && !nexthop.ends_with(']') => {
                    (host, Some(port))
                }
                _ => (nexthop, None),
            };
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let bare = if bare.contains(':') {
                format!("[{bare}]")
            } else {
                bare.to_owned()
            };
            let text = port.map_or_else(|| bare.clone(), |port| format!("{bare}:{port}"));
            text.parse::<Place>()?.hop()
        }
    };
    Ok(Outcome::Hops(vec![hop.lmtp()], None))
}

/// `error:5.1.2 text`: the class of the code decides nothing, Postfix's error(8) always bounces.
fn reply(text: &str, enhanced: &str) -> Reply {
    let reply = Reply::parse(text);
    let default = |text: String, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text
        }
    };
    Reply {
        code: reply.code,
        enhanced: default(reply.enhanced, enhanced),
        text: default(reply.text, "mail for this destination is not accepted"),
    }
}

fn text(text: &str, default: &str) -> String {
    let text = Reply::parse(text).text;
    if text.is_empty() {
        default.to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_sdk::{Endpoint, Protocol};

    fn hop(entry: &str) -> NextHop {
        match read(entry, "example.com", true, &BTreeMap::new()).unwrap() {
            Outcome::Hops(hops, None) => hops[0].clone(),
            other => panic!("{entry}: {other:?}"),
        }
    }

    #[test]
    fn brackets_decide_about_mx() {
        assert_eq!(
            hop("smtp:[a.example]:26"),
            NextHop::host("a.example").port(26)
        );
        assert_eq!(hop("smtp:a.example"), NextHop::mx_of("a.example"));
        assert_eq!(
            hop("relay:a.example:587"),
            NextHop::mx_of("a.example").port(587)
        );
        assert_eq!(hop(":[192.0.2.7]"), NextHop::address("192.0.2.7"));
        assert_eq!(
            hop("smtp:[ipv6:2001:db8::7]:26"),
            NextHop::address("2001:db8::7").port(26)
        );
    }

    #[test]
    fn lmtp_takes_sockets_and_hosts() {
        assert_eq!(
            hop("lmtp:inet:a.example:24"),
            NextHop::host("a.example").port(24).lmtp()
        );
        assert_eq!(hop("lmtp:[a.example]"), NextHop::host("a.example").lmtp());
        let socket = hop("lmtp:unix:/run/lmtp");
        assert_eq!(socket.endpoint, Endpoint::UnixSocket("/run/lmtp".into()));
        assert_eq!(socket.protocol, Protocol::Lmtp);
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for entry in [
            "smtp",
            "smtp:192.0.2.7",
            "local:",
            "slow:x",
            "smtp:[a]:0",
            "lmtp:unix:x",
        ] {
            read(entry, "example.com", true, &BTreeMap::new()).unwrap_err();
        }
        read("lmtp:a", "example.com", false, &BTreeMap::new()).unwrap_err();
    }
}
