//! The notations of values: sizes, durations, networks, socket addresses.
//! Pure functions from text; an error says what would be right.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// Why a text is not such a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) message: String,
    /// What would be right.
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// `50MiB`, `10 MB`, `512`: octets.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = (&text[..split], text[split..].trim());
    let wrong = || {
        Wrong::new(
            format!("{text:?} is not a size"),
            "write a whole number and B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, as in \"50MiB\"",
        )
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    if unit.is_empty() {
        return Ok(number);
    }
    let (_, factor) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number.checked_mul(*factor).ok_or_else(wrong)
}

/// A size as [`size`] reads it, in the largest binary unit that is exact.
pub(super) fn show_size(octets: u64) -> String {
    for (unit, factor) in [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ] {
        if octets >= factor && octets.is_multiple_of(factor) {
            return format!("{}{unit}", octets / factor);
        }
    }
    format!("{octets}B")
}

const DURATION_UNITS: [(&str, u64); 6] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// `5m`, `2h30m`, `250ms`, `5d`; units from large to small, each once.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{text:?} is not a duration"),
            "write whole numbers with w, d, h, m, s or ms, as in \"5m\", \"2h30m\" or \"250ms\"",
        )
    };
    let (mut rest, mut total, mut smallest) = (text, 0_u64, u64::MAX);
    if text.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, after) = rest.split_at(split);
        let split = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(split);
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let unit = unit.trim();
        let (_, factor) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        if *factor >= smallest {
            return Err(wrong());
        }
        smallest = *factor;
        let part = number.checked_mul(*factor).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// A duration as [`duration`] reads it.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    // "60d" says more than "8w4d".
    for (unit, factor) in &DURATION_UNITS[1..] {
        if rest >= *factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// `192.0.2.0/24`, `2001:db8::/32` or one address, for lists of who may relay.
/// Networks that no one owner can have are refused: this is how open relays
/// come to be.
pub(super) fn relay_network(text: &str) -> Result<IpNet, Wrong> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            Wrong::new(
                format!("{text:?} is not a network"),
                "write an address or a network, as in \"192.0.2.7\", \"192.0.2.0/24\" \
                 or \"2001:db8::/32\"",
            )
        })?,
    };
    // The whole of what fits: IPv6 has unique local addresses, fc00::/7.
    let (shortest, own) = match network {
        IpNet::V4(_) => (8, "\"10.0.0.0/8\""),
        IpNet::V6(_) => (7, "\"2001:db8::/32\""),
    };
    if network.prefix_len() < shortest {
        return Err(Wrong::new(
            format!("{text:?} would make this an open relay: strangers could send through it"),
            format!("name only networks of your own, as in {own}; /{shortest} is the widest"),
        ));
    }
    if network.trunc() != network {
        return Err(Wrong::new(
            format!("{text:?} has bits of the address beyond its prefix"),
            format!(
                "write \"{}\" for the network or \"{}\" for the host",
                network.trunc(),
                network.addr()
            ),
        ));
    }
    Ok(network)
}

/// `192.0.2.1:25`, `[2001:db8::1]:25`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("{text:?} is not an address with a port"),
            "write an address and a port, as in \"0.0.0.0:25\", \"127.0.0.1:2525\" or \"[::]:25\"",
        )
    })
}

/// As [`socket_address`]; the port may be left out.
pub(super) fn server_address(text: &str, default_port: u16) -> Result<SocketAddr, Wrong> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, default_port)),
        Err(_) => text.parse().map_err(|_| {
            Wrong::new(
                format!("{text:?} is not the address of a server"),
                "write an address, with a port if it is not 53, as in \"192.0.2.53\" \
                 or \"[2001:db8::53]:5353\"",
            )
        }),
    }
}

/// The candidate that `word` is most likely a slip of; none where nothing is near.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let plain = word.replace('-', "_").to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&plain, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two
/// words (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row; right.len() + 1];
        for column in 1..=right.len() {
            let same = left[row - 1] == right[column - 1];
            let mut best = (last[column] + 1)
                .min(current[column - 1] + 1)
                .min(last[column - 1] + usize::from(!same));
            if row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1]
            {
                best = best.min(before_last[column - 2] + 1);
            }
            current[column] = best;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}
