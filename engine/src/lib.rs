//! Decides: plans operations, applies transitions, grants space, keeps the journal. It never touches data.

pub mod audit;
pub mod books;
pub mod clock;
pub mod command;
pub mod config;
pub mod contract;
pub mod database;
pub mod engine;
pub mod http;
pub mod intake;
pub mod journal;
pub mod ledger;
pub mod machine;
pub mod mutant;
pub mod operation;
pub mod outbox;
pub mod packs;
pub mod path;
pub mod plan;
pub mod report;
pub mod request;
pub mod site;
pub mod world;
pub mod world_read;
