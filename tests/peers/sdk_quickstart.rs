//! docs/plugins/ten-minutes.md does what it says: its commands, verbatim, in an empty directory.
//!
//! Rust and C are required as other peers are. JavaScript and Python need a registry besides node
//! and python3, so a machine that cannot get their tools skips them, and says so.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{find, note, root, waypost};
use crate::programs::{CLANG, NPM, PYTHON, WASM_LD};

/// The commands under a heading of the document.
fn commands(language: &str) -> String {
    let path = root().join("docs/plugins/ten-minutes.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let (_, section) = text
        .split_once(&format!("\n## {language}\n"))
        .unwrap_or_else(|| panic!("no heading {language}"));
    let section = section.split("\n## ").next().expect("a first part");
    let (_, block) = section
        .split_once("```sh\n")
        .unwrap_or_else(|| panic!("no commands for {language}"));
    let (block, _) = block.split_once("```").expect("the block ends");
    block.to_owned()
}

/// Runs a script as a reader would: in this directory, with `waypost` on PATH.
fn run(script: &str, directory: &Path) -> Output {
    let beside = waypost().parent().expect("in a directory").to_owned();
    let mut path = OsString::from(beside);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", script])
        .current_dir(directory)
        .env("PATH", path)
        // Ours, not a reader's.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    for (name, _) in std::env::vars_os() {
        // What cargo tells the tests that it runs would confuse the cargo inside.
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command.output().expect("sh runs")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The commands end well, and the cases were run.
fn holds(language: &str) {
    let directory = tempfile::tempdir().expect("a place for it");
    let output = run(&commands(language), directory.path());
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("my-policy: 3 passed, 0 failed"), "{said}");
    assert!(said.contains("phases      routing"), "{said}");
}

#[test]
fn rust() {
    holds("Rust");
}

#[test]
fn c() {
    if find(CLANG, "sdk_quickstart::c").is_some() && find(WASM_LD, "sdk_quickstart::c").is_some() {
        holds("C");
    }
}

#[test]
fn javascript() {
    if NPM.find().is_none() {
        return note("skipped: the quick start in JavaScript needs npm, which is not installed");
    }
    let trial = "npm view componentize-qjs version";
    if registry_answers("JavaScript", trial) {
        holds("JavaScript");
    }
}

#[test]
fn python() {
    if PYTHON.find().is_none() {
        return note("skipped: the quick start in Python needs python3, which is not installed");
    }
    let trial = "python3 -m venv .venv && .venv/bin/pip download --quiet --no-deps componentize-py";
    if registry_answers("Python", trial) {
        holds("Python");
    }
}

/// Whether the tools can be had at all; if not, it is noted, for then the document is not tested.
fn registry_answers(language: &str, trial: &str) -> bool {
    let directory = tempfile::tempdir().expect("a place for it");
    let output = run(trial, directory.path());
    let answers = output.status.success();
    if !answers {
        let said = text(&output);
        let last = said.lines().last().unwrap_or_default().to_owned();
        note(&format!(
            "skipped: the quick start in {language}, whose tools cannot be had here: {last}"
        ));
    }
    answers
}

#[test]
fn every_phase_has_its_place_in_the_document() {
    let path = root().join("docs/plugins/ten-minutes.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    for phase in plugin::Phase::ALL {
        assert!(text.contains(&format!("| `{phase}` |")), "{phase}");
    }
}
