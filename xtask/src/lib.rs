//! The project's own commands, as a library: `main.rs` is their command line, and the whole-system tests use
//! `services` to start brokers that they kill.

pub mod bench;
pub mod child;
pub mod commands;
pub mod output;
pub mod project;
pub mod services;
pub mod verify;
