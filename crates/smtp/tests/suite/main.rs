//! The machines and words of SMTP, seen from outside.

mod addresses;
mod client_dialogues;
mod client_failures;
mod contents;
mod pairs;
mod replies;
mod server_commands;
mod server_limits;
mod server_sessions;
mod server_waits;
mod support;
