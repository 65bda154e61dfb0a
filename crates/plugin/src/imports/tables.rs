//! `tables`: read-only tables of the administrator.

use crate::bindings::tables;
use crate::state::CallState;

type TableResult<T> = wasmtime::Result<Result<T, tables::TableError>>;

impl CallState {
    fn no_table<T>(&mut self, table: String) -> TableResult<T> {
        self.charge(1)?;
        Ok(Err(tables::TableError::Denied(table)))
    }
}

impl tables::Host for CallState {
    fn get(&mut self, table: String, _key: String) -> TableResult<Option<String>> {
        self.no_table(table)
    }

    fn get_many(&mut self, table: String, _keys: Vec<String>) -> TableResult<Vec<Option<String>>> {
        self.no_table(table)
    }

    fn match_domain(
        &mut self,
        table: String,
        _name: String,
    ) -> TableResult<Option<(String, String)>> {
        self.no_table(table)
    }

    fn match_ip(&mut self, table: String, _ip: String) -> TableResult<Option<(String, String)>> {
        self.no_table(table)
    }

    fn revision(&mut self, table: String) -> TableResult<u64> {
        self.no_table(table)
    }
}
