//! SMTP as sans-IO state machines, and the words every other crate speaks.
