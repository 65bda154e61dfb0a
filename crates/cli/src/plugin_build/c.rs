//! C: bindings from the contract, any compiler that knows WebAssembly, and the component made here.
//!
//! Plugins in C are freestanding: there is no C library, so there is none to install.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::world::{self, World};
use super::{install, tool};
use crate::plugin_project::Project;

/// Names the compiler to use; without it one is looked for.
const CHOICE: &str = "WAYPOST_CC";

/// What the stack may use; below it is nothing, so an overflow is a trap.
const STACK_BYTES: u32 = 64 << 10;

/// A compiler, and how it is called.
#[derive(Debug, PartialEq, Eq)]
struct Compiler {
    program: PathBuf,
    arguments: Vec<&'static str>,
}

/// Builds with the first compiler that is there.
pub(super) fn build(project: &Project) -> anyhow::Result<()> {
    let compiler = compiler()?;
    let wit = world::write(project)?;
    let bindings = project.build_directory().join("bindings");
    std::fs::create_dir_all(&bindings)
        .with_context(|| format!("cannot make {}", bindings.display()))?;
    for (name, text) in World::read(&wit)?.c_bindings()? {
        std::fs::write(bindings.join(name), text)?;
    }
    let sdk = project.vendor.join("sdk/c");
    let module = project.build_directory().join("module.wasm");
    let mut command = Command::new(&compiler.program);
    command
        .args(&compiler.arguments)
        .args(["-std=c17", "-Os", "-ffreestanding", "-nostdlib"])
        // Copies as instructions; every engine of the component model has them.
        .arg("-mbulk-memory")
        .args(["-Wall", "-Wextra"])
        .arg("-isystem")
        .arg(sdk.join("include"))
        .arg("-I")
        .arg(&sdk)
        // Generated code is not the author's to mend.
        .arg("-isystem")
        .arg(&bindings);
    for phase in &project.phases {
        command.arg(format!(
            "-DWP_PHASE_{}",
            phase.as_str().to_ascii_uppercase()
        ));
    }
    command
        .arg(&project.source)
        .arg(sdk.join("waypost.c"))
        .arg("-Wno-unused-parameter")
        .arg(bindings.join(format!("{}.c", world::WORLD)))
        // Names of functions stay, for the backtraces in the relay's log.
        .args(["-Wl,--no-entry", "-Wl,--strip-debug", "-Wl,--stack-first"])
        .arg(format!("-Wl,-z,stack-size={STACK_BYTES}"))
        .arg("-o")
        .arg(&module);
    tool::run(&mut command)?;
    let octets = std::fs::read(&module)?;
    let component = World::read(&wit)?
        .componentize(octets)
        .with_context(|| format!("{} cannot become a component", module.display()))?;
    install(&component, &project.component())
}

fn compiler() -> anyhow::Result<Compiler> {
    let clang = |program| Compiler {
        program,
        arguments: vec!["--target=wasm32-unknown-unknown"],
    };
    if let Some(choice) = std::env::var_os(CHOICE) {
        return Ok(clang(choice.into()));
    }
    if let Some(program) = tool::find("clang")
        && (tool::find("wasm-ld").is_some())
    {
        return Ok(clang(program));
    }
    if let Some(program) = tool::find("zig") {
        return Ok(Compiler {
            program,
            arguments: vec!["cc", "-target", "wasm32-freestanding"],
        });
    }
    if let Some(program) = tool::find("python3")
        && tool::works(&program, &["-m", "ziglang", "version"])
    {
        return Ok(Compiler {
            program,
            arguments: vec!["-m", "ziglang", "cc", "-target", "wasm32-freestanding"],
        });
    }
    bail!(
        "no C compiler for WebAssembly is here. One of these is enough:\n  \
         clang and wasm-ld, in Debian: apt-get install clang lld\n  \
         zig, from PyPI: python3 -m pip install ziglang\n\
         or say in {CHOICE} which clang to use"
    )
}
