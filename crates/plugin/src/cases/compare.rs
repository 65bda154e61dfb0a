//! What an expected verdict states, held against the one that came.

use serde_json::Value as Json;
use toml::Value as Toml;

/// Adds a line for each difference. What `expected` leaves out is not compared;
/// keys may be written with `_` for `-`.
pub(super) fn compare(place: &str, expected: &Toml, found: &Json, differences: &mut Vec<String>) {
    match (expected, found) {
        (Toml::Table(expected), Json::Object(found)) => {
            for (key, value) in expected {
                let key = key.replace('_', "-");
                let inner = format!("{place}.{key}");
                match found.get(&key) {
                    Some(found) => compare(&inner, value, found, differences),
                    None => differences.push(format!(
                        "{inner}: expected {value}, there is none, only {}",
                        names(found)
                    )),
                }
            }
        }
        (Toml::Array(expected), Json::Array(found)) => {
            if expected.len() != found.len() {
                differences.push(format!(
                    "{place}: expected {} entries, got {}: {}",
                    expected.len(),
                    found.len(),
                    Json::from(found.clone())
                ));
                return;
            }
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{place}[{index}]"), expected, found, differences);
            }
        }
        _ if is_same_leaf(expected, found) => {}
        _ => differences.push(format!("{place}: expected {expected}, got {found}")),
    }
}

/// What there is instead of what was expected: a slip is seen at once.
fn names(found: &serde_json::Map<String, Json>) -> String {
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    names.join(", ")
}

fn is_same_leaf(expected: &Toml, found: &Json) -> bool {
    match expected {
        Toml::String(text) => found.as_str() == Some(text),
        Toml::Integer(number) => found.as_i64() == Some(*number),
        Toml::Boolean(flag) => found.as_bool() == Some(*flag),
        Toml::Float(number) => found.as_f64() == Some(*number),
        Toml::Datetime(_) | Toml::Array(_) | Toml::Table(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(expected: &str, found: &Json) -> Vec<String> {
        let expected: toml::Table = expected.parse().unwrap();
        let mut differences = Vec::new();
        compare("verdict", &Toml::Table(expected), found, &mut differences);
        differences
    }

    #[test]
    fn what_is_not_stated_is_not_compared() {
        let found =
            serde_json::json!({ "decision": "use-hops", "hops": [{ "host": "a", "port": 25 }] });
        assert_eq!(differences("hops = [{ host = 'a' }]", &found), [""; 0]);
    }

    #[test]
    fn each_difference_has_its_place() {
        let found = serde_json::json!({ "hops": [{ "host": "a", "port": 25 }], "flow": "next" });
        assert_eq!(
            differences(
                "flow = 'stop'\nnote = 'x'\nhops = [{ host = 'b', port = 25 }]",
                &found
            ),
            [
                r#"verdict.flow: expected "stop", got "next""#,
                r#"verdict.note: expected "x", there is none, only flow, hops"#,
                r#"verdict.hops[0].host: expected "b", got "a""#,
            ]
        );
        let found = serde_json::json!({ "hops": [] });
        assert_eq!(differences("hops = [1]", &found).len(), 1);
    }
}
