//! Instances that serve several calls: one after the other, for so many calls, for
//! so long, and with nothing of one call in the next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use plugin::{
    CallEnvironment, CallFailure, FailureReason, HostOptions, Input, Instances, Limits, Output,
    Plugin, PluginHost, PluginSlot, PluginSpec,
};
use support::{Gate, behaving, component, host, options, request};
use tokio::time::Instant;

fn reusing(reuse: u32, behaviour: &str) -> PluginSpec {
    PluginSpec {
        config: format!("behaviour = {behaviour:?}").parse().unwrap(),
        instances: Instances {
            reuse,
            ..Instances::default()
        },
        ..PluginSpec::new("phases", component("phases"))
    }
}

/// A world with a seed.
struct Seeded;

impl CallEnvironment for Seeded {
    fn seed(&self) -> Option<u64> {
        Some(5)
    }
}

/// What the guest noted of one call.
async fn call_for(plugin: &Plugin, recipient: &str) -> Result<String, CallFailure> {
    let input = Input::Route(request(&[recipient]));
    let call = plugin.call(input, Arc::new(Seeded)).await?;
    match call.output {
        Output::Route(verdicts) => Ok(verdicts[0].note.clone().unwrap()),
        other => panic!("{other:?}"),
    }
}

async fn call(plugin: &Plugin) -> String {
    call_for(plugin, "a@example.com").await.unwrap()
}

