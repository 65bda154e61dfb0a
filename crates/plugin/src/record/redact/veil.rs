//! One record's pseudonyms: what is hidden in it, and in exchange for what.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use smtp::{Domain, Mailbox};

use super::super::{Exchange, Octets, Record, Tape, Told};
use super::{Privacy, Redactor};
use crate::environment::{HeaderField, Peer, Sender};
use crate::phase::Input;
use crate::request::{Recipient, RouteRequest};

/// Header values that are shorter may be found anywhere by chance.
const VALUE_LEAST: usize = 6;

/// Words that the record itself is made of: alone they name nobody.
const WORDS: &[&str] = &[
    "message-id",
    "received-at",
    "message-size",
    "attributes",
    "origin",
    "envelope-sender",
    "envelope-recipients",
    "headers",
    "authentication",
    "mta-sts-mode",
    "queued-count",
    "now",
    "remaining",
    "state",
    "sender",
    "recipient",
    "message",
    "routing",
    "delivery",
    "proceed",
    "rewrite",
    "defer",
    "reject",
    "discard",
    "hold",
    "use-hops",
    "select",
    "edit",
    "next",
    "stop",
    "smtp",
    "lmtp",
    "submission",
    "api",
    "internal",
    "seven-bit",
    "eight-bit-mime",
    "binary-mime",
    "none",
    "pass",
    "fail",
    "neutral",
    "temporary-error",
    "permanent-error",
    "mx",
    "implicit-address",
    "configured",
    "plugin",
    "no-such-domain",
    "no-records",
    "null-mx",
    "temporary",
    "denied",
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "off",
    "opportunistic",
    "encrypt",
    "dane",
    "dane-only",
    "destination",
    "implicit",
    "v4",
    "v6",
    "usual",
    "retry-after",
    "next-hop-now",
    "reroute",
    "give-up",
    "resolve",
    "connect",
    "greeting",
    "tls",
    "auth",
    "mail-from",
    "rcpt-to",
    "data",
    "quit",
    "quota",
    "timeout",
    "too-large",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "enforce",
    "testing",
    "trap",
    "memory_limit",
    "host_call_limit",
    "data_limit",
    "invalid_answer",
    "broken",
];

/// What is hidden in one record.
pub(super) struct Veil<'a> {
    redactor: &'a Redactor,
    route_headers: &'a [String],
    /// Texts that are exchanged wherever they stand, the longest first.
    anywhere: Vec<(String, String)>,
    /// Words that are exchanged where they stand alone.
    words: BTreeMap<String, String>,
    /// Domains, and names below them.
    domains: BTreeMap<String, String>,
}

impl<'a> Veil<'a> {
    pub(super) fn of(redactor: &'a Redactor, record: &Record, route_headers: &'a [String]) -> Self {
        let mut veil = Self {
            redactor,
            route_headers,
            anywhere: Vec::new(),
            words: BTreeMap::new(),
            domains: BTreeMap::new(),
        };
        veil.learn_input(&record.input);
        for exchange in &record.tape.exchanges {
            veil.learn_told(&exchange.told);
        }
        veil.anywhere
            .sort_by_key(|(text, _)| usize::MAX - text.len());
        veil.anywhere.dedup();
        veil
    }

    /// The record with everything exchanged.
    pub(super) fn record(&self, record: &Record) -> Result<Record, serde_json::Error> {
        Ok(Record {
            input: self.exchange(&self.input(&record.input))?,
            tape: self.exchange(&self.tape(&record.tape))?,
            ending: self.exchange(&record.ending)?,
            ..record.clone()
        })
    }

    fn learn_input(&mut self, input: &Input) {
        match input {
            Input::MailFrom(mail) => {
                self.learn_peer(&mail.peer);
                self.learn_sender(&mail.sender);
            }
            Input::Rcpt(recipient) => self.learn_recipient(recipient),
            Input::Message => {}
            Input::Route(request) => {
                self.learn_user(request.user.as_deref());
                request.sender.iter().for_each(|sender| self.learn(sender));
                let recipients = &request.recipients;
                recipients.iter().for_each(|to| self.learn_recipient(to));
                self.learn_domain(&request.domain);
                let values = self.hidden_values(request);
                values.iter().for_each(|value| self.learn_value(value));
            }
            Input::Delivery(report) => {
                let recipients = &report.recipients;
                recipients.iter().for_each(|to| self.learn_recipient(to));
                self.learn_domain(&report.domain);
            }
        }
    }

    fn learn_told(&mut self, told: &Told) {
        match told {
            Told::Origin(Some(peer)) => self.learn_peer(peer),
            Told::Sender(Some(sender)) => self.learn_sender(sender),
            Told::Recipients(list) => list.iter().for_each(|to| self.learn_recipient(to)),
            Told::Headers(fields) => {
                let hidden = fields.iter().filter(|field| !self.is_kept(&field.name));
                let values: Vec<String> = hidden
                    .map(|field| String::from_utf8_lossy(&field.value).trim().to_owned())
                    .collect();
                values.iter().for_each(|value| self.learn_value(value));
            }
            _ => {}
        }
    }

