//! One file for each command.

pub mod demo;
pub mod services;
pub mod test;
