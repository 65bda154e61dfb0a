//! The sample plugins do what their cases say, and the case runner can fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use plugin::cases::{CaseFile, Outcome, run_file};
use plugin::{Limits, PluginSpec};
use support::{component, host};

async fn run_cases(name: &str) -> Vec<Outcome> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../plugins")
        .join(name);
    let host = host();
    let spec = PluginSpec::new(name, component(name));
    let mut outcomes = Vec::new();
    for file in CaseFile::read_directory(&directory.join("cases")).unwrap() {
        outcomes.extend(run_file(&host, &spec, &file).await.unwrap());
    }
    outcomes
}

fn assert_passed(outcomes: &[Outcome]) {
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// Directories of the samples, by name.
fn samples() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let entries = std::fs::read_dir(directory).unwrap();
    let directories = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = directories
        .filter(|directory| directory.join("Cargo.toml").is_file())
        .map(|directory| directory.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn every_sample_answers_as_its_cases_say() {
    let mut outcomes = Vec::new();
    for name in samples() {
        let of_sample = run_cases(&name).await;
        assert!(of_sample.len() >= 5, "{name}: {} cases", of_sample.len());
        outcomes.extend(of_sample);
    }
    assert_passed(&outcomes);
    assert!(outcomes.len() >= 110, "{}", outcomes.len());
}

async fn differences(case: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("case.toml");
    std::fs::write(&path, case).unwrap();
    let spec = PluginSpec {
        limits: Limits::default(),
        ..PluginSpec::new("smarthost-table", component("smarthost-table"))
    };
    let file = CaseFile::read(&path).unwrap();
    let outcomes = run_file(&host(), &spec, &file).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes[0].differences.clone()
}

#[tokio::test]
async fn a_case_that_does_not_hold_says_where() {
    let differences = differences(
        r#"
        config.routes = { "example.com" = "relay.example.net:2525" }
        [[case]]
        name = "wrong"
        recipients = ["a@example.com"]
        [[case.expect]]
        decision = "use-hops"
        hops = [{ host = "relay.example.net", port = 25 }]
        "#,
    )
    .await;
    assert_eq!(
        differences,
        ["verdicts[0].hops[0].port: expected 25, got 2525"]
    );
}

#[tokio::test]
async fn other_ends_than_the_expected_are_told() {
    let table = r#"config.routes = { "example.com" = "relay.example.net" }"#;
    let case = "recipients = ['a@example.com']\nname = 'x'";
    let told = differences(&format!(
        "{table}\n[[case]]\n{case}\nexpect_failure = {{ reason = 'trap' }}"
    ))
    .await;
    assert!(
        told[0].starts_with("expected the failure trap, got ["),
        "{told:?}"
    );
    let told = differences(&format!("{table}\n[[case]]\n{case}\nexpect_faults = ['x']")).await;
    assert_eq!(told, ["expected faults of the configuration, it was taken"]);
    let told = differences(&format!("[[case]]\n{case}\nexpect = []")).await;
    assert!(
        told[0].starts_with("the configuration is refused: routes: no entry"),
        "{told:?}"
    );
    let told = differences(&format!(
        "{table}\ngrants.route_hosts = []\n[[case]]\n{case}\nexpect = []"
    ))
    .await;
    assert!(
        told[0].starts_with("the call failed: invalid_answer: verdicts[0]"),
        "{told:?}"
    );
}

#[test]
fn a_file_that_is_no_case_is_refused_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("case.toml");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        CaseFile::read(&path).unwrap_err().to_string()
    };
    let told = refused("[[case]]\nname = 'x'\nrecipient = []");
    assert!(
        told.contains("line 1: case \"x\"") && told.contains("`recipient`"),
        "{told}"
    );
    assert!(refused("case = []").contains("no cases"));
    assert!(refused("[[case]]\nname = 'x'\nexpect = []").contains("`recipients` is wanted"));
    let two = "recipients = ['a@b.example']\nexpect = []\nexpect_faults = []";
    assert!(refused(&format!("[[case]]\nname = 'x'\n{two}")).contains("only one of `expect`"));
    let case = "[[case]]\nname = 'x'\nrecipients = ['a@b.example']\n";
    assert!(
        refused(&format!("{case}expect_failure = {{ reason = 'bad' }}"))
            .contains("no reason \"bad\"")
    );
    assert!(
        refused(&format!(
            "{case}expect = []\ndns = {{ 'mx b.example' = ['x'] }}"
        ))
        .contains("no such record")
    );
    assert!(refused(&format!("{case}expect = []\nmessage = 'x'")).contains("no header field"));
    let empty = CaseFile::read_directory(&directory.path().join("none")).unwrap_err();
    assert!(empty.to_string().contains("cannot read"));
}
