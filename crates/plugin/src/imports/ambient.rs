//! `ambient`: time and randomness that a replay can give again.

use tokio::time::Instant;

use crate::bindings::ambient;
use crate::state::CallState;

impl ambient::Host for CallState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(self.now_ms())
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(self.next_random())
    }

    fn remaining(&mut self) -> wasmtime::Result<u32> {
        self.charge(1)?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        Ok(self.environment.remaining_ms(left))
    }
}
