//! The scheduler's rules, each by itself, and all together under chance.

mod advice;
mod commands;
mod desk;
mod destinations;
mod expiry;
mod flow;
mod retries;
mod world;
