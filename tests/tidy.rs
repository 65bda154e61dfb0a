//! House rules as a test.
//!
//! Every rule is a function from a [`tree::Tree`] to complaints. Each is run twice: against the
//! tree of this repository, where it must be silent, and against a few lines that break it, where
//! it must speak: a rule that cannot turn red is no rule.
//!
//! What may break a rule is in the rule's own list, with the reason beside it.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/knowledge.rs"]
mod knowledge;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/style.rs"]
mod style;
#[path = "tidy/tree.rs"]
mod tree;

use tree::Tree;

/// A rule: what is wrong, one line each, beginning with the place.
type Rule = fn(&Tree) -> Vec<String>;

/// Applies a rule to this repository.
fn hold(rule: Rule) {
    let complaints = rule(&Tree::load());
    assert!(
        complaints.is_empty(),
        "{} complaints\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// Applies a rule to a small tree that breaks it: exactly one complaint, and it names the place.
fn red(rule: Rule, files: &[(&str, &str)], place: &str) {
    let complaints = rule(&Tree::of(files));
    assert_eq!(
        complaints.len(),
        1,
        "one complaint expected: {complaints:?}"
    );
    assert!(
        complaints[0].starts_with(place),
        "{} is not about {place}",
        complaints[0]
    );
}

/// Applies a rule to a small tree that keeps it.
fn green(rule: Rule, files: &[(&str, &str)]) {
    let complaints = rule(&Tree::of(files));
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn files_open_with_a_module_comment() {
    hold(style::module_comment);
    red(
        style::module_comment,
        &[("crates/smtp/src/a.rs", "use x;\n//! late\n")],
        "crates/smtp/src/a.rs:1",
    );
    green(
        style::module_comment,
        &[("crates/smtp/src/a.rs", "//! What it is.\n")],
    );
}

#[test]
fn files_stay_short() {
    hold(style::file_length);
    let long = format!("//! x\n{}", "\n".repeat(600));
    red(
        style::file_length,
        &[("crates/mx/src/a.rs", &long)],
        "crates/mx/src/a.rs",
    );
    let full = format!("//! x\n{}", "\n".repeat(599));
    green(style::file_length, &[("crates/mx/src/a.rs", &full)]);
}

#[test]
fn nothing_is_left_for_later() {
    hold(style::unfinished);
    let marker = ["FIX", "ME"].concat();
    red(
        style::unfinished,
        &[("docs/a.md", &format!("\n{marker} soon\n"))],
        "docs/a.md:2",
    );
    let todo = ["fn f() { to", "do!() }"].concat();
    red(
        style::unfinished,
        &[("crates/mx/src/a.rs", &todo)],
        "crates/mx/src/a.rs:1",
    );
    let ignored = ["#[ig", "nore]\nfn f() {}"].concat();
    red(
        style::unfinished,
        &[("tests/sim/a.rs", &ignored)],
        "tests/sim/a.rs:1",
    );
    let reasoned = ["#[ig", "nore = \"slow\"]"].concat();
    red(
        style::unfinished,
        &[("tests/sim/a.rs", &reasoned)],
        "tests/sim/a.rs:1",
    );
}

#[test]
fn types_have_standard_names() {
    hold(style::type_names);
    red(
        style::type_names,
        &[("crates/relay/src/a.rs", "//! x\npub struct QueueManager;\n")],
        "crates/relay/src/a.rs:2",
    );
    red(
        style::type_names,
        &[("crates/relay/src/a.rs", "enum MailInfo {}")],
        "crates/relay/src/a.rs:1",
    );
    green(
        style::type_names,
        &[(
            "crates/relay/src/a.rs",
            "struct Metadata; // the QueueManager\n",
        )],
    );
}

#[test]
fn tests_do_not_sleep() {
    hold(style::sleeping_tests);
    let text = "fn a() { std::thread::sleep(x); }";
    red(
        style::sleeping_tests,
        &[("tests/relay/a.rs", text)],
        "tests/relay/a.rs:1",
    );
    let inside = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { thread::sleep(x); } }";
    red(
        style::sleeping_tests,
        &[("crates/relay/src/a.rs", inside)],
        "crates/relay/src/a.rs:3",
    );
    green(style::sleeping_tests, &[("crates/relay/src/a.rs", text)]);
}

#[test]
fn everyone_knows_only_what_they_may() {
    hold(knowledge::who_may_know_what);
    for (path, text) in [
        ("crates/mx/src/plan.rs", "use hickory_resolver::Name;"),
        ("crates/relay/src/app.rs", "use wasmtime::Engine;"),
        ("crates/queue/src/a.rs", "let f = std::fs::read(p);"),
        ("crates/spool/src/log.rs", "let f = File::open(p);"),
        ("crates/relay/src/app.rs", "let t = Instant::now();"),
        (
            "crates/queue/src/a.rs",
            "let t = std::time::SystemTime::now();",
        ),
        (
            "crates/relay/src/app.rs",
            "counter!(\"waypost_messages_total\");",
        ),
        ("crates/relay/src/app.rs", "println!(\"hello\");"),
        ("crates/smtp/src/a.rs", "use tokio::io;"),
        ("crates/queue/src/a.rs", "std::thread::spawn(f);"),
        ("crates/mx/src/a.rs", "use std::net::TcpStream;"),
        ("crates/spool/src/a.rs", "use anyhow::Result;"),
    ] {
        red(
            knowledge::who_may_know_what,
            &[(path, text)],
            &format!("{path}:1"),
        );
    }
    for (path, text) in [
        ("crates/mx/src/hickory.rs", "use hickory_resolver::Name;"),
        (
            "crates/mx/src/plan.rs",
            "// hickory_resolver is not known here\nlet a = \"hickory_x\";",
        ),
        (
            "crates/queue/src/a.rs",
            "#[cfg(test)]\nmod tests { fn a() { Instant::now(); } }",
        ),
        (
            "crates/relay/src/telemetry/table.rs",
            "const NAME: &str = \"waypost_messages_total\";",
        ),
        (
            "tests/relay/a.rs",
            "let t = Instant::now(); std::fs::read(p);",
        ),
    ] {
        green(knowledge::who_may_know_what, &[(path, text)]);
    }
}

#[test]
fn arrows_between_crates_are_those_of_the_picture() {
    hold(manifests::arrows);
    red(
        manifests::arrows,
        &[(
            "crates/spool/Cargo.toml",
            "[dependencies]\nsmtp.workspace = true\n",
        )],
        "crates/spool/Cargo.toml",
    );
    red(
        manifests::arrows,
        &[(
            "crates/queue/Cargo.toml",
            "[dependencies]\ntokio.workspace = true\n",
        )],
        "crates/queue/Cargo.toml",
    );
    red(
        manifests::arrows,
        &[(
            "crates/relay/Cargo.toml",
            "[dependencies]\nanyhow.workspace = true\n",
        )],
        "crates/relay/Cargo.toml",
    );
    red(
        manifests::arrows,
        &[("crates/newcomer/Cargo.toml", "[dependencies]\n")],
        "crates/newcomer/Cargo.toml",
    );
    green(
        manifests::arrows,
        &[(
            "crates/queue/Cargo.toml",
            "[dependencies]\nsmtp.workspace = true\n[dev-dependencies]\ntokio.workspace = true\n",
        )],
    );
}

#[test]
fn versions_and_lints_are_named_once() {
    hold(manifests::workspace_wide);
    let own_version = "[lints]\nworkspace = true\n[dependencies]\nbytes = \"1\"\n";
    red(
        manifests::workspace_wide,
        &[("crates/smtp/Cargo.toml", own_version)],
        "crates/smtp/Cargo.toml: bytes",
    );
    red(
        manifests::workspace_wide,
        &[(
            "tests/Cargo.toml",
            "[dependencies]\nbytes.workspace = true\n",
        )],
        "tests/Cargo.toml",
    );
    green(
        manifests::workspace_wide,
        &[("plugins/a/Cargo.toml", "[dependencies]\na = \"1\"\n")],
    );
}

#[test]
fn no_registry_or_strange_host_is_named() {
    hold(manifests::hosts);
    let mirror = ["https", "://mirror.corp.zz/index"].concat();
    red(
        manifests::hosts,
        &[("docs/a.md", &format!("\nsee {mirror}\n"))],
        "docs/a.md:2",
    );
    let lock = format!("source = \"sparse+{mirror}\"\n");
    red(manifests::hosts, &[("Cargo.lock", &lock)], "Cargo.lock:1");
    red(
        manifests::hosts,
        &[(
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"x\"\n",
        )],
        ".cargo/config.toml",
    );
    green(
        manifests::hosts,
        &[("docs/a.md", "http://127.0.0.1:9925/metrics")],
    );
}

#[test]
fn decisions_are_listed_and_have_a_status() {
    hold(docs::decisions);
    let index = ("docs/adr/README.md", "- [0001](0001-a.md)\n");
    let first = ("docs/adr/0001-a.md", "# 1. A\n\nStatus: accepted\n");
    green(docs::decisions, &[index, first]);
    let second = ("docs/adr/0002-b.md", "# 2. B\n\nStatus: accepted\n");
    red(
        docs::decisions,
        &[index, first, second],
        "docs/adr/0002-b.md",
    );
    red(
        docs::decisions,
        &[index, ("docs/adr/0001-a.md", "# 1. A\n")],
        "docs/adr/0001-a.md",
    );
}

#[test]
fn commands_in_the_readme_exist() {
    hold(docs::commands);
    let xtask = (
        "crates/xtask/src/main.rs",
        "#[derive(Parser)]\nenum Xtask {\n    Run(A),\n}\n",
    );
    let cli = (
        "crates/cli/src/main.rs",
        "#[derive(Subcommand)]\nenum Command {\n    QueueList { a: u8 },\n    /// Run\n    Run,\n}\n",
    );
    green(
        docs::commands,
        &[
            xtask,
            cli,
            (
                "README.md",
                "`cargo xtask run`, `waypost queue-list`, waypost is good",
            ),
        ],
    );
    red(
        docs::commands,
        &[xtask, cli, ("README.md", "\n`cargo xtask fly --now`")],
        "README.md:2",
    );
    red(
        docs::commands,
        &[xtask, cli, ("README.md", "`target/release/waypost swim`")],
        "README.md:1",
    );
}

#[test]
fn links_resolve() {
    hold(docs::links);
    let target = (
        "docs/b.md",
        "# Some `code` & more\n\n```\n# no heading\n```\n",
    );
    let at = |link: &str| format!("\nsee [it]({link})\n");
    green(
        docs::links,
        &[target, ("docs/a.md", &at("b.md#some-code--more"))],
    );
    green(docs::links, &[target, ("README.md", &at("docs/b.md"))]);
    green(docs::links, &[target, ("README.md", &at("docs"))]);
    red(
        docs::links,
        &[target, ("docs/a.md", &at("c.md"))],
        "docs/a.md:2",
    );
    red(
        docs::links,
        &[target, ("docs/a.md", &at("b.md#no-heading"))],
        "docs/a.md:2",
    );
    green(
        docs::links,
        &[("docs/a.md", "```\n[it](nowhere.md)\n```\n")],
    );
}

#[test]
fn the_map_stays_a_map() {
    hold(docs::architecture_length);
    let long = "\n".repeat(300);
    red(
        docs::architecture_length,
        &[("ARCHITECTURE.md", &long)],
        "ARCHITECTURE.md",
    );
}
