//! The answer of a call, checked as a whole: the first thing that breaks the
//! contract or goes beyond the grants makes it invalid, and none of it is used.
//! What comes out is an [`Output`] that holds no surprise.

mod dialogue;
mod hop;
mod reply;
pub(crate) mod rewrites;

use std::fmt;

use smtp::Domain;

use crate::ask::Answer;
use crate::attribute::is_attribute_name;
use crate::bindings::{routing_phase as wit, types};
use crate::grants::Grants;
use crate::phase::Output;
use crate::text::one_line;
use crate::verdict::{Decision, Flow, Settings, Verdict};

/// Hops, choices or edits of one verdict.
const ENTRIES_MAX: usize = 64;
/// Attributes of one `settings.extra`.
const EXTRA_MAX: usize = 32;
/// Characters of a note or a reason that are kept.
const TEXT_CHARACTERS: usize = 1000;

/// What is wrong with an answer, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    path: String,
    problem: String,
}

impl Fault {
    fn new(field: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self {
            path: field.to_string(),
            problem: problem.into(),
        }
    }

    /// The same fault, seen from the record or list that has the field.
    fn within(mut self, outer: impl fmt::Display) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// What an answer is checked against.
pub(crate) struct Check<'a> {
    pub(crate) grants: &'a Grants,
    /// Hosts of the candidates that the plugin was given; `None`: it did not
    /// ask.
    pub(crate) candidates: Option<&'a [Domain]>,
    pub(crate) recipient_count: usize,
}

impl Check<'_> {
    /// Checks the answer of any phase.
    pub(crate) fn output(&self, answer: Answer) -> Result<Output, Fault> {
        Ok(match answer {
            Answer::Sender(verdict) => Output::MailFrom(Self::sender(verdict)?),
            Answer::Recipient(verdict) => Output::Rcpt(Self::recipient(verdict)?),
            Answer::Message(verdict) => Output::Message(Self::message(verdict)?),
            Answer::Routing(verdicts) => Output::Route(self.verdicts(verdicts)?),
            Answer::Delivery(advice) => Output::Delivery(Self::advice(advice)),
        })
    }

    /// Checks an answer and gives each recipient its verdict.
    pub(crate) fn verdicts(&self, answer: Vec<wit::Verdict>) -> Result<Vec<Verdict>, Fault> {
        let mut owners = Owners::new(self.recipient_count);
        let mut verdicts = Vec::with_capacity(answer.len() + 1);
        for (index, verdict) in answer.into_iter().enumerate() {
            let at = |fault: Fault| fault.within(format_args!("verdicts[{index}]"));
            owners.claim(index, &verdict.recipients).map_err(at)?;
            verdicts.push(self.verdict(verdict).map_err(at)?);
        }
        Ok(owners.distribute(verdicts))
    }

    fn verdict(&self, verdict: wit::Verdict) -> Result<Verdict, Fault> {
        let decision = self.decision(verdict.decision)?;
        let is_final = matches!(
            decision,
            Decision::Defer { .. }
                | Decision::Reject { .. }
                | Decision::Discard { .. }
                | Decision::Hold { .. }
        );
        Ok(Verdict {
            recipients: Vec::new(),
            decision,
            settings: verdict
                .settings
                .map(|settings| self.settings(settings))
                .transpose()
                .map_err(|fault| fault.within("settings"))?,
            flow: match verdict.flow {
                types::Flow::Next if !is_final => Flow::Next,
                types::Flow::Next | types::Flow::Stop => Flow::Stop,
            },
            note: verdict.note.map(|note| one_line(&note, TEXT_CHARACTERS)),
        })
    }

    fn decision(&self, decision: wit::Decision) -> Result<Decision, Fault> {
        Ok(match decision {
            wit::Decision::Proceed => Decision::Proceed,
            wit::Decision::UseHops(route) => {
                if route.hops.is_empty() {
                    return Err(Fault::new("use-hops.hops", "empty, at least one is wanted"));
                }
                Decision::UseHops {
                    hops: each("use-hops.hops", route.hops, |hop| self.hop(hop))?,
                    fall_back_to_mx: route.fall_back_to_mx,
                }
            }
            wit::Decision::Select(choices) => {
                if choices.is_empty() {
                    return Err(Fault::new("select", "empty, at least one choice is wanted"));
                }
                let choices = each("select", choices, |choice| self.choice(choice))?;
                hop::check_distinct(&choices)?;
                Decision::Select { choices }
            }
            wit::Decision::Edit(edits) => Decision::Edit {
                edits: each("edit", edits, |edit| self.edit(edit))?,
            },
            wit::Decision::Defer(deferral) => Decision::Defer {
                reason: one_line(&deferral.reason, TEXT_CHARACTERS),
                retry_after_seconds: deferral.retry_after,
            },
            wit::Decision::Reject(reply) => Decision::Reject {
                reply: reply::of(&reply, reply::Class::Routing),
            },
            wit::Decision::Discard(reason) => Decision::Discard {
                reason: one_line(&reason, TEXT_CHARACTERS),
            },
            wit::Decision::Hold(hold) => Decision::Hold {
                reason: one_line(&hold.reason, TEXT_CHARACTERS),
                release_after_seconds: hold.release_after,
            },
        })
    }

    fn settings(&self, settings: wit::Settings) -> Result<Settings, Fault> {
        if settings.expires_after == Some(0) {
            return Err(Fault::new(
                "expires-after",
                "0, a number of seconds is wanted",
            ));
        }
        if let Some(class) = &settings.traffic_class
            && !self.grants.traffic_classes.contains(class)
        {
            return Err(Fault::new(
                "traffic-class",
                format!("{class:?} is not among the granted traffic classes"),
            ));
        }
        let extra = settings.extra;
        if extra.len() > EXTRA_MAX {
            return Err(too_many("extra", extra.len(), EXTRA_MAX));
        }
        if let Some(index) = extra.iter().position(|each| !is_attribute_name(&each.name)) {
            return Err(Fault::new(
                format_args!("extra[{index}].name"),
                format!("{:?} is not [a-z0-9._-]{{1,64}}", extra[index].name),
            ));
        }
        Ok(Settings {
            tls: settings.tls.map(hop::tls).transpose()?,
            source_pool: settings
                .source_pool
                .map(|pool| self.source_pool(pool))
                .transpose()?,
            traffic_class: settings.traffic_class,
            expires_after_seconds: settings.expires_after,
            reroute_on_retry: settings.reroute_on_retry,
            extra: extra
                .into_iter()
                .map(|attribute| (attribute.name, one_line(&attribute.value, TEXT_CHARACTERS)))
                .collect(),
        })
    }

    fn source_pool(&self, pool: String) -> Result<String, Fault> {
        if self.grants.source_pools.contains(&pool) {
            Ok(pool)
        } else {
            let problem = format!("{pool:?} is not among the granted source pools");
            Err(Fault::new("source-pool", problem))
        }
    }

    fn credential(&self, name: String) -> Result<String, Fault> {
        if self.grants.credentials.contains(&name) {
            Ok(name)
        } else {
            let problem = format!("{name:?} is not among the granted credentials");
            Err(Fault::new("auth", problem))
        }
    }
}

