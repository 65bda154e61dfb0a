//! `tables`, `state` and `http`: in the contract, but this relay has no grant
//! for them yet. They answer as to a plugin without the grant, so that a plugin
//! written with them in mind loads and runs.

use crate::bindings::{http, state, tables};
use crate::state::CallState;

type TableResult<T> = wasmtime::Result<Result<T, tables::TableError>>;
type StateResult<T> = wasmtime::Result<Result<T, state::StateError>>;
type HttpResult = Result<http::Response, http::HttpError>;

impl CallState {
    fn no_table<T>(&mut self, table: String) -> TableResult<T> {
        self.charge(1)?;
        Ok(Err(tables::TableError::Denied(table)))
    }

    fn no_state<T>(&mut self) -> StateResult<T> {
        self.charge(1)?;
        Ok(Err(state::StateError::Denied))
    }
}

impl tables::Host for CallState {
    fn get(&mut self, table: String, _key: String) -> TableResult<Option<String>> {
        self.no_table(table)
    }

    fn get_many(&mut self, table: String, _keys: Vec<String>) -> TableResult<Vec<Option<String>>> {
        self.no_table(table)
    }

    fn match_domain(
        &mut self,
        table: String,
        _name: String,
    ) -> TableResult<Option<(String, String)>> {
        self.no_table(table)
    }

    fn match_ip(&mut self, table: String, _ip: String) -> TableResult<Option<(String, String)>> {
        self.no_table(table)
    }

    fn revision(&mut self, table: String) -> TableResult<u64> {
        self.no_table(table)
    }
}

impl state::Host for CallState {
    fn get(&mut self, _key: String) -> StateResult<Option<state::Entry>> {
        self.no_state()
    }

    fn put(&mut self, _key: String, _value: Vec<u8>, _ttl_ms: Option<u64>) -> StateResult<u64> {
        self.no_state()
    }

    fn put_if(
        &mut self,
        _key: String,
        _value: Vec<u8>,
        _version: u64,
        _ttl_ms: Option<u64>,
    ) -> StateResult<Option<u64>> {
        self.no_state()
    }

    fn remove(&mut self, _key: String) -> StateResult<bool> {
        self.no_state()
    }

    fn add(&mut self, _key: String, _by: i64, _ttl_ms: Option<u64>) -> StateResult<i64> {
        self.no_state()
    }

    fn take(
        &mut self,
        _key: String,
        _cost: u32,
        _per_second: f64,
        _burst: u32,
    ) -> StateResult<bool> {
        self.no_state()
    }
}

impl http::Host for CallState {
    fn send(&mut self, req: http::Request) -> wasmtime::Result<HttpResult> {
        self.charge(1)?;
        Ok(Err(http::HttpError::Denied(req.url)))
    }

    fn send_many(&mut self, reqs: Vec<http::Request>) -> wasmtime::Result<Vec<HttpResult>> {
        self.charge(reqs.len().max(1))?;
        Ok(reqs
            .into_iter()
            .map(|req| Err(http::HttpError::Denied(req.url)))
            .collect())
    }
}
