//! How cases are written: from the text of a file to cases whose steps are complete.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::world::World;
use crate::attempt::AttemptStage;
use crate::environment::{AuthResult, BodyType, Ingress};
use crate::error::FailureReason;
use crate::grants::{Grants, HopPattern};
use crate::http::Origin;
use crate::phase::Phase;

/// A case, with what the file says for all of them filled in.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    /// Where it begins in its file.
    pub(super) line: usize,
    pub(super) config: Table,
    pub(super) grants: RawGrants,
    pub(super) fixtures: Fixtures,
    /// Attributes of the message before the first call.
    pub(super) attributes: BTreeMap<String, String>,
    /// At least one.
    pub(super) steps: Vec<Step>,
}

/// What does not belong to one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixtures {
    pub(super) tables: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) state: BTreeMap<String, Stored>,
    pub(super) http: BTreeMap<String, RawResponse>,
    pub(super) dns: BTreeMap<String, RawAnswer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    config: Table,
    #[serde(default)]
    grants: RawGrants,
    #[serde(default)]
    tables: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    state: BTreeMap<String, Stored>,
    #[serde(default)]
    http: BTreeMap<String, RawResponse>,
    #[serde(default)]
    dns: BTreeMap<String, RawAnswer>,
    case: Vec<Spanned<Table>>,
}

/// What of a case is not a default for its steps.
#[derive(Debug, Deserialize)]
struct RawCase {
    name: String,
    config: Option<Table>,
    grants: Option<RawGrants>,
    #[serde(default)]
    tables: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    state: BTreeMap<String, Stored>,
    #[serde(default)]
    http: BTreeMap<String, RawResponse>,
    #[serde(default)]
    dns: BTreeMap<String, RawAnswer>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    step: Vec<Table>,
}

const OF_THE_CASE: [&str; 9] = [
    "name",
    "config",
    "grants",
    "tables",
    "state",
    "http",
    "dns",
    "attributes",
    "step",
];

/// One call and what should come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    #[serde(default = "usual_phase")]
    pub(super) phase: Phase,
    #[serde(default = "usual_message_id")]
    pub(super) message_id: String,
    /// Empty only where the configuration is what is tested.
    #[serde(default)]
    pub(super) recipients: Vec<smtp::Mailbox>,
    /// The one that the recipient phase is asked about.
    pub(super) rcpt: Option<smtp::Mailbox>,
    pub(super) domain: Option<smtp::Domain>,
    /// Empty: the null reverse-path.
    #[serde(default = "usual_sender")]
    pub(super) sender: String,
    #[serde(default)]
    pub(super) body_type: BodyType,
    #[serde(default)]
    pub(super) smtputf8: bool,
    #[serde(default)]
    pub(super) requiretls: bool,
    #[serde(default)]
    pub(super) peer: RawPeer,
    #[serde(default)]
    pub(super) attempt: u32,
    #[serde(default = "usual_size")]
    pub(super) size_bytes: u64,
    #[serde(default)]
    pub(super) received_at_ms: u64,
    #[serde(default)]
    pub(super) listener: String,
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// A list of hosts, or a failure: `no-such-domain`, `no-records`,
    /// `null-mx`, `temporary`.
    #[serde(default)]
    pub(super) candidates: Option<RawCandidates>,
    pub(super) mta_sts_mode: Option<String>,
    #[serde(default)]
    pub(super) queued_count: u64,
    /// Header and body, as in a mail file.
    #[serde(default)]
    pub(super) message: String,
    pub(super) authentication: Option<RawAuthentication>,
    /// Of the delivery phase, one of the four.
    #[serde(default)]
    pub(super) outcome: BTreeMap<String, String>,
    #[serde(default = "usual_stage")]
    pub(super) stage: AttemptStage,
    pub(super) host: Option<smtp::Domain>,
    pub(super) address: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    #[serde(default = "usual_attempts")]
    pub(super) attempts: u32,
    #[serde(default)]
    pub(super) elapsed_ms: u32,
    #[serde(default)]
    pub(super) first_attempt_at_ms: u64,
    #[serde(default)]
    pub(super) now_ms: u64,
    #[serde(default)]
    pub(super) seed: u64,
    pub(super) expect: Option<Expectation>,
    pub(super) expect_failure: Option<RawFailure>,
    pub(super) expect_faults: Option<Vec<String>>,
    #[serde(default)]
    pub(super) expect_attributes: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) expect_state: BTreeMap<String, Value>,
}

