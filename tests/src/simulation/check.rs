//! What must be true after every commit, and what at the end.

use super::{
    schedule::{Happening, Simulation},
    setup::GRACE_S,
    world::File,
};
use longshore_engine::{
    books,
    journal::{Absorbed, Item, history},
};
use longshore_schema::{
    fault::code,
    ids::OperationId,
    steps::object::Root,
    tables::{self, outbox},
    wire::{CloudEvent, Reply, names},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// Microseconds until a tick that may find room.
const WAIT_US: i64 = 120_000_000;

/// What the outside was told by what was committed.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In the order of their acceptance.
    pub(super) accepted: Vec<OperationId>,
    /// By message id.
    pub(super) replies: BTreeMap<String, Reply>,
    /// Message ids of commands whose answer arrived.
    pub(super) heard: BTreeSet<String>,
    /// State and output of each.
    states: BTreeMap<OperationId, (String, String, Option<Value>)>,
    /// Ids of events that the broker has.
    pub(super) announced: BTreeSet<String>,
    /// Ids of events that were committed.
    committed: BTreeSet<String>,
}

impl Known {
    /// Whether it is a snapshot that is or was Ready.
    pub(super) fn is_object(&self, id: OperationId) -> bool {
        self.states.get(&id).is_some_and(|(kind, state, _)| kind == "backup-snapshot" && state == "ready")
    }
}

/// Each is a number that must be zero, with what it counts.
const MUST_BE_ZERO: &[(&str, &str)] = &[
    ("places over their limit", "SELECT count(*) FROM place p WHERE p.reserved + p.used > p.total * p.overcommit * p.threshold"),
    (
        "objects whose holders aren't their holds",
        "SELECT count(*) FROM operation o WHERE o.holders <> (SELECT count(*) FROM hold h WHERE h.object_id = o.id)",
    ),
    (
        "held objects that aren't Ready",
        "SELECT count(*) FROM hold h LEFT JOIN operation o ON o.id = h.object_id WHERE o.state IS NULL OR o.state <> 'ready'",
    ),
    (
        "operations under way without all their holds or claims, or with some when their work is over",
        "SELECT count(*) FROM operation o WHERE (SELECT count(*) FROM claim c WHERE c.operation_id = o.id) \
         <> iif(o.state IN ('allocated', 'copying') OR o.end_state = 'failed', o.kind <> 'verify-object', 0) \
         OR (SELECT count(*) FROM hold h WHERE h.holder_id = o.id) NOT BETWEEN \
         iif(o.state IN ('allocated', 'copying') OR o.end_state = 'failed', o.kind IN ('verify-object', 'create-volume'), 0) \
         AND iif(o.state IN ('allocated', 'copying') OR o.end_state = 'failed', o.kind <> 'sweep-store', 0)",
    ),
    (
        "claims or holds of nobody",
        "SELECT (SELECT count(*) FROM claim WHERE operation_id NOT IN (SELECT id FROM operation)) \
         + (SELECT count(*) FROM hold WHERE holder_id NOT IN (SELECT id FROM operation))",
    ),
    (
        "packs whose uses aren't counted right",
        "SELECT count(*) FROM pack k WHERE k.uses <> (SELECT count(*) FROM pack_use u WHERE u.pack_id = k.id)",
    ),
    ("used packs that are not live", "SELECT count(*) FROM pack WHERE (uses > 0) <> (state = 'live')"),
    (
        "queues that are counted wrong or too long",
        "SELECT count(*) FROM queue q WHERE q.unstarted <> (SELECT count(*) FROM step s WHERE s.queue = q.name AND s.state = 'sent' AND s.start_before IS NOT NULL)",
    ),
    (
        "reservations of operations that are over",
        "SELECT count(*) FROM reservation r LEFT JOIN operation o ON o.id = r.operation_id WHERE o.state IS NULL OR o.state IN ('failed', 'destroyed')",
    ),
];

/// When something is due next, and how many operations are under way.
const AHEAD: &[(&str, &str)] = &[
    ("due", "SELECT min(due_at) FROM step"),
    ("outbox", "SELECT min(claimed_until) FROM outbox"),
    ("deadline", "SELECT min(deadline) FROM operation WHERE state IN ('allocated', 'copying') AND NOT stop_requested"),
    ("packs", "SELECT min(not_before) FROM pack WHERE state <> 'live'"),
    ("waiting", "SELECT count(*) FROM operation WHERE waiting_place IS NOT NULL"),
    ("unsent", "SELECT count(*) FROM step WHERE state = 'sent' AND start_before IS NULL"),
    ("unheld", "SELECT count(*) FROM operation WHERE state = 'ready' AND destroy_requested AND holders = 0"),
    ("open", "SELECT count(*) FROM operation WHERE state IN ('allocated', 'copying', 'destroying')"),
];

