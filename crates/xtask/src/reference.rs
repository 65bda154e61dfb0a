//! Writes the reference of the plugin contract, `docs/plugins/reference.md`, from the WIT.
//!
//! It reads the file line by line, as it is written: one item after the other, doc comments
//! before what they speak of. That is less than all of WIT, and enough for one file of ours; what
//! it does not understand it refuses.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

const CONTRACT: &str = "plugins/wit/waypost-policy.wit";
const PAGE: &str = "docs/plugins/reference.md";

/// Writes the page anew; with `check` only says whether it is current.
pub(crate) fn reference(root: &Path, check: bool) -> anyhow::Result<()> {
    let wit = fs::read_to_string(root.join(CONTRACT)).context(CONTRACT)?;
    let page = page(&wit)?;
    let path = root.join(PAGE);
    if !check {
        return fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"));
    }
    let committed = fs::read_to_string(&path).context(PAGE)?;
    ensure!(
        committed == page,
        "{PAGE} is not what {CONTRACT} says: run `cargo xtask reference`"
    );
    Ok(())
}

/// The page for a contract.
fn page(wit: &str) -> anyhow::Result<String> {
    let contract = read(wit)?;
    let mut page = format!(
        "# The contract `{}`\n\n\
         Made from [the WIT](../../{CONTRACT}) by `cargo xtask reference`; do not edit.\n\n\
         {}\n",
        contract.package,
        contract.docs.join("\n")
    );
    for (kind, title) in [("interface", "Interfaces"), ("world", "Worlds")] {
        let blocks = contract.blocks.iter().filter(|block| block.kind == kind);
        write!(page, "\n## {title}\n\n| {kind} | what |\n|---|---|\n")?;
        for block in blocks.clone() {
            let name = &block.name;
            writeln!(
                page,
                "| [`{name}`](#{name}) | {} |",
                first_sentence(&block.docs)
            )?;
        }
        for block in blocks {
            write_block(&mut page, block)?;
        }
    }
    Ok(page)
}

fn write_block(page: &mut String, block: &Block) -> anyhow::Result<()> {
    write!(page, "\n### {}\n\n{}\n", block.name, block.docs.join("\n"))?;
    let plain: Vec<&str> = block
        .items
        .iter()
        .filter(|item| item.docs.is_empty() && item.members.is_empty())
        .map(|item| item.source.as_str())
        .collect();
    if !plain.is_empty() {
        write!(page, "\n```wit\n{}\n```\n", plain.join("\n"))?;
    }
    for item in &block.items {
        if item.docs.is_empty() && item.members.is_empty() {
            continue;
        }
        let name = item.name();
        write!(page, "\n#### {}: {name}\n", block.name)?;
        if item.members.is_empty() {
            write!(page, "\n```wit\n{}\n```\n", item.source)?;
        }
        if !item.docs.is_empty() {
            write!(page, "\n{}\n", item.docs.join("\n"))?;
        }
        if !item.members.is_empty() {
            write!(
                page,
                "\n| {} | what |\n|---|---|\n",
                item.source.trim_end_matches(" {")
            )?;
            for member in &item.members {
                let docs = member.docs.join(" ").replace('|', "\\|");
                writeln!(page, "| `{}` | {docs} |", member.source.replace('|', "\\|"))?;
            }
        }
    }
    Ok(())
}

fn first_sentence(docs: &[String]) -> String {
    let text = docs.join(" ");
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}

struct Contract {
    docs: Vec<String>,
    package: String,
    blocks: Vec<Block>,
}

/// An interface or a world.
struct Block {
    kind: String,
    name: String,
    docs: Vec<String>,
    items: Vec<Item>,
}

/// A function, a type, an import; or a member of one.
struct Item {
    docs: Vec<String>,
    source: String,
    members: Vec<Item>,
}

impl Item {
    /// `take` of `take: func(…)`, `entry` of `record entry {`.
    fn name(&self) -> &str {
        let mut words = self.source.split([' ', ':', '=', '(']);
        let first = words.next().unwrap_or_default();
        match first {
            "record" | "variant" | "enum" | "flags" | "type" => words.next().unwrap_or_default(),
            name => name,
        }
    }
}

fn read(wit: &str) -> anyhow::Result<Contract> {
    let mut contract = Contract {
        docs: Vec::new(),
        package: String::new(),
        blocks: Vec::new(),
    };
    let mut docs: Vec<String> = Vec::new();
    let mut open = None;
    let mut item: Option<Item> = None;
    for (number, line) in wit.lines().enumerate() {
        let text = line.trim();
        let place = || format!("{CONTRACT}:{}: {text}", number + 1);
        if let Some(doc) = text.strip_prefix("///") {
            docs.push(doc.strip_prefix(' ').unwrap_or(doc).to_owned());
            continue;
        }
        match (&mut open, &mut item) {
            _ if text.is_empty() => {}
            (None, _) if text.starts_with("package ") => {
                contract.package = text
                    .trim_start_matches("package ")
                    .trim_end_matches(';')
                    .into();
                contract.docs = std::mem::take(&mut docs);
            }
            (None, _) => {
                let head = text.strip_suffix(" {").with_context(place)?;
                let (kind, name) = head.split_once(' ').with_context(place)?;
                open = Some(Block {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    docs: std::mem::take(&mut docs),
                    items: Vec::new(),
                });
            }
            (Some(_), None) if text == "}" => contract.blocks.extend(open.take()),
            (Some(block), None) => {
                let new = Item {
                    docs: std::mem::take(&mut docs),
                    source: text.to_owned(),
                    members: Vec::new(),
                };
                if text.ends_with(" {") {
                    item = Some(new);
                } else if text.ends_with([';', '}']) {
                    block.items.push(new);
                } else {
                    bail!("{}: an item on one line is expected", place());
                }
            }
            (Some(block), Some(_)) if text == "}" => block.items.extend(item.take()),
            (Some(_), Some(item)) => item.members.push(Item {
                docs: std::mem::take(&mut docs),
                source: text.strip_suffix(',').with_context(place)?.to_owned(),
                members: Vec::new(),
            }),
        }
    }
    ensure!(
        open.is_none() && item.is_none(),
        "{CONTRACT}: a brace is not closed"
    );
    ensure!(!contract.package.is_empty(), "{CONTRACT}: no package");
    Ok(contract)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "/// All of it.\npackage a:b@0.1.0;\n\n/// Words. And more.\ninterface types {\n    \
        /// A pair.\n    record pair {\n        /// First.\n        a: list<u8>,\n        b: u8,\n    }\n    \
        /// Does it.\n    go: func(a: u8) -> u8;\n    type c = u8;\n}\n\n/// W.\nworld w {\n    import types;\n}\n";

    #[test]
    fn every_item_is_on_the_page_with_its_words() {
        let page = page(SMALL).unwrap();
        for expected in [
            "# The contract `a:b@0.1.0`",
            "| [`types`](#types) | Words. |",
            "#### types: pair",
            "| `a: list<u8>` | First. |",
            "#### types: go\n\n```wit\ngo: func(a: u8) -> u8;\n```\n\nDoes it.",
            "```wit\ntype c = u8;\n```",
            "### w\n\nW.\n\n```wit\nimport types;\n```",
        ] {
            assert!(page.contains(expected), "{expected}\n--\n{page}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        let error = page("package a:b;\ninterface i {\n    f: func(\n}\n")
            .err()
            .unwrap();
        assert!(error.to_string().contains(":3:"), "{error}");
        page("interface i {\n}\n").err().unwrap();
    }

    #[test]
    fn the_committed_page_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        reference(&root, true).unwrap();
    }
}
