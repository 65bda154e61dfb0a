//! The sample in every language: built by `waypost plugin build`, it passes the cases of the one in
//! Rust. And what `waypost plugin` says when something is amiss.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{find, note, root, waypost};
use crate::programs::{CLANG, Program, WASM_LD};

fn plugin(arguments: &[&str], directory: &Path) -> Output {
    Command::new(waypost())
        .arg("plugin")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the binary runs")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Copies files and directories, without what builds leave.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a place for it");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().expect("it has a name");
        if path.is_file() {
            std::fs::copy(&path, to.join(name)).expect("it can be copied");
        } else if !["build", "target", "node_modules", ".venv"]
            .iter()
            .any(|left| name == *left)
        {
            copy(&path, &to.join(name));
        }
    }
}

/// A copy of what the sample in a language needs of `plugins/`.
fn sample(language: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a place for it");
    let plugins = root().join("plugins");
    for part in [
        "wit".to_owned(),
        format!("sdk/{language}"),
        format!("smarthost-table-{language}"),
        "smarthost-table/cases".to_owned(),
    ] {
        copy(&plugins.join(&part), &directory.path().join(&part));
    }
    directory
}

#[test]
fn the_sample_in_c_passes_the_cases_of_the_one_in_rust() {
    let here = "sdk_samples::c";
    if find(CLANG, here).is_none() || find(WASM_LD, here).is_none() {
        return;
    }
    let directory = sample("c");
    let project = directory.path().join("smarthost-table-c");
    let built = plugin(&["build"], &project);
    assert!(built.status.success(), "{}", text(&built));
    // The author's own warnings would be here.
    assert!(!text(&built).contains("warning"), "{}", text(&built));
    let tested = plugin(&["test"], &project);
    assert!(tested.status.success(), "{}", text(&tested));
    assert!(
        text(&tested).contains("smarthost-table-c: 11 passed, 0 failed"),
        "{}",
        text(&tested)
    );
}

/// The tool that a language needs, and how a project gets it for itself.
fn tool(language: &str) -> Option<(Program, &'static str)> {
    match language {
        "javascript" => Some((
            Program {
                name: "componentize-qjs",
                package: "npm",
            },
            "npm install",
        )),
        "python" => Some((
            Program {
                name: "componentize-py",
                package: "python3-venv",
            },
            "python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt",
        )),
        _ => None,
    }
}

/// Gets the tool of a language where it is not on PATH. Without a registry it cannot be had, which
/// is noted: the test is skipped.
fn has_tool(language: &str, project: &Path) -> bool {
    let Some((program, get)) = tool(language) else {
        return true;
    };
    if program.find().is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-e", "-c", get])
        .current_dir(project)
        .output()
        .expect("sh runs");
    let got = output.status.success();
    if !got {
        let said = text(&output);
        let last = said.lines().last().unwrap_or_default();
        note(&format!(
            "skipped: a plugin in {language} needs {}, which cannot be had here: {last}",
            program.name
        ));
    }
    got
}

/// The sample passes the cases of the one in Rust.
fn passes_the_cases(language: &str) {
    let directory = sample(language);
    let project = directory.path().join(format!("smarthost-table-{language}"));
    if has_tool(language, &project) {
        holds(&project, "11 passed, 0 failed");
    }
}

/// It builds, and its cases pass.
fn holds(project: &Path, passed: &str) {
    for (command, end) in [("build", ".wasm ("), ("test", passed)] {
        let output = plugin(&[command], project);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains(end), "{}", text(&output));
    }
}

#[test]
fn the_sample_in_javascript_passes_them_too() {
    passes_the_cases("javascript");
}

#[test]
fn the_sample_in_python_passes_them_too() {
    passes_the_cases("python");
}

/// A new project whose source takes part in every phase, with a case for each.
fn takes_part_in_every_phase(language: &str, source: &str) {
    let directory = tempfile::tempdir().expect("a place for it");
    let made = plugin(
        &["new", "every-phase", "--lang", language],
        directory.path(),
    );
    assert!(made.status.success(), "{}", text(&made));
    let project = directory.path().join("every-phase");
    let ours = root().join("tests/peers/phases");
    std::fs::copy(ours.join(source), project.join(source)).expect("it can be copied");
    std::fs::copy(
        ours.join("phases.toml"),
        project.join("cases").join("phases.toml"),
    )
    .expect("it can be copied");
    let manifest = project.join("waypost-plugin.toml");
    let said = std::fs::read_to_string(&manifest).expect("it is there");
    let all = "[\"sender\", \"recipient\", \"message\", \"routing\", \"delivery\"]";
    let changed = said.replace("[\"routing\"]", all);
    assert_ne!(said, changed, "the manifest names its phases");
    std::fs::write(&manifest, changed).expect("it can be written");
    if has_tool(language, &project) {
        holds(&project, "8 passed, 0 failed");
    }
}

