//! One file for each command.

pub mod bench;
pub mod chaos;
pub mod demo;
pub mod services;
pub mod simulate;
pub mod test;
