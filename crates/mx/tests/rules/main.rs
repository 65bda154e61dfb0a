//! The rules of delivery, through the public interface, against a table of
//! answers.

mod directory;
mod expand;
mod plan;
mod table;
