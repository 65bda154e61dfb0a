//! A failure says where: the line, where the guest carries debug information.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use plugin::{FailureReason, PluginSpec};
use support::{behaving, call_once, component, host};

const SOURCE: &str = include_str!("../../../tests/guests/traces/src/lib.rs");

fn spec(behaviour: &str) -> PluginSpec {
    PluginSpec {
        config: format!("behaviour = {behaviour:?}").parse().unwrap(),
        ..PluginSpec::new("traces", component("traces"))
    }
}

/// The line of the guest's source that has this text, counted from 1.
fn line_of(text: &str) -> usize {
    let mut lines = SOURCE.lines();
    lines.position(|line| line.contains(text)).unwrap() + 1
}

#[tokio::test]
async fn a_trap_names_functions_and_lines() {
    let failure = call_once(&host(), spec("trap")).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Trap);
    let inner = format!(
        "in inner at traces/src/lib.rs:{}, from outer at traces/src/lib.rs:{}",
        line_of("the test looks for this"),
        line_of("inner(std::hint::black_box(depth))"),
    );
    assert!(failure.detail.contains(&inner), "{failure}");
    assert!(failure.detail.len() <= 500 * 4);
    assert!(!failure.detail.contains('\n'));
}

#[tokio::test]
async fn a_panic_names_the_authors_line_and_not_the_librarys() {
    let failure = call_once(&host(), spec("panic")).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Trap);
    let place = format!(
        "in positions at traces/src/lib.rs:{}",
        line_of("[std::hint::black_box(nowhere)]")
    );
    assert!(failure.detail.contains(&place), "{failure}");
    assert!(failure.detail.contains("index out of bounds"), "{failure}");
}

#[tokio::test]
async fn without_debug_information_there_is_the_function() {
    let failure = call_once(&host(), behaving("trap")).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Trap);
    assert!(failure.detail.contains(" in "), "{failure}");
    assert!(!failure.detail.contains(".rs:"), "{failure}");
}

#[tokio::test]
async fn a_memory_failure_names_the_limit_and_what_was_wanted() {
    let mut spec = behaving("allocate");
    spec.limits.memory_bytes = 4 << 20;
    let failure = call_once(&host(), spec).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::MemoryLimit);
    let detail = &failure.detail;
    assert!(detail.starts_with("wanted "), "{detail}");
    let limit = "octets of memory (it had ";
    assert!(detail.contains(limit), "{detail}");
    assert!(detail.contains(", the limit is 4194304"), "{detail}");
    assert!(!detail.contains("wasi"), "{detail}");
}
