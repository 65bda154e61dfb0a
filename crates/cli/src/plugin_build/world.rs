//! The world of a plugin: the contract's imports, and the phases it exports.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wit_bindgen_core::Files;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::plugin_project::Project;

/// Name of the world: the C bindings are called after it.
pub(super) const WORLD: &str = "plugin";
/// The contract.
const PACKAGE: &str = "waypost:policy";
const VERSION: &str = "0.1.0";

/// Writes the world of a project, with the contract beside it, and gives the directory.
///
/// # Errors
/// When the contract is not there or the directory cannot be written.
pub(super) fn write(project: &Project) -> anyhow::Result<PathBuf> {
    let directory = project.build_directory().join("wit");
    let contract = project.vendor.join("wit/waypost-policy.wit");
    let text = std::fs::read(&contract).with_context(|| {
        format!(
            "cannot read the contract, {}; is `vendor` right in the manifest?",
            contract.display()
        )
    })?;
    let beside = directory.join("deps/waypost-policy");
    std::fs::create_dir_all(&beside)
        .with_context(|| format!("cannot make {}", beside.display()))?;
    std::fs::write(beside.join("waypost-policy.wit"), text)?;
    std::fs::write(directory.join("world.wit"), text_of(project))?;
    Ok(directory)
}

fn text_of(project: &Project) -> String {
    let mut text = format!(
        "package waypost:{WORLD};\n\nworld {WORLD} {{\n    include {PACKAGE}/imports@{VERSION};\n    export {PACKAGE}/lifecycle@{VERSION};\n"
    );
    for phase in &project.phases {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "    export {PACKAGE}/{}-phase@{VERSION};",
            phase.as_str()
        );
    }
    text.push_str("}\n");
    text
}

/// A world that has been read.
pub(super) struct World {
    resolve: Resolve,
    id: WorldId,
}

impl World {
    /// Reads the world that [`write()`] wrote.
    ///
    /// # Errors
    /// Faults of the contract's text.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut resolve = Resolve::default();
        let (package, _files) = resolve.push_path(directory)?;
        let id = resolve.select_world(&[package], Some(WORLD))?;
        Ok(Self { resolve, id })
    }

    /// Bindings for C: names of files and what is in them.
    ///
    /// # Errors
    /// What the generator does not know how to say in C.
    pub(super) fn c_bindings(mut self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let options = wit_bindgen_c::Opts {
            // The type of the component is put in by `componentize`, not by an object file.
            no_object_file: true,
            rename: self.short_names(),
            ..wit_bindgen_c::Opts::default()
        };
        let mut files = Files::default();
        options
            .build()
            .generate(&mut self.resolve, self.id, &mut files)?;
        Ok(files
            .iter()
            .map(|(name, text)| (name.to_owned(), text.to_vec()))
            .collect())
    }

    /// `wp_config` for `waypost:policy/config@0.1.0`, and so on: C has no name spaces.
    fn short_names(&self) -> Vec<(String, String)> {
        let world = &self.resolve.worlds[self.id];
        let names: BTreeSet<String> = world
            .imports
            .keys()
            .chain(world.exports.keys())
            .map(|key| self.resolve.name_world_key(key))
            .collect();
        names
            .into_iter()
            .map(|name| {
                let short = name.rsplit('/').next().unwrap_or(&name);
                let short = short.split('@').next().unwrap_or(short);
                let short = match short {
                    "types" => "wp".to_owned(),
                    "routes" => "wp_route".to_owned(),
                    other => format!("wp_{}", other.trim_end_matches("-phase").replace('-', "_")),
                };
                (name, short)
            })
            .collect()
    }

    /// Makes a component of a core module.
    ///
    /// # Errors
    /// What the module lacks of the world.
    pub(super) fn componentize(&self, mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        embed_component_metadata(&mut module, &self.resolve, self.id, StringEncoding::UTF8)?;
        let component = ComponentEncoder::default()
            .validate(true)
            .module(&module)?
            .encode()?;
        if component.is_empty() {
            bail!("the component is empty");
        }
        Ok(component)
    }
}
