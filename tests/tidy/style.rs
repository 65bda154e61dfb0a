//! Rules about how a file looks.

use crate::tree::{Tree, occurrences};

/// Files are at most this long.
const FILE_LINE_LIMIT: usize = 600;

/// Each source says first what it is.
pub(crate) fn module_comment(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| format!("{}:1: does not open with //!", file.path))
        .collect()
}

/// Nobody reads long files.
pub(crate) fn file_length(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        let length = file.text.lines().count();
        if length > FILE_LINE_LIMIT {
            complaints.push(format!(
                "{}: {length} lines, over {FILE_LINE_LIMIT}",
                file.path
            ));
        }
    }
    complaints
}

/// What is begun is finished: no reminders, no placeholders, no tests that do not run.
pub(crate) fn unfinished(tree: &Tree) -> Vec<String> {
    // Put together here, so that this file does not contain them.
    let reminders = [
        ["FIX", "ME"].concat(),
        ["TO", "DO"].concat(),
        ["XX", "X"].concat(),
    ];
    let code_words = [
        ["to", "do!"].concat(),
        ["unimple", "mented!"].concat(),
        ["db", "g!"].concat(),
        ["#[ig", "nore"].concat(),
    ];
    let mut complaints = Vec::new();
    for file in &tree.files {
        for word in &reminders {
            for at in occurrences(&file.text, word) {
                // `XXXX-XX-XX` is a form, not a reminder.
                let next = file.text[at + word.len()..].chars().next();
                if !next.is_some_and(|next| next.is_alphanumeric() || next == '_' || next == '-') {
                    complaints.push(format!("{}: {word}", file.place(at)));
                }
            }
        }
        for word in code_words.iter().filter(|_| file.is_rust()) {
            for at in occurrences(&file.code, word) {
                complaints.push(format!("{}: {word}", file.place(at)));
            }
        }
    }
    complaints
}

/// Names that say nothing.
pub(crate) fn type_names(tree: &Tree) -> Vec<String> {
    const EMPTY_WORDS: [&str; 7] = [
        "Manager", "Helper", "Helpers", "Util", "Utils", "Handler", "Info",
    ];
    // "Data" is in words that mean something ("Metadata"), hence with a capital and alone.
    const ALLOWED: [(&str, &str); 0] = [];
    let mut complaints = Vec::new();
    for file in tree.rust() {
        for keyword in ["struct ", "enum ", "trait ", "type ", "union "] {
            for at in occurrences(&file.code, keyword) {
                let name: String = file.code[at + keyword.len()..]
                    .chars()
                    .take_while(|character| character.is_alphanumeric() || *character == '_')
                    .collect();
                let empty =
                    EMPTY_WORDS.iter().any(|word| name.ends_with(word)) || name.ends_with("Data");
                let allowed = ALLOWED.iter().any(|(allowed, _reason)| *allowed == name);
                if empty && !allowed {
                    complaints.push(format!("{}: {name} says nothing", file.place(at)));
                }
            }
        }
    }
    complaints
}

/// A test that sleeps is slow on a fast machine and wrong on a slow one.
pub(crate) fn sleeping_tests(tree: &Tree) -> Vec<String> {
    const ALLOWED: [(&str, &str); 2] = [
        (
            "tests/peers/",
            "other programs tell nobody when they are ready: asked again, bounded",
        ),
        ("tests/tidy.rs", "shows this rule"),
    ];
    let mut complaints = Vec::new();
    for file in tree.rust() {
        if ALLOWED
            .iter()
            .any(|(path, _reason)| file.path.starts_with(path))
        {
            continue;
        }
        for at in occurrences(&file.code, "thread::sleep(") {
            if file.is_test(at) {
                complaints.push(format!("{}: a test sleeps", file.place(at)));
            }
        }
    }
    complaints
}
