//! The thread that makes running guests look at their CPU meter: it moves the
//! engine's epoch while any call is under way and sleeps when none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Ticks without a call after which the thread goes to sleep; until then a new
/// call need not wake it.
const IDLE_TICKS: u32 = 200;

/// Starts with the host and ends with it.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asleep: AtomicBool,
    calls: AtomicUsize,
}

impl Ticker {
    pub(crate) fn start(engine: Engine, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn(move || run(&of_thread, &engine, tick))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The epoch moves for as long as the guard lives.
    pub(crate) fn call(&self) -> CallGuard<'_> {
        // SeqCst on both sides: either the thread sees the call before it goes
        // to sleep, or this sees that it sleeps.
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        CallGuard(self)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked in a way that matters at the end.
            let _ = thread.join();
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct CallGuard<'a>(&'a Ticker);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.shared.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(shared: &Shared, engine: &Engine, tick: Duration) {
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.calls.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
        } else {
            idle_ticks += 1;
        }
        if idle_ticks <= IDLE_TICKS {
            std::thread::park_timeout(tick);
            engine.increment_epoch();
            continue;
        }
        shared.asleep.store(true, Ordering::SeqCst);
        let nothing_to_do =
            shared.calls.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst);
        if nothing_to_do {
            std::thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
        idle_ticks = 0;
    }
}
