//! Answers that are wrong, one by one.
