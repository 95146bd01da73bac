//! How half of all schedules end: when all is over and old, the stores are swept once more. Then nothing is left of what came late.

use super::{
    schedule::Simulation,
    setup::{GRACE_S, STORES},
};
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

/// How far it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Closing {
    /// It doesn't.
    #[default]
    Never,
    /// They will be swept.
    Planned,
    /// It was asked for with these messages.
    Asked(Vec<String>),
}

impl Simulation<'_> {
    /// Whether there is more to do, now that nothing happens any more.
    pub(super) fn close(&mut self) -> bool {
        if self.closing != Closing::Planned {
            return false;
        }
        self.choices.allow(0);
        self.now += (GRACE_S + 1) * 1_000_000;
        self.world.now = self.now;
        self.place.clock.store(self.now, Relaxed);
        let asked = STORES.map(|store| self.asks_at_last("sweep-store", json!({"store": store})));
        self.closing = Closing::Asked(asked.to_vec());
        true
    }

    /// Whether the stores were swept when all was over.
    pub(super) fn check_closed(&mut self) -> bool {
        let Closing::Asked(message_ids) = &self.closing else { return false };
        for message_id in message_ids.iter().filter(|it| !self.known.is_done(it)) {
            self.wrong.push(format!("the last sweep isn't Ready: {:?}", self.known.replies.get(message_id)));
        }
        true
    }
}
