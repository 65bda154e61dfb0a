//! `tables`: read-only tables of the administrator, for plugins with the grant.

use std::sync::Arc;

use smtp::Domain;

use crate::bindings::tables;
use crate::state::CallState;
use crate::table::{Table, TableFailure};

type TableResult<T> = wasmtime::Result<Result<T, tables::TableError>>;

/// The tables that a call has asked for: one version of each.
#[derive(Default)]
pub(crate) struct OpenTables(Vec<(String, Opened)>);

type Opened = Result<Arc<dyn Table>, TableFailure>;

impl tables::Host for CallState {
    fn get(&mut self, table: String, key: String) -> TableResult<Option<String>> {
        self.charge(1)?;
        Ok(self.in_table(&table, |table| table.get(&key)))
    }

    fn get_many(&mut self, table: String, keys: Vec<String>) -> TableResult<Vec<Option<String>>> {
        // Counted before any is looked for: a list is no way around the limit.
        self.charge(keys.len().max(1))?;
        Ok(self.in_table(&table, |table| {
            keys.iter().map(|key| table.get(key)).collect()
        }))
    }

    fn match_domain(
        &mut self,
        table: String,
        name: String,
    ) -> TableResult<Option<(String, String)>> {
        self.charge(1)?;
        let domain = name.parse::<Domain>();
        Ok(self.in_table(&table, |table| match &domain {
            Ok(domain) if !domain.is_literal() => table.match_domain(domain.as_str()),
            // What is no name is below no name.
            _ => Ok(None),
        }))
    }

    fn match_ip(&mut self, table: String, ip: String) -> TableResult<Option<(String, String)>> {
        self.charge(1)?;
        let address = ip.parse::<std::net::IpAddr>();
        Ok(self.in_table(&table, |table| match address {
            Ok(address) => table.match_ip(address.to_canonical()),
            Err(_) => Ok(None),
        }))
    }

    fn revision(&mut self, table: String) -> TableResult<u64> {
        self.charge(1)?;
        Ok(self.in_table(&table, |table| Ok(table.revision())))
    }
}

impl CallState {
    /// Asks the version of the table that this call has.
    fn in_table<T>(
        &mut self,
        name: &str,
        ask: impl FnOnce(&dyn Table) -> Result<T, TableFailure>,
    ) -> Result<T, tables::TableError> {
        if !self
            .profile
            .grants
            .tables
            .iter()
            .any(|granted| granted == name)
        {
            return Err(tables::TableError::Denied(name.to_owned()));
        }
        let open = &mut self.open_tables.0;
        let known = open.iter().find(|(known, _)| known == name);
        let table = match known {
            Some((_, table)) => table.clone(),
            None => {
                let table = self.environment.table(name);
                open.push((name.to_owned(), table.clone()));
                table
            }
        };
        Ok(ask(table?.as_ref())?)
    }
}

impl From<TableFailure> for tables::TableError {
    fn from(failure: TableFailure) -> Self {
        match failure {
            TableFailure::Unknown(name) => Self::Unknown(name),
            TableFailure::Denied(name) => Self::Denied(name),
            TableFailure::Unavailable(why) => Self::Unavailable(why),
        }
    }
}
