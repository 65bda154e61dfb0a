//! A hostile collection: components that break every rule that a component can break. Each is
//! contained, each failure has its true name, and the host is none the worse for the next call.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod module;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use module::{Module, ONE_VERDICT};
use plugin::{
    AttemptOutcome, AttemptReport, AttemptStage, CallFailure, EmptyEnvironment, FailureReason,
    Input, MailFrom, Phase, PluginHost, PluginSpec,
};
use support::{behaving, call, host, request};

/// Loads it and calls it three times, then sees that the host has all its instances and that
/// another plugin does its work. Gives the failure, which is the same each time.
async fn contained(module: &Module) -> CallFailure {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let free = host.free_instance_count();
    let hostile = host.load(module.write(directory.path())).await.unwrap();
    let first = call(&hostile).await.unwrap_err();
    for _ in 0..2 {
        assert_eq!(call(&hostile).await.unwrap_err().reason, first.reason);
    }
    unharmed(&host, free).await;
    first
}

async fn unharmed(host: &PluginHost, free: usize) {
    assert_eq!(host.free_instance_count(), free);
    let good = host.load(behaving("proceed")).await.unwrap();
    call(&good).await.unwrap();
}

async fn fails_with(module: &Module, reason: FailureReason) {
    let failure = contained(module).await;
    assert_eq!(failure.reason, reason, "{failure}");
    assert!(
        !failure.detail.is_empty() && failure.detail.chars().count() <= 501,
        "{failure}"
    );
    assert!(!failure.detail.chars().any(char::is_control), "{failure}");
}

const LOOP: &str = "(loop $again (br $again)) unreachable";

// --- Who says nothing wrong, so that the others can be believed.

#[tokio::test]
async fn the_prepared_verdict_is_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let spec = Module::answering("").write(directory.path());
    let answer = call(&host.load(spec).await.unwrap()).await.unwrap();
    assert_eq!(answer.verdicts.len(), 1);
    // The layout is as written down: this is its note.
    let note = "(i32.store8 (i32.const 1124) (i32.const 1))
        (i32.store (i32.const 1128) (i32.const 64)) (i32.store (i32.const 1132) (i32.const 2))
        (i32.store16 (i32.const 64) (i32.const 0x6968))";
    let spec = Module::answering(note).write(directory.path());
    let answer = call(&host.load(spec).await.unwrap()).await.unwrap();
    assert_eq!(answer.verdicts[0].note.as_deref(), Some("hi"));
}

// --- Time.

#[tokio::test]
async fn a_loop_in_each_phase_ends() {
    let directory = tempfile::tempdir().unwrap();
    let eight = "(param i32 i32 i32 i32 i32 i32 i32 i32)";
    let functions: String = [
        ("sender-phase", "on-mail-from", "(param i32)"),
        ("recipient-phase", "on-rcpt", eight),
        ("message-phase", "on-message", ""),
        ("routing-phase", "route", "(param i32)"),
        ("delivery-phase", "on-delivery-result", "(param i32)"),
    ]
    .iter()
    .map(|(phase, name, parameters)| {
        format!(
            "(func (export \"waypost:policy/{phase}@0.1.0#{name}\") {parameters} (result i32) {LOOP})"
        )
    })
    .collect();
    let text = format!(
        "(module (memory (export \"memory\") 2) {functions}
        (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))"
    );
    let host = host();
    let free = host.free_instance_count();
    let hostile = host
        .load(module::write(&text, "*", directory.path()))
        .await
        .unwrap();
    for input in inputs() {
        let phase = input.phase();
        let failure = hostile
            .call(input, Arc::new(EmptyEnvironment))
            .await
            .unwrap_err();
        assert_eq!(
            failure.reason,
            FailureReason::CpuLimit,
            "{phase}: {failure}"
        );
    }
    unharmed(&host, free).await;
}

/// One for each phase.
fn inputs() -> Vec<Input> {
    let recipient: plugin::Recipient = "a@example.com".parse::<smtp::Mailbox>().unwrap().into();
    let inputs = vec![
        Input::MailFrom(mail_from()),
        Input::Rcpt(recipient),
        Input::Message,
        Input::Route(request(&["a@example.com"])),
        Input::Delivery(Arc::new(attempt_report())),
    ];
    let phases: Vec<Phase> = inputs.iter().map(Input::phase).collect();
    assert_eq!(phases, Phase::ALL);
    inputs
}

