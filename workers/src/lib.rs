//! Acts: reads and writes volumes and stores, one step at a time. A worker never decides: it does what the
//! engine's attempt says, for as long as its lease says.

pub mod datapath;
pub mod hypervisor;
pub mod lease;
pub mod secret;
pub mod nbd;
pub mod steps;
pub mod store;