/// The number of the call in its instance.
fn served(note: &str) -> u32 {
    let number = note.strip_prefix("calls=").unwrap().split(';').next();
    number.unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_call_gets_its_own_instance_unless_told_otherwise() {
    let plugin = host().load(reusing(1, "")).await.unwrap();
    assert_eq!(PluginSpec::new("p", "p.wasm").instances.reuse, 1);
    for _ in 0..3 {
        assert_eq!(served(&call(&plugin).await), 1);
        assert_eq!(plugin.idle_instance_count(), 0);
    }
}

#[tokio::test]
async fn an_instance_serves_so_many_calls_and_is_started_once() {
    let plugin = host().load(reusing(3, "")).await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..7 {
        let note = call(&plugin).await;
        // Once for the instance, and without a look at the message.
        assert!(note.contains(";init id=\"\";random"), "{note}");
        numbers.push(served(&note));
    }
    assert_eq!(numbers, [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(plugin.idle_instance_count(), 1);
}

#[tokio::test]
async fn nothing_of_one_call_is_in_the_next() {
    let plugin = host().load(reusing(10, "")).await.unwrap();
    let clean = call(&plugin).await.replace("calls=1", "calls=N");
    let input = Input::Route(request(&["do-mark@example.com"]));
    let marked = plugin.call(input, Arc::new(Seeded)).await.unwrap();
    assert_eq!(marked.attributes.len(), 1);
    // The same draw of the same seed, no attribute, and the costs of one call.
    let input = Input::Route(request(&["a@example.com"]));
    let call = plugin.call(input, Arc::new(Seeded)).await.unwrap();
    assert!(call.attributes.is_empty());
    assert!(call.stats.host_calls < 10, "{:?}", call.stats);
    let Output::Route(verdicts) = call.output else {
        panic!("a routing answer");
    };
    let note = verdicts[0].note.clone().unwrap();
    assert_eq!(served(&note), 3);
    assert_eq!(note.replace("calls=3", "calls=N"), clean);
}

#[tokio::test]
async fn limits_are_those_of_one_call() {
    let mut spec = reusing(u32::MAX, "");
    // Enough for the first, which has to start the guest, and not for two.
    spec.limits = Limits {
        host_calls: 10,
        ..Limits::default()
    };
    let plugin = host().load(spec).await.unwrap();
    for number in 1..=20 {
        assert_eq!(served(&call(&plugin).await), number);
    }
}

#[tokio::test]
async fn a_failed_instance_is_never_used_again() {
    let mut spec = reusing(100, "");
    spec.limits.cpu = Duration::from_millis(50);
    let plugin = host().load(spec).await.unwrap();
    for (recipient, reason) in [
        ("do-trap@example.com", FailureReason::Trap),
        ("do-spin@example.com", FailureReason::CpuLimit),
        ("do-temporary@example.com", FailureReason::Temporary),
        ("do-hops@example.com", FailureReason::DataLimit),
    ] {
        assert_eq!(served(&call(&plugin).await), 1);
        assert_eq!(served(&call(&plugin).await), 2);
        let failure = call_for(&plugin, recipient).await.unwrap_err();
        // A guest that makes too much may be out of its time or memory first.
        if reason != FailureReason::DataLimit {
            assert_eq!(failure.reason, reason, "{failure}");
        }
        assert_eq!(plugin.idle_instance_count(), 0, "{recipient}");
    }
    assert_eq!(served(&call(&plugin).await), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_takes_its_instance_along() {
    let spec = PluginSpec {
        instances: Instances {
            reuse: 100,
            ..Instances::default()
        },
        grants: plugin::Grants {
            dns: true,
            ..plugin::Grants::default()
        },
        ..behaving("slow-dns")
    };
    let plugin = host().load(spec).await.unwrap();
    let gate = Arc::new(Gate::default());
    let input = Input::Route(request(&["a@example.com"]));
    let under_way = tokio::spawn({
        let (plugin, gate) = (plugin.clone(), Arc::clone(&gate));
        async move { plugin.call(input, gate).await }
    });
    gate.asked.notified().await;
    under_way.abort();
    assert!(under_way.await.unwrap_err().is_cancelled());
    assert_eq!(plugin.idle_instance_count(), 0);
}

#[tokio::test]
async fn two_calls_at_once_have_two_instances() {
    let spec = PluginSpec {
        instances: Instances {
            reuse: 100,
            ..Instances::default()
        },
        grants: plugin::Grants {
            dns: true,
            ..plugin::Grants::default()
        },
        ..behaving("slow-dns")
    };
    let plugin = host().load(spec).await.unwrap();
    let gate = Arc::new(Gate::default());
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (plugin, gate) = (plugin.clone(), Arc::clone(&gate));
            let input = Input::Route(request(&["a@example.com"]));
            tokio::spawn(async move { plugin.call(input, gate).await })
        })
        .collect();
    while gate.asked_count.load(std::sync::atomic::Ordering::SeqCst) < 3 {
        gate.asked.notified().await;
    }
    assert_eq!(plugin.idle_instance_count(), 0);
    for call in calls {
        gate.open.notify_waiters();
        gate.open.notify_one();
        call.await.unwrap().unwrap();
    }
    assert_eq!(plugin.idle_instance_count(), 3);
}

#[tokio::test]
async fn an_idle_instance_is_given_up_in_time() {
    let host = host();
    let mut spec = reusing(u32::MAX, "");
    spec.instances.idle = Duration::from_millis(50);
    let plugin = host.load(spec).await.unwrap();
    let free = host.free_instance_count();
    // Each round starts something that watches, and ends it.
    for _ in 0..3 {
        call(&plugin).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while plugin.idle_instance_count() > 0 {
            assert!(Instant::now() < deadline, "it is never given up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(host.free_instance_count(), free);
    }
    assert_eq!(served(&call(&plugin).await), 1);
}

#[tokio::test]
async fn idle_instances_do_not_keep_others_waiting() {
    let host = PluginHost::new(HostOptions {
        instance_count: 1,
        ..options()
    })
    .unwrap();
    let first = host.load(reusing(100, "")).await.unwrap();
    let second = host.load(reusing(100, "other")).await.unwrap();
    for _ in 0..5 {
        call(&first).await;
        assert_eq!(first.idle_instance_count(), 1);
        call(&second).await;
        assert_eq!(first.idle_instance_count(), 0);
        assert_eq!(second.idle_instance_count(), 1);
    }
}

#[tokio::test]
async fn a_plugin_that_is_replaced_lets_go_of_its_instances() {
    let host = host();
    let slot = PluginSlot::new(host.load(reusing(100, "")).await.unwrap());
    let free = host.free_instance_count();
    call(&slot.current()).await;
    assert_eq!(host.free_instance_count(), free - 1);
    let before = slot.reload(&host, reusing(100, "")).await.unwrap();
    assert_eq!(before.idle_instance_count(), 0);
    assert_eq!(host.free_instance_count(), free);
    assert_eq!(served(&call(&slot.current()).await), 1);
}

#[tokio::test]
async fn an_init_that_fails_is_tried_again_with_the_next_instance() {
    let plugin = host().load(reusing(100, "init-fails")).await.unwrap();
    for _ in 0..2 {
        let failure = call_for(&plugin, "a@example.com").await.unwrap_err();
        assert_eq!(failure.reason, FailureReason::Broken);
        assert_eq!(failure.detail, "init: there is no table");
        assert_eq!(plugin.idle_instance_count(), 0);
    }
}
