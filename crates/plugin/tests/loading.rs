//! Loading: what is refused and with which words, the pin, the cache, and
//! changing a plugin while mail flows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use plugin::{
    Digest, FailureReason, Grants, HostError, HostOptions, Limits, LoadError, PluginHost,
    PluginSlot, PluginSpec,
};
use support::{Gate, behaving, call, component, guest, host, options, request};

fn write(directory: &Path, octets: &[u8]) -> PluginSpec {
    let path = directory.join("plugin.wasm");
    std::fs::write(&path, octets).unwrap();
    PluginSpec::new("written", path)
}

async fn refusal(spec: PluginSpec) -> LoadError {
    host().load(spec).await.unwrap_err()
}

#[tokio::test]
async fn a_pin_has_to_fit() {
    let found = Digest::of(&std::fs::read(component("misbehave")).unwrap());
    let spec = PluginSpec {
        sha256: Some(found),
        ..behaving("proceed")
    };
    let plugin = host().load(spec).await.unwrap();
    assert_eq!(plugin.inspect().sha256, found);
    let expected = Digest::of(b"something else");
    let error = refusal(PluginSpec {
        sha256: Some(expected),
        ..behaving("proceed")
    })
    .await;
    let text = error.to_string();
    assert!(
        text.contains(&found.to_string()) && text.contains(&expected.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_component_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = refusal(PluginSpec::new("x", directory.path().join("none.wasm"))).await;
    assert!(matches!(missing, LoadError::Read { .. }), "{missing}");
    let text = refusal(write(directory.path(), b"(component)"))
        .await
        .to_string();
    assert!(text.ends_with("it is no WebAssembly at all"), "{text}");
    let text = refusal(write(directory.path(), b"\0asm\x01\0\0\0"))
        .await
        .to_string();
    assert!(text.contains("core module"), "{text}");
    let text = refusal(write(directory.path(), b"\0asm\x0d\0\x01\0\xff"))
        .await
        .to_string();
    assert!(text.contains("is not a WebAssembly component"), "{text}");
}

/// A component that imports one function without parameters and results.
fn component_importing(interface: &str, function: &str) -> Vec<u8> {
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id, u8::try_from(content.len()).unwrap()], content].concat()
    }
    fn name(text: &str) -> Vec<u8> {
        // Kind of name, length, text.
        [&[0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }
    // One instance type of two declarations: a function type without
    // parameters and results, and the export of a function of that type.
    let mut types = vec![1, 0x42, 2, 1, 0x40, 0, 1, 0, 4];
    types.extend(name(function));
    types.extend([1, 0]);
    // One import: an instance of that type.
    let mut imports = vec![1];
    imports.extend(name(interface));
    imports.extend([5, 0]);
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        section(7, &types),
        section(10, &imports),
    ]
    .concat()
}

#[tokio::test]
async fn an_import_that_the_relay_lacks_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (interface, function, import) in [
        (
            "waypost:policy/secrets@0.1.0",
            "get",
            "waypost:policy/secrets@0.1.0",
        ),
        (
            "waypost:policy/ambient@0.2.0",
            "now",
            "waypost:policy/ambient@0.2.0",
        ),
        (
            "waypost:policy/ambient@0.1.3",
            "moon",
            "waypost:policy/ambient@0.1.3#moon",
        ),
    ] {
        let spec = write(directory.path(), &component_importing(interface, function));
        match refusal(spec).await {
            LoadError::UnknownImport { import: named, .. } => assert_eq!(named, import),
            other => panic!("{interface}: {other}"),
        }
    }
    let octets = component_importing("waypost:policy/ambient@0.1.0", "now");
    let error = refusal(write(directory.path(), &octets)).await;
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_component_without_a_phase_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // WASI is not refused for being imported.
    let octets = component_importing("wasi:cli/odd@0.2.0", "f");
    let text = refusal(write(directory.path(), &octets)).await.to_string();
    assert!(text.ends_with("it exports nothing"), "{text}");
}

