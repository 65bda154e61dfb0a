//! What the sink answers: rules from the command line or from a file.
//!
//! A rule on the command line is `PHASE[:PATTERN]=ACTION[;OPTION…]`:
//!
//! | part | what |
//! |---|---|
//! | `PHASE` | `connect`, `ehlo`, `mail`, `rcpt`, `content` (its first octets), `data` (its end) |
//! | `PATTERN` | `*` stands for anything; against the client's address, its name, the sender, the recipient; for `content` and `data` against the sender and each recipient |
//! | `ACTION` | a reply (`550 5.1.1 no such user`), `accept`, or `drop` (close without a word) |
//! | `times=N` | applies N times, then never again |
//! | `every=N` | applies to each Nth match only |
//! | `delay=500ms` | waits before the action; also `s`, `m`, `h` |
//!
//! The first rule that applies decides. What no rule decides is accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use smtp::Reply;

/// When a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// The greeting.
    Connect,
    /// EHLO or HELO.
    Ehlo,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// The first octets of the content have come.
    Content,
    /// The end of the content.
    Data,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The default reply.
    Accept,
    /// This reply.
    Reply(Reply),
    /// The connection is closed without a reply.
    Drop,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// Wait so long first.
    pub(super) delay: Duration,
    /// Then do this.
    pub(super) effect: Effect,
}

impl Decision {
    const ACCEPT: Self = Self {
        delay: Duration::ZERO,
        effect: Effect::Accept,
    };
}

#[derive(Debug)]
struct Rule {
    phase: Phase,
    /// `None` matches everything.
    pattern: Option<String>,
    decision: Decision,
    times: Option<u64>,
    every: u64,
    /// How often the pattern has matched.
    matched: AtomicU64,
    /// How often the rule has been applied.
    applied: AtomicU64,
}

/// All rules, in order.
#[derive(Debug, Default)]
pub(super) struct Script {
    rules: Vec<Rule>,
}

/// A script as a file: the same rules, spelled out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptFile {
    #[serde(default)]
    rule: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    at: Phase,
    #[serde(rename = "match")]
    pattern: Option<String>,
    /// A reply, `accept` or `drop`.
    reply: String,
    times: Option<u64>,
    every: Option<u64>,
    delay: Option<String>,
}

impl Script {
    /// Adds a rule of the command line.
    ///
    /// # Errors
    /// Names the part that cannot be read and what would be right.
    pub(super) fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let rule = parse_rule(text).with_context(|| format!("the rule {text:?}"))?;
        self.rules.push(rule);
        Ok(())
    }

    /// Adds the rules of a TOML file.
    ///
    /// # Errors
    /// When it is not TOML, has unknown keys, or a rule cannot be read.
    pub(super) fn add_file(&mut self, text: &str) -> anyhow::Result<()> {
        let file: ScriptFile = toml::from_str(text)?;
        for (index, rule) in file.rule.into_iter().enumerate() {
            let named = || format!("rule {} of the script", index + 1);
            let delay = rule
                .delay
                .as_deref()
                .map(parse_duration)
                .transpose()
                .with_context(named)?;
            let effect = parse_effect(&rule.reply).with_context(named)?;
            let (times, every) = (rule.times, rule.every.unwrap_or(1));
            ensure!(every > 0, "{}: every is at least 1", named());
            self.rules.push(Rule {
                phase: rule.at,
                pattern: rule.pattern,
                decision: Decision {
                    delay: delay.unwrap_or_default(),
                    effect,
                },
                times,
                every,
                matched: AtomicU64::new(0),
                applied: AtomicU64::new(0),
            });
        }
        Ok(())
    }

    /// Whether any rule is about this phase: saves making the subjects when none is.
    pub(super) fn knows(&self, phase: Phase) -> bool {
        self.rules.iter().any(|rule| rule.phase == phase)
    }

    /// What to do in `phase` with something that is called by one of `subjects`.
    pub(super) fn decide(&self, phase: Phase, subjects: &[&str]) -> Decision {
        self.rules
            .iter()
            .find(|rule| rule.phase == phase && rule.applies(subjects))
            .map_or(Decision::ACCEPT, |rule| rule.decision.clone())
    }
}

impl Rule {
    fn applies(&self, subjects: &[&str]) -> bool {
        let fits = self
            .pattern
            .as_deref()
            .is_none_or(|pattern| subjects.iter().any(|subject| glob(pattern, subject)));
        if !fits {
            return false;
        }
        let matched = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        if !matched.is_multiple_of(self.every) {
            return false;
        }
        let Some(times) = self.times else { return true };
        // Not a plain increment: the count must stay where it is once it is used up.
        self.applied
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |applied| {
                (applied < times).then_some(applied + 1)
            })
            .is_ok()
    }
}

