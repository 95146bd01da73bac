//! What the database must say after every commit, and when something is due next: one statement, which answers with one row.

use super::sqlite::Sqlite;
use longshore_engine::books;
use std::sync::LazyLock;

/// Operations whose work isn't over.
const AT_WORK: &str = "(o.state IN ('allocated', 'copying') OR o.end_state = 'failed')";

/// Each is a number that must be zero, with what it counts.
static MUST_BE_ZERO: LazyLock<[(&'static str, String); ZEROS]> = LazyLock::new(|| {
    [
        // The engine's own sums.
        (
            "places whose books don't agree",
            format!(
                "SELECT count(*) FROM ({}) b WHERE b.reserved <> b.sum_reserved OR b.used <> b.sum_used OR b.promised <> b.sum_promised",
                books::SUMS
            ),
        ),
        (
            "places over their limit",
            "SELECT count(*) FROM place p WHERE p.reserved + p.used > p.total * p.overcommit * p.threshold".into(),
        ),
        (
            "objects whose holders aren't their holds",
            "SELECT count(*) FROM operation o WHERE o.holders <> (SELECT count(*) FROM hold h WHERE h.object_id = o.id)".into(),
        ),
        (
            "held objects that aren't Ready",
            "SELECT count(*) FROM hold h LEFT JOIN operation o ON o.id = h.object_id WHERE o.state IS NULL OR o.state <> 'ready'"
                .into(),
        ),
        (
            "operations under way without all their claims, or with some when their work is over",
            format!(
                "SELECT count(*) FROM operation o WHERE (SELECT count(*) FROM claim c WHERE c.operation_id = o.id) \
                 <> iif({AT_WORK}, o.kind NOT IN ('verify-object', 'copy-object'), 0)"
            ),
        ),
        (
            "operations under way without all their holds, or with some when their work is over",
            format!(
                "SELECT count(*) FROM operation o WHERE (SELECT count(*) FROM hold h WHERE h.holder_id = o.id) NOT BETWEEN \
                 iif({AT_WORK}, o.kind IN ('verify-object', 'create-volume', 'copy-object'), 0) \
                 AND iif({AT_WORK}, CASE o.kind WHEN 'sweep-store' THEN 0 WHEN 'copy-object' THEN 2 ELSE 1 END, 0)"
            ),
        ),
        (
            "claims or holds of nobody",
            "SELECT (SELECT count(*) FROM claim WHERE operation_id NOT IN (SELECT id FROM operation)) \
             + (SELECT count(*) FROM hold WHERE holder_id NOT IN (SELECT id FROM operation))"
                .into(),
        ),
        (
            "packs whose uses aren't counted right",
            "SELECT count(*) FROM pack k WHERE k.uses <> (SELECT count(*) FROM pack_use u WHERE u.pack_id = k.id)".into(),
        ),
        ("used packs that are not live", "SELECT count(*) FROM pack WHERE (uses > 0) <> (state = 'live')".into()),
        (
            "queues that are counted wrong",
            "SELECT count(*) FROM queue q WHERE q.unstarted <> (SELECT count(*) FROM step s \
             WHERE s.queue = q.name AND s.state = 'sent' AND s.start_before IS NOT NULL)"
                .into(),
        ),
        (
            "reservations of operations that are over",
            "SELECT count(*) FROM reservation r LEFT JOIN operation o ON o.id = r.operation_id \
             WHERE o.state IS NULL OR o.state IN ('failed', 'destroyed')"
                .into(),
        ),
        (
            "operations whose history isn't as long as their version",
            "SELECT count(*) FROM operation o WHERE o.version <> (SELECT count(*) FROM history h WHERE h.operation_id = o.id)"
                .into(),
        ),
    ]
});
/// How many there are.
const ZEROS: usize = 12;

/// When something is due next, and how many operations are under way, in the order of `Ahead`.
const AHEAD: [&str; 8] = [
    "SELECT min(due_at) FROM step",
    "SELECT min(claimed_until) FROM outbox",
    "SELECT min(deadline) FROM operation WHERE state IN ('allocated', 'copying') AND NOT stop_requested",
    "SELECT min(not_before) FROM pack WHERE state <> 'live'",
    "SELECT count(*) FROM operation WHERE waiting_place IS NOT NULL",
    "SELECT count(*) FROM step WHERE state = 'sent' AND start_before IS NULL",
    "SELECT count(*) FROM operation WHERE state = 'ready' AND destroy_requested AND holders = 0",
    "SELECT count(*) FROM operation WHERE state IN ('allocated', 'copying', 'destroying')",
];

/// When something is due next: microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// A step's start, bound, lease or pause is over.
    pub(super) step: Option<i64>,
    /// A message's claim is over.
    pub(super) message: Option<i64>,
    /// A deadline passes.
    pub(super) deadline: Option<i64>,
    /// A pack may be swept.
    pub(super) pack: Option<i64>,
    /// Somebody waits for space.
    pub(super) waiting: bool,
    /// A step waits for room in its queue.
    pub(super) unsent: bool,
    /// An object that nobody holds is to be destroyed.
    pub(super) unheld: bool,
    /// An operation is under way.
    pub(super) under_way: bool,
}

impl Ahead {
    fn of([step, message, deadline, pack, waiting, unsent, unheld, under_way]: [Option<i64>; AHEAD.len()]) -> Ahead {
        let any = |count: Option<i64>| count.unwrap_or(0) > 0;
        let (waiting, unsent, unheld, under_way) = (any(waiting), any(unsent), any(unheld), any(under_way));
        Ahead { step, message, deadline, pack, waiting, unsent, unheld, under_way }
    }
}

static AFTER_COMMIT: LazyLock<String> = LazyLock::new(|| one_row(MUST_BE_ZERO.iter().map(|it| it.1.as_str()).chain(AHEAD)));
static LOOK_AHEAD: LazyLock<String> = LazyLock::new(|| one_row(AHEAD.into_iter()));

fn one_row<'q>(questions: impl Iterator<Item = &'q str>) -> String {
    let columns: Vec<_> = questions.enumerate().map(|(n, query)| format!("({query}) AS c{n}")).collect();
    format!("SELECT {}", columns.join(", "))
}

/// What is wrong now, in words, and what is due.
pub(super) fn after_commit(sqlite: &Sqlite) -> (Vec<String>, Ahead) {
    let numbers = sqlite.numbers::<{ ZEROS + AHEAD.len() }>(&AFTER_COMMIT).expect("one row of numbers");
    let (zeros, ahead) = numbers.split_at(ZEROS);
    let wrong = MUST_BE_ZERO.iter().zip(zeros).filter(|(_, count)| **count != Some(0));
    let wrong = wrong.map(|((what, _), count)| format!("{} {what}", count.unwrap_or_default())).collect();
    (wrong, Ahead::of(std::array::from_fn(|n| ahead[n])))
}

/// What is due.
pub(super) fn look_ahead(sqlite: &Sqlite) -> Ahead {
    Ahead::of(sqlite.numbers(&LOOK_AHEAD).expect("one row of numbers"))
}
