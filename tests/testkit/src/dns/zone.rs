//! Zone text, and what a resolver finds in it.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;

/// Most aliases followed in one answer; a loop ends here too.
const ALIASES_MAX: usize = 16;
/// Negative TTL of names outside every zone, in seconds.
const OUTSIDE_TTL_S: u32 = 60;

/// Records below one origin.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: LowerName,
    records: BTreeMap<(LowerName, RecordType), Vec<Record>>,
}

impl Zone {
    /// Reads a master file (RFC 1035 section 5.1): `$ORIGIN`, `$TTL`, `@`,
    /// relative names, comments, parentheses; MX, A, AAAA, CNAME, TXT, SOA, PTR,
    /// NS and whatever else hickory reads.
    ///
    /// Indentation that all lines share is taken off, so that a zone can stand
    /// inside of a test; a line that is indented further belongs to the owner of
    /// the one before. The first `$ORIGIN` is the zone's. A zone without SOA gets
    /// one with a negative TTL of 60 s, a zone without `$TTL` one of 300 s.
    ///
    /// # Panics
    /// When the text is not a zone: the test is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = format!("$TTL 300\n{}\n", dedent(text));
        let origin = text
            .lines()
            .find_map(|line| line.strip_prefix("$ORIGIN"))
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("a zone needs $ORIGIN:\n{text}"));
        let origin =
            Name::from_ascii(origin).unwrap_or_else(|error| panic!("$ORIGIN {origin}: {error}"));
        let (_, sets) = Parser::new(text.as_str(), None, None)
            .parse()
            .unwrap_or_else(|error| panic!("{error}\nin the zone\n{text}"));
        let mut records = BTreeMap::new();
        for (key, set) in sets {
            let of_set: Vec<Record> = set.records_without_rrsigs().cloned().collect();
            records.insert((key.name().clone(), key.record_type), of_set);
        }
        let apex = LowerName::new(&origin);
        records
            .entry((apex.clone(), RecordType::SOA))
            .or_insert_with(|| vec![soa(&origin, OUTSIDE_TTL_S)]);
        Self {
            origin: apex,
            records,
        }
    }
}

fn soa(origin: &Name, minimum_s: u32) -> Record {
    let server = Name::from_ascii("ns.invalid.").expect("a constant name");
    let data = SOA::new(server.clone(), server, 1, 3600, 600, 86_400, minimum_s);
    Record::from_rdata(origin.clone(), minimum_s, RData::SOA(data))
}

/// Takes off the indentation that all lines with text share.
fn dedent(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let shared = lines().map(indent).min().unwrap_or(0);
    lines()
        .map(|line| line[shared..].to_owned() + "\n")
        .collect()
}

/// What the zones say to one question.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) code: ResponseCode,
    /// Aliases first, then the records.
    pub(super) answers: Vec<Record>,
    /// Of the zone that lacks the name or the type.
    pub(super) soa: Option<Record>,
}

/// All zones as one tree of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones {
    zones: Vec<Zone>,
    /// Owners and everything above them in their zones.
    names: BTreeSet<LowerName>,
}

impl Zones {
    pub(super) fn set(&mut self, zone: Zone) {
        self.zones.retain(|known| known.origin != zone.origin);
        self.zones.push(zone);
        self.index();
    }

    pub(super) fn remove(&mut self, origin: &LowerName) {
        self.zones.retain(|known| known.origin != *origin);
        self.index();
    }

    fn index(&mut self) {
        self.names.clear();
        for zone in &self.zones {
            for (owner, _) in zone.records.keys() {
                let mut name = owner.clone();
                while zone.origin.zone_of(&name) && self.names.insert(name.clone()) {
                    name = name.base_name();
                }
            }
        }
    }

