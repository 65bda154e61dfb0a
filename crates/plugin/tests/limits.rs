//! Every limit strikes with its own reason, and nothing else suffers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use plugin::{
    Allocation, CallFailure, FailureReason, Grants, HostOptions, Limits, PluginHost, PluginSpec,
};
use support::{Gate, behaving, call, call_once, guest, host, options, request};

fn with_limits(spec: PluginSpec, limits: Limits) -> PluginSpec {
    PluginSpec { limits, ..spec }
}

async fn fail(spec: PluginSpec) -> CallFailure {
    call_once(&host(), spec).await.unwrap_err()
}

#[tokio::test]
async fn a_trap_is_told_with_its_kind() {
    let failure = fail(behaving("trap")).await;
    assert_eq!(failure.reason, FailureReason::Trap);
    assert!(failure.detail.contains("unreachable"), "{failure}");
}

#[tokio::test]
async fn a_panic_is_told_in_its_own_words() {
    let failure = fail(behaving("panic")).await;
    assert_eq!(failure.reason, FailureReason::Trap);
    assert!(failure.detail.contains("asked to panic"), "{failure}");
}

#[tokio::test]
async fn endless_recursion_is_a_trap_of_the_guest_alone() {
    let failure = fail(behaving("recurse")).await;
    assert_eq!(failure.reason, FailureReason::Trap);
    assert!(failure.detail.contains("stack"), "{failure}");
}

#[tokio::test]
async fn wasi_is_not_there() {
    let failure = fail(behaving("wasi")).await;
    assert_eq!(failure.reason, FailureReason::Trap);
    assert!(failure.detail.contains("wasi:"), "{failure}");
}

// One thread: the good calls can only run when the spinning one is made to yield.
#[tokio::test(flavor = "current_thread")]
async fn a_spinning_guest_is_stopped_and_stops_nobody_meanwhile() {
    let host = host();
    let limits = Limits {
        cpu: Duration::from_millis(200),
        ..Limits::default()
    };
    let spinning = host
        .load(with_limits(behaving("spin"), limits))
        .await
        .unwrap();
    let good = host.load(behaving("proceed")).await.unwrap();
    let good_calls = async {
        for _ in 0..5 {
            call(&good).await.unwrap();
        }
    };
    let spin = call(&spinning);
    let (mut good_calls, mut spin) = (std::pin::pin!(good_calls), std::pin::pin!(spin));
    tokio::select! {
        biased;
        ended = &mut spin => panic!("the spinning guest ended before the good ones: {ended:?}"),
        () = &mut good_calls => {}
    }
    let failure = spin.await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::CpuLimit, "{failure}");
    assert!(
        failure.stats.cpu > Duration::from_millis(200),
        "{failure:?}"
    );
    // The guest that was stopped is none the worse for the next call.
    assert_eq!(
        call(&spinning).await.unwrap_err().reason,
        FailureReason::CpuLimit
    );
    call(&good).await.unwrap();
}

#[tokio::test]
async fn work_within_the_budget_is_left_alone() {
    let spec = guest("behaviour = 'work'\nsteps = 20000000");
    let limits = Limits {
        cpu: Duration::from_secs(60),
        ..Limits::default()
    };
    let call = call_once(&host(), with_limits(spec, limits)).await.unwrap();
    assert!(call.stats.cpu > Duration::ZERO);
    assert_eq!(
        call.verdicts[0].note.as_deref(),
        Some("sum 199999990000000")
    );
}

