//! A plugin's directory: what `waypost-plugin.toml` says of it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Name of the file that makes a directory a plugin's.
pub(crate) const MANIFEST: &str = "waypost-plugin.toml";

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    /// With cargo alone.
    Rust,
    /// Freestanding: no C library.
    C,
    /// By componentize-qjs, from npm.
    #[value(alias = "js")]
    JavaScript,
    /// By componentize-py, from PyPI.
    #[value(alias = "py")]
    Python,
}

impl Language {
    /// As it is written on the command line and in the manifest.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }
}

/// The manifest as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    name: String,
    language: Language,
    /// Names of phases; Rust says them in the source.
    #[serde(default)]
    phases: Vec<plugin::Phase>,
    source: Option<PathBuf>,
    vendor: Option<PathBuf>,
    cases: Option<PathBuf>,
}

/// A plugin's directory.
#[derive(Debug)]
pub(crate) struct Project {
    /// The directory.
    pub(crate) root: PathBuf,
    /// Name of the plugin and of its component.
    pub(crate) name: String,
    /// What it is written in.
    pub(crate) language: Language,
    /// What it exports besides `lifecycle`; empty for Rust.
    pub(crate) phases: Vec<plugin::Phase>,
    /// The source that the build begins with.
    pub(crate) source: PathBuf,
    /// Where the contract (`wit`) and the SDKs (`sdk`) are.
    pub(crate) vendor: PathBuf,
    /// Where the cases are.
    pub(crate) cases: PathBuf,
}

impl Project {
    /// The project in a directory. Without a manifest a Cargo package is taken for a plugin in
    /// Rust.
    ///
    /// # Errors
    /// When there is neither, or the manifest has a fault.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return cargo(root),
            Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
        };
        let raw: RawManifest =
            toml::from_str(&text).with_context(|| format!("{} has a fault", path.display()))?;
        check_name(&raw.name).with_context(|| format!("{} has a fault", path.display()))?;
        if raw.language != Language::Rust && raw.phases.is_empty() {
            bail!(
                "{}: `phases` is wanted, as in phases = [\"routing\"]",
                path.display()
            );
        }
        let usual = match raw.language {
            Language::Rust => "src/lib.rs",
            Language::C => "plugin.c",
            Language::JavaScript => "plugin.js",
            Language::Python => "plugin.py",
        };
        Ok(Self {
            root: root.to_owned(),
            name: raw.name,
            language: raw.language,
            phases: raw.phases,
            source: root.join(raw.source.unwrap_or_else(|| usual.into())),
            vendor: root.join(raw.vendor.unwrap_or_else(|| "vendor".into())),
            cases: root.join(raw.cases.unwrap_or_else(|| "cases".into())),
        })
    }

    /// What a build makes, and what may be thrown away.
    pub(crate) fn build_directory(&self) -> PathBuf {
        self.root.join("build")
    }

    /// The component that a build makes.
    pub(crate) fn component(&self) -> PathBuf {
        self.build_directory().join(format!("{}.wasm", self.name))
    }
}

/// Names become names of files, packages and C symbols.
///
/// # Errors
/// What a name looks like.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let fine = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !fine {
        bail!(
            "{name:?} is no name for a plugin: lower-case letters, digits and single hyphens are, 64 at most, a letter first"
        );
    }
    Ok(())
}

fn cargo(root: &Path) -> anyhow::Result<Project> {
    let path = root.join("Cargo.toml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        bail!(
            "{} has no {MANIFEST}; `waypost plugin new NAME --lang LANGUAGE` makes a directory that has",
            root.display()
        );
    };
    let manifest: toml::Table = text
        .parse()
        .with_context(|| format!("{} has a fault", path.display()))?;
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .with_context(|| format!("{} has no package", path.display()))?;
    Ok(Project {
        root: root.to_owned(),
        name: name.to_owned(),
        language: Language::Rust,
        phases: Vec::new(),
        source: root.join("src/lib.rs"),
        vendor: root.join("vendor"),
        cases: root.join("cases"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "my-policy", "p2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "a--b", "A", "a_b", "2a", "../a", "a b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_manifest_says_language_and_phases() {
        let directory = tempfile::tempdir().unwrap();
        let write = |text| std::fs::write(directory.path().join(MANIFEST), text).unwrap();
        write("name = 'p'\nlanguage = 'c'\nphases = ['routing', 'delivery']\n");
        let project = Project::read(directory.path()).unwrap();
        assert_eq!(project.language, Language::C);
        assert_eq!(
            project.phases,
            [plugin::Phase::Routing, plugin::Phase::Delivery]
        );
        assert_eq!(project.component(), directory.path().join("build/p.wasm"));
        for faulty in [
            "name = 'p'\nlanguage = 'c'\n",
            "name = 'p'\nlanguage = 'cobol'\nphases = ['routing']\n",
            "name = 'p'\nlanguage = 'c'\nphases = ['lunch']\n",
            "name = '../p'\nlanguage = 'c'\nphases = ['routing']\n",
        ] {
            write(faulty);
            assert!(Project::read(directory.path()).is_err(), "{faulty}");
        }
    }

    #[test]
    fn an_empty_directory_is_told_how_to_begin() {
        let directory = tempfile::tempdir().unwrap();
        let error = Project::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("waypost plugin new"), "{error}");
    }
}
