//! `state`: what a plugin keeps between calls, with the grant.

use std::sync::Arc;

use crate::bindings::state;
use crate::shared::{StateFailure, StateStore};
use crate::state::CallState;

type StateResult<T> = wasmtime::Result<Result<T, state::StateError>>;

impl state::Host for CallState {
    fn get(&mut self, key: String) -> StateResult<Option<state::Entry>> {
        self.in_state(|store, now_ms| {
            let entry = store.get(&key, now_ms)?;
            Ok(entry.map(|entry| state::Entry {
                value: entry.value,
                version: entry.version,
            }))
        })
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> StateResult<u64> {
        self.in_state(|store, now_ms| store.put(&key, &value, ttl_ms, now_ms))
    }

    fn put_if(
        &mut self,
        key: String,
        value: Vec<u8>,
        version: u64,
        ttl_ms: Option<u64>,
    ) -> StateResult<Option<u64>> {
        self.in_state(|store, now_ms| store.put_if(&key, &value, version, ttl_ms, now_ms))
    }

    fn remove(&mut self, key: String) -> StateResult<bool> {
        self.in_state(|store, now_ms| store.remove(&key, now_ms))
    }

    fn add(&mut self, key: String, by: i64, ttl_ms: Option<u64>) -> StateResult<i64> {
        self.in_state(|store, now_ms| store.add(&key, by, ttl_ms, now_ms))
    }

    fn take(&mut self, key: String, cost: u32, per_second: f64, burst: u32) -> StateResult<bool> {
        self.in_state(|store, now_ms| store.take(&key, cost, per_second, burst, now_ms))
    }
}

impl CallState {
    fn in_state<T>(
        &mut self,
        ask: impl FnOnce(&dyn StateStore, u64) -> Result<T, StateFailure>,
    ) -> StateResult<T> {
        self.charge(1)?;
        if self.profile.grants.state_bytes.is_none() {
            return Ok(Err(state::StateError::Denied));
        }
        let store: &mut Option<Arc<dyn StateStore>> = &mut self.shared_state;
        if store.is_none() {
            *store = self.environment.state();
        }
        let Some(store) = store.clone() else {
            let why = "there is no state here".to_owned();
            return Ok(Err(state::StateError::Unavailable(why)));
        };
        Ok(ask(store.as_ref(), self.now_ms()).map_err(Into::into))
    }
}

impl From<StateFailure> for state::StateError {
    fn from(failure: StateFailure) -> Self {
        match failure {
            StateFailure::Quota => Self::Quota,
            StateFailure::Unavailable(why) => Self::Unavailable(why),
        }
    }
}
