//! What `cargo xtask bench` measures: how long the work takes beside what others take, and beside what the machine can do.

pub mod data;
pub mod engine;
pub mod figures;
pub mod growth;
pub mod image;
pub mod longshore;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod report;
pub mod s3s_fs;
pub mod server;
pub mod sweep;