fn usual_phase() -> Phase {
    Phase::Routing
}

fn usual_message_id() -> String {
    "CASE000000001".to_owned()
}

fn usual_sender() -> String {
    "sender@client.example".to_owned()
}

fn usual_size() -> u64 {
    4096
}

fn usual_stage() -> AttemptStage {
    AttemptStage::RcptTo
}

fn usual_attempts() -> u32 {
    1
}

/// A list of verdicts, or the one answer of another phase.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Expectation {
    Verdicts(Vec<Table>),
    Answer(Table),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeer {
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    /// Empty: as the step says.
    pub(super) listener: String,
    pub(super) ingress: Option<Ingress>,
    pub(super) helo: String,
    pub(super) fcrdns: Option<smtp::Domain>,
    pub(super) user: Option<String>,
    pub(super) tls: Option<RawTls>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) version: String,
    pub(super) cipher: String,
    pub(super) sni: Option<String>,
    pub(super) verified_names: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuthentication {
    pub(super) spf: AuthResult,
    pub(super) spf_domain: Option<String>,
    pub(super) dkim_pass_domains: Vec<String>,
    pub(super) dmarc: AuthResult,
}

/// A value of the state: a text, or a counter.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    Counter(i64),
    Text(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResponse {
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
    /// `timeout`, `connect`, `too-large`, `protocol`.
    pub(super) failure: Option<String>,
}

/// Without a word about them a case has every grant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGrants {
    dns: bool,
    body_bytes: u64,
    route_hosts: Vec<HopPattern>,
    rewrite_domains: Vec<HopPattern>,
    route_unix: Vec<PathBuf>,
    credentials: Vec<String>,
    source_pools: Vec<String>,
    traffic_classes: Vec<String>,
    /// `None`: those of the fixtures, likewise `http`.
    tables: Option<Vec<String>>,
    state_bytes: usize,
    http: Option<Vec<Origin>>,
}

impl Default for RawGrants {
    fn default() -> Self {
        let any: HopPattern = "*".parse().expect("`*` is a pattern");
        Self {
            dns: true,
            body_bytes: u64::MAX,
            route_hosts: vec![any.clone()],
            rewrite_domains: vec![any],
            route_unix: Vec::new(),
            credentials: Vec::new(),
            source_pools: Vec::new(),
            traffic_classes: Vec::new(),
            tables: None,
            state_bytes: 1 << 20,
            http: None,
        }
    }
}