    fn learn_peer(&mut self, peer: &Peer) {
        self.learn_user(peer.user.as_deref());
        if self.redactor.privacy != Privacy::Hash {
            return;
        }
        if let Some(address) = peer.ip {
            let other = self.redactor.address(address);
            self.anywhere.push((address.to_string(), other.to_string()));
        }
        let names = peer.helo.parse::<Domain>().ok();
        let names = names.iter().chain(&peer.fcrdns);
        names.for_each(|name| self.learn_domain(name));
        let tls = peer.tls.iter();
        let names = tls.flat_map(|tls| tls.sni.iter().chain(&tls.verified_names));
        let names: Vec<Domain> = names.filter_map(|name| name.parse().ok()).collect();
        names.iter().for_each(|name| self.learn_domain(name));
    }

    fn learn_sender(&mut self, sender: &Sender) {
        sender.mailbox.iter().for_each(|sender| self.learn(sender));
        self.learn_word(sender.envelope_id.as_deref(), "e");
    }

    fn learn_recipient(&mut self, recipient: &Recipient) {
        self.learn(&recipient.mailbox);
    }

    fn learn(&mut self, mailbox: &Mailbox) {
        let text = mailbox.to_string();
        let local = text.rsplit_once('@');
        let local = local.map_or(text.as_str(), |(local, _)| local);
        let plain = local.trim_matches('"').to_owned();
        if !plain.chars().all(is_of_plain_address) {
            // Not what an address is recognised by: found as it stands before its @.
            let pseudonym = self.redactor.pseudonym("p", &plain);
            self.anywhere
                .push((format!("{local}@"), format!("{pseudonym}@")));
        }
        self.learn_word(Some(&plain), "p");
        self.learn_domain(mailbox.domain());
    }

    fn learn_user(&mut self, user: Option<&str>) {
        // A user with an @ is found as an address.
        self.learn_word(user.filter(|user| !user.contains('@')), "p");
    }

