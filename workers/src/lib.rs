//! Acts: reads and writes volumes and stores, one step at a time. A worker never decides: it does what the
//! engine's attempt says, for as long as its lease says.

mod announce;
mod attempts;
mod clock;
pub mod config;
mod consumer;
mod control;
pub mod datapath;
pub mod fate;
pub mod hypervisor;
pub mod lease;
mod long;
pub mod nbd;
pub mod opener;
mod perform;
mod progress;
pub mod reach;
mod report;
pub mod secret;
mod short;
pub mod steps;
pub mod store;
pub mod worker;
