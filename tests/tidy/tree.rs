//! The files of the repository, and Rust sources without what is not code.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file.
pub(crate) struct TextFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Rust only: comments blanked. Lines and columns stay where they are.
    pub(crate) uncommented: String,
    /// Rust only: comments and the insides of string and character literals blanked.
    pub(crate) code: String,
    /// Rust only: byte ranges that are compiled for tests alone.
    test_ranges: Vec<std::ops::Range<usize>>,
}

impl TextFile {
    fn new(path: String, text: String) -> Self {
        let (uncommented, code) = if path.ends_with(".rs") {
            strip(&text)
        } else {
            (text.clone(), text.clone())
        };
        // Examples of crates are measurements: programs, not product.
        let beside_product = ["/tests/", "/examples/", "/benches/"];
        let test_ranges = if path.starts_with("tests/")
            || beside_product.iter().any(|part| path.contains(part))
            || path.ends_with("/tests.rs")
        {
            std::iter::once(0..text.len()).collect()
        } else {
            test_ranges(&code)
        };
        Self {
            path,
            text,
            uncommented,
            code,
            test_ranges,
        }
    }

    /// Whether this is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the byte at `at` is compiled for tests alone.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.test_ranges.iter().any(|range| range.contains(&at))
    }

    /// `path:line` of a byte.
    pub(crate) fn place(&self, at: usize) -> String {
        format!(
            "{}:{}",
            self.path,
            self.text[..at].matches('\n').count() + 1
        )
    }
}

/// What the rules look at.
pub(crate) struct Tree {
    /// Sorted by path.
    pub(crate) files: Vec<TextFile>,
}

impl Tree {
    /// The repository's own files: what version control keeps, or, where that cannot be asked,
    /// everything but what is built or stored.
    pub(crate) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = tracked(&root).unwrap_or_else(|| {
            let mut paths = Vec::new();
            walk(&root, &mut paths);
            paths
        });
        paths.sort();
        let files: Vec<TextFile> = paths
            .into_iter()
            .filter_map(|path| {
                // What is not UTF-8 is not text.
                let text = std::fs::read_to_string(&path).ok()?;
                let relative = path.strip_prefix(&root).expect("walk starts there");
                Some(TextFile::new(relative.to_str()?.to_owned(), text))
            })
            .collect();
        assert!(
            files.len() > 50,
            "the walk found only {} files",
            files.len()
        );
        Self { files }
    }

    /// A tree for showing that a rule works.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| TextFile::new((*path).into(), (*text).into()));
        Self {
            files: files.collect(),
        }
    }

    /// The Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &TextFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The Markdown documents.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &TextFile> {
        self.files.iter().filter(|file| file.path.ends_with(".md"))
    }

    /// The file of this path.
    pub(crate) fn file(&self, path: &str) -> Option<&TextFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// What version control keeps. `None`: this is no clone.
///
/// Whoever runs the tests may put files of their own beside the sources; the rules are not for
/// those.
fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let listed = Command::new("git")
        // The clone may belong to somebody else than who runs the tests.
        .args(["-c", "safe.directory=*", "-C"])
        .arg(root)
        .args(["ls-files", "-z", "--cached"])
        .output()
        .ok()
        .filter(|listed| listed.status.success())?;
    let names = String::from_utf8(listed.stdout).ok()?;
    let names = names.split_terminator('\0');
    Some(names.map(|name| root.join(name)).collect())
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    // Build output (of every workspace in the tree), the quickstart's spool, version control.
    const SKIPPED: [&str; 4] = ["target", "var", ".git", "node_modules"];
    for entry in std::fs::read_dir(dir)
        .expect("the tree is readable")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            if !SKIPPED.iter().any(|name| path.ends_with(name)) {
                walk(&path, paths);
            }
        } else {
            paths.push(path);
        }
    }
}

/// Where `word` begins in `text`, at places where no longer identifier is cut.
pub(crate) fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let before = text[..at].chars().next_back();
            !word.starts_with(|first: char| first.is_alphanumeric())
                || !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
        })
}

