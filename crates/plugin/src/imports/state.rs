//! `state`: what a plugin keeps between calls.

use crate::bindings::state;
use crate::state::CallState;

type StateResult<T> = wasmtime::Result<Result<T, state::StateError>>;

impl CallState {
    fn no_state<T>(&mut self) -> StateResult<T> {
        self.charge(1)?;
        Ok(Err(state::StateError::Denied))
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
