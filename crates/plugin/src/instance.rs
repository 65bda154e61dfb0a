//! A store with an instance in it, which may outlive a call.

use wasmtime::component::Instance;
use wasmtime::{Store, UpdateDeadline};

use crate::guest::Guest;
use crate::plugin::Loaded;
use crate::state::{CallState, Stop};

/// Everything of it goes when this is dropped.
pub(crate) struct Live {
    pub(crate) store: Store<CallState>,
    /// `None`: not made yet.
    pub(crate) instance: Option<Instance>,
    pub(crate) guest: Guest,
    /// Calls that it was made for, the one under way included.
    pub(crate) served: u32,
}

impl Live {
    /// A store for a new instance, with the limits of its plugin.
    pub(crate) fn new(plugin: &Loaded, state: CallState) -> Self {
        let mut store = Store::new(&plugin.host.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(plugin.profile.limits.data_bytes);
        store.epoch_deadline_callback(|store| {
            let state = store.data();
            if state.cpu.spent() > state.cpu_budget {
                return Err(Stop::Cpu.into());
            }
            // Other tasks of this thread get their turn at every tick.
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        Self {
            store,
            instance: None,
            guest: Guest::default(),
            served: 1,
        }
    }

    /// Makes it ready for another call.
    pub(crate) fn renew(&mut self, mut state: CallState) {
        let old = self.store.data_mut();
        // Memory is the instance's, all else the call's.
        state.memory = old.memory.for_next_call();
        *old = state;
        self.store.set_epoch_deadline(1);
        self.served += 1;
    }
}
