//! What `cargo xtask bench` measures: how long the work takes beside what others take, and beside what the machine can do.

pub mod data;
pub mod image;
pub mod longshore;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod report;
pub mod server;
