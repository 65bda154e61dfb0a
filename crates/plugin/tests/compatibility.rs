//! Components that were built for an earlier state of the contract go on working:
//! they are kept as they were, and are loaded and called by the host of today. The
//! rules that make it so are in `docs/plugins/compatibility.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin::cases::{CaseFile, run_file};
use plugin::{Digest, EmptyEnvironment, Input, LoadError, Phase, PluginSpec};
use support::{host, request};

/// Components of contract 0.1.0, as the SDK and the compiler of that time made them.
const KEPT: [(&str, &str); 3] = [
    (
        "smarthost-table",
        "ec3996ade520e4f6b82c1f7be62eb398e0b627c412cdbe3ecfd39ae6b66e52e4",
    ),
    (
        "mx-preference",
        "fc90260fa5c208ec0073aa025af9d64013675455da4f87b1a23fd85c3214a986",
    ),
    (
        "phases",
        "770c0d774368309a501e277b3d60842f742ac470f4bbbc1984758b5baf4f2ab3",
    ),
];

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/policy-0.1.0")
        .join(format!("{name}.wasm"))
}

#[test]
fn the_kept_components_are_those_that_were_kept() {
    for (name, digest) in KEPT {
        let octets = std::fs::read(kept(name)).unwrap();
        assert_eq!(Digest::of(&octets).to_string(), digest, "{name}");
    }
}

#[tokio::test]
async fn the_samples_of_0_1_0_pass_their_cases() {
    let host = host();
    for name in ["smarthost-table", "mx-preference"] {
        let spec = PluginSpec::new(name, kept(name));
        let cases = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/policy-0.1.0")
            .join(name);
        let mut count = 0;
        for file in CaseFile::read_directory(&cases).unwrap() {
            for outcome in run_file(&host, &spec, &file).await.unwrap() {
                assert!(outcome.passed(), "{outcome}");
                count += 1;
            }
        }
        assert!(count > 5, "{name}: {count} cases");
    }
}

#[tokio::test]
async fn a_component_of_0_1_0_answers_in_every_phase() {
    let plugin = host()
        .load(PluginSpec::new("phases", kept("phases")))
        .await
        .unwrap();
    assert!(Phase::ALL.iter().all(|&phase| plugin.has(phase)));
    let inputs = [
        r#"{"mail-from":{"peer":{"ip":"192.0.2.1","port":25,"listener":"l","ingress":"smtp","helo":"h","fcrdns":null,"user":null,"tls":null},"sender":{"mailbox":null,"declared-size-bytes":null,"body":"seven-bit","smtputf8":false,"requiretls":false,"envelope-id":null,"priority":null}}}"#,
        r#"{"rcpt":{"mailbox":"a@example.com","notify":{"never":false,"success":false,"failure":false,"delay":false},"original":null}}"#,
        r#""message""#,
        r#"{"delivery":{"message-id":"1","domain":"example.com","recipients":[],"outcome":{"failed":"refused"},"stage":"connect","host":null,"address":null,"source":null,"tls":null,"attempts":1,"elapsed-ms":1,"first-attempt-at-ms":1}}"#,
    ];
    let inputs = inputs.map(|json| serde_json::from_str::<Input>(json).unwrap());
    let route = Input::Route(request(&["a@example.com"]));
    for input in inputs.into_iter().chain([route]) {
        let phase = input.phase();
        let call = plugin.call(input, Arc::new(EmptyEnvironment)).await;
        assert_eq!(call.unwrap().output.phase(), phase);
    }
}

/// Loading gets as far as the exports: the imports were found good.
#[tokio::test]
async fn a_later_version_of_the_track_is_fine_as_long_as_its_functions_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later.wasm");
    let component = r#"(component (import "waypost:policy/ambient@0.1.3"
        (instance (export "random" (func (result u64))))))"#;
    std::fs::write(&path, wat::parse_str(component).unwrap()).unwrap();
    let error = host()
        .load(PluginSpec::new("later", &path))
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::NoPhase { .. }), "{error}");
}
