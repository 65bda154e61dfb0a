//! Replies that never change, as they stand on the wire.
//!
//! Every one has an enhanced status code except 354, greetings and the answers
//! to EHLO and HELO (RFC 2034 section 4).

pub(super) const OK: &[u8] = b"250 2.0.0 Ok\r\n";
pub(super) const MAIL_OK: &[u8] = b"250 2.1.0 Sender ok\r\n";
pub(super) const RCPT_OK: &[u8] = b"250 2.1.5 Recipient ok\r\n";
pub(super) const START_CONTENT: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";
pub(super) const BYE: &[u8] = b"221 2.0.0 Bye\r\n";
pub(super) const CANNOT_VERIFY: &[u8] =
    b"252 2.0.0 Cannot verify the address, but will take mail for it and try\r\n";
pub(super) const HELP: &[u8] = b"214-2.0.0 Commands: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT\r\n\
    214 2.0.0 VRFY HELP STARTTLS; see RFC 5321\r\n";
pub(super) const START_TLS: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";

pub(super) const SHUTTING_DOWN: &[u8] = b"421 4.3.2 The service is shutting down\r\n";
pub(super) const TIMED_OUT: &[u8] = b"421 4.4.2 Waited too long\r\n";
pub(super) const TOO_MANY_ERRORS: &[u8] = b"421 4.7.0 Too many errors\r\n";
pub(super) const TOO_MANY_MESSAGES: &[u8] = b"421 4.7.0 Too many messages on one connection\r\n";
pub(super) const FLOOD: &[u8] = b"421 4.7.0 A line without end\r\n";
pub(super) const TOO_MANY_RECIPIENTS: &[u8] = b"452 4.5.3 Too many recipients\r\n";

pub(super) const LINE_TOO_LONG: &[u8] = b"500 5.5.2 The line is too long\r\n";
pub(super) const BARE_CR: &[u8] = b"500 5.5.2 A carriage return without a line feed\r\n";
pub(super) const BARE_LF: &[u8] = b"500 5.5.2 A line feed without a carriage return\r\n";
pub(super) const CONTROL: &[u8] = b"500 5.5.2 Control characters in a command\r\n";
pub(super) const UNKNOWN_COMMAND: &[u8] = b"500 5.5.2 Command not recognized\r\n";

pub(super) const EHLO_SYNTAX: &[u8] =
    b"501 5.5.4 A domain name or an address literal has to follow\r\n";
pub(super) const NO_ARGUMENT: &[u8] = b"501 5.5.4 This command takes no argument\r\n";
pub(super) const ARGUMENT_MISSING: &[u8] = b"501 5.5.4 An argument has to follow\r\n";
pub(super) const MAIL_SYNTAX: &[u8] = b"501 5.5.2 Syntax: MAIL FROM:<address>\r\n";
pub(super) const RCPT_SYNTAX: &[u8] = b"501 5.5.2 Syntax: RCPT TO:<address>\r\n";
pub(super) const BAD_SENDER: &[u8] = b"501 5.1.7 The sender address is not well-formed\r\n";
pub(super) const BAD_RECIPIENT: &[u8] = b"501 5.1.3 The recipient address is not well-formed\r\n";
pub(super) const BAD_PARAMETER: &[u8] = b"501 5.5.4 A parameter is not well-formed\r\n";
pub(super) const UNKNOWN_PARAMETER: &[u8] = b"555 5.5.4 A parameter is not known here\r\n";
pub(super) const NOT_IMPLEMENTED: &[u8] = b"502 5.5.1 Command not implemented\r\n";
pub(super) const NON_ASCII: &[u8] = b"553 5.6.7 Addresses outside ASCII are not taken here\r\n";

pub(super) const SAY_EHLO: &[u8] = b"503 5.5.1 Say EHLO first\r\n";
pub(super) const NESTED_MAIL: &[u8] = b"503 5.5.1 A transaction is under way already\r\n";
pub(super) const SAY_MAIL: &[u8] = b"503 5.5.1 Say MAIL first\r\n";
pub(super) const ALREADY_TLS: &[u8] = b"503 5.5.1 TLS is up already\r\n";
pub(super) const ONLY_QUIT: &[u8] = b"503 5.5.1 No service here: QUIT is all that is left\r\n";
pub(super) const NEED_TLS: &[u8] = b"530 5.7.0 Say STARTTLS first\r\n";
pub(super) const TOO_LARGE: &[u8] = b"552 5.3.4 The message is larger than the limit\r\n";
pub(super) const NO_RECIPIENTS: &[u8] = b"554 5.5.1 No valid recipients\r\n";
