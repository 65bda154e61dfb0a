//! Command lines into commands (RFC 5321 section 4.1.1).
//!
//! Taken beyond the grammar, because much of the world's mail needs it and no
//! meaning is at stake: spaces behind `FROM:` and `TO:` and at the end of the
//! line, several spaces between words, a trailing dot in the argument of EHLO.

use crate::address::{AddressError, Domain, ForwardPath, ReversePath};
use crate::envelope::{BodyType, MailParameters, RcptParameters};
use crate::syntax;

use super::lines::COMMAND_LINE_MAX_BYTES;
use super::replies;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo {
        name: Domain,
        extended: bool,
    },
    Mail {
        reverse_path: ReversePath,
        parameters: MailParameters,
    },
    Rcpt {
        path: ForwardPath,
        parameters: RcptParameters,
    },
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
}

/// Whether a line is a MAIL command, if perhaps a broken one.
pub(super) fn is_mail(line: &[u8]) -> bool {
    line.get(..4)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"MAIL"))
}

/// A refusal as it stands on the wire.
pub(super) type Refusal = &'static [u8];

impl Command {
    /// Reads one line without its CRLF.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let verb_end = line.iter().position(|octet| *octet == b' ');
        let (verb, argument) = line.split_at(verb_end.unwrap_or(line.len()));
        let argument = argument.trim_ascii();
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        if is(b"MAIL") {
            return mail(argument);
        }
        if line.len() + 2 > COMMAND_LINE_MAX_BYTES {
            return Err(replies::LINE_TOO_LONG);
        }
        if is(b"RCPT") {
            return rcpt(argument);
        }
        if is(b"DATA") {
            return without_argument(Self::Data, argument);
        }
        if is(b"EHLO") || is(b"HELO") {
            let name = argument.strip_suffix(b".").unwrap_or(argument);
            let name = syntax::domain(name).map_err(|_| replies::EHLO_SYNTAX)?;
            let extended = is(b"EHLO");
            return Ok(Self::Ehlo { name, extended });
        }
        if is(b"QUIT") {
            return without_argument(Self::Quit, argument);
        }
        if is(b"RSET") {
            return without_argument(Self::Rset, argument);
        }
        if is(b"STARTTLS") {
            return without_argument(Self::StartTls, argument);
        }
        if is(b"NOOP") {
            return Ok(Self::Noop);
        }
        if is(b"HELP") {
            return Ok(Self::Help);
        }
        if is(b"VRFY") {
            return with_argument(Self::Vrfy, argument);
        }
        if is(b"EXPN") {
            return with_argument(Self::Expn, argument);
        }
        Err(replies::UNKNOWN_COMMAND)
    }
}

fn without_argument(command: Command, argument: &[u8]) -> Result<Command, Refusal> {
    if argument.is_empty() {
        Ok(command)
    } else {
        Err(replies::NO_ARGUMENT)
    }
}

fn with_argument(command: Command, argument: &[u8]) -> Result<Command, Refusal> {
    if argument.is_empty() {
        Err(replies::ARGUMENT_MISSING)
    } else {
        Ok(command)
    }
}

fn mail(argument: &[u8]) -> Result<Command, Refusal> {
    let mut rest = after_keyword(argument, b"FROM:").ok_or(replies::MAIL_SYNTAX)?;
    let reverse_path = syntax::reverse_path(&mut rest)
        .map_err(|error| path_refusal(error, replies::BAD_SENDER))?;
    let mut parameters = MailParameters::default();
    let mut body = None;
    for parameter in Parameters::of(rest)? {
        let (keyword, value) = parameter?;
        if keyword.eq_ignore_ascii_case(b"SIZE") {
            let size = size(value.ok_or(replies::BAD_PARAMETER)?)?;
            set_once(&mut parameters.size, size)?;
        } else if keyword.eq_ignore_ascii_case(b"BODY") {
            let value = value.ok_or(replies::BAD_PARAMETER)?;
            set_once(&mut body, body_type(value)?)?;
        } else {
            return Err(replies::UNKNOWN_PARAMETER);
        }
    }
    parameters.body = body.unwrap_or_default();
    Ok(Command::Mail {
        reverse_path,
        parameters,
    })
}

fn rcpt(argument: &[u8]) -> Result<Command, Refusal> {
    let mut rest = after_keyword(argument, b"TO:").ok_or(replies::RCPT_SYNTAX)?;
    let path = syntax::forward_path(&mut rest)
        .map_err(|error| path_refusal(error, replies::BAD_RECIPIENT))?;
    if let Some(parameter) = Parameters::of(rest)?.next() {
        parameter?;
        return Err(replies::UNKNOWN_PARAMETER);
    }
    let parameters = RcptParameters::default();
    Ok(Command::Rcpt { path, parameters })
}

fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    start
        .eq_ignore_ascii_case(keyword)
        .then(|| rest.trim_ascii_start())
}

fn path_refusal(error: AddressError, otherwise: Refusal) -> Refusal {
    match error {
        AddressError::NonAscii => replies::NON_ASCII,
        _ => otherwise,
    }
}

/// `1*20DIGIT` (RFC 1870 section 6.1 item 1).
fn size(value: &[u8]) -> Result<u64, Refusal> {
    let digits = value.len() <= 20 && value.iter().all(u8::is_ascii_digit);
    digits
        .then(|| str::from_utf8(value).ok()?.parse().ok())
        .flatten()
        .ok_or(replies::BAD_PARAMETER)
}

fn body_type(value: &[u8]) -> Result<BodyType, Refusal> {
    if value.eq_ignore_ascii_case(b"7BIT") {
        Ok(BodyType::SevenBit)
    } else if value.eq_ignore_ascii_case(b"8BITMIME") {
        Ok(BodyType::EightBitMime)
    } else {
        Err(replies::UNKNOWN_PARAMETER)
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(replies::BAD_PARAMETER),
    }
}

/// `esmtp-keyword ["=" esmtp-value]`, separated by spaces (RFC 5321 section 4.1.2).
struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Of what follows a path, which has to start with a space.
    fn of(rest: &'a [u8]) -> Result<Self, Refusal> {
        match rest.first() {
            None | Some(b' ') => Ok(Self { rest }),
            Some(_) => Err(replies::BAD_PARAMETER),
        }
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>), Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|octet| *octet != b' ')?;
        let text = &self.rest[start..];
        let end = text.iter().position(|octet| *octet == b' ');
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        Some(parameter(word).ok_or(replies::BAD_PARAMETER))
    }
}

fn parameter(word: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let equals = word.iter().position(|octet| *octet == b'=');
    let (keyword, value) = match equals {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    };
    let keyword_fits = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    let value_fits = value.is_none_or(|value| {
        !value.is_empty()
            && value
                .iter()
                .all(|octet| matches!(octet, 33..=60 | 62..=126))
    });
    (keyword_fits && value_fits).then_some((keyword, value))
}
