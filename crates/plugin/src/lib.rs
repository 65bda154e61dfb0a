//! The WebAssembly policy host: the only crate that knows wasmtime.