/// The text without comments, and without comments and literals' insides.
///
/// A small lexer: enough for sources that rustc accepts, no more.
fn strip(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut uncommented = bytes.to_vec();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            let length = rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len());
            blank(&mut uncommented[at..at + length]);
            blank(&mut code[at..at + length]);
            length
        } else if rest.starts_with(b"/*") {
            let length = block_comment(rest);
            blank(&mut uncommented[at..at + length]);
            blank(&mut code[at..at + length]);
            length
        } else if let Some(length) = literal(rest, at.checked_sub(1).map(|before| bytes[before])) {
            blank(&mut code[at + 1..at + length - 1]);
            length
        } else {
            1
        };
        at += length;
    }
    let text = |bytes| String::from_utf8(bytes).expect("whole characters were blanked");
    (text(uncommented), text(code))
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// The length of a string or character literal that begins here, with its quotes.
fn literal(bytes: &[u8], before: Option<u8>) -> Option<usize> {
    if bytes[0] == b'r'
        && !before.is_some_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric() && byte != b'b')
    {
        let hashes = bytes[1..].iter().take_while(|&&byte| byte == b'#').count();
        if bytes.get(1 + hashes) != Some(&b'"') {
            return None;
        }
        let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        let inside = 2 + hashes;
        let length = bytes[inside..]
            .windows(end.len())
            .position(|window| window == end)?;
        return Some(inside + length + end.len());
    }
    if bytes[0] == b'"' {
        return quoted(bytes, b'"');
    }
    // A quote begins a character if it is escaped or closed after one, else a lifetime.
    if bytes[0] == b'\'' {
        if bytes.get(1) == Some(&b'\\') {
            return quoted(bytes, b'\'');
        }
        let character = std::str::from_utf8(&bytes[1..bytes.len().min(5)])
            .map_or_else(|error| 1 + error.valid_up_to(), |_| 4)
            .min(4);
        return (1..=character)
            .find(|&length| bytes.get(1 + length) == Some(&b'\''))
            .and_then(|length| {
                let inside = std::str::from_utf8(&bytes[1..=length]).ok()?;
                (inside.chars().count() == 1).then_some(length + 2)
            });
    }
    None
}

fn quoted(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// The items under `#[cfg(test)]`: up to the brace that closes them, or the semicolon.
fn test_ranges(code: &str) -> Vec<std::ops::Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut ranges = Vec::new();
    for (start, _) in code.match_indices(ATTRIBUTE) {
        let mut depth = 0;
        let length = code[start..].char_indices().find_map(|(at, character)| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            let ends = depth == 0 && (character == '}' || character == ';');
            ends.then_some(at + 1)
        });
        ranges.push(start..start + length.unwrap_or(code.len() - start));
    }
    ranges
}

#[test]
fn comments_and_literals_are_blanked() {
    let text = "let a = \"b // \\\" c\"; // d\nlet e = r#\"f \" g\"#; /* h /* i */ j */ k('l', '\\'', 'ü');\nfn m<'n>(o: &'n str) {}";
    let (uncommented, code) = strip(text);
    assert_eq!(uncommented.len(), text.len());
    assert!(uncommented.contains("b // \\\" c") && !uncommented.contains(" d"));
    for gone in ["b //", " d", "f ", "h ", " i ", " j ", "'l'"] {
        assert!(!code.contains(gone), "{gone:?} in {code}");
    }
    assert!(code.contains("k(") && code.contains("fn m<'n>(o: &'n str) {}"));
    assert_eq!(code.matches('\n').count(), 2);
}

#[test]
fn test_items_are_found() {
    let text = "fn a() { b(); }\n#[cfg(test)]\nmod tests { fn c() { \"}\" } }\nfn d() {}\n#[cfg(test)]\nmod e;\nfn f() {}";
    let file = TextFile::new("crates/x/src/a.rs".into(), text.into());
    for (word, is_test) in [
        ("b()", false),
        ("fn c", true),
        ("fn d", false),
        ("mod e", true),
        ("fn f", false),
    ] {
        assert_eq!(
            file.is_test(text.find(word).expect("it is there")),
            is_test,
            "{word}"
        );
    }
}
