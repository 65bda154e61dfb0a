//! The grammar of paths (RFC 5321 sections 4.1.2 and 4.1.3), over octets.
//!
//! Each function consumes from the front of its input and leaves the rest, and
//! allocates only for what it returns.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};

/// RFC 5321 section 4.5.3.1.1, in octets, of the unquoted local part.
pub(crate) const LOCAL_PART_MAX_BYTES: usize = 64;
/// RFC 5321 section 4.5.3.1.2, in octets.
pub(crate) const DOMAIN_MAX_BYTES: usize = 255;
/// RFC 1035 section 2.3.4, in octets.
const LABEL_MAX_BYTES: usize = 63;
/// RFC 5321 section 4.5.3.1.3, in octets, brackets included.
pub(crate) const PATH_MAX_BYTES: usize = 256;

/// Octets that an Atom is made of (RFC 5322 section 3.2.3).
const ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128 {
        table[octet] = matches!(octet as u8,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
            | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^' | b'_' | b'`' | b'{' | b'|' | b'}'
            | b'~');
        octet += 1;
    }
    table
};

/// The argument of `MAIL FROM:`; leaves what follows the `>`.
pub(crate) fn reverse_path(input: &mut &[u8]) -> Result<ReversePath, AddressError> {
    let mut inner = bracketed(input)?;
    if inner.is_empty() {
        return Ok(ReversePath::Null);
    }
    skip_source_route(&mut inner)?;
    mailbox(inner).map(ReversePath::Mailbox)
}

/// The argument of `RCPT TO:`; leaves what follows the `>`.
pub(crate) fn forward_path(input: &mut &[u8]) -> Result<ForwardPath, AddressError> {
    let mut inner = bracketed(input)?;
    if inner.is_empty() {
        return Err(AddressError::Empty);
    }
    if inner.eq_ignore_ascii_case(b"postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    skip_source_route(&mut inner)?;
    mailbox(inner).map(ForwardPath::Mailbox)
}

/// A mailbox and nothing else; U-labels are taken in the domain.
pub(crate) fn whole_mailbox(text: &str) -> Result<Mailbox, AddressError> {
    let mut rest = text.as_bytes();
    let local = local_part(&mut rest)?;
    let domain = &text[text.len() - rest.len()..];
    if domain.is_empty() {
        return Err(AddressError::Empty);
    }
    Ok(Mailbox::from_checked(local.as_str(), domain.parse()?))
}

fn mailbox(mut input: &[u8]) -> Result<Mailbox, AddressError> {
    let local = local_part(&mut input)?;
    let domain = domain(input)?;
    Ok(Mailbox::from_checked(local.as_str(), domain))
}

/// What stands between `<` and its `>`; a `>` inside of a quoted string does
/// not close the path.
fn bracketed<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], AddressError> {
    let [b'<', rest @ ..] = *input else {
        return Err(AddressError::MissingBrackets);
    };
    let mut quoted = false;
    let mut at = 0;
    while let Some(&octet) = rest.get(at) {
        match octet {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                if at + 2 > PATH_MAX_BYTES {
                    return Err(AddressError::PathTooLong);
                }
                *input = &rest[at + 1..];
                return Ok(&rest[..at]);
            }
            128.. => return Err(AddressError::NonAscii),
            _ => {}
        }
        at += 1;
    }
    Err(AddressError::MissingBrackets)
}

/// Drops `@one,@two:` (RFC 5321 section 4.1.2, A-d-l): it must be accepted and
/// should be ignored. An empty A-d-l (`:user@x`) is no route.
fn skip_source_route(input: &mut &[u8]) -> Result<(), AddressError> {
    if input.first() != Some(&b'@') {
        return Ok(());
    }
    loop {
        let [b'@', rest @ ..] = *input else {
            return Err(AddressError::SourceRoute);
        };
        let end = rest
            .iter()
            .position(|octet| matches!(octet, b',' | b':'))
            .filter(|_| rest.first() != Some(&b'['))
            .or_else(|| {
                let close = rest.iter().position(|octet| *octet == b']')?;
                matches!(rest.get(close + 1), Some(b',' | b':')).then_some(close + 1)
            })
            .ok_or(AddressError::SourceRoute)?;
        domain(&rest[..end]).map_err(|_| AddressError::SourceRoute)?;
        *input = &rest[end + 1..];
        if rest[end] == b':' {
            return Ok(());
        }
    }
}

/// An unquoted local part while it is parsed; on the stack, as it is bounded.
struct LocalPart {
    octets: [u8; LOCAL_PART_MAX_BYTES],
    length: usize,
}

impl LocalPart {
    fn push(&mut self, octet: u8) -> Result<(), AddressError> {
        let slot = self
            .octets
            .get_mut(self.length)
            .ok_or(AddressError::LocalPartTooLong)?;
        *slot = octet;
        self.length += 1;
        Ok(())
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.octets[..self.length]).expect("only ASCII octets are pushed")
    }
}

/// Local part and the `@` behind it.
fn local_part(input: &mut &[u8]) -> Result<LocalPart, AddressError> {
    let mut local = LocalPart {
        octets: [0; LOCAL_PART_MAX_BYTES],
        length: 0,
    };
    let after = match input.first() {
        None => return Err(AddressError::Empty),
        Some(b'"') => quoted_string(&input[1..], &mut local)?,
        Some(_) => {
            let end = input.iter().position(|octet| *octet == b'@');
            let end = end.unwrap_or(input.len());
            let text = &input[..end];
            if text.iter().any(|octet| !octet.is_ascii()) {
                return Err(AddressError::NonAscii);
            }
            if !is_dot_string(text) {
                return Err(AddressError::LocalPart);
            }
            for octet in text {
                local.push(*octet)?;
            }
            &input[end..]
        }
    };
    let [b'@', rest @ ..] = after else {
        return Err(if after.is_empty() {
            AddressError::MissingDomain
        } else {
            AddressError::LocalPart
        });
    };
    *input = rest;
    Ok(local)
}

/// Quoted-string after its opening quote; returns what follows the closing one.
fn quoted_string<'a>(mut input: &'a [u8], local: &mut LocalPart) -> Result<&'a [u8], AddressError> {
    loop {
        match *input {
            [b'"', ref rest @ ..] => return Ok(rest),
            [b'\\', octet @ 32..=126, ref rest @ ..]
            | [octet @ (32..=33 | 35..=91 | 93..=126), ref rest @ ..] => {
                local.push(octet)?;
                input = rest;
            }
            [128..=255, ..] => return Err(AddressError::NonAscii),
            _ => return Err(AddressError::LocalPart),
        }
    }
}

/// Dot-string: atoms joined by single dots.
pub(crate) fn is_dot_string(text: &[u8]) -> bool {
    text.split(|octet| *octet == b'.')
        .all(|atom| !atom.is_empty() && atom.iter().all(|octet| ATEXT[usize::from(*octet)]))
}

/// Whether an unquoted local part can be written at all, in quotes if need be.
pub(crate) fn check_local_part(text: &str) -> Result<(), AddressError> {
    if !text.is_ascii() {
        return Err(AddressError::NonAscii);
    }
    if text.len() > LOCAL_PART_MAX_BYTES {
        return Err(AddressError::LocalPartTooLong);
    }
    if text.bytes().any(|octet| !(32..=126).contains(&octet)) {
        return Err(AddressError::LocalPart);
    }
    Ok(())
}

/// A domain name or an address literal, brought into canonical form.
pub(crate) fn domain(text: &[u8]) -> Result<Domain, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > DOMAIN_MAX_BYTES {
        return Err(AddressError::DomainTooLong);
    }
    let text = str::from_utf8(text).map_err(|_| AddressError::NonAscii)?;
    if !text.is_ascii() {
        return Err(AddressError::NonAscii);
    }
    if let Some(inner) = text.strip_prefix('[') {
        return literal(inner.strip_suffix(']').ok_or(AddressError::Literal)?);
    }
    text.split('.')
        .try_for_each(|label| check_label(label.as_bytes()))?;
    if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Ok(Domain::from_canonical(&text.to_ascii_lowercase()))
    } else {
        Ok(Domain::from_canonical(text))
    }
}

fn check_label(label: &[u8]) -> Result<(), AddressError> {
    let letter = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
    let (Some(first), Some(last)) = (label.first(), label.last()) else {
        return Err(AddressError::Domain);
    };
    if label.len() > LABEL_MAX_BYTES {
        return Err(AddressError::DomainTooLong);
    }
    if letter(first) && letter(last) && label.iter().all(|octet| letter(octet) || *octet == b'-') {
        Ok(())
    } else {
        Err(AddressError::Domain)
    }
}

/// What stands between the brackets of an address literal (RFC 5321 section 4.1.3).
fn literal(inner: &str) -> Result<Domain, AddressError> {
    let Some((tag, content)) = inner.split_once(':') else {
        let address = ipv4(inner).ok_or(AddressError::Literal)?;
        return Ok(Domain::from_canonical(&format!("[{address}]")));
    };
    if tag.eq_ignore_ascii_case("IPv6") {
        let address: Ipv6Addr = content.parse().map_err(|_| AddressError::Literal)?;
        return Ok(Domain::from_canonical(&format!("[IPv6:{address}]")));
    }
    let tag_fits = tag
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && tag.bytes().next_back().is_some_and(|octet| octet != b'-');
    let content_fits = !content.is_empty()
        && content
            .bytes()
            .all(|octet| matches!(octet, 33..=90 | 94..=126));
    if !tag_fits || !content_fits {
        return Err(AddressError::Literal);
    }
    let tag = tag.to_ascii_lowercase();
    Ok(Domain::from_canonical(&format!("[{tag}:{content}]")))
}

/// Four Snums. Leading zeros are allowed by the grammar and are decimal, which
/// the standard library's parser does not take.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}
