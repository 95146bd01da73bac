//! What whole-system tests need: real services (`services`, `swift`), brokers and database
//! servers that a test may kill (`broker`, `database_server`: `own`), the broker's management interface (`management`) and a
//! store that misbehaves (`proxy`); the engine's `simulation` and measurements (`bench`). The tests themselves are in `tests/`.

pub mod bench;
pub mod broker;
pub mod database_server;
pub mod management;
pub mod own;
pub mod proxy;
pub mod services;
pub mod simulation;
pub mod swift;