fn attempt_report() -> AttemptReport {
    AttemptReport {
        message_id: "0000000000001".into(),
        domain: "example.com".parse().unwrap(),
        recipients: Vec::new(),
        outcome: AttemptOutcome::Failed("connection refused".into()),
        stage: AttemptStage::Connect,
        host: None,
        address: None,
        source: None,
        tls: None,
        attempts: 1,
        elapsed_ms: 10,
        first_attempt_at_ms: support::NOW_MS,
    }
}

fn mail_from() -> MailFrom {
    MailFrom {
        peer: plugin::Peer {
            ip: Some([192, 0, 2, 1].into()),
            port: 25,
            listener: "in".into(),
            ingress: plugin::Ingress::Smtp,
            helo: "client.example".into(),
            fcrdns: None,
            user: None,
            tls: None,
        },
        sender: plugin::Sender::default(),
    }
}

#[tokio::test]
async fn a_loop_where_the_host_asks_for_room_ends() {
    let module = Module::answering("").realloc(LOOP);
    fails_with(&module, FailureReason::CpuLimit).await;
}

#[tokio::test]
async fn a_loop_after_the_answer_ends() {
    let post = format!(
        "(func (export \"cabi_post_{}#route\") (param i32) (loop $a (br $a)))",
        module::PHASE
    );
    fails_with(&Module::answering("").with(&post), FailureReason::CpuLimit).await;
}

#[tokio::test]
async fn a_loop_at_the_start_keeps_the_plugin_out() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let free = host.free_instance_count();
    let module = Module::answering("").with("(func $s (loop $a (br $a))) (start $s)");
    let refusal = host.load(module.write(directory.path())).await.unwrap_err();
    assert!(refusal.to_string().contains("cpu_limit"), "{refusal}");
    unharmed(&host, free).await;
}

/// The engine looks at the time only between such instructions.
#[tokio::test]
async fn copying_memory_without_end_ends() {
    let copy = "(drop (memory.grow (i32.const 100)))
        (loop $again
            (memory.copy (i32.const 1048576) (i32.const 0) (i32.const 3145728))
            (memory.fill (i32.const 1048576) (i32.const 7) (i32.const 3145728))
            (br $again)) unreachable";
    fails_with(&Module::routing(copy), FailureReason::CpuLimit).await;
}

// --- Room.