#[tokio::test]
async fn a_refused_configuration_comes_with_every_fault() {
    match refusal(guest("check = 'refuse'")).await {
        LoadError::ConfigRefused { plugin, messages } => {
            assert_eq!(plugin, "guest");
            assert_eq!(messages, ["first fault", "second fault"]);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_check_that_does_not_end_is_ended() {
    match refusal(guest("check = 'spin'")).await {
        LoadError::Start { step, failure, .. } => {
            assert_eq!(
                (step, failure.reason),
                ("check-config", FailureReason::CpuLimit)
            );
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn limits_out_of_range_are_refused() {
    let with = |limits| PluginSpec {
        limits,
        ..behaving("proceed")
    };
    let text = refusal(with(Limits {
        memory_bytes: 1 << 40,
        ..Limits::default()
    }))
    .await
    .to_string();
    assert!(
        text.contains("memory_bytes = 1099511627776") && text.contains("1 to 67108864"),
        "{text}"
    );
    let text = refusal(with(Limits {
        concurrency: 0,
        ..Limits::default()
    }))
    .await
    .to_string();
    assert!(text.contains("concurrency = 0"), "{text}");
    // Less memory than the guest starts with: known at load, not at the first mail.
    match refusal(with(Limits {
        memory_bytes: 4096,
        ..Limits::default()
    }))
    .await
    {
        LoadError::Start { step, failure, .. } => {
            assert_eq!(
                (step, failure.reason),
                ("instantiate", FailureReason::MemoryLimit)
            );
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn facts_of_a_plugin() {
    let plugin = host().load(behaving("proceed")).await.unwrap();
    let facts = plugin.inspect();
    assert_eq!(facts.name, "guest");
    assert_eq!(
        facts.identity,
        Some(("misbehave".to_owned(), "0.1.0".to_owned()))
    );
    assert_eq!(
        facts.exports,
        [
            "waypost:policy/lifecycle@0.1.0",
            "waypost:policy/routing-phase@0.1.0"
        ]
    );
    assert!(
        facts
            .imports
            .contains(&"waypost:policy/dns@0.1.0".to_owned()),
        "{facts:?}"
    );
    assert_eq!(
        facts.size_bytes,
        std::fs::metadata(&facts.path).unwrap().len()
    );
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_old_plugin_in_force() {
    let host = host();
    let slot = PluginSlot::new(host.load(behaving("hold")).await.unwrap());
    let decision = async || {
        let call = call(&slot.current()).await.unwrap();
        call.verdicts[0].decision.as_str()
    };
    assert_eq!(decision().await, "hold");
    slot.reload(&host, guest("check = 'refuse'"))
        .await
        .unwrap_err();
    slot.reload(&host, PluginSpec::new("x", "/nowhere.wasm"))
        .await
        .unwrap_err();
    assert_eq!(decision().await, "hold");
    let before = slot.reload(&host, behaving("discard")).await.unwrap();
    assert_eq!(decision().await, "discard");
    assert_eq!(
        call(&before).await.unwrap().verdicts[0].decision.as_str(),
        "hold"
    );
}

#[tokio::test]
async fn calls_under_way_end_on_the_plugin_they_began_with() {
    let host = host();
    let spec = PluginSpec {
        grants: Grants {
            dns: true,
            ..Grants::default()
        },
        ..behaving("slow-dns")
    };
    let slot = PluginSlot::new(host.load(spec).await.unwrap());
    let gate = Arc::new(Gate::default());
    let under_way = tokio::spawn({
        let (plugin, gate) = (slot.current(), gate.clone());
        async move { plugin.route(request(&["a@example.com"]), gate).await }
    });
    gate.asked.notified().await;
    drop(slot.reload(&host, behaving("discard")).await.unwrap());
    gate.open.notify_one();
    let ended = under_way.await.unwrap().unwrap();
    assert_eq!(
        ended.verdicts[0].note.as_deref(),
        Some("Ok(Answer::Mx([]))")
    );
}

#[tokio::test]
async fn a_plugin_outlives_its_host_handle() {
    let plugin = host().load(behaving("proceed")).await.unwrap();
    call(&plugin).await.unwrap();
}

fn with_cache(directory: &Path) -> Result<PluginHost, HostError> {
    let cache_directory = Some(directory.to_owned());
    PluginHost::new(HostOptions {
        cache_directory,
        ..options()
    })
}

#[tokio::test]
async fn compiled_code_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a/cache");
    let from_cache = async || {
        let host = with_cache(&cache).unwrap();
        let plugin = host.load(behaving("hold")).await.unwrap();
        assert_eq!(
            call(&plugin).await.unwrap().verdicts[0].decision.as_str(),
            "hold"
        );
        plugin.inspect().from_cache
    };
    assert!(!from_cache().await);
    assert!(from_cache().await);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    let files: Vec<_> = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(mode(&files[0]), 0o600);
    // Damaged code is compiled again; code of another engine goes.
    std::fs::write(&files[0], b"not code").unwrap();
    let other = cache.join(format!("{}-0000000000000000.cwasm", Digest::of(b"")));
    std::fs::write(&other, b"of another engine").unwrap();
    assert!(!from_cache().await);
    assert!(!other.exists());
    assert!(from_cache().await);
}

#[tokio::test]
async fn a_cache_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = with_cache(directory.path()).unwrap_err();
    assert!(matches!(error, HostError::Cache { .. }), "{error}");
}

#[tokio::test]
async fn the_same_component_is_compiled_once_while_in_use() {
    let host = host();
    let first = host.load(behaving("hold")).await.unwrap();
    let second = host.load(behaving("discard")).await.unwrap();
    assert!(!first.inspect().from_cache);
    assert!(second.inspect().from_cache);
    assert_eq!(
        call(&second).await.unwrap().verdicts[0].decision.as_str(),
        "discard"
    );
}
