//! Rules about documents: what they name exists.

use std::collections::BTreeSet;

use crate::tree::{TextFile, Tree, occurrences};

/// ARCHITECTURE.md is under this many lines, so that people read it.
const ARCHITECTURE_LINE_LIMIT: usize = 300;

/// A map that is as large as the land is no map.
pub(crate) fn architecture_length(tree: &Tree) -> Vec<String> {
    tree.file("ARCHITECTURE.md")
        .map(|file| file.text.lines().count())
        .filter(|length| *length >= ARCHITECTURE_LINE_LIMIT)
        .map(|length| {
            format!("ARCHITECTURE.md: {length} lines, not under {ARCHITECTURE_LINE_LIMIT}")
        })
        .into_iter()
        .collect()
}

/// Each decision is in the list of decisions and says whether it holds.
pub(crate) fn decisions(tree: &Tree) -> Vec<String> {
    const INDEX: &str = "docs/adr/README.md";
    let mut complaints = Vec::new();
    let index = tree.file(INDEX).map_or("", |file| file.text.as_str());
    for file in tree.documents() {
        let Some(name) = file
            .path
            .strip_prefix("docs/adr/")
            .filter(|name| *name != "README.md")
        else {
            continue;
        };
        if !name.get(..5).is_some_and(|number| {
            number.ends_with('-') && number[..4].bytes().all(|digit| digit.is_ascii_digit())
        }) {
            complaints.push(format!("{}: not named NNNN-….md", file.path));
        }
        if !index.contains(&format!("({name})")) {
            complaints.push(format!("{}: not listed in {INDEX}", file.path));
        }
        if !file
            .text
            .lines()
            .any(|line| line.trim_start_matches('*').starts_with("Status:"))
        {
            complaints.push(format!(
                "{}: has no line that begins with Status:",
                file.path
            ));
        }
    }
    complaints
}

/// Commands that README.md shows exist.
pub(crate) fn commands(tree: &Tree) -> Vec<String> {
    let Some(readme) = tree.file("README.md") else {
        return vec!["README.md: is missing".into()];
    };
    let mut complaints = Vec::new();
    let programs = [
        ("cargo xtask ", "crates/xtask/src/main.rs", "Parser)]"),
        ("waypost ", "crates/cli/src/main.rs", "Subcommand)]"),
    ];
    for (program, source, derive) in programs {
        let known = tree
            .file(source)
            .map(|file| subcommands(file, derive))
            .unwrap_or_default();
        for code in code_spans(&readme.text) {
            for at in occurrences(&readme.text[code.clone()], program) {
                let at = code.start + at;
                let word: String = readme.text[at + program.len()..]
                    .chars()
                    .take_while(|character| character.is_ascii_lowercase() || *character == '-')
                    .collect();
                if !word.is_empty() && !word.starts_with('-') && !known.contains(&word) {
                    complaints.push(format!("{}: {program}{word} is unknown", readme.place(at)));
                }
            }
        }
    }
    complaints
}

/// The variants of the enum that clap derives commands from, as clap spells them.
fn subcommands(file: &TextFile, derive: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in file.code.match_indices(derive) {
        let Some(body) = file.code[at..]
            .split_once("enum ")
            .and_then(|(_, rest)| rest.split_once('{'))
        else {
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        let mut name = String::new();
        for character in body.1.chars() {
            match character {
                '{' | '(' | '[' => depth += 1,
                '}' if depth == 0 => break,
                '}' | ')' | ']' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                letter if depth == 0 && fresh && letter.is_alphanumeric() => {
                    if letter.is_uppercase() && !name.is_empty() {
                        name.push('-');
                    }
                    name.extend(letter.to_lowercase());
                    continue;
                }
                _ => {}
            }
            if !name.is_empty() {
                names.insert(std::mem::take(&mut name));
                fresh = character == ',';
            }
        }
    }
    names
}

/// Fenced blocks and `code` in running text.
fn code_spans(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('`').map(|start| at + start) {
        let ticks = text[start..]
            .bytes()
            .take_while(|byte| *byte == b'`')
            .count();
        let inside = start + ticks;
        let Some(length) = text[inside..].find(&"`".repeat(ticks)) else {
            break;
        };
        spans.push(inside..inside + length);
        at = inside + length + ticks;
    }
    spans
}

/// Links inside of the repository lead somewhere, headings included.
pub(crate) fn links(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.documents() {
        let code = code_spans(&file.text);
        for (at, _) in file.text.match_indices("](") {
            let Some(link) = file.text[at + 2..].split(')').next() else {
                continue;
            };
            let foreign = link.contains("://") || link.starts_with("mailto:");
            if foreign || code.iter().any(|span| span.contains(&at)) {
                continue;
            }
            if let Some(complaint) = broken(tree, file, link) {
                complaints.push(format!("{}: {complaint}", file.place(at)));
            }
        }
    }
    complaints
}

fn broken(tree: &Tree, from: &TextFile, link: &str) -> Option<String> {
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, a)| (path, Some(a)));
    let target = resolve(&from.path, path);
    let Some(file) = tree.file(&target) else {
        let directory = format!("{}/", target.trim_end_matches('/'));
        let exists = tree
            .files
            .iter()
            .any(|file| file.path.starts_with(&directory));
        return (!exists).then(|| format!("{link} leads nowhere"));
    };
    let anchor = anchor?;
    (!anchors(&file.text).contains(anchor)).then(|| format!("{path} has no heading #{anchor}"))
}

/// `path` as seen from the directory of `from`; an empty one is `from` itself.
fn resolve(from: &str, path: &str) -> String {
    if path.is_empty() {
        return from.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Headings as GitHub turns them into anchors.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if !fenced && line.starts_with('#') {
            let kept =
                line.trim_start_matches('#').trim().chars().filter_map(
                    |character| match character {
                        ' ' => Some('-'),
                        '-' | '_' => Some(character),
                        letter if letter.is_alphanumeric() => Some(letter),
                        _ => None,
                    },
                );
            anchors.insert(kept.collect::<String>().to_lowercase());
        }
    }
    anchors
}
