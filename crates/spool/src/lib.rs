//! What is safe on disk: a durable segment log with group commit and recovery.