#[test]
fn c_takes_part_in_every_phase() {
    let here = "sdk_samples::c_takes_part_in_every_phase";
    if find(CLANG, here).is_some() && find(WASM_LD, here).is_some() {
        takes_part_in_every_phase("c", "plugin.c");
    }
}

#[test]
fn javascript_takes_part_in_every_phase() {
    takes_part_in_every_phase("javascript", "plugin.js");
}

#[test]
fn python_takes_part_in_every_phase() {
    takes_part_in_every_phase("python", "plugin.py");
}

#[test]
fn a_missing_compiler_is_named_with_what_gets_it() {
    let directory = sample("c");
    let output = Command::new(waypost())
        .args(["plugin", "build"])
        .current_dir(directory.path().join("smarthost-table-c"))
        .env("PATH", directory.path())
        .output()
        .expect("the binary runs");
    assert!(!output.status.success());
    let said = text(&output);
    for word in ["apt-get install clang lld", "pip install ziglang"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_case_that_does_not_hold_says_where_it_is_and_what_came_instead() {
    let directory = tempfile::tempdir().expect("a place for it");
    std::fs::write(
        directory.path().join("wrong.toml"),
        concat!(
            "# A case that does not hold.\n",
            "[[case]]\n",
            "name = \"another host\"\n",
            "recipients = [\"a@example.com\"]\n",
            "config.routes = { \"example.com\" = \"relay.example.net\" }\n",
            "expect = [{ hops = [{ host = \"other.example.net\" }] }]\n",
        ),
    )
    .expect("it can be written");
    let component = root().join("target/plugins/smarthost-table.wasm");
    let component = component.to_str().expect("a plain path");
    let output = plugin(&["test", component, "--cases", "."], directory.path());
    assert!(!output.status.success());
    let said = text(&output);
    for words in [
        "wrong.toml:2: another host",
        "expected \"other.example.net\", got \"relay.example.net\"",
        "0 passed, 1 failed",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn an_answer_becomes_a_snapshot_and_is_held_against_it() {
    let directory = tempfile::tempdir().expect("a place for it");
    let cases = directory.path().join("cases");
    std::fs::create_dir(&cases).expect("it can be made");
    let file = cases.join("kept.toml");
    let case = |host: &str| {
        format!(
            "[[case]]\nname = \"kept\"\nrecipients = [\"a@example.com\"]\nconfig.routes = {{ \"example.com\" = \"{host}\" }}\n"
        )
    };
    std::fs::write(&file, case("relay.example.net")).expect("it can be written");
    let component = root().join("target/plugins/smarthost-table.wasm");
    let component = component.to_str().expect("a plain path");
    let test = |arguments: &[&str]| {
        let mut all = vec!["test", component, "--cases", "cases"];
        all.extend(arguments);
        plugin(&all, directory.path())
    };
    let before = test(&[]);
    assert!(!before.status.success());
    assert!(
        text(&before).contains("there is no snapshot"),
        "{}",
        text(&before)
    );
    assert!(test(&["--update"]).status.success());
    let kept = test(&[]);
    assert!(kept.status.success(), "{}", text(&kept));
    std::fs::write(&file, case("other.example.net")).expect("it can be written");
    let changed = test(&[]);
    assert!(!changed.status.success());
    assert!(
        text(&changed).contains("the snapshot has"),
        "{}",
        text(&changed)
    );
}

#[test]
fn a_component_is_measured_beside_a_native_policy() {
    let component = root().join("target/plugins/smarthost-table.wasm");
    let cases = root().join("plugins/smarthost-table/cases");
    let output = plugin(
        &[
            "bench",
            component.to_str().expect("a plain path"),
            "--cases",
            cases.to_str().expect("a plain path"),
            "--seconds",
            "0.05",
            "--json",
        ],
        &root(),
    );
    assert!(output.status.success(), "{}", text(&output));
    let shown: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON, as asked for");
    let lines = shown["lines"].as_array().expect("a list of lines");
    assert_eq!(lines.len(), 3, "{shown}");
    for line in lines {
        assert!(line["calls"].as_u64() > Some(0), "{shown}");
        assert!(line["p50_us"].as_f64() > Some(0.0), "{shown}");
    }
    assert!(lines[1]["memory_bytes"].as_u64() > Some(0), "{shown}");
}