impl RawGrants {
    /// The grants of a case with these fixtures.
    pub(super) fn grants(&self, fixtures: &Fixtures) -> Grants {
        let raw = self.clone();
        let origins = || {
            let urls = fixtures.http.keys().filter_map(|key| key.split_once(' '));
            urls.filter_map(|(_, url)| Origin::of_url(url).ok())
                .collect()
        };
        Grants {
            dns: raw.dns,
            body_bytes: raw.body_bytes,
            route_hosts: raw.route_hosts,
            rewrite_domains: raw.rewrite_domains,
            route_unix: raw.route_unix,
            credentials: raw.credentials,
            source_pools: raw.source_pools,
            traffic_classes: raw.traffic_classes,
            tables: raw
                .tables
                .unwrap_or_else(|| fixtures.tables.keys().cloned().collect()),
            state_bytes: (raw.state_bytes > 0).then_some(raw.state_bytes),
            state_durable: false,
            http: raw.http.unwrap_or_else(origins),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum RawCandidates {
    Failure(Failure),
    Hosts(Vec<RawCandidate>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCandidate {
    pub(super) host: smtp::Domain,
    #[serde(default)]
    pub(super) preference: u16,
    #[serde(default)]
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) secure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum RawAnswer {
    Failure(Failure),
    Records(Vec<String>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Failure {
    NoSuchDomain,
    NoRecords,
    NullMx,
    Temporary,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFailure {
    pub(super) reason: String,
    #[serde(default)]
    pub(super) detail: String,
}

/// Reads the text of a file.
///
/// # Errors
/// What is wrong, with its line.
pub(super) fn read(text: &str) -> Result<Vec<Case>, String> {
    let file: RawFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for raw in &file.case {
        let start = raw.span().start;
        let line = 1 + text
            .bytes()
            .take(start)
            .filter(|&byte| byte == b'\n')
            .count();
        let case = read_case(&file, raw.get_ref().clone(), line).map_err(|detail| {
            let name = raw.get_ref().get("name").and_then(Value::as_str);
            format!("line {line}: case {:?}: {detail}", name.unwrap_or(""))
        })?;
        cases.push(case);
    }
    Ok(cases)
}

fn read_case(file: &RawFile, table: Table, line: usize) -> Result<Case, String> {
    let (of_the_case, defaults): (Table, Table) = table
        .into_iter()
        .partition(|(key, _)| OF_THE_CASE.contains(&key.as_str()));
    let raw: RawCase = of_the_case.try_into().map_err(|error| one_line(&error))?;
    let steps = if raw.step.is_empty() {
        vec![Table::new()]
    } else {
        raw.step
    };
    let steps: Vec<Step> = steps
        .into_iter()
        .map(|step| {
            let mut whole = defaults.clone();
            whole.extend(step);
            whole.try_into().map_err(|error| one_line(&error))
        })
        .collect::<Result<_, _>>()?;
    let fixtures = Fixtures {
        tables: merged(&file.tables, raw.tables),
        state: merged(&file.state, raw.state),
        http: merged(&file.http, raw.http),
        dns: merged(&file.dns, raw.dns),
    };
    let case = Case {
        name: raw.name,
        line,
        config: raw.config.unwrap_or_else(|| file.config.clone()),
        grants: raw.grants.unwrap_or_else(|| file.grants.clone()),
        fixtures,
        attributes: raw.attributes,
        steps,
    };
    for (index, step) in case.steps.iter().enumerate() {
        step.check().map_err(|detail| match case.steps.len() {
            1 => detail,
            _ => format!("step {}: {detail}", index + 1),
        })?;
    }
    World::check(&case)?;
    Ok(case)
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}

fn merged<T: Clone>(file: &BTreeMap<String, T>, case: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut whole = file.clone();
    whole.extend(case);
    whole
}

impl Step {
    /// What the types do not say.
    fn check(&self) -> Result<(), String> {
        let expectations = [
            self.expect.is_some(),
            self.expect_failure.is_some(),
            self.expect_faults.is_some(),
        ];
        if expectations.iter().filter(|&&stated| stated).count() > 1 {
            return Err(
                "only one of `expect`, `expect_failure` and `expect_faults` can hold".to_owned(),
            );
        }
        let of_recipients = matches!(self.phase, Phase::Routing | Phase::Delivery);
        if self.expect_faults.is_none() && of_recipients && self.recipients.is_empty() {
            return Err("`recipients` is wanted, at least one".to_owned());
        }
        if self.expect_faults.is_none() && self.phase == Phase::Recipient && self.rcpt.is_none() {
            return Err("`rcpt` is wanted: the one that is asked about".to_owned());
        }
        match (&self.expect, self.phase) {
            (Some(Expectation::Answer(_)), Phase::Routing) => {
                return Err("`expect` is a list of verdicts in the routing phase".to_owned());
            }
            (Some(Expectation::Verdicts(list)), phase)
                if phase != Phase::Routing && !list.is_empty() =>
            {
                return Err(format!("`expect` is one table in the phase {phase}"));
            }
            _ => {}
        }
        if let Some(failure) = &self.expect_failure
            && !FailureReason::ALL
                .iter()
                .any(|reason| reason.as_str() == failure.reason)
        {
            let known = FailureReason::ALL.map(FailureReason::as_str).join(", ");
            return Err(format!("no reason {:?}; there are {known}", failure.reason));
        }
        Ok(())
    }

    /// Whether the whole answer is held against a snapshot.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.expect.is_none() && self.expect_failure.is_none() && self.expect_faults.is_none()
    }
}
