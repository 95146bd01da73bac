//! Who waits for space, when several ask for it in one batch.

use super::{
    remembered::{SITE, announced, done},
    *,
};
use crate::{journal::rows::all_set, ledger};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::Way,
    steps::volume::{Format, Measured},
    tables::operation,
    wire::Outcome,
};

/// A backup of the volume, whose first step has been sent.
pub(super) async fn measuring(journal: &Journal, volume: &str) -> Attempt {
    let body = json!({"zone": "z1", "store": "main", "pool": "fast", "volume": volume});
    journal.command(volume, "backup-snapshot", body).await.unwrap()
}

/// The volume has so many MiB, and so the backup needs a little more.
pub(super) fn measured(attempt: Attempt, mib: u64) -> Item {
    done(attempt, Measured { virtual_size: mib << 20, allocated: mib << 20, format: Format::Raw })
}

/// A store of 1 GiB in which the first of three backups has room.
async fn where_one_has_600_mib() -> (Journal, Vec<Attempt>) {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let mut backups = vec![];
    for volume in ["a.raw", "b.raw", "c.raw"] {
        backups.push(measuring(&journal, volume).await);
    }
    assert_eq!(sent(&journal.write(vec![measured(backups[0], 600)]).await).len(), 1, "it fits");
    (journal, backups)
}

#[tokio::test]
async fn who_comes_in_the_same_batch_does_not_overtake_who_waits() {
    for together in [false, true] {
        let (journal, backups) = where_one_has_600_mib().await;
        let (large, small) = (measured(backups[1], 600), measured(backups[2], 1));
        let batches = if together { vec![vec![large, small]] } else { vec![vec![large], vec![small]] };
        for batch in batches {
            let copies = sent(&journal.write(batch).await);
            assert!(copies.is_empty(), "together: {together}: {copies:?} while another one waits");
        }
    }
}

#[tokio::test]
async fn who_waits_for_what_a_place_can_not_hold_any_more_fails_and_lets_the_others_by() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let (first, large, small) =
        (measuring(&journal, "a.raw").await, measuring(&journal, "b.raw").await, measuring(&journal, "c.raw").await);
    assert_eq!(sent(&journal.write(vec![measured(first, 300)]).await).len(), 1, "it fits");
    for waiting in [measured(large, 800), measured(small, 1)] {
        assert!(sent(&journal.write(vec![waiting]).await).is_empty());
    }
    let smaller = SITE.replace("capacity = \"1 GiB\"\nextent_size", "capacity = \"512 MiB\"\nextent_size");
    let known = site::read(journal.database.read()).await.unwrap();
    site::apply(&journal.database, &known, &Site::parse(&smaller).unwrap()).await.unwrap().unwrap();
    let copies = sent(&journal.write(vec![Item::Wake("main".into())]).await);
    assert_eq!(copies.iter().map(|it| it.operation).collect::<Vec<_>>(), [small.operation]);
    let row = operation::Entity::find_by_id(large.operation.0).one(journal.database.read()).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), &row.fault.unwrap()["code"]), ("failed", &json!(code::STORE_FULL)));
}

#[tokio::test]
async fn who_goes_in_the_same_batch_does_not_keep_the_next_one_out() {
    let (journal, backups) = where_one_has_600_mib().await;
    assert_eq!(sent(&journal.write(vec![measured(backups[1], 600)]).await).len(), 0, "it waits");
    let cancel = command("cancel", "cancel", json!({"operation": backups[1].operation}));
    let copies = sent(&journal.write(vec![cancel, measured(backups[2], 1)]).await);
    assert_eq!(copies.len(), 1, "nobody waits any more, and there is room: {copies:?}");
}

#[tokio::test]
async fn of_many_who_wait_those_are_read_who_come_first_and_no_more_than_are_tried() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let first = measuring(&journal, "a.raw").await;
    let row = operation::Entity::find_by_id(first.operation.0).one(journal.database.read()).await.unwrap().unwrap();
    // A step of priority is worth ten minutes of waiting.
    let (now, minute) = (10_000_000_000, 60_000_000);
    let waits = |n: i64| operation::Model {
        id: OperationId::new().0,
        priority: i16::try_from(n % 3).unwrap(),
        waiting_since: Some(now - n * minute),
        waiting_place: Some("main".into()),
        waiting_bytes: n,
        ..row.clone()
    };
    let most = i64::try_from(ledger::MOST_TRIED).unwrap();
    let rows: Vec<_> = (0..most + 9).map(waits).collect();
    let mut expected: Vec<_> = rows.iter().map(|it| (-it.waiting_bytes - 10 * i64::from(it.priority), it.id)).collect();
    expected.sort_unstable();
    expected.truncate(ledger::MOST_TRIED as usize);
    let insert = operation::Entity::insert_many(rows.into_iter().map(all_set));
    let inserted = journal.database.transact(|tx| async move { Ok(insert.exec_without_returning(tx).await?) }.boxed());
    inserted.await.unwrap();
    let waiting = ledger::waiting(journal.database.read(), "main", now).await.unwrap();
    let read: Vec<_> = waiting.into_iter().map(|it| it.id).collect();
    assert_eq!(read, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

/// A command with that priority.
fn urgent(item: Item, priority: u8) -> Item {
    let Item::Command(command) = item else { panic!("{item:?}") };
    Item::Command(Arc::new(Command { priority, ..(*command).clone() }))
}

/// The volume's backup, as somebody asks for it who can't wait; what its first step is.
async fn measuring_at(journal: &Journal, volume: &str, priority: u8) -> Attempt {
    let body = json!({"zone": "z1", "store": "main", "pool": "fast", "volume": volume});
    sent(&journal.write(vec![urgent(command(volume, "backup-snapshot", body), priority)]).await).pop().unwrap()
}

#[tokio::test]
async fn who_begins_to_wait_in_the_batch_in_which_space_is_given_back_is_called_in_its_turn() {
    for waits_before in [false, true] {
        let (journal, backups) = where_one_has_600_mib().await;
        let copying = journal.current(backups[0].operation).await;
        if waits_before {
            assert_eq!(sent(&journal.write(vec![measured(backups[1], 600)]).await).len(), 0, "it waits");
        }
        let first = measuring_at(&journal, "d.raw", 9).await;
        let second = measuring_at(&journal, "e.raw", 9).await;
        let gone = Fault::permanent(code::STORE_MISBEHAVED, "it can't be copied");
        let failed = report(Report::Done { attempt: copying, worker: "w1".into(), result: Outcome::Fault(gone) });
        let undo = sent(&journal.write(vec![failed]).await).pop().unwrap();
        assert_eq!((undo.operation, undo.way), (copying.operation, Way::Undo));
        let copies = sent(&journal.write(vec![measured(first, 600), measured(second, 600), done(undo, json!(null))]).await);
        assert_eq!(copies.iter().map(|it| it.operation).collect::<Vec<_>>(), [first.operation], "before: {waits_before}");
    }
}

#[tokio::test]
async fn when_who_comes_first_goes_the_next_is_called_at_once_although_nothing_was_given_back() {
    let (journal, backups) = where_one_has_600_mib().await;
    for waiting in [measured(backups[1], 600), measured(backups[2], 1)] {
        assert!(sent(&journal.write(vec![waiting]).await).is_empty());
    }
    let cancel = command("cancel", "cancel", json!({"operation": backups[1].operation}));
    let copies = sent(&journal.write(vec![cancel]).await);
    assert_eq!(copies.iter().map(|it| it.operation).collect::<Vec<_>>(), [backups[2].operation]);
}
