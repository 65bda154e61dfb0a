//! `http`: requests to the services that a plugin was granted.

use futures_util::future::join_all;

use crate::bindings::http;
use crate::http::{HttpFailure, HttpMethod, HttpRequest, HttpResponse, Origin};
use crate::state::CallState;

type HttpResult = Result<http::Response, http::HttpError>;

impl http::Host for CallState {
    async fn send(&mut self, req: http::Request) -> wasmtime::Result<HttpResult> {
        self.charge(1)?;
        Ok(self.send_one(req).await)
    }

    async fn send_many(&mut self, reqs: Vec<http::Request>) -> wasmtime::Result<Vec<HttpResult>> {
        // Counted before any is sent: a list is no way around the limit.
        self.charge(reqs.len().max(1))?;
        let state = &*self;
        Ok(join_all(reqs.into_iter().map(|request| state.send_one(request))).await)
    }
}

impl CallState {
    async fn send_one(&self, request: http::Request) -> HttpResult {
        let origin = Origin::of_url(&request.url)
            .map_err(|error| http::HttpError::Protocol(error.to_string()))?;
        if !self.profile.grants.http.contains(&origin) {
            return Err(http::HttpError::Denied(origin.to_string()));
        }
        let response = self.environment.http(request.into()).await?;
        Ok(response.into())
    }
}

impl From<http::Request> for HttpRequest {
    fn from(request: http::Request) -> Self {
        Self {
            method: match request.method {
                http::Method::Get => HttpMethod::Get,
                http::Method::Head => HttpMethod::Head,
                http::Method::Post => HttpMethod::Post,
                http::Method::Put => HttpMethod::Put,
                http::Method::Delete => HttpMethod::Delete,
            },
            url: request.url,
            headers: request.headers,
            body: request.body.into(),
            auth: request.auth,
            timeout_ms: request.timeout_ms,
        }
    }
}

impl From<HttpResponse> for http::Response {
    fn from(response: HttpResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: response.body.to_vec(),
        }
    }
}

impl From<HttpFailure> for http::HttpError {
    fn from(failure: HttpFailure) -> Self {
        match failure {
            HttpFailure::Denied(what) => Self::Denied(what),
            HttpFailure::Timeout => Self::Timeout,
            HttpFailure::Connect(why) => Self::Connect(why),
            HttpFailure::TooLarge => Self::TooLarge,
            HttpFailure::Protocol(why) => Self::Protocol(why),
        }
    }
}
