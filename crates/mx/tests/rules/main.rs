//! The rules of delivery, through the public interface, against a table of
//! answers.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod directory;
mod expand;
mod plan;
mod properties;
mod table;
