//! The tables, as sea-orm entities, one each. Times are microseconds since 1970 by the database's clock.

pub mod anchor;
pub mod claim;
pub mod history;
pub mod hold;
pub mod message_seen;
pub mod operation;
pub mod outbox;
pub mod pack;
pub mod pack_use;
pub mod place;
pub mod queue;
pub mod remains;
pub mod reservation;
pub mod site;
pub mod step;
pub mod tenant_user;
pub mod worker;
pub mod zone;
