//! `dns`: look-ups through the relay's cache, for plugins with the grant.

use futures_util::future::join_all;

use crate::bindings::{dns, routes};
use crate::environment::{Answer, Question};
use crate::state::CallState;

use super::texts;

type Reply = Result<dns::Answer, routes::DnsFailure>;

impl dns::Host for CallState {
    async fn lookup(&mut self, q: dns::Question) -> wasmtime::Result<Reply> {
        self.charge(1)?;
        Ok(self.look_up(q).await)
    }

    async fn lookup_many(&mut self, qs: Vec<dns::Question>) -> wasmtime::Result<Vec<Reply>> {
        // Counted before any is sent: a list is no way around the limit.
        self.charge(qs.len().max(1))?;
        let state = &*self;
        Ok(join_all(qs.into_iter().map(|question| state.look_up(question))).await)
    }
}

impl CallState {
    async fn look_up(&self, question: dns::Question) -> Reply {
        if !self.profile.grants.dns {
            return Err(routes::DnsFailure::Denied);
        }
        // A name that is none does not exist.
        let question = parse(question).ok_or(routes::DnsFailure::NoSuchDomain)?;
        let answer = self.environment.lookup(question).await?;
        Ok(answer.into())
    }
}

fn parse(question: dns::Question) -> Option<Question> {
    let domain = |name: String| {
        let domain: smtp::Domain = name.parse().ok()?;
        (!domain.is_literal()).then_some(domain)
    };
    Some(match question {
        dns::Question::Mx(name) => Question::Mx(domain(name)?),
        dns::Question::Txt(name) => Question::Txt(domain(name)?),
        dns::Question::Address(name) => Question::Address(domain(name)?),
        dns::Question::Ptr(address) => Question::Ptr(address.parse().ok()?),
    })
}

impl From<Answer> for dns::Answer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Mx(hosts) => Self::Mx(
                hosts
                    .into_iter()
                    .map(|(preference, host)| dns::Mx {
                        preference,
                        host: host.as_str().to_owned(),
                    })
                    .collect(),
            ),
            Answer::Txt(records) => Self::Txt(records),
            Answer::Address(addresses) => Self::Address(texts(&addresses)),
            Answer::Ptr(names) => {
                Self::Ptr(names.iter().map(|name| name.as_str().to_owned()).collect())
            }
        }
    }
}
