//! The table is kept.

use super::table::CONSTANTS;
use super::*;

#[test]
fn every_metric_of_the_table_is_emitted() {
    let source = concat!(
        include_str!("mod.rs"),
        include_str!("limits.rs"),
        include_str!("plugins.rs"),
        include_str!("stores.rs"),
        include_str!("trials.rs"),
        include_str!("../policy/meters.rs")
    );
    for constant in CONSTANTS {
        let emitted = ["counter!(", "gauge!(", "histogram!("].iter().any(|call| {
            source.split(call).skip(1).any(|rest| {
                let name = rest.trim_start().strip_prefix(constant);
                name.is_some_and(|rest| rest.starts_with([',', ')']))
            })
        });
        assert!(emitted, "{constant} is in the table and nowhere else");
    }
}

#[test]
fn names_of_metrics_have_the_suffix_of_their_kind() {
    for row in TABLE {
        let is_total = row.name.ends_with("_total");
        assert_eq!(is_total, row.kind == Kind::Counter, "{}", row.name);
        assert!(row.name.starts_with("waypost_"), "{}", row.name);
    }
}
