//! `http`: requests to the services that a plugin was granted.

use crate::bindings::http;
use crate::state::CallState;

type HttpResult = Result<http::Response, http::HttpError>;

impl http::Host for CallState {
    async fn send(&mut self, req: http::Request) -> wasmtime::Result<HttpResult> {
        self.charge(1)?;
        Ok(Err(http::HttpError::Denied(req.url)))
    }

    async fn send_many(&mut self, reqs: Vec<http::Request>) -> wasmtime::Result<Vec<HttpResult>> {
        self.charge(reqs.len().max(1))?;
        Ok(reqs
            .into_iter()
            .map(|req| Err(http::HttpError::Denied(req.url)))
            .collect())
    }
}