/// The engine's own sums, as one more number that must be zero.
static BOOKS: LazyLock<String> = LazyLock::new(|| {
    let wrong = "b.reserved <> b.sum_reserved OR b.used <> b.sum_used OR b.promised <> b.sum_promised";
    format!("SELECT count(*) FROM ({}) b WHERE {wrong}", books::SUMS)
});
static AFTER_COMMIT: LazyLock<String> = LazyLock::new(|| one_row(&[&must_be_zero(), AHEAD].concat()));
static LOOK_AHEAD: LazyLock<String> = LazyLock::new(|| one_row(AHEAD));

fn must_be_zero() -> Vec<(&'static str, &'static str)> {
    [&[("places whose books don't agree", BOOKS.as_str())], MUST_BE_ZERO].concat()
}

fn one_row(questions: &[(&str, &str)]) -> String {
    let columns: Vec<_> = questions.iter().enumerate().map(|(n, (_, query))| format!("({query}) AS c{n}")).collect();
    format!("SELECT {}", columns.join(", "))
}

impl Simulation<'_> {
    /// Notes what a commit said, before anything else happens.
    pub(super) fn observe(&mut self, items: &[Item], absorbed: &[Absorbed], rows: &[outbox::Model]) {
        for (item, absorbed) in items.iter().zip(absorbed) {
            if let (Item::Command(command), Absorbed::Replied(reply)) = (item, absorbed) {
                self.observe_reply(&command.message_id, &command.kind, reply);
            }
        }
        for row in rows.iter().filter(|it| it.exchange == names::EVENTS) {
            let Ok(event) = serde_json::from_str::<CloudEvent>(&row.body) else { continue };
            let (id, data) = (event.data.operation, event.data);
            self.say(|| format!("    {id} is {} {}", data.to, data.fault.as_ref().map_or(String::new(), ToString::to_string)));
            self.known.committed.insert(event.id);
            if data.to == "ready" {
                self.world.were_ready.insert(id);
                let root = data.object.as_ref().and_then(|it| serde_json::from_value::<Root>(it["root"].clone()).ok());
                match root.filter(|_| data.kind == "backup-snapshot") {
                    Some(root) => drop(self.world.precious.insert(id, root)),
                    None => self.check_volume(&data.kind, data.object.as_ref()),
                }
            }
            if data.to == "destroying" && self.world.precious.remove(&id).is_some() && !self.world.given_up.contains(&id) {
                self.wrong.push(format!("{id} is destroyed, and nobody asked for it"));
            }
            self.known.states.insert(id, (data.kind, data.to, data.object));
        }
        self.world.check_precious("a commit");
    }

    fn observe_reply(&mut self, message_id: &str, kind: &str, reply: &Reply) {
        let first =
            self.known.replies.entry(message_id.to_owned()).or_insert_with(|| Reply { duplicate: false, ..reply.clone() });
        if *first != (Reply { duplicate: false, ..reply.clone() }) {
            self.wrong.push(format!("message {message_id} was answered {first:?} and {reply:?}"));
        }
        let Some(id) = reply.operation.filter(|_| reply.accepted) else { return };
        match kind {
            "destroy" | "abandon" => {
                self.world.given_up.insert(id);
                self.world.precious.remove(&id);
            }
            "cancel" | "retry" => (),
            _ if self.known.accepted.contains(&id) => (),
            _ => {
                self.known.accepted.push(id);
                let name = format!("{kind}#{}", self.known.accepted.len());
                self.names.insert(id, name);
            }
        }
    }

    /// A volume that was made holds what its object holds.
    fn check_volume(&mut self, kind: &str, object: Option<&Value>) {
        let Some(object) = object.filter(|_| kind == "create-volume") else { return };
        let volume = object["volume"].as_str().unwrap_or_default();
        let found = self.world.volumes.get(volume);
        let from = serde_json::from_value(object["from"].clone()).ok();
        // Held until now, so still readable, unless it was given up and is about to go.
        let holds = from.and_then(|from| self.world.read(from, self.world.precious.get(&from)?).ok());
        let ours = |it: &File| object["identity"]["id"].as_str() == Some(&it.inode.to_string());
        if found.is_none_or(|it| it.content.is_none() || !ours(it) || holds.is_some_and(|holds| it.content != Some(holds))) {
            self.wrong.push(format!("volume {volume} is Ready and holds {found:?}, not {holds:?}"));
        }
    }

    /// After every commit.
    pub(super) fn check_commit(&mut self) {
        const ALL: usize = 1 + MUST_BE_ZERO.len() + AHEAD.len();
        let numbers = self.place.sqlite.numbers::<ALL>(&AFTER_COMMIT).expect("one row of numbers");
        let (zeros, ahead) = numbers.split_at(1 + MUST_BE_ZERO.len());
        for ((what, _), count) in must_be_zero().iter().zip(zeros) {
            if *count != Some(0) {
                self.wrong.push(format!("{} {what}", count.unwrap_or_default()));
            }
        }
        self.plan_tick(ahead);
    }

    /// Finds when the clock has something to do.
    pub(super) fn look_ahead(&mut self) {
        let ahead = self.place.sqlite.numbers::<{ AHEAD.len() }>(&LOOK_AHEAD).expect("one row of numbers");
        self.plan_tick(&ahead);
    }

    fn plan_tick(&mut self, ahead: &[Option<i64>]) {
        let count = |n: usize| ahead[n].unwrap_or(0) > 0;
        let deadline = ahead[2].filter(|it| *it > self.now);
        let sweep = ahead[3].map(|it| it.max(self.now + GRACE_S * 1_000_000 / 2));
        let backstop = (count(5) || count(6)).then_some(self.now + 2_000_000);
        let room = count(4).then_some(self.now + WAIT_US);
        let next = [ahead[0], ahead[1], deadline, sweep, backstop, room].into_iter().flatten().min();
        if let Some(at) = next {
            let late = self.choices.delay() / 4;
            self.tick_within((at - self.now).max(0) + late + 1);
        } else if self.tick_at.is_some() && !count(7) {
            self.happenings.retain(|_, it| !matches!(it, Happening::Tick));
            self.tick_at = None;
        }
    }

    /// Nothing happens any more: everything is over or Ready, and nothing is left of what is over.
    pub(super) async fn check_end(&mut self) -> anyhow::Result<()> {
        let db = self.place.database.read();
        let operations = tables::operation::Entity::find().order_by_asc(tables::operation::Column::Id).all(db).await?;
        let rows = tables::history::Entity::find()
            .order_by_asc(tables::history::Column::OperationId)
            .order_by_asc(tables::history::Column::Seq);
        let mut histories = BTreeMap::<uuid::Uuid, Vec<_>>::new();
        for row in rows.all(db).await? {
            histories.entry(row.operation_id).or_default().push(row);
        }
        for row in &operations {
            let id = OperationId(row.id);
            let empty = vec![];
            for wrong in history::verify(row, histories.get(&row.id).unwrap_or(&empty)) {
                self.wrong.push(format!("history of {id}: {wrong}"));
            }
            match row.state.as_str() {
                "ready" if !row.destroy_requested => (),
                "failed" | "destroyed" => self.check_gone(row),
                state => self.wrong.push(format!("{id} ({}) is stuck: {state}, waits for {:?}", row.kind, row.waiting_for)),
            }
        }
        let lost: Vec<_> = self.known.committed.difference(&self.known.announced).cloned().collect();
        if !lost.is_empty() {
            self.wrong.push(format!("nobody was told of {lost:?}"));
        }
        let dying = tables::pack::Entity::find().filter(tables::pack::Column::State.ne("live")).all(db).await?;
        if !dying.is_empty() {
            self.wrong.push(format!("packs are never swept: {dying:?}"));
        }
        for command in self.asks.iter().filter_map(|it| it.sent.as_ref()) {
            if !self.known.heard.contains(&command.message_id) {
                self.wrong.push(format!("message {} was never answered", command.message_id));
            }
        }
        if self.place.sqlite.numbers("SELECT count(*) FROM outbox")? != [Some(0)] {
            self.wrong.push("messages are left in the outbox".into());
        }
        Ok(())
    }

    /// Nothing that only this operation needed is left, but what a late writer left under its attempt's name.
    fn check_gone(&mut self, row: &tables::operation::Model) {
        let id = OperationId(row.id);
        let abandoned = row.fault.as_ref().is_some_and(|it| it["code"] == code::ABANDONED);
        if abandoned {
            return;
        }
        if self.world.committed(id).is_some() {
            self.wrong.push(format!("{id} is {} and its object is committed", row.state));
        }
        if self.late_wrote {
            return;
        }
        let world = &self.world;
        let left: Vec<String> = [
            world.ready.contains_key(&id).then(|| "ready".to_owned()),
            world.roots.keys().find(|it| it.0 == id).map(|it| format!("root {}", it.1)),
            world.packs.keys().find(|it| it.operation == id && row.state == "failed").map(|it| format!("pack {it}")),
            world.drafts.keys().find(|it| it.0 == id).map(|it| format!("draft {}", it.1)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !left.is_empty() {
            self.wrong.push(format!("of {id} ({}) there is left: {}", row.state, left.join(", ")));
        }
    }
}