    fn learn_word(&mut self, word: Option<&str>, kind: &str) {
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            let pseudonym = self.redactor.pseudonym(kind, word);
            self.words.insert(word.to_owned(), pseudonym);
        }
    }

    /// An address or a name that stands alone is no text of its own: it may stand for the very
    /// thing that it names, and that is found by its form.
    fn learn_value(&mut self, value: &str) {
        let inner = value.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
        let bare = inner.unwrap_or(value);
        let is_name = bare.contains('.') && bare.parse::<Domain>().is_ok();
        let names = is_name
            || bare.parse::<Mailbox>().is_ok()
            || bare.parse::<IpAddr>().is_ok()
            || bare
                .parse::<Domain>()
                .is_ok_and(|domain| domain.is_literal());
        if value.len() >= VALUE_LEAST && !names {
            let pseudonym = self.redactor.pseudonym("h", value);
            self.anywhere.push((value.to_owned(), pseudonym));
        }
    }

    fn learn_domain(&mut self, domain: &Domain) {
        if self.redactor.privacy == Privacy::Hash && !domain.is_literal() {
            let name = domain.as_str().to_owned();
            let pseudonym = self.redactor.domain(&name);
            self.domains.insert(name, pseudonym);
        }
    }

    fn is_kept(&self, name: &str) -> bool {
        let kept = &self.redactor.keep_headers;
        kept.iter().any(|kept| kept.eq_ignore_ascii_case(name))
    }

    /// Values of a request's header fields that are not shown.
    fn hidden_values(&self, request: &RouteRequest) -> Vec<String> {
        let names = self.route_headers.iter();
        let fields = names.zip(&request.headers);
        let hidden = fields.filter(|(name, _)| !self.is_kept(name));
        hidden.map(|(_, value)| value.trim().to_owned()).collect()
    }

    fn input(&self, input: &Input) -> Input {
        let Input::Route(request) = input else {
            return input.clone();
        };
        let mut request = RouteRequest::clone(request);
        for (at, value) in request.headers.iter_mut().enumerate() {
            let name = self.route_headers.get(at);
            if !name.is_some_and(|name| self.is_kept(name)) {
                *value = self.redactor.value(value);
            }
        }
        Input::Route(Arc::new(request))
    }

    fn tape(&self, tape: &Tape) -> Tape {
        let exchanges = tape.exchanges.iter().map(|exchange| Exchange {
            asked: exchange.asked.clone(),
            told: match &exchange.told {
                Told::Headers(fields) => {
                    Told::Headers(fields.iter().map(|field| self.field(field)).collect())
                }
                Told::Body(Some(Octets(body))) => {
                    let keep = |octet: &u8| {
                        if matches!(octet, b'\r' | b'\n') {
                            *octet
                        } else {
                            b'x'
                        }
                    };
                    let filled: Vec<u8> = body.iter().map(keep).collect();
                    Told::Body(Some(Octets(filled.into())))
                }
                told => told.clone(),
            },
        });
        Tape {
            seed: tape.seed,
            exchanges: exchanges.collect(),
        }
    }

    fn field(&self, field: &HeaderField) -> HeaderField {
        if self.is_kept(&field.name) {
            return field.clone();
        }
        let text = String::from_utf8_lossy(&field.value);
        let lead = if text.starts_with(' ') { " " } else { "" };
        HeaderField {
            name: field.name.clone(),
            value: format!("{lead}{}", self.redactor.value(&text)).into(),
        }
    }

    fn exchange<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, serde_json::Error> {
        let mut tree = serde_json::to_value(value)?;
        self.walk(&mut tree);
        serde_json::from_value(tree)
    }

    fn walk(&self, tree: &mut Value) {
        match tree {
            Value::String(text) if !WORDS.contains(&text.as_str()) => *text = self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.walk(value)),
            Value::Object(map) => map.values_mut().for_each(|value| self.walk(value)),
            _ => {}
        }
    }

    /// A text with everything exchanged that is to be hidden.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (hidden, pseudonym) in &self.anywhere {
            if text.contains(hidden.as_str()) {
                text = text.replace(hidden.as_str(), pseudonym);
            }
        }
        text = self.addresses(&text);
        for (word, pseudonym) in &self.words {
            text = replace_where(&text, word, pseudonym, stands_alone);
        }
        for (domain, pseudonym) in &self.domains {
            text = replace_where(&text, domain, pseudonym, is_end_of_name);
        }
        text
    }

    /// Exchanges the local part of everything that looks like an address, whether
    /// it is of this message or not.
    fn addresses(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('@') {
            let start = before
                .rfind(|c: char| !is_of_plain_address(c))
                .map_or(0, |at| {
                    at + before[at..].chars().next().map_or(1, char::len_utf8)
                });
            let (lead, local) = before.split_at(start);
            let names_a_host = after.starts_with(|c: char| c.is_alphanumeric() || c == '[');
            out.push_str(lead);
            if local.is_empty() || !names_a_host || is_pseudonym(local) {
                out.push_str(local);
            } else {
                out.push_str(&self.redactor.pseudonym("p", local));
            }
            out.push('@');
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

impl Redactor {
    fn digest(&self, kind: &str, text: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        hash.finalize().into()
    }

    /// `p-` and twelve digits: fit for a local part and for most else.
    fn pseudonym(&self, kind: &str, text: &str) -> String {
        use std::fmt::Write as _;
        let mut name = format!("{kind}-");
        for octet in self.digest(kind, text).iter().take(6) {
            // Writing to a string cannot fail.
            let _ = write!(name, "{octet:02x}");
        }
        name
    }

    /// What stands for the value of a header field; an empty one stays empty.
    fn value(&self, value: &str) -> String {
        match value.trim() {
            "" => String::new(),
            value => self.pseudonym("h", value),
        }
    }

    /// Label by label, so that what is below a domain stays below it.
    fn domain(&self, name: &str) -> String {
        let labels = name.split('.').map(|label| self.pseudonym("d", label));
        labels.collect::<Vec<_>>().join(".")
    }

    /// An address in a network that is nobody's.
    fn address(&self, address: IpAddr) -> IpAddr {
        let [a, b, c, d, e, f, ..] = self.digest("ip", &address.to_string());
        match address {
            IpAddr::V4(_) => IpAddr::from([10, a, b, c]),
            IpAddr::V6(_) => {
                let part = |high, low| u16::from_be_bytes([high, low]);
                IpAddr::from([0xfd00, 0, 0, 0, 0, part(a, b), part(c, d), part(e, f)])
            }
        }
    }
}

/// What the local part of an address is recognised by, in any text.
fn is_of_plain_address(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '+' | '-')
}

fn is_pseudonym(text: &str) -> bool {
    let digits = text.strip_prefix("p-");
    digits.is_some_and(|digits| {
        digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Puts `with` in place of `word` where what is before and after it allows.
fn replace_where(text: &str, word: &str, with: &str, fits: fn(&str, &str) -> bool) -> String {
    if !text.contains(word) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let (before, rest) = text.split_at(at);
        let after = &rest[word.len()..];
        if at >= from && fits(before, after) {
            out.push_str(&text[from..at]);
            out.push_str(with);
            from = at + word.len();
        }
    }
    out.push_str(&text[from..]);
    out
}

/// Neither within a word nor a label of a domain name.
fn stands_alone(before: &str, after: &str) -> bool {
    let is_cut = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    let mut left = before.chars().rev();
    let mut right = after.chars();
    let (last, first) = (left.next(), right.next());
    let is_label = (first == Some('.') && !is_cut(right.next()))
        || (last == Some('.') && !is_cut(left.next()));
    is_cut(last) && is_cut(first) && !is_label
}

/// The end of a domain name, or all of it.
fn is_end_of_name(before: &str, after: &str) -> bool {
    let in_label = |c: char| c.is_alphanumeric() || c == '-';
    let mut right = after.chars();
    let goes_on = match right.next() {
        Some('.') => right.next().is_some_and(in_label),
        Some(c) => in_label(c),
        None => false,
    };
    !before.ends_with(in_label) && !goes_on
}
