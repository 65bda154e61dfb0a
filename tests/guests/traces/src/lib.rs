//! A plugin for tests that fails and carries debug information: the relay names the
//! line where it did.

use waypost_sdk::{Decision, HookError, Plugin, Request, Router, Verdict, config};

struct Traces;

impl Plugin for Traces {}

impl Router for Traces {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        match config::get("behaviour") {
            Some(config::Value::Text(text)) if text == "trap" => outer(request.size),
            Some(config::Value::Text(text)) if text == "panic" => positions(&request),
            _ => {}
        }
        Ok(vec![Verdict::all(Decision::Proceed)])
    }
}

waypost_sdk::export!(Traces: Router);

#[inline(never)]
fn outer(depth: u64) {
    inner(std::hint::black_box(depth));
    std::hint::black_box(depth);
}

#[inline(never)]
fn inner(depth: u64) {
    let nowhere = std::hint::black_box(0xffff_fff0usize) as *const u64;
    // SAFETY: it is not; there is no such memory, and the trap is what is wanted.
    std::hint::black_box(unsafe { nowhere.read_volatile() } + depth); // the test looks for this
}

#[inline(never)]
fn positions(request: &Request) {
    let nowhere = request.recipients.len() + 7;
    std::hint::black_box(&request.recipients[std::hint::black_box(nowhere)]);
}
