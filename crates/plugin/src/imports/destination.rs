//! `destination`: what is known of the way to the recipients of the call.

use crate::bindings::{destination, routes};
use crate::environment::{Candidate, CandidateOrigin};
use crate::state::CallState;

use super::texts;

type Candidates = Result<Vec<routes::Candidate>, routes::DnsFailure>;

impl destination::Host for CallState {
    async fn candidates(&mut self) -> wasmtime::Result<Candidates> {
        self.candidates_from_relay(false).await
    }

    async fn candidates_with_addresses(&mut self) -> wasmtime::Result<Candidates> {
        self.candidates_from_relay(true).await
    }

    async fn mta_sts_mode(&mut self) -> wasmtime::Result<Option<String>> {
        self.charge(1)?;
        if !self.is_routing() {
            return Ok(None);
        }
        Ok(self.environment.mta_sts_mode().await)
    }

    fn queued(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        if !self.is_routing() {
            return Ok(0);
        }
        Ok(self.environment.queued_count())
    }
}

impl CallState {
    async fn candidates_from_relay(
        &mut self,
        with_addresses: bool,
    ) -> wasmtime::Result<Candidates> {
        self.charge(1)?;
        if !self.is_routing() {
            return Ok(Err(routes::DnsFailure::Denied));
        }
        let found = self.environment.candidates(with_addresses).await;
        Ok(match found {
            Ok(candidates) => {
                // What a `select` in the answer is checked against.
                self.candidates = Some(candidates.iter().map(|each| each.host.clone()).collect());
                Ok(candidates.into_iter().map(Into::into).collect())
            }
            Err(failure) => Err(failure.into()),
        })
    }
}

impl From<Candidate> for routes::Candidate {
    fn from(candidate: Candidate) -> Self {
        Self {
            preference: candidate.preference,
            host: candidate.host.as_str().to_owned(),
            addresses: texts(&candidate.addresses),
            port: candidate.port,
            origin: match candidate.origin {
                CandidateOrigin::Mx => routes::CandidateOrigin::Mx,
                CandidateOrigin::ImplicitAddress => routes::CandidateOrigin::ImplicitAddress,
                CandidateOrigin::Configured => routes::CandidateOrigin::Configured,
                CandidateOrigin::Plugin => routes::CandidateOrigin::Plugin,
            },
            secure: candidate.secure,
            health: routes::Health {
                success_rate: candidate.health.success_rate,
                suspended_until: candidate.health.suspended_until_ms,
                open_connections: candidate.health.open_connection_count,
            },
        }
    }
}
