//! Networks with their values, found by the longest prefix.
//!
//! Two networks are either apart or one within the other. So of the networks in the order of
//! their first address, the wider before the narrower, the last one that begins at or before an
//! address is either the answer or within it: one binary search, then outwards along the list of
//! what surrounds what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::entries::{push_length, split_length};
use super::fault::TableFault;

/// Surrounded by nothing.
const NONE: u32 = u32::MAX;

/// All networks of both families.
pub(super) struct NetworkTree {
    v4: Family<u32>,
    v6: Family<u128>,
    values: Box<[u8]>,
}

/// First addresses between two that are in the summary, too.
const STRIDE: usize = 16;

/// The networks of one family, in order.
struct Family<A> {
    first: Box<[A]>,
    /// Every [`STRIDE`]th of `first`: small enough to stay near the processor, so that most steps
    /// of a search do not wait for memory.
    summary: Box<[A]>,
    rest: Box<[Rest]>,
}

/// What is known of a network beside its first address.
struct Rest {
    /// Place of the network that it is within, or [`NONE`].
    around: u32,
    value: u32,
    prefix: u8,
}

/// Takes networks in any order.
#[derive(Default)]
pub(super) struct NetworkBuilder {
    v4: Vec<Row<u32>>,
    v6: Vec<Row<u128>>,
    values: Vec<u8>,
    last_value: Option<(String, u32)>,
}

#[derive(Clone, Copy)]
struct Row<A> {
    first: A,
    prefix: u8,
    value: u32,
    line: u32,
}

impl NetworkBuilder {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn push(
        &mut self,
        network: IpNet,
        value: &str,
        line: u32,
    ) -> Result<(), &'static str> {
        let value = self.keep(value)?;
        let prefix = network.prefix_len();
        match network {
            IpNet::V4(network) => self.v4.push(Row {
                first: u32::from(network.network()),
                prefix,
                value,
                line,
            }),
            IpNet::V6(network) => self.v6.push(Row {
                first: u128::from(network.network()),
                prefix,
                value,
                line,
            }),
        }
        Ok(())
    }

    /// Where the value is; the same one many times in a row takes no more room.
    fn keep(&mut self, value: &str) -> Result<u32, &'static str> {
        if let Some((last, at)) = &self.last_value
            && last == value
        {
            return Ok(*at);
        }
        let at = u32::try_from(self.values.len()).map_err(|_| "the table is over 4 GiB")?;
        push_length(&mut self.values, value.len());
        self.values.extend_from_slice(value.as_bytes());
        self.last_value = Some((value.to_owned(), at));
        Ok(at)
    }

    /// The tree, and one note for each network that came again: the first counts.
    pub(super) fn finish(self) -> (NetworkTree, Vec<TableFault>) {
        let mut repeated = Vec::new();
        let tree = NetworkTree {
            v4: Family::new(self.v4, &mut repeated, |first, prefix| {
                first | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
            }),
            v6: Family::new(self.v6, &mut repeated, |first, prefix| {
                first | u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
            }),
            values: self.values.into_boxed_slice(),
        };
        repeated.sort_by_key(|fault| fault.line);
        (tree, repeated)
    }
}

impl<A: Copy + Ord> Family<A> {
    fn new(
        mut rows: Vec<Row<A>>,
        repeated: &mut Vec<TableFault>,
        last: impl Fn(A, u8) -> A,
    ) -> Self {
        rows.sort_by_key(|row| (row.first, row.prefix, row.line));
        rows.dedup_by(|later, kept| {
            let is_same = (later.first, later.prefix) == (kept.first, kept.prefix);
            if is_same {
                let message = format!(
                    "this network is there already, in line {}; the first counts",
                    kept.line
                );
                let line = later.line;
                repeated.push(TableFault { line, message });
            }
            is_same
        });
        // The networks that surround the one at hand, the innermost last.
        let mut open: Vec<(u32, A)> = Vec::new();
        let mut rest = Vec::with_capacity(rows.len());
        for (at, row) in (0_u32..).zip(&rows) {
            while open.last().is_some_and(|(_, end)| *end < row.first) {
                open.pop();
            }
            rest.push(Rest {
                around: open.last().map_or(NONE, |(at, _)| *at),
                value: row.value,
                prefix: row.prefix,
            });
            open.push((at, last(row.first, row.prefix)));
        }
        Self {
            first: rows.iter().map(|row| row.first).collect(),
            summary: rows.iter().step_by(STRIDE).map(|row| row.first).collect(),
            rest: rest.into_boxed_slice(),
        }
    }

    /// How many networks begin before the address, or at it.
    fn begun(&self, address: A) -> usize {
        let whole = self.summary.partition_point(|first| *first <= address);
        let from = whole.saturating_sub(1) * STRIDE;
        let to = self.first.len().min(from + STRIDE);
        let block = self.first.get(from..to).unwrap_or_default();
        from + block.partition_point(|first| *first <= address)
    }

    /// The narrowest network with the address: first address, prefix, place of the value.
    fn find(&self, address: A, contains: impl Fn(A, u8) -> bool) -> Option<(A, u8, u32)> {
        let mut at = self.begun(address).checked_sub(1)?;
        loop {
            let (first, rest) = (*self.first.get(at)?, self.rest.get(at)?);
            if contains(first, rest.prefix) {
                return Some((first, rest.prefix, rest.value));
            }
            at = match rest.around {
                NONE => return None,
                around => around as usize,
            };
        }
    }