#[tokio::test]
async fn memory_beyond_the_limit_is_named() {
    for allocation in [Allocation::Auto, Allocation::OnDemand] {
        let host = PluginHost::new(HostOptions {
            allocation,
            ..options()
        })
        .unwrap();
        let limits = Limits {
            memory_bytes: 4 << 20,
            cpu: Duration::from_secs(60),
            ..Limits::default()
        };
        let failure = call_once(&host, with_limits(behaving("allocate"), limits))
            .await
            .unwrap_err();
        assert_eq!(failure.reason, FailureReason::MemoryLimit, "{failure}");
        assert!(failure.stats.memory_peak_bytes > 3 << 20, "{failure:?}");
        assert!(failure.stats.memory_peak_bytes <= 4 << 20, "{failure:?}");
        call_once(&host, behaving("proceed")).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_is_bounded_by_the_wall_limit_only() {
    let limits = Limits {
        wall: Duration::from_millis(300),
        ..Limits::default()
    };
    let spec = PluginSpec {
        grants: Grants {
            dns: true,
            ..Grants::default()
        },
        ..with_limits(behaving("slow-dns"), limits)
    };
    let slow = host().load(spec).await.unwrap();
    let gate = Arc::new(Gate::default());
    let failure = slow
        .route(request(&["a@example.com"]), gate.clone())
        .await
        .unwrap_err();
    assert_eq!(failure.reason, FailureReason::WallLimit, "{failure}");
    assert_eq!(failure.stats.host_calls, 2, "{failure:?}");
    assert!(failure.stats.cpu < failure.stats.wall, "{failure:?}");
    // The same guest with an answer in time is well.
    gate.open.notify_one();
    slow.route(request(&["a@example.com"]), gate).await.unwrap();
}

#[tokio::test]
async fn host_calls_are_counted() {
    let failure = fail(behaving("host-calls")).await;
    assert_eq!(failure.reason, FailureReason::HostCallLimit);
    assert_eq!(failure.stats.host_calls, Limits::default().host_calls + 1);
    // A list counts each element, before anything is asked.
    let spec = PluginSpec {
        grants: Grants {
            dns: true,
            ..Grants::default()
        },
        ..guest("behaviour = 'lookups'\nlookups = 500")
    };
    let plugin = host().load(spec).await.unwrap();
    let gate = Arc::new(Gate::default());
    let failure = plugin
        .route(request(&["a@example.com"]), gate.clone())
        .await
        .unwrap_err();
    assert_eq!(failure.reason, FailureReason::HostCallLimit);
    assert_eq!(
        gate.asked_count.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn a_huge_answer_is_not_taken_in() {
    let failure = fail(behaving("huge")).await;
    assert_eq!(failure.reason, FailureReason::DataLimit, "{failure}");
}

#[tokio::test]
async fn what_the_guest_says_of_itself() {
    let failure = fail(behaving("temporary")).await;
    assert_eq!(failure.reason, FailureReason::Temporary);
    assert_eq!(failure.detail, "the table is being rebuilt");
    let failure = fail(behaving("broken")).await;
    assert_eq!(
        (failure.reason, failure.detail.as_str()),
        (FailureReason::Broken, "no rule")
    );
}

fn slow_spec(concurrency: usize) -> PluginSpec {
    PluginSpec {
        grants: Grants {
            dns: true,
            ..Grants::default()
        },
        ..with_limits(
            behaving("slow-dns"),
            Limits {
                concurrency,
                ..Limits::default()
            },
        )
    }
}

#[tokio::test]
async fn a_full_pool_is_a_queue() {
    let host = PluginHost::new(HostOptions {
        instance_count: 1,
        ..options()
    })
    .unwrap();
    let good = host.load(behaving("proceed")).await.unwrap();
    let calls = (0..8).map(|_| call(&good));
    for ended in futures_util::future::join_all(calls).await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_gets_no_instance_in_time_is_busy() {
    let host = PluginHost::new(HostOptions {
        instance_count: 1,
        ..options()
    })
    .unwrap();
    let slow = host.load(slow_spec(4)).await.unwrap();
    let short = Limits {
        wall: Duration::from_millis(300),
        ..Limits::default()
    };
    let other = host
        .load(with_limits(behaving("proceed"), short))
        .await
        .unwrap();
    let gate = Arc::new(Gate::default());
    let held = tokio::spawn({
        let gate = gate.clone();
        async move { slow.route(request(&["a@example.com"]), gate).await }
    });
    gate.asked.notified().await;
    assert_eq!(host.free_instance_count(), 0);
    let failure = call(&other).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Busy, "{failure}");
    assert_eq!(failure.stats.host_calls, 0);
    gate.open.notify_one();
    held.await.unwrap().unwrap();
    call(&other).await.unwrap();
}

#[tokio::test]
async fn one_plugin_cannot_hold_every_instance() {
    let host = host();
    let slow = host.load(slow_spec(1)).await.unwrap();
    let other = host.load(behaving("proceed")).await.unwrap();
    let gate = Arc::new(Gate::default());
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (slow, gate) = (slow.clone(), gate.clone());
            tokio::spawn(async move { slow.route(request(&["a@example.com"]), gate).await })
        })
        .collect();
    gate.asked.notified().await;
    call(&other).await.unwrap();
    // Whoever gives up a call gives back its place.
    for call in &calls {
        call.abort();
    }
    for call in calls {
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!(host.free_instance_count(), 8);
    gate.open.notify_one();
    slow.route(request(&["a@example.com"]), gate).await.unwrap();
}
