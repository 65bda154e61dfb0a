//! The programs of others that tests talk to, and the Debian packages they come in.
//!
//! One list: `cargo xtask test` reports from it what is missing, and the tests in `tests/peers`
//! look into it before they skip.

use std::path::PathBuf;

/// A program that is not ours and that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// What is typed to run it.
    pub(crate) name: &'static str,
    /// The Debian package that brings it.
    pub(crate) package: &'static str,
}

/// Postfix's load generator.
pub(crate) const SMTP_SOURCE: Program = Program {
    name: "smtp-source",
    package: "postfix",
};
/// Postfix's sink.
pub(crate) const SMTP_SINK: Program = Program {
    name: "smtp-sink",
    package: "postfix",
};
/// The Swiss army knife for SMTP.
pub(crate) const SWAKS: Program = Program {
    name: "swaks",
    package: "swaks",
};
/// Python, for its smtplib.
pub(crate) const PYTHON: Program = Program {
    name: "python3",
    package: "python3",
};
/// Prometheus' own checker of metrics.
pub(crate) const PROMTOOL: Program = Program {
    name: "promtool",
    package: "prometheus",
};
/// A C compiler that knows WebAssembly, for plugins in C.
pub(crate) const CLANG: Program = Program {
    name: "clang",
    package: "clang",
};
/// Its linker.
pub(crate) const WASM_LD: Program = Program {
    name: "wasm-ld",
    package: "lld",
};
/// For plugins in JavaScript; without it their tests are skipped even where peers are required.
#[allow(dead_code, reason = "xtask asks for what is required")]
pub(crate) const NPM: Program = Program {
    name: "npm",
    package: "npm",
};

/// Every program that some test needs.
#[allow(
    dead_code,
    reason = "the tests that share this file look single programs up"
)]
pub(crate) const ALL: [Program; 7] = [
    SMTP_SOURCE,
    SMTP_SINK,
    SWAKS,
    PYTHON,
    PROMTOOL,
    CLANG,
    WASM_LD,
];

impl Program {
    /// Where the program is, if it is installed: on PATH, or where Debian puts what only
    /// administrators run.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
            .map(|dir| dir.join(self.name))
            .find(|file| file.is_file())
    }
}
