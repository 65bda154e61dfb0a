//! The file as a tree of keys and values with their places, and how checked
//! values are taken out of it. Whoever takes a value names the key: that is the
//! list of known keys, so there is no second one to forget.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Diagnostic, Severity};
use super::value::{self, Wrong};

/// Where faults are noted while reading goes on.
#[derive(Debug, Default)]
pub(super) struct Notes {
    diagnostics: RefCell<Vec<Diagnostic>>,
    asked: RefCell<BTreeSet<String>>,
    incomplete: bool,
}

impl Notes {
    /// `incomplete`: the text has syntax errors, so that nothing follows from
    /// the absence of a key.
    pub(super) fn new(incomplete: bool) -> Self {
        Self {
            incomplete,
            ..Self::default()
        }
    }

    /// Notes one fault.
    pub(super) fn add(
        &self,
        severity: Severity,
        key: &str,
        span: Option<Range<usize>>,
        wrong: Wrong,
    ) {
        self.diagnostics.borrow_mut().push(Diagnostic {
            severity,
            line: 0,
            column: 0,
            key: key.to_owned(),
            message: wrong.message,
            help: wrong.help,
            span,
            related: None,
        });
    }

    /// Notes that a value repeats what is at `first`.
    pub(super) fn add_repeated(&self, node: &Node<'_>, first: Range<usize>, wrong: Wrong) {
        self.add(Severity::Error, &node.path, Some(node.span()), wrong);
        if let Some(diagnostic) = self.diagnostics.borrow_mut().last_mut() {
            diagnostic.related = Some((first, "first here".to_owned()));
        }
    }

    /// All faults, and all keys that were asked for (`plugin[].name`).
    pub(super) fn into_parts(self) -> (Vec<Diagnostic>, BTreeSet<String>) {
        (self.diagnostics.into_inner(), self.asked.into_inner())
    }
}

/// One value of the file with its dotted path.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    /// `queue.retry[2]`.
    pub(super) path: String,
    value: &'t Spanned<DeValue<'t>>,
    notes: &'t Notes,
}

impl<'t> Node<'t> {
    /// Its octets in the file.
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// The value itself.
    pub(super) fn value(&self) -> &'t Spanned<DeValue<'t>> {
        self.value
    }

    /// Notes that this value cannot be used.
    pub(super) fn error(&self, wrong: Wrong) {
        self.notes
            .add(Severity::Error, &self.path, Some(self.span()), wrong);
    }