fn parse_rule(text: &str) -> anyhow::Result<Rule> {
    let (head, tail) = text
        .split_once('=')
        .context("there is no = between phase and action")?;
    let (phase, pattern) = match head.split_once(':') {
        Some((phase, pattern)) => (phase, Some(pattern.to_owned())),
        None => (head, None),
    };
    let phase = match phase {
        "connect" => Phase::Connect,
        "ehlo" => Phase::Ehlo,
        "mail" => Phase::Mail,
        "rcpt" => Phase::Rcpt,
        "content" => Phase::Content,
        "data" => Phase::Data,
        other => bail!("{other:?} is not connect, ehlo, mail, rcpt, content or data"),
    };
    // Options stand at the end; a semicolon in the text of a reply begins none of them.
    let mut action = tail;
    let (mut times, mut every, mut delay) = (None, 1, Duration::ZERO);
    while let Some((before, option)) = action.rsplit_once(';') {
        match option.trim().split_once('=') {
            Some(("times", value)) => times = Some(value.parse().context("times is a number")?),
            Some(("every", value)) => every = value.parse().context("every is a number")?,
            Some(("delay", value)) => delay = parse_duration(value)?,
            _ => break,
        }
        action = before;
    }
    ensure!(every > 0, "every is at least 1");
    Ok(Rule {
        phase,
        pattern,
        decision: Decision {
            delay,
            effect: parse_effect(action)?,
        },
        times,
        every,
        matched: AtomicU64::new(0),
        applied: AtomicU64::new(0),
    })
}

fn parse_effect(text: &str) -> anyhow::Result<Effect> {
    match text.trim() {
        "accept" => return Ok(Effect::Accept),
        "drop" => return Ok(Effect::Drop),
        _ => {}
    }
    let (code, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let code: u16 = code
        .parse()
        .ok()
        .filter(|code| (400..600).contains(code) || (200..300).contains(code))
        .with_context(|| {
            format!("{code:?} is neither accept, drop nor a code from 200 to 299 or 400 to 599")
        })?;
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok(Effect::Reply(
        match first.parse::<smtp::EnhancedStatusCode>() {
            Ok(enhanced) => Reply::new(code, enhanced, others),
            Err(_) => Reply::bare(code, rest),
        },
    ))
}

/// A number with `ms`, `s`, `m` or `h`, as in the relay's configuration.
pub(super) fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits]
        .parse()
        .with_context(|| format!("{text:?} is not a duration like 500ms, 3s or 2m"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        unit => bail!("{unit:?} in {text:?} is not a unit: ms, s, m or h"),
    }
}

/// Whether `text` is what `pattern` describes; `*` stands for any number of characters. Case is
/// ignored, as domains do and people expect.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(rules: &[&str]) -> Script {
        let mut script = Script::default();
        for rule in rules {
            script.add(rule).unwrap();
        }
        script
    }

    #[test]
    fn stars_match_anything() {
        for (pattern, text, fits) in [
            ("a@b.example", "A@b.EXAMPLE", true),
            ("a@b.example", "a@b.example.org", false),
            ("*@bad.example", "x@bad.example", true),
            ("*@bad.example", "x@not-bad.example.org", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let script = script(&["rcpt:*@bad.example=550 5.1.1 no such user", "rcpt:a@*=drop"]);
        let reply = Reply::new(550, (5, 1, 1), "no such user");
        let decided = |address| script.decide(Phase::Rcpt, &[address]).effect;
        assert_eq!(decided("a@bad.example"), Effect::Reply(reply));
        assert_eq!(decided("a@good.example"), Effect::Drop);
        assert_eq!(decided("b@good.example"), Effect::Accept);
        assert_eq!(
            script.decide(Phase::Mail, &["a@bad.example"]).effect,
            Effect::Accept
        );
        assert!(script.knows(Phase::Rcpt) && !script.knows(Phase::Data));
    }

    #[test]
    fn times_and_every_count_matches() {
        let script = script(&[
            "data=451 4.3.0 later; really;times=2;delay=5ms",
            "mail=drop;every=3",
        ]);
        let later = Effect::Reply(Reply::new(451, (4, 3, 0), "later; really"));
        for expected in [later.clone(), later, Effect::Accept, Effect::Accept] {
            assert_eq!(script.decide(Phase::Data, &[]).effect, expected);
        }
        let dropped: Vec<bool> = (0..6)
            .map(|_| script.decide(Phase::Mail, &[]).effect == Effect::Drop)
            .collect();
        assert_eq!(dropped, [false, false, true, false, false, true]);
    }

    #[test]
    fn files_hold_the_same_rules() {
        let mut script = Script::default();
        script
            .add_file(
                "[[rule]]\nat = \"rcpt\"\nmatch = \"*@slow.example\"\nreply = \"accept\"\n\
                 delay = \"2s\"\n",
            )
            .unwrap();
        let decision = script.decide(Phase::Rcpt, &["a@slow.example"]);
        assert_eq!(
            decision,
            Decision {
                delay: Duration::from_secs(2),
                effect: Effect::Accept
            }
        );
        assert!(
            script
                .add_file("[[rule]]\nat = \"rcpt\"\nreply = \"drop\"\nwhen = 1\n")
                .is_err()
        );
    }

    #[test]
    fn faults_are_named() {
        for (rule, word) in [
            ("rcpt", "no ="),
            ("vrfy=drop", "vrfy"),
            ("rcpt=354 go on", "354"),
            ("rcpt=drop;times=many", "times"),
            ("rcpt=drop;delay=5min", "unit"),
        ] {
            let error = format!("{:#}", Script::default().add(rule).unwrap_err());
            assert!(error.contains(word), "{rule}: {error}");
        }
    }
}
