//! A plugin's own section of the configuration, as it reads it: typed leaves by
//! path, keys, and JSON text.

use std::sync::OnceLock;

use serde_json::Value as Json;
use toml::Value as Toml;

use crate::digest::Digest;

/// The section, read-only.
#[derive(Debug)]
pub(crate) struct ConfigTree {
    root: Toml,
    /// JSON of the whole section: what most plugins ask for on each call.
    whole: OnceLock<String>,
    revision: u64,
}

/// A leaf of the section.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leaf {
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

impl ConfigTree {
    pub(crate) fn new(table: toml::Table) -> Self {
        let tree = Self {
            root: Toml::Table(table),
            whole: OnceLock::new(),
            revision: 0,
        };
        let digest = Digest::of(tree.whole().as_bytes());
        let (head, _) = digest
            .as_bytes()
            .split_first_chunk()
            .expect("a digest has more than eight octets");
        Self {
            revision: u64::from_be_bytes(*head),
            ..tree
        }
    }

    /// The leaf at a path; `None`: nothing there, or a table or array.
    pub(crate) fn get(&self, path: &str) -> Option<Leaf> {
        match self.at(path)? {
            Toml::Boolean(value) => Some(Leaf::Boolean(*value)),
            Toml::Integer(value) => Some(Leaf::Integer(*value)),
            Toml::Float(value) => Some(Leaf::Real(*value)),
            Toml::String(value) => Some(Leaf::Text(value.clone())),
            Toml::Datetime(value) => Some(Leaf::Text(value.to_string())),
            Toml::Array(_) | Toml::Table(_) => None,
        }
    }

    /// Keys of a table, or positions in an array; in the order written.
    pub(crate) fn keys(&self, path: &str) -> Vec<String> {
        match self.at(path) {
            Some(Toml::Table(table)) => table.keys().cloned().collect(),
            Some(Toml::Array(array)) => (0..array.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// JSON text of a sub-tree; `null`: nothing there.
    pub(crate) fn json(&self, path: &str) -> String {
        if path.is_empty() {
            return self.whole().to_owned();
        }
        self.at(path)
            .map_or_else(|| "null".to_owned(), |value| to_json(value).to_string())
    }

    /// Differs where the content does.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn whole(&self) -> &str {
        self.whole.get_or_init(|| to_json(&self.root).to_string())
    }

    fn at(&self, path: &str) -> Option<&Toml> {
        split(path)?
            .iter()
            .try_fold(&self.root, |value, key| match value {
                Toml::Table(table) => table.get(key),
                Toml::Array(array) => array.get(key.parse::<usize>().ok()?),
                _ => None,
            })
    }
}

/// Keys of a dotted path; a key with a dot in it is quoted, as in TOML. `None`:
/// no path.
fn split(path: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if !keys.is_empty() {
            rest = rest.strip_prefix('.')?;
        }
        let (key, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_key(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        keys.push(key);
        rest = after;
    }
    Some(keys)
}

/// The key up to the closing quote, and what follows; `\"` and `\\` stand for
/// themselves.
fn quoted_key(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((key, &text[at + 1..])),
            '\\' => key.push(characters.next()?.1),
            other => key.push(other),
        }
    }
    None
}

fn to_json(value: &Toml) -> Json {
    match value {
        Toml::Boolean(value) => Json::Bool(*value),
        Toml::Integer(value) => Json::from(*value),
        // JSON has no infinity and no NaN.
        Toml::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Toml::String(value) => Json::String(value.clone()),
        Toml::Datetime(value) => Json::String(value.to_string()),
        Toml::Array(values) => values.iter().map(to_json).collect(),
        Toml::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> ConfigTree {
        let text = r#"
            smarthost.port = 25
            ratio = 0.5
            [[pools]]
            name = "a"
            [routes."*.example.com"]
            host = "relay.example"
            [odd]
            "say \"x\"" = true
        "#;
        ConfigTree::new(text.parse().unwrap())
    }

    #[test]
    fn leaves_by_path() {
        let tree = tree();
        assert_eq!(tree.get("smarthost.port"), Some(Leaf::Integer(25)));
        assert_eq!(tree.get("ratio"), Some(Leaf::Real(0.5)));
        assert_eq!(tree.get("pools.0.name"), Some(Leaf::Text("a".into())));
        assert_eq!(
            tree.get(r#"routes."*.example.com".host"#),
            Some(Leaf::Text("relay.example".into()))
        );
        assert_eq!(tree.get(r#"odd."say \"x\"""#), Some(Leaf::Boolean(true)));
        for path in [
            "",
            "smarthost",
            "pools.1.name",
            "smarthost.port.x",
            "smarthost..port",
            "\"smarthost",
        ] {
            assert_eq!(tree.get(path), None, "{path:?}");
        }
    }

    #[test]
    fn keys_and_json() {
        let tree = tree();
        assert_eq!(
            tree.keys(""),
            ["smarthost", "ratio", "pools", "routes", "odd"]
        );
        assert_eq!(tree.keys("pools"), ["0"]);
        assert_eq!(tree.keys("ratio"), [""; 0]);
        assert_eq!(tree.json("smarthost"), r#"{"port":25}"#);
        assert_eq!(tree.json("nothing"), "null");
        let whole: Json = serde_json::from_str(&tree.json("")).unwrap();
        assert_eq!(whole["pools"][0]["name"], "a");
    }

    #[test]
    fn the_revision_follows_the_content() {
        let revision = |text: &str| ConfigTree::new(text.parse().unwrap()).revision();
        assert_eq!(revision("a = 1"), revision("a   =   1"));
        assert_ne!(revision("a = 1"), revision("a = 2"));
    }
}
