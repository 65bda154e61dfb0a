//! `waypost plugin new`: a complete plugin in an empty place, from what is in this binary.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use crate::plugin_project::{self, Language};

mod kit {
    //! The files of `plugins/`, put in by the build script.
    include!(concat!(env!("OUT_DIR"), "/kit.rs"));
}

/// Options of `waypost plugin new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// Name of the plugin: lower-case letters, digits and hyphens.
    name: String,
    /// What to write it in: rust, c, javascript or python.
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: String,
    /// Where; without it a directory called like the plugin.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Languages that cannot be offered, and why.
const MISSING: [(&[&str], &str); 4] = [
    (
        &["go", "golang", "tinygo"],
        "Plugins in Go cannot be built with what public registries have. TinyGo, whose modules need \
         no more than Waypost gives, is a compiler of its own and in none of the registries of Rust, npm, Python and \
         the Go module proxy. The usual Go compiler makes modules whose run-time system wants the \
         clocks and random numbers of WASI before the first line of the plugin runs, and Waypost \
         links no WASI. A component that TinyGo made elsewhere, by `wit-bindgen-go` from the \
         contract, works as any other.",
    ),
    (
        &["typescript", "ts"],
        "TypeScript has no compiler to WebAssembly of its own: begin with --lang javascript, let \
         `tsc` write plugin.js, and take the types from vendor/sdk/javascript/waypost.d.ts.",
    ),
    (
        &["csharp", "c#", "dotnet", "moonbit"],
        "The compiler to components for this language is in none of the registries of Rust, npm and Python. A \
         component that was made elsewhere from the contract works as any other.",
    ),
    (
        &["assemblyscript", "as"],
        "AssemblyScript is on npm, but nothing makes bindings to the component model for it.",
    ),
];

/// Writes the project, and says what comes next.
#[allow(clippy::print_stdout)] // the next steps are the answer
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let language = language(&args.lang)?;
    plugin_project::check_name(&args.name)?;
    let directory = args
        .directory
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    write(&directory, &args.name, language)?;
    println!(
        "{}: a plugin in {}. Its README.md says what is where; next:\n",
        directory.display(),
        language.as_str()
    );
    println!("    cd {}", directory.display());
    for line in tools(language) {
        println!("    {line}");
    }
    println!("    waypost plugin build\n    waypost plugin test");
    Ok(())
}

fn language(word: &str) -> anyhow::Result<Language> {
    let word = word.to_ascii_lowercase();
    let known = Language::value_variants()
        .iter()
        .find(|language| language.as_str() == word);
    let alias = match word.as_str() {
        "js" => Some(Language::JavaScript),
        "py" => Some(Language::Python),
        "rs" => Some(Language::Rust),
        _ => None,
    };
    if let Some(language) = known.copied().or(alias) {
        return Ok(language);
    }
    match MISSING
        .iter()
        .find(|(words, _)| words.contains(&word.as_str()))
    {
        Some((_, why)) => bail!("{why}"),
        None => bail!(
            "no template for {word:?}; there are rust, c, javascript and python. Any language whose \
             tools make components from the contract (`waypost plugin new --lang c` writes it to \
             vendor/wit) will do"
        ),
    }
}

/// What gets the tools, where the project itself can.
fn tools(language: Language) -> &'static [&'static str] {
    match language {
        Language::Rust => &["rustup target add wasm32-wasip2"],
        Language::C => &[],
        Language::JavaScript => &["npm install"],
        Language::Python => &[
            "python3 -m venv .venv",
            ".venv/bin/pip install -r requirements.txt",
        ],
    }
}

/// Writes a project into a directory that is not there yet, or empty.
fn write(directory: &Path, name: &str, language: Language) -> anyhow::Result<()> {
    let occupied = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).context(format!("cannot look at {}", directory.display())),
    };
    if occupied {
        bail!("{} is not empty; nothing was written", directory.display());
    }
    for (path, octets) in kit::FILES {
        let Some((to, is_template)) = place(path, language) else {
            continue;
        };
        let to = directory.join(to);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let text = std::str::from_utf8(octets).ok().filter(|_| is_template);
        let written = match text {
            Some(text) => std::fs::write(
                &to,
                text.replace("{{name}}", name)
                    .replace("{{language}}", language.as_str()),
            ),
            None => std::fs::write(&to, octets),
        };
        written.with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Where a file of the kit goes in a project, if it does, and whether the name is filled in.
fn place(path: &str, language: Language) -> Option<(PathBuf, bool)> {
    let of_templates = path.strip_prefix("templates/").and_then(|rest| {
        let (whose, file) = rest.split_once('/')?;
        (whose == "common" || whose == language.as_str()).then_some(file)
    });
    match of_templates {
        Some("gitignore") => Some((PathBuf::from(".gitignore"), true)),
        Some(template) => Some((PathBuf::from(template), true)),
        None => {
            let sdk = format!("sdk/{}/", language.as_str());
            let vendored = path.starts_with("wit/") || path.starts_with(&sdk);
            vendored.then(|| (Path::new("vendor").join(path), false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_gets_a_whole_project() {
        for language in Language::value_variants() {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("made");
            write(&root, "my-policy", *language).unwrap();
            let project = crate::plugin_project::Project::read(&root).unwrap();
            assert_eq!(project.name, "my-policy");
            assert_eq!(project.language, *language);
            assert!(project.source.is_file(), "{}", project.source.display());
            for file in [
                ".gitignore",
                "README.md",
                "waypost.toml",
                "cases/first.toml",
                "vendor/wit/waypost-policy.wit",
            ] {
                assert!(root.join(file).is_file(), "{}: {file}", language.as_str());
            }
            let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
            assert!(!readme.contains("{{"), "{readme}");
            let again = write(&root, "my-policy", *language).unwrap_err();
            assert!(again.to_string().contains("not empty"), "{again}");
        }
    }

    #[test]
    fn what_cannot_be_built_is_told_with_its_reason() {
        for (word, reason) in [("go", "TinyGo"), ("ts", "tsc"), ("cobol", "no template")] {
            let error = language(word).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(language("JS").unwrap(), Language::JavaScript);
    }
}