    /// The value of exactly this network.
    fn exact(&self, first: A, prefix: u8) -> Option<u32> {
        let from = self.first.partition_point(|each| *each < first);
        let same = self
            .first
            .get(from..)?
            .iter()
            .take_while(|each| **each == first);
        let mut rest = self.rest.get(from..from + same.count())?.iter();
        rest.find(|rest| rest.prefix == prefix)
            .map(|rest| rest.value)
    }

    fn bytes(&self) -> usize {
        let firsts = self.first.len() + self.summary.len();
        firsts * size_of::<A>() + self.rest.len() * size_of::<Rest>()
    }
}

impl NetworkTree {
    /// The narrowest network that has the address, and its value.
    pub(super) fn find(&self, address: IpAddr) -> Option<(IpNet, &str)> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let address = u32::from(address);
                let (first, prefix, value) = self.v4.find(address, |first, prefix| {
                    (first ^ address).leading_zeros() >= u32::from(prefix)
                })?;
                let network = Ipv4Net::new(Ipv4Addr::from(first), prefix).ok()?;
                Some((network.into(), self.value(value)?))
            }
            IpAddr::V6(address) => {
                let address = u128::from(address);
                let (first, prefix, value) = self.v6.find(address, |first, prefix| {
                    (first ^ address).leading_zeros() >= u32::from(prefix)
                })?;
                let network = Ipv6Net::new(Ipv6Addr::from(first), prefix).ok()?;
                Some((network.into(), self.value(value)?))
            }
        }
    }

    /// The value of exactly this network.
    pub(super) fn exact(&self, network: IpNet) -> Option<&str> {
        let prefix = network.prefix_len();
        let value = match network {
            IpNet::V4(network) => self.v4.exact(u32::from(network.network()), prefix)?,
            IpNet::V6(network) => self.v6.exact(u128::from(network.network()), prefix)?,
        };
        self.value(value)
    }

    fn value(&self, at: u32) -> Option<&str> {
        let (length, rest) = split_length(self.values.get(at as usize..)?)?;
        std::str::from_utf8(rest.get(..length)?).ok()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.v4.first.len() + self.v6.first.len()
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(networks: &[&str]) -> NetworkTree {
        let mut builder = NetworkBuilder::default();
        for (line, network) in (1..).zip(networks) {
            let parsed = network.parse().expect("a network");
            builder.push(parsed, network, line).expect("it fits");
        }
        builder.finish().0
    }

    fn found(tree: &NetworkTree, address: &str) -> Option<String> {
        let (network, value) = tree.find(address.parse().expect("an address"))?;
        assert_eq!(network.to_string(), value);
        Some(value.to_owned())
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let tree = tree(&[
            "10.1.2.0/24",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "10.255.0.0/16",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "::/0",
        ]);
        for (address, network) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.4", "10.1.2.0/24"),
            ("10.1.3.0", "10.0.0.0/8"),
            ("10.254.255.255", "10.0.0.0/8"),
            ("10.255.1.1", "10.255.0.0/16"),
            ("11.0.0.0", "0.0.0.0/0"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("2001:db8:1:2::", "2001:db8:1::/48"),
            ("2001:db8:2::", "2001:db8::/32"),
            ("2001:db9::", "::/0"),
            ("255.255.255.255", "0.0.0.0/0"),
        ] {
            assert_eq!(found(&tree, address).as_deref(), Some(network), "{address}");
        }
        assert_eq!(tree.len(), 8);
        let exact = tree.exact("10.0.0.0/8".parse().expect("a network"));
        assert_eq!(exact, Some("10.0.0.0/8"));
        assert_eq!(tree.exact("10.0.0.0/9".parse().expect("a network")), None);
    }

    #[test]
    fn between_networks_there_is_nothing() {
        let tree = tree(&["10.0.0.0/24", "10.0.2.0/24", "10.0.2.128/25"]);
        assert_eq!(found(&tree, "9.255.255.255"), None);
        assert_eq!(found(&tree, "10.0.1.0"), None);
        assert_eq!(found(&tree, "10.0.3.0"), None);
        assert_eq!(found(&tree, "2001:db8::1"), None);
    }

    #[test]
    fn agrees_with_looking_at_every_network() {
        let mut random = 0x9E37_79B9_u32;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random
        };
        let mut builder = NetworkBuilder::default();
        let mut all = Vec::new();
        for line in 1..=400 {
            let address = Ipv4Addr::from(next() & 0x0f0f_ffff);
            let prefix = u8::try_from(next() % 33).expect("small");
            let network = Ipv4Net::new(address, prefix).expect("a prefix").trunc();
            builder.push(network.into(), "", line).expect("it fits");
            all.push(network);
        }
        let (tree, _) = builder.finish();
        for _ in 0..2000 {
            let address = Ipv4Addr::from(next() & 0x0f0f_ffff);
            let with = all.iter().filter(|network| network.contains(&address));
            let longest = with.max_by_key(|network| network.prefix_len());
            let found = tree.find(address.into()).map(|(network, _)| network);
            assert_eq!(
                found,
                longest.map(|network| IpNet::V4(*network)),
                "{address}"
            );
        }
    }
}