    /// Answers as a recursive resolver; without `chase` as a server that gives
    /// an alias and leaves it at that.
    pub(super) fn find(&self, name: &LowerName, wanted: RecordType, chase: bool) -> Finding {
        let mut answers = Vec::new();
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            if let Some(found) = self.records(&name, wanted) {
                answers.extend(found.iter().cloned());
                return Finding {
                    code: ResponseCode::NoError,
                    answers,
                    soa: None,
                };
            }
            let alias = self
                .records(&name, RecordType::CNAME)
                .and_then(|found| found.first());
            let Some(alias) = alias else {
                let exists = self.names.contains(&name);
                let code = if exists {
                    ResponseCode::NoError
                } else {
                    ResponseCode::NXDomain
                };
                return Finding {
                    code,
                    answers,
                    soa: Some(self.soa(&name)),
                };
            };
            let RData::CNAME(target) = &alias.data else {
                unreachable!("the set of type CNAME holds nothing else");
            };
            name = LowerName::new(&target.0);
            answers.push(alias.clone());
            if !chase {
                break;
            }
        }
        Finding {
            code: ResponseCode::NoError,
            answers,
            soa: None,
        }
    }

    fn records(&self, name: &LowerName, wanted: RecordType) -> Option<&Vec<Record>> {
        let key = (name.clone(), wanted);
        self.zones.iter().find_map(|zone| zone.records.get(&key))
    }

    /// The SOA of the closest zone above a name, or that of the root.
    fn soa(&self, name: &LowerName) -> Record {
        self.zones
            .iter()
            .filter(|zone| zone.origin.zone_of(name))
            .max_by_key(|zone| zone.origin.num_labels())
            .and_then(|zone| zone.records.get(&(zone.origin.clone(), RecordType::SOA)))
            .and_then(|found| found.first())
            .cloned()
            .unwrap_or_else(|| soa(&Name::root(), OUTSIDE_TTL_S))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let mut zones = Zones::default();
        zones.set(Zone::parse(
            "
            $ORIGIN example.test.
            @       600 MX 10 mx1
                    600 MX 20 mx2.elsewhere.test.
            mx1     A 127.0.0.2   ; a comment
            deep.er TXT \"one\" \"two\"
            www     CNAME host.elsewhere.test.
            loop    CNAME pool
            pool    CNAME loop
            ",
        ));
        zones.set(Zone::parse(
            "$ORIGIN elsewhere.test.\nhost A 127.0.0.9\nnull MX 0 .",
        ));
        zones
    }

    fn find(name: &str, wanted: RecordType) -> Finding {
        zones().find(
            &LowerName::new(&Name::from_ascii(name).unwrap()),
            wanted,
            true,
        )
    }

    #[test]
    fn records_absences_and_aliases() {
        let mx = find("Example.Test.", RecordType::MX);
        assert_eq!(mx.answers.len(), 2);
        assert_eq!(mx.answers[0].ttl, 600);
        assert_eq!(find("mx1.example.test.", RecordType::A).answers[0].ttl, 300);
        assert_eq!(
            find("null.elsewhere.test.", RecordType::MX).answers.len(),
            1
        );
        for (name, wanted, code) in [
            ("mx1.example.test.", RecordType::MX, ResponseCode::NoError),
            ("er.example.test.", RecordType::A, ResponseCode::NoError),
            ("none.example.test.", RecordType::A, ResponseCode::NXDomain),
            ("outside.", RecordType::A, ResponseCode::NXDomain),
        ] {
            let finding = find(name, wanted);
            assert_eq!(finding.code, code, "{name}");
            assert!(
                finding.answers.is_empty() && finding.soa.is_some(),
                "{name}"
            );
        }
        let www = find("www.example.test.", RecordType::A);
        assert_eq!(www.answers.len(), 2);
        let www = find("www.example.test.", RecordType::MX);
        assert_eq!((www.answers.len(), www.code), (1, ResponseCode::NoError));
        let endless = find("loop.example.test.", RecordType::A);
        assert!(endless.soa.is_none() && endless.answers.len() == ALIASES_MAX);
    }

    #[test]
    fn a_zone_replaces_the_one_before() {
        let mut zones = zones();
        zones.set(Zone::parse("$ORIGIN elsewhere.test.\nother A 127.0.0.8"));
        let name = |text: &str| LowerName::new(&Name::from_ascii(text).unwrap());
        let gone = zones.find(&name("host.elsewhere.test."), RecordType::A, true);
        assert_eq!(gone.code, ResponseCode::NXDomain);
        zones.remove(&name("example.test."));
        let gone = zones.find(&name("example.test."), RecordType::MX, true);
        assert_eq!(gone.code, ResponseCode::NXDomain);
    }
}
