//! Configurations in the documents and the examples are good ones: `waypost check` says so, with
//! the sample plugins that they name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What a snippet does not say of the rest of a configuration.
const FRAME: &str = "hostname = \"relay.example.net\"\nlisten = [\"127.0.0.1:25\"]\n\
                     spool = \"/var/spool/waypost\"\n";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Checks a configuration as `waypost check` does, on a machine that has the files it names.
async fn check(name: &str, text: &str) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    for line in text.lines() {
        let Some(start) = line.find("\"/etc/") else {
            continue;
        };
        let path = line[start + 1..].split('"').next().unwrap();
        let path = PathBuf::from(format!("{root}{path}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "# nothing yet\nsecret 1\n").unwrap();
    }
    let plugins = std::env::var_os("WAYPOST_PLUGINS_DIR")
        .map_or_else(|| repository().join("target/plugins"), PathBuf::from);
    let plugins = plugins.canonicalize().expect("run `cargo xtask plugins`");
    let text = text
        .replace("\"/etc/", &format!("\"{root}/etc/"))
        .replace("\"/var/", &format!("\"{root}/var/"))
        .replace("/usr/lib/waypost", &plugins.display().to_string());
    let file = directory.path().join("waypost.toml");
    fs::write(&file, text).unwrap();
    let config =
        relay::config::Config::load(&file).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    config
        .check_files()
        .unwrap_or_else(|fault| panic!("{name}: {fault}"));
    let checked = relay::explain::check(config, &relay::Clock::system()).await;
    if let Err(fault) = checked {
        panic!("{name}: {fault}");
    }
}

/// The ```toml blocks of a document that have a `[[plugin]]`.
fn snippets(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned());
    blocks
        .filter(|block| block.contains("[[plugin]]"))
        .collect()
}

#[tokio::test]
async fn the_configuration_of_each_sample_is_taken() {
    let mut count = 0;
    for entry in fs::read_dir(repository().join("plugins")).unwrap() {
        let directory = entry.unwrap().path();
        if !directory.join("Cargo.toml").is_file() {
            continue;
        }
        let readme = directory.join("README.md");
        let snippets = snippets(&readme);
        assert!(
            !snippets.is_empty(),
            "{}: no configuration",
            readme.display()
        );
        for snippet in snippets {
            check(&readme.display().to_string(), &format!("{FRAME}{snippet}")).await;
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
}

#[tokio::test]
async fn the_recipes_of_the_cookbook_are_taken() {
    let snippets = snippets(&repository().join("docs/plugins/cookbook.md"));
    assert!(snippets.len() >= 10, "{}", snippets.len());
    for snippet in snippets {
        let name = snippet.lines().next().unwrap_or_default().to_owned();
        check(&format!("cookbook: {name}"), &format!("{FRAME}{snippet}")).await;
    }
}

#[tokio::test]
async fn the_examples_with_plugins_are_taken() {
    let mut count = 0;
    for entry in fs::read_dir(repository().join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("[[plugin]]") {
            check(&path.display().to_string(), &text).await;
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn the_plugins_of_the_cookbook_are_examples_that_compile() {
    let cookbook = fs::read_to_string(repository().join("docs/plugins/cookbook.md")).unwrap();
    let examples = fs::read_dir(repository().join("plugins/sdk/rust/examples")).unwrap();
    let examples: Vec<String> = examples
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let blocks: Vec<&str> = cookbook
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 6, "{}", blocks.len());
    for block in blocks {
        let found = examples
            .iter()
            .any(|example| example.contains(block.trim()));
        assert!(found, "no example has this:\n{block}");
    }
}
