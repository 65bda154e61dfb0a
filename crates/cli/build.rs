//! Puts the contract, the SDKs and the templates into the binary, so that an installed `waypost`
//! can begin a plugin anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What of `plugins/` goes in.
const PARTS: [&str; 6] = [
    "wit",
    "sdk/rust",
    "sdk/c",
    "sdk/javascript",
    "sdk/python",
    "templates",
];

/// What lies about in them and does not.
const NOT: [&str; 6] = [
    "target",
    "build",
    "examples",
    "node_modules",
    "__pycache__",
    "Cargo.lock",
];

#[allow(clippy::print_stdout, reason = "so a build script speaks to cargo")]
fn main() -> std::io::Result<()> {
    let plugins = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("../../plugins")
        .canonicalize()?;
    let mut files = Vec::new();
    for part in PARTS {
        println!("cargo:rerun-if-changed={}", plugins.join(part).display());
        collect(&plugins, &plugins.join(part), &mut files)?;
    }
    files.sort();
    let mut code = String::from("pub(crate) const FILES: &[(&str, &[u8])] = &[\n");
    for name in files {
        let path = plugins.join(&name);
        // Writing to a string does not fail.
        let _ = writeln!(code, "    ({name:?}, include_bytes!({path:?})),");
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("kit.rs"), code)
}

/// Names of all files below a directory, relative to the root, with `/`.
fn collect(root: &Path, directory: &Path, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if NOT.contains(&&*name) || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