#[tokio::test]
async fn a_memory_bomb_is_defused() {
    let bomb = "(loop $again
        (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    fails_with(&Module::routing(bomb), FailureReason::MemoryLimit).await;
}

#[tokio::test]
async fn a_table_bomb_is_defused() {
    let bomb = "(loop $again
        (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    let module = Module::routing(bomb).with("(table $t 1 funcref)");
    fails_with(&module, FailureReason::MemoryLimit).await;
}

#[tokio::test]
async fn one_that_begins_too_large_is_kept_out() {
    for module in [
        Module::answering("").memory("60000"),
        Module::answering("").with("(table $t 9000000 funcref)"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let host = host();
        let free = host.free_instance_count();
        let refusal = host.load(module.write(directory.path())).await.unwrap_err();
        assert!(!refusal.to_string().is_empty());
        unharmed(&host, free).await;
    }
}

#[tokio::test]
async fn deep_recursion_ends() {
    let module = Module::routing("(call $route (local.get $request))");
    fails_with(&module, FailureReason::Trap).await;
}

/// Few calls, each with a frame of many values that have to be kept.
#[tokio::test]
async fn wide_recursion_ends() {
    let locals = "(local i64)".repeat(2000);
    let sum: String = (1..2000)
        .map(|n| format!("(local.set {n} (i64.add (local.get {n}) (i64.const {n})))"))
        .collect();
    let keep: String = (1..2000)
        .map(|n| format!("(local.get {n}) i64.add "))
        .collect();
    let wide = format!(
        "(func $wide (param i64) (result i64) {locals} {sum}
            (call $wide (local.get 1)) {keep})"
    );
    let module = Module::routing("(drop (call $wide (i64.const 1))) (i32.const 16)").with(&wide);
    fails_with(&module, FailureReason::Trap).await;
}

// --- Pointers.

#[tokio::test]
async fn room_that_is_not_there_is_not_used() {
    for address in ["(i32.const -8)", "(i32.const 262140)", "(i32.const 131073)"] {
        let failure = contained(&Module::answering("").realloc(address)).await;
        let named = [FailureReason::Trap, FailureReason::InvalidAnswer];
        assert!(named.contains(&failure.reason), "{failure}");
    }
    let traps = Module::answering("").realloc("unreachable");
    fails_with(&traps, FailureReason::Trap).await;
}

/// Everything on top of everything else: the guest's own loss.
#[tokio::test]
async fn room_given_twice_harms_only_the_guest() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let spec = Module::answering("")
        .realloc("(i32.const 131072)")
        .write(directory.path());
    call(&host.load(spec).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_there_is_no_answer() {
    for result in [
        "(i32.const -1)",
        "(i32.const 17)",
        "(i32.const 262142)",
        "(i32.store (i32.const 20) (i32.const -16)) (i32.store (i32.const 24) (i32.const 1)) (i32.const 16)",
        "(i32.store (i32.const 20) (i32.const 1025)) (i32.store (i32.const 24) (i32.const 1)) (i32.const 16)",
        "(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const -1)) (i32.const 16)",
        "(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 0x7fffffff)) (i32.const 16)",
    ] {
        fails_with(&Module::routing(result), FailureReason::InvalidAnswer).await;
    }
}

#[tokio::test]
async fn tags_of_nothing_are_no_answer() {
    for tag in [
        // The result itself, the decision, the settings, the flow, the note.
        "(i32.store8 (i32.const 16) (i32.const 9))",
        "(i32.store8 (i32.const 1032) (i32.const 200))",
        "(i32.store8 (i32.const 1056) (i32.const 2))",
        "(i32.store8 (i32.const 1120) (i32.const 255))",
        "(i32.store8 (i32.const 1124) (i32.const 3))",
    ] {
        fails_with(&Module::answering(tag), FailureReason::InvalidAnswer).await;
    }
}

// --- Text.

/// The note lies at 64.
fn note(length: &str) -> String {
    format!(
        "(i32.store8 (i32.const 1124) (i32.const 1))
        (i32.store (i32.const 1128) (i32.const 64)) (i32.store (i32.const 1132) {length})"
    )
}

#[tokio::test]
async fn text_that_is_no_text_is_no_answer() {
    // Never a character, one that is cut, a surrogate, one written too long.
    for octets in ["0xffff", "0xc361", "0x80a0ed", "0xafc0"] {
        let module = Module::answering(&format!(
            "(i32.store (i32.const 64) (i32.const {octets})) {}",
            note("(i32.const 3)")
        ));
        fails_with(&module, FailureReason::InvalidAnswer).await;
    }
}

#[tokio::test]
async fn a_giant_text_is_too_much() {
    let grow = "(drop (memory.grow (i32.const 100)))";
    let module = Module::answering(&format!("{grow} {}", note("(i32.const 6000000)")));
    fails_with(&module, FailureReason::DataLimit).await;
}

#[tokio::test]
async fn a_text_beyond_the_end_of_memory_is_no_answer() {
    for length in ["(i32.const 300000)", "(i32.const -1)"] {
        let failure = contained(&Module::answering(&note(length))).await;
        let named = [FailureReason::InvalidAnswer, FailureReason::DataLimit];
        assert!(named.contains(&failure.reason), "{failure}");
    }
}

// --- Much of everything.

#[tokio::test]
async fn a_hundred_thousand_hops_are_too_many() {
    let many = "(drop (memory.grow (i32.const 120)))
        (i32.store8 (i32.const 1032) (i32.const 1))
        (i32.store (i32.const 1036) (i32.const 262144))
        (i32.store (i32.const 1040) (i32.const 60000))";
    let failure = contained(&Module::answering(many)).await;
    let named = [FailureReason::InvalidAnswer, FailureReason::DataLimit];
    assert!(named.contains(&failure.reason), "{failure}");
    assert!(failure.stats.memory_peak_bytes <= 8 << 20);
}

#[tokio::test]
async fn a_heap_of_verdicts_is_too_much() {
    let many = "(drop (memory.grow (i32.const 120)))
        (i32.store (i32.const 20) (i32.const 262144))
        (i32.store (i32.const 24) (i32.const 60000)) (i32.const 16)";
    let failure = contained(&Module::routing(many)).await;
    let named = [FailureReason::InvalidAnswer, FailureReason::DataLimit];
    assert!(named.contains(&failure.reason), "{failure}");
}

const LOG: &str = r#"(import "waypost:policy/log@0.1.0" "write"
    (func $log (param i32 i32 i32 i32 i32)))"#;

#[tokio::test]
async fn lines_without_end_end() {
    let flood = "(loop $again
        (call $log (i32.const 2) (i32.const 64) (i32.const 10) (i32.const 0) (i32.const 0))
        (br $again)) unreachable";
    let module = Module::routing(flood).importing(LOG);
    fails_with(&module, FailureReason::HostCallLimit).await;
}

#[tokio::test]
async fn arguments_that_are_not_there_are_a_trap() {
    for arguments in [
        "(i32.const 2) (i32.const 262140) (i32.const 100) (i32.const 0) (i32.const 0)",
        "(i32.const 2) (i32.const -4) (i32.const -4) (i32.const 0) (i32.const 0)",
        "(i32.const 77) (i32.const 64) (i32.const 1) (i32.const 0) (i32.const 0)",
        "(i32.const 2) (i32.const 64) (i32.const 1) (i32.const 3) (i32.const 1)",
    ] {
        let module = Module::routing(&format!("(call $log {arguments}) {ONE_VERDICT}"));
        fails_with(&module.importing(LOG), FailureReason::Trap).await;
    }
}

#[tokio::test]
async fn a_flood_of_state_ends() {
    let import = r#"(import "waypost:policy/state@0.1.0" "put"
        (func $put (param i32 i32 i32 i32 i32 i64 i32)))"#;
    let flood = "(local $n i32)
        (loop $again
            (i32.store (i32.const 64) (local.tee $n (i32.add (local.get $n) (i32.const 1))))
            (i32.store8 (i32.const 64) (i32.const 65)) (i32.store16 (i32.const 65) (i32.const 0x4141))
            (call $put (i32.const 64) (i32.const 3) (i32.const 4096) (i32.const 64)
                (i32.const 0) (i64.const 0) (i32.const 512))
            (br $again)) unreachable";
    let module = Module::routing(flood).importing(import);
    fails_with(&module, FailureReason::HostCallLimit).await;
}

