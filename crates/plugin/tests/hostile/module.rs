//! Components made by hand from WebAssembly text: what no compiler would make.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use plugin::{Limits, PluginSpec};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The text of a core module that answers `route`.
///
/// Memory has 4 pages. A result lies at 16: its tag, the list of verdicts at 20, its length at
/// 24. One verdict is prepared at 1024, all zeros: no recipients named, no opinion, no note.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    imports: String,
    memory: String,
    parts: String,
    realloc: String,
    route: String,
}

impl Module {
    /// One whose `route` does this, and has to leave the address of its result.
    pub(crate) fn routing(route: &str) -> Self {
        Self {
            imports: String::new(),
            memory: "4".to_owned(),
            parts: String::new(),
            realloc: BUMP.to_owned(),
            route: route.to_owned(),
        }
    }

    /// One that answers with the prepared verdict after this was done to it.
    pub(crate) fn answering(change: &str) -> Self {
        Self::routing(&format!("{change}\n{ONE_VERDICT}"))
    }

    /// Functions of the host.
    pub(crate) fn importing(mut self, imports: &str) -> Self {
        self.imports.push_str(imports);
        self
    }

    /// More of a module: functions, tables, globals.
    pub(crate) fn with(mut self, parts: &str) -> Self {
        self.parts.push_str(parts);
        self
    }

    /// Pages of memory to begin with.
    pub(crate) fn memory(mut self, pages: &str) -> Self {
        pages.clone_into(&mut self.memory);
        self
    }

    /// What it does when the host asks for room.
    pub(crate) fn realloc(mut self, body: &str) -> Self {
        body.clone_into(&mut self.realloc);
        self
    }

    /// The component as a file, ready to load.
    pub(crate) fn write(&self, directory: &Path) -> PluginSpec {
        let Self {
            imports,
            memory,
            parts,
            realloc,
            route,
        } = self;
        let text = format!(
            r#"(module
            {imports}
            (memory (export "memory") {memory})
            (global $heap (mut i32) (i32.const 131072))
            {parts}
            (func (export "cabi_realloc")
                (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
                (result i32) {realloc})
            (func $route (export "{PHASE}#route") (param $request i32) (result i32) {route}))"#
        );
        write(&text, "routing-phase", directory)
    }
}

/// The contract's name of the phase of most of these.
pub(crate) const PHASE: &str = "waypost:policy/routing-phase@0.1.0";

/// Takes from the heap and never gives back.
const BUMP: &str = "
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (local.get $at)";

/// `ok` with the verdict at 1024.
pub(crate) const ONE_VERDICT: &str = "
    (i32.store (i32.const 20) (i32.const 1024))
    (i32.store (i32.const 24) (i32.const 1))
    (i32.const 16)";

/// Makes a component of a core module that exports this phase, or all of them for `*`.
pub(crate) fn write(text: &str, phase: &str, directory: &Path) -> PluginSpec {
    let mut resolve = Resolve::default();
    let wit = include_str!("../../../../plugins/wit/waypost-policy.wit");
    resolve.push_str("waypost-policy.wit", wit).unwrap();
    let phases = match phase {
        "*" => vec![
            "sender-phase",
            "recipient-phase",
            "message-phase",
            "routing-phase",
            "delivery-phase",
        ],
        one => vec![one],
    };
    let exports: String = phases
        .iter()
        .map(|phase| format!("export waypost:policy/{phase}@0.1.0;"))
        .collect();
    let world = format!(
        "package test:hostile; world hostile {{ include waypost:policy/imports@0.1.0; {exports} }}"
    );
    let package = resolve.push_str("world.wit", &world).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut core = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let path: PathBuf = directory.join("hostile.wasm");
    std::fs::write(&path, component).unwrap();
    PluginSpec {
        limits: Limits {
            cpu: std::time::Duration::from_millis(100),
            memory_bytes: 8 << 20,
            ..Limits::default()
        },
        ..PluginSpec::new("hostile", path)
    }
}
