//! What whole-system tests need: real services (`services`), brokers that a test may kill (`broker`) and the
//! broker's management interface (`management`). The tests themselves are in `tests/`.

pub mod broker;
pub mod management;
pub mod services;