/// From inside of a request for room the guest may not call out.
#[tokio::test]
async fn a_guest_does_not_call_out_while_the_host_writes() {
    let module = Module::answering("").importing(LOG).realloc(
        "(call $log (i32.const 2) (i32.const 64) (i32.const 10) (i32.const 0) (i32.const 0))
        (i32.const 131072)",
    );
    fails_with(&module, FailureReason::Trap).await;
}

/// Many at a time, of every kind, beside a good one that never notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_leave_a_good_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let good = host.load(behaving("proceed")).await.unwrap();
    let mut hostile = Vec::new();
    for (index, module) in [
        Module::routing(LOOP),
        Module::routing("unreachable"),
        Module::routing("(call $route (local.get $request))"),
        Module::answering("").realloc(LOOP),
    ]
    .iter()
    .enumerate()
    {
        let own = directory.path().join(index.to_string());
        std::fs::create_dir(&own).unwrap();
        let spec: PluginSpec = module.write(&own);
        hostile.push(host.load(spec).await.unwrap());
    }
    let attacks = hostile.iter().cycle().take(40).map(|plugin| {
        let plugin = plugin.clone();
        tokio::spawn(async move { call(&plugin).await })
    });
    let attacks: Vec<_> = attacks.collect();
    for _ in 0..200 {
        call(&good).await.unwrap();
    }
    for attack in attacks {
        assert!(attack.await.unwrap().is_err());
    }
    assert_eq!(host.free_instance_count(), 8);
}
