//! `config`: the plugin's own section.

use crate::bindings::config;
use crate::config_tree::Leaf;
use crate::state::CallState;

impl config::Host for CallState {
    fn get(&mut self, path: String) -> wasmtime::Result<Option<config::Value>> {
        self.charge(1)?;
        Ok(self.profile.config.get(&path).map(|leaf| match leaf {
            Leaf::Boolean(value) => config::Value::Boolean(value),
            Leaf::Integer(value) => config::Value::Integer(value),
            Leaf::Real(value) => config::Value::Real(value),
            Leaf::Text(value) => config::Value::Text(value),
        }))
    }

    fn keys(&mut self, path: String) -> wasmtime::Result<Vec<String>> {
        self.charge(1)?;
        Ok(self.profile.config.keys(&path))
    }

    fn json(&mut self, path: String) -> wasmtime::Result<String> {
        self.charge(1)?;
        Ok(self.profile.config.json(&path))
    }

    fn revision(&mut self) -> wasmtime::Result<u64> {
        self.charge(1)?;
        Ok(self.profile.config.revision())
    }
}
