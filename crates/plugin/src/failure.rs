//! From an error of the engine to a reason and a line for people.

use std::fmt::Write as _;

use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::error::FailureReason;
use crate::limits::Limits;
use crate::state::{CallState, Stop};

/// Frames of a trap that are shown.
const FRAMES: usize = 3;
/// Characters of the name of a function and of a path.
const NAME_CHARACTERS: usize = 80;

/// What stopped a guest.
pub(crate) fn name(
    error: &wasmtime::Error,
    state: &CallState,
    limits: &Limits,
) -> (FailureReason, String) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Cpu => (
                FailureReason::CpuLimit,
                format!(
                    "used more than {:?} of CPU time{}",
                    state.cpu_budget,
                    place(error)
                ),
            ),
            Stop::HostCalls => (
                FailureReason::HostCallLimit,
                format!("made more than {} host calls", limits.host_calls),
            ),
        };
    }
    let cause = error.root_cause().to_string();
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return (FailureReason::Busy, cause);
    }
    if let Some(refusal) = state.memory.refusal() {
        return (
            FailureReason::MemoryLimit,
            format!("{refusal}{}", place(error)),
        );
    }
    // The engine has no public type for this one.
    if cause.contains("fuel allocated for hostcalls") {
        let detail = format!("passed more than {} octets in one step", limits.data_bytes);
        return (FailureReason::DataLimit, detail);
    }
    // Neither a trap nor inside the guest: the engine could not read what the
    // guest returned.
    let is_trap =
        error.downcast_ref::<WasmBacktrace>().is_some() || error.downcast_ref::<Trap>().is_some();
    if !is_trap && state.asked {
        return (FailureReason::InvalidAnswer, cause);
    }
    let said = state
        .log
        .last_error
        .as_ref()
        .map_or_else(String::new, |line| format!("; it logged: {line}"));
    (
        FailureReason::Trap,
        format!("{cause}{}{said}", place(error)),
    )
}

/// ` in f at src/lib.rs:12, from g at src/lib.rs:30`, as far as it is known.
fn place(error: &wasmtime::Error) -> String {
    let mut text = String::new();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return text;
    };
    let mut steps: Vec<Step> = backtrace.frames().iter().flat_map(steps_of).collect();
    // What the author wrote is worth more than the panic machinery it ended in.
    if steps.iter().any(|step| step.is_the_authors) {
        steps.retain(|step| step.is_the_authors);
    } else {
        steps.truncate(1);
    }
    for (index, step) in steps.iter().take(FRAMES).enumerate() {
        let word = if index == 0 { " in" } else { ", from" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{word} {}", step.name);
        if let Some((file, line)) = &step.line {
            let _ = write!(text, " at {file}:{line}");
        }
    }
    text
}

/// A function on the guest's stack, inlined ones included.
struct Step {
    name: String,
    /// File and line, where the guest carries debug information.
    line: Option<(String, u32)>,
    /// It is code of the plugin and not of its language's libraries.
    is_the_authors: bool,
}

/// Where libraries are, whatever machine a guest was built on.
const LIBRARIES: [&str; 5] = [
    "/rustc/",
    "/library/",
    "/registry/src/",
    "/wasi-libc/",
    "/.rustup/",
];

fn steps_of(frame: &FrameInfo) -> Vec<Step> {
    let symbols = frame.symbols();
    if symbols.is_empty() {
        let name = frame.func_name().unwrap_or("a function without a name");
        return vec![Step {
            name: short(&demangled(name)),
            line: None,
            is_the_authors: false,
        }];
    }
    symbols
        .iter()
        .map(|symbol| Step {
            name: symbol.name().or(frame.func_name()).map_or_else(
                || "a function without a name".to_owned(),
                |name| short(&demangled(name)),
            ),
            line: symbol
                .file()
                .zip(symbol.line())
                .map(|(file, line)| (short(end_of_path(file)), line)),
            is_the_authors: symbol
                .file()
                .is_some_and(|file| !LIBRARIES.iter().any(|place| file.contains(place))),
        })
        .collect()
}

/// As its author wrote it, for Rust; other names as they are.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The last three parts: what comes before is of the machine it was built on.
fn end_of_path(path: &str) -> &str {
    let mut slashes = path.rmatch_indices('/');
    match slashes.nth(2) {
        Some((at, _)) => path.get(at + 1..).unwrap_or(path),
        None => path,
    }
}

/// A name or a path that leaves room for others: its end says the most.
fn short(text: &str) -> String {
    let count = text.chars().count();
    if count <= NAME_CHARACTERS {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - NAME_CHARACTERS).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_cut() {
        assert_eq!(
            demangled("_ZN9misbehave4deep17h0123456789abcdefE"),
            "misbehave::deep"
        );
        assert_eq!(demangled("on_rcpt"), "on_rcpt");
        assert_eq!(end_of_path("/home/a/plug/src/lib.rs"), "plug/src/lib.rs");
        assert_eq!(end_of_path("src/lib.rs"), "src/lib.rs");
        let long = short(&"x".repeat(500));
        assert_eq!(long.chars().count(), NAME_CHARACTERS + 1);
    }
}
