//! Debug information of a component: read for the line of a trap, at each trap
//! anew, and by a thread that mail waits for. So there may be so much of it and not
//! more; what is over that is left out before the component is compiled.

/// Octets of debug information in all modules of a component. With a quarter of it a
/// trap took 2 ms in place of 0.2.
const DEBUG_BYTES_MAX: usize = 1 << 20;
/// Components within components that are looked into; toolchains make one.
const DEPTH_MAX: usize = 8;
/// Magic number, version and layer.
const HEADER_BYTES: usize = 8;

/// The component without its debug information, and how much that was; `None`: it
/// may stay. Octets that are no component are left for the compiler to refuse.
pub(crate) fn without_too_much(octets: &[u8]) -> Option<(Vec<u8>, usize)> {
    without_more_than(DEBUG_BYTES_MAX, octets)
}

fn without_more_than(most: usize, octets: &[u8]) -> Option<(Vec<u8>, usize)> {
    let found = weigh(octets, DEPTH_MAX);
    if found <= most {
        return None;
    }
    let mut lean = Vec::with_capacity(octets.len().saturating_sub(found));
    strip(octets, DEPTH_MAX, &mut lean);
    Some((lean, found))
}

/// What a section is to us.
enum Content<'a> {
    /// A module or a component.
    Nested(&'a [u8]),
    Debug(&'a [u8]),
    Other,
}

/// A section: its identifier, its payload, all of its octets, and what follows.
struct Section<'a> {
    id: u8,
    payload: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Section<'a> {
    fn first_of(octets: &'a [u8]) -> Option<Self> {
        let (&id, after) = octets.split_first()?;
        let (length, after) = leb128(after)?;
        let (payload, rest) = after.split_at_checked(length)?;
        let whole = octets.get(..octets.len() - rest.len())?;
        Some(Self {
            id,
            payload,
            whole,
            rest,
        })
    }

    fn content(&self, of_component: bool) -> Content<'a> {
        match (of_component, self.id) {
            (true, 1 | 4) => Content::Nested(self.payload),
            (false, 0) if is_debug(self.payload) => Content::Debug(self.payload),
            _ => Content::Other,
        }
    }
}

/// Whether a custom section of a module is DWARF.
fn is_debug(payload: &[u8]) -> bool {
    leb128(payload)
        .and_then(|(length, after)| after.get(..length))
        .is_some_and(|name| name.starts_with(b".debug_"))
}

/// An unsigned number of at most 32 bits, and what follows it.
fn leb128(octets: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (index, &octet) in octets.iter().enumerate().take(5) {
        value |= usize::from(octet & 0x7f) << (7 * index);
        if octet & 0x80 == 0 {
            return Some((value, octets.get(index + 1..)?));
        }
    }
    None
}

fn put_leb128(mut value: usize, out: &mut Vec<u8>) {
    loop {
        // The mask leaves seven bits.
        let low = u8::try_from(value & 0x7f).unwrap_or(0x7f);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Whether the header is that of a component and not of a module.
fn is_component(header: &[u8]) -> bool {
    header.get(6) == Some(&1)
}

fn weigh(octets: &[u8], depth: usize) -> usize {
    let Some((header, mut rest)) = octets.split_at_checked(HEADER_BYTES) else {
        return 0;
    };
    let mut sum = 0;
    while let Some(section) = Section::first_of(rest) {
        sum += match section.content(is_component(header)) {
            Content::Nested(inner) if depth > 0 => weigh(inner, depth - 1),
            Content::Debug(payload) => payload.len(),
            Content::Nested(_) | Content::Other => 0,
        };
        rest = section.rest;
    }
    sum
}

fn strip(octets: &[u8], depth: usize, out: &mut Vec<u8>) {
    let Some((header, mut rest)) = octets.split_at_checked(HEADER_BYTES) else {
        out.extend_from_slice(octets);
        return;
    };
    out.extend_from_slice(header);
    while let Some(section) = Section::first_of(rest) {
        match section.content(is_component(header)) {
            Content::Nested(inner) if depth > 0 => {
                let mut lean = Vec::with_capacity(inner.len());
                strip(inner, depth - 1, &mut lean);
                out.push(section.id);
                put_leb128(lean.len(), out);
                out.extend_from_slice(&lean);
            }
            Content::Debug(_) => {}
            Content::Nested(_) | Content::Other => out.extend_from_slice(section.whole),
        }
        rest = section.rest;
    }
    // Whatever that is: the compiler will say.
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn section(id: u8, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![id];
        put_leb128(payload.len(), &mut octets);
        octets.extend_from_slice(payload);
        octets
    }

    fn custom(name: &str, size: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        put_leb128(name.len(), &mut payload);
        payload.extend_from_slice(name.as_bytes());
        payload.resize(payload.len() + size, 7);
        section(0, &payload)
    }

    fn component(with_debug: bool) -> Vec<u8> {
        let debug = |size| {
            if with_debug {
                custom(".debug_info", size)
            } else {
                Vec::new()
            }
        };
        let module = [
            MODULE,
            &custom("name", 300),
            &debug(1000),
            &section(1, &[0]),
        ]
        .concat();
        let inner = [COMPONENT, &section(1, &module)].concat();
        let parts = [
            &section(1, &module)[..],
            &section(4, &inner),
            &custom("x", 3),
        ];
        [COMPONENT, &parts.concat()].concat()
    }

    #[test]
    fn all_of_it_goes_and_nothing_else() {
        let given = component(true);
        assert_eq!(without_more_than(3000, &given), None);
        let (lean, found) = without_more_than(1999, &given).unwrap();
        assert_eq!(lean, component(false));
        assert_eq!(found, 2 * (1000 + 12));
    }

    #[test]
    fn what_is_left_compiles() {
        let text = r#"(component
            (core module (@custom ".debug_info" "0123456789") (func (export "f")))
            (component (core module (@custom ".debug_line" "0123456789") (memory 1))))"#;
        let given = wat::parse_str(text).unwrap();
        let (lean, found) = without_more_than(0, &given).unwrap();
        assert_eq!(found, 2 * (10 + 12));
        let engine = wasmtime::Engine::default();
        wasmtime::component::Component::from_binary(&engine, &lean).unwrap();
        assert_eq!(without_more_than(0, &lean), None);
    }

    #[test]
    fn what_is_cut_off_stays_as_it_is() {
        let mut given = component(true);
        given.extend_from_slice(&[0, 0x85]);
        let (lean, _) = without_more_than(0, &given).unwrap();
        assert!(lean.ends_with(&[0, 0x85]));
        for end in 0..given.len() {
            without_more_than(0, &given[..end]);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut nested = COMPONENT.to_vec();
        for _ in 0..20_000 {
            nested = [COMPONENT, &section(4, &nested)].concat();
            // Grown by a few octets a level, it stays small enough to build.
            if nested.len() > 100_000 {
                break;
            }
        }
        assert_eq!(without_more_than(0, &nested), None);
    }
}