    /// Notes that this value is hardly what was meant.
    pub(super) fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        let wrong = Wrong::new(message, help);
        self.notes
            .add(Severity::Warning, &self.path, Some(self.span()), wrong);
    }

    fn wrong_type(&self, wanted: &str) {
        let found = self.value.get_ref().type_str();
        let help = format!("write {wanted}");
        self.error(Wrong::new(format!("this is of type {found}"), help));
    }

    /// The value as a string. `wanted` ends the sentence "write …".
    pub(super) fn text(&self, wanted: &str) -> Option<&'t str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(wanted);
        }
        text
    }

    /// The value as `parse` reads its text.
    pub(super) fn parsed<T>(
        &self,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let result = parse(self.text(wanted)?);
        result.map_err(|wrong| self.error(wrong)).ok()
    }

    /// The value as a whole number that is not negative.
    fn number(&self) -> Option<u64> {
        let integer = self.value.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The value as a duration in `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let wanted = "a duration in quotes, as in \"5m\", \"2h30m\" or \"250ms\"";
        let duration = self.parsed(wanted, value::duration)?;
        self.in_range(duration, range, value::show_duration)
    }

    fn in_range<T: PartialOrd + Copy>(
        &self,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = (show(*range.start()), show(*range.end()));
        let side = if value < *range.start() {
            "small"
        } else {
            "large"
        };
        self.error(Wrong::new(
            format!("{} is too {side}", show(value)),
            format!("write a value from {least} to {most}"),
        ));
        None
    }

    /// The members of an array; a fault and none where it is not one.
    pub(super) fn members(&self, wanted: &str) -> Option<Vec<Node<'t>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            self.wrong_type(wanted);
            return None;
        };
        let member = |(index, value)| Node {
            path: format!("{}[{index}]", self.path),
            value,
            notes: self.notes,
        };
        Some(array.iter().enumerate().map(member).collect())
    }

    /// Whether the value is an array or a table.
    pub(super) fn is_compound(&self) -> bool {
        self.value.get_ref().is_array() || self.value.get_ref().is_table()
    }

    /// The value as a table of known keys.
    pub(super) fn section(&self) -> Section<'t> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type("a table");
        }
        Section {
            path: self.path.clone(),
            span: Some(self.span()),
            table,
            known: Vec::new(),
            notes: self.notes,
        }
    }
}

/// A table whose keys are known. Every reading method takes the key's default
/// and returns it where the key is missing or, after noting the fault, wrong.
#[derive(Debug)]
#[must_use = "finish() reports unknown keys"]
pub(super) struct Section<'t> {
    path: String,
    span: Option<Range<usize>>,
    table: Option<&'t DeTable<'t>>,
    known: Vec<&'static str>,
    notes: &'t Notes,
}

impl<'t> Section<'t> {
    /// The top of the file.
    pub(super) fn root(table: &'t DeTable<'t>, notes: &'t Notes) -> Self {
        Self {
            path: String::new(),
            span: None,
            table: Some(table),
            known: Vec::new(),
            notes,
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of `key`, which is a known key from now on.
    pub(super) fn node(&mut self, key: &'static str) -> Option<Node<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
            self.notes
                .asked
                .borrow_mut()
                .insert(without_indexes(&self.path_of(key)));
        }
        let value = self.table?.get(key)?;
        Some(Node {
            path: self.path_of(key),
            value,
            notes: self.notes,
        })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, key: &'static str, help: &str) -> Option<Node<'t>> {
        let node = self.node(key);
        // A section that is no table has been reported already.
        if node.is_none() && self.table.is_some() && !self.notes.incomplete {
            let wrong = Wrong::new(format!("`{key}` is missing"), help);
            self.notes
                .add(Severity::Error, &self.path, self.span.clone(), wrong);
        }
        node
    }

    /// Notes a fault of the value of `key`, or of the section where the fault
    /// comes from the default.
    pub(super) fn fault(&mut self, severity: Severity, key: &'static str, wrong: Wrong) {
        let span = self
            .node(key)
            .map_or_else(|| self.span.clone(), |node| Some(node.span()));
        self.notes.add(severity, &self.path_of(key), span, wrong);
    }

    /// The table under `key`; an empty one where it is missing.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'t> {
        match self.node(key) {
            Some(node) => node.section(),
            None => Section {
                path: self.path_of(key),
                span: self.span.clone(),
                table: None,
                known: Vec::new(),
                notes: self.notes,
            },
        }
    }

    /// The members of an array, none where the key is missing.
    pub(super) fn list(&mut self, key: &'static str, wanted: &str) -> Option<Vec<Node<'t>>> {
        self.node(key)?.members(wanted)
    }

    /// An array of which every member is read by `parse`; empty where missing.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let members = self.list(key, wanted).unwrap_or_default();
        members
            .iter()
            .filter_map(|node| node.parsed(wanted, &parse))
            .collect()
    }

    /// A string, read by `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.node(key)?.parsed(wanted, parse)
    }

    /// A size in octets.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(node) = self.node(key) else {
            return default;
        };
        let wanted = "a size, as in \"50MiB\"";
        let size = node.number().or_else(|| node.parsed(wanted, value::size));
        size.and_then(|size| node.in_range(size, &range, value::show_size))
            .unwrap_or(default)
    }

    /// A whole number.
    pub(super) fn count<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<u64> + PartialOrd + Copy + Display,
    {
        let Some(node) = self.node(key) else {
            return default;
        };
        let (least, most) = (range.start(), range.end());
        if node.value.get_ref().as_integer().is_none() {
            node.wrong_type(&format!(
                "a whole number from {least} to {most}, without quotes"
            ));
            return default;
        }
        match node.number().and_then(|number| T::try_from(number).ok()) {
            Some(number) => node
                .in_range(number, &range, |n| n.to_string())
                .unwrap_or(default),
            None => {
                let help = format!("write a value from {least} to {most}");
                node.error(Wrong::new("the number is out of range", help));
                default
            }
        }
    }

    /// A duration.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.node(key)
            .and_then(|node| node.duration(&range))
            .unwrap_or(default)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.node(key) else {
            return default;
        };
        let value = node.value.get_ref().as_bool();
        if value.is_none() {
            node.wrong_type("true or false, without quotes");
        }
        value.unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let wanted = format!("one of {}", words.join(", "));
        let parse = |text: &str| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, choice)| *choice).ok_or_else(|| {
                Wrong::new(
                    format!("there is no {text:?} here"),
                    format!("write {wanted}"),
                )
            })
        };
        self.parsed(key, &wanted, parse).unwrap_or(default)
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table
            .keys()
            .filter(|key| !self.known.contains(&key.get_ref().as_ref()))
        {
            let name = key.get_ref();
            let help = match value::nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match self.known_elsewhere(name) {
                    Some(place) => format!("this key belongs into {place}"),
                    None => format!("known here: {}", self.known.join(", ")),
                },
            };
            let wrong = Wrong::new("there is no such key", help);
            self.notes.add(
                Severity::Error,
                &self.path_of(name),
                Some(key.span()),
                wrong,
            );
        }
    }

    /// The section that has a key of this name. Sections are finished in the
    /// order in which they are read and the top of the file comes last, which
    /// is where misplaced keys end up.
    fn known_elsewhere(&self, key: &str) -> Option<String> {
        let asked = self.notes.asked.borrow();
        let place = asked
            .iter()
            .find_map(|path| path.strip_suffix(key)?.strip_suffix('.'))?;
        Some(match place.strip_suffix("[]") {
            Some(array) => format!("[[{array}]]"),
            None => format!("[{place}]"),
        })
    }
}

/// `plugin[3].name` → `plugin[].name`.
fn without_indexes(path: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        inside = match c {
            '[' => true,
            ']' => false,
            _ => inside,
        };
        !inside || *c == '['
    };
    path.chars().filter(keep).collect()
}