/// Checks each entry of a list, and that there are not too many.
fn each<T, U>(
    list: &str,
    entries: Vec<T>,
    check: impl Fn(T) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault> {
    if entries.len() > ENTRIES_MAX {
        return Err(too_many(list, entries.len(), ENTRIES_MAX));
    }
    entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| {
            check(entry).map_err(|fault| fault.within(format_args!("{list}[{index}]")))
        })
        .collect()
}

fn too_many(list: &str, count: usize, most: usize) -> Fault {
    Fault::new(list, format!("{count} entries, at most {most} are taken"))
}

/// Which verdict each recipient belongs to.
struct Owners {
    of: Vec<Option<usize>>,
    /// The verdict for all that no other names.
    of_the_rest: Option<usize>,
}

impl Owners {
    fn new(recipient_count: usize) -> Self {
        Self {
            of: vec![None; recipient_count],
            of_the_rest: None,
        }
    }

    fn claim(&mut self, verdict: usize, recipients: &[u32]) -> Result<(), Fault> {
        if recipients.is_empty() {
            return match self.of_the_rest.replace(verdict) {
                None => Ok(()),
                Some(other) => Err(Fault::new(
                    "recipients",
                    format!("empty as in verdicts[{other}]: both would be for all others"),
                )),
            };
        }
        let count = self.of.len();
        for (index, &position) in recipients.iter().enumerate() {
            let at = format_args!("recipients[{index}]").to_string();
            let Some(owner) = self.of.get_mut(position as usize) else {
                let problem = format!("{position}, but the call has {count} recipients");
                return Err(Fault::new(at, problem));
            };
            if let Some(other) = owner.replace(verdict) {
                let problem = format!("{position} is named by verdicts[{other}] already");
                return Err(Fault::new(at, problem));
            }
        }
        Ok(())
    }

    /// Puts the recipients into their verdicts; those that none names proceed.
    fn distribute(self, mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
        let mut unnamed = Vec::new();
        for (position, owner) in (0u32..).zip(&self.of) {
            match owner.or(self.of_the_rest) {
                Some(verdict) => verdicts[verdict].recipients.push(position),
                None => unnamed.push(position),
            }
        }
        // "All others" may be none.
        verdicts.retain(|verdict| !verdict.recipients.is_empty());
        if !unnamed.is_empty() {
            verdicts.push(Verdict {
                recipients: unnamed,
                decision: Decision::Proceed,
                settings: None,
                flow: Flow::Next,
                note: None,
            });
        }
        verdicts
    }
}

#[cfg(test)]
mod tests;
