//! When mail goes: messages, recipients, retries and limits as one pure state machine.
