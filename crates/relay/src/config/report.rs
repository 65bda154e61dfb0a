//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but does hardly what was meant.
    Warning,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Line in the file from 1; 0 where the fault has no place in it.
    pub line: usize,
    /// Column in characters from 1; 0 where the fault has no place in the file.
    pub column: usize,
    /// Dotted path of the key, as in `plugin[0].limits`; empty for the file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// Octets of the file that are at fault.
    pub(super) span: Option<Range<usize>>,
    /// Another place that has to do with it, and how.
    pub(super) related: Option<(Range<usize>, String)>,
}

/// Diagnostics together with the text they are about, in the text's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    name: String,
    text: Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Puts diagnostics in the text's order and fills in lines and columns.
    pub(super) fn new(name: &Path, text: Arc<str>, mut diagnostics: Vec<Diagnostic>) -> Self {
        for diagnostic in &mut diagnostics {
            if let Some(span) = &mut diagnostic.span {
                *span = visible(&text, span);
                (diagnostic.line, diagnostic.column) = line_and_column(&text, span.start);
            }
        }
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        Self {
            name: name.display().to_string(),
            text,
            diagnostics,
        }
    }

    /// The name and the text of the file.
    pub(super) fn source(&self) -> (&str, &Arc<str>) {
        (&self.name, &self.text)
    }

    /// The diagnostics.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// For a terminal: each diagnostic with its line, a caret and what would be
    /// right; with ANSI colours if `color`. Empty when there is none.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let rendered: Vec<String> = self
            .diagnostics
            .iter()
            .map(|diagnostic| renderer.render(&[self.group(diagnostic)]))
            .collect();
        rendered.join("\n\n")
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = match diagnostic.key.as_str() {
            "" => diagnostic.message.clone(),
            key => format!("{key}: {}", diagnostic.message),
        };
        let title = level.primary_title(title);
        let Some(span) = &diagnostic.span else {
            let group = title.element(annotate_snippets::Origin::path(self.name.as_str()));
            return group.element(Level::HELP.message(diagnostic.help.as_str()));
        };
        let mut snippet = Snippet::source(&*self.text)
            .path(self.name.as_str())
            .annotation(labelled(AnnotationKind::Primary, span, &diagnostic.help));
        if let Some((span, label)) = &diagnostic.related {
            snippet = snippet.annotation(labelled(AnnotationKind::Context, span, label));
        }
        title.element(snippet)
    }
}

impl fmt::Display for Report {
    /// [`Report::render`] without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Why a configuration was refused: at least one error, with the warnings
/// that were found on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Report);

impl ConfigErrors {
    /// Some of `report` are errors.
    pub(super) fn new(report: Report) -> Self {
        Self(report)
    }

    /// The file could not be read at all.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            line: 0,
            column: 0,
            key: String::new(),
            message: format!("cannot read the configuration: {error}"),
            help: "name a file of UTF-8 text that this user may read".to_owned(),
            span: None,
            related: None,
        };
        Self(Report::new(path, Arc::from(""), vec![diagnostic]))
    }

    /// How many errors there are, warnings not counted.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.errors().count()
    }

    /// The errors, without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        let all = self.0.diagnostics.iter();
        all.filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Errors and warnings in the file's order.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }

    /// See [`Report::render`]; a closing line counts the errors.
    pub fn render(&self, color: bool) -> String {
        let count = self.len();
        let errors = if count == 1 { "error" } else { "errors" };
        format!(
            "{}\n\n{}: {count} {errors}",
            self.0.render(color),
            self.0.name
        )
    }
}

impl fmt::Display for ConfigErrors {
    /// [`ConfigErrors::render`] without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

fn labelled<'a>(kind: AnnotationKind, span: &Range<usize>, label: &'a str) -> Annotation<'a> {
    kind.span(span.clone()).label(label)
}

/// The part of `span` on its first line: a caret under twenty lines of a
/// plugin's section shows nothing. Never beyond the text.
fn visible(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor_boundary(text, span.start);
    let end = floor_boundary(text, span.end.max(start));
    let first_line = text[start..end].lines().next().map_or(0, str::len);
    start..start + first_line
}

fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
