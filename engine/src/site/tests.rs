//! Differences as values, and the transaction on SQLite.

use super::*;
use crate::database::{Database, Failed};
use longshore_schema::tables::{operation, place as place_table, reservation, site as site_table, tenant_user};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, PaginatorTrait};

const FILE: &str = r#"
    [[zone]]
    name = "z1"
    region = "r1"
    [[store]]
    name = "main"
    url = "file:///srv/store"
    region = "r1"
    capacity = "1 TiB"
    [[pool]]
    name = "fast"
    zone = "z1"
    hypervisor = "kvm"
    url = "file:///srv/volumes"
    capacity = "1 TiB"
    [[user]]
    name = "cloud1"
    tenants = ["t2", "t1"]
"#;

fn site(changes: &[(&str, &str)]) -> Site {
    let text = changes.iter().fold(FILE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    Site::parse(&text).unwrap()
}

fn known(site: &Site) -> Known {
    Known { site: settled(&Known::default(), site), ..Known::default() }
}

fn used(mut known: Known) -> Known {
    for name in ["main", "fast"] {
        known.places_in_use.insert(name.into(), "operation x".into());
    }
    known.zones_in_use.insert("z1".into(), "operation x".into());
    known
}

#[test]
fn the_same_file_again_changes_nothing() {
    assert_eq!(difference(&used(known(&site(&[]))), &site(&[])).unwrap(), []);
}

#[test]
fn a_first_file_adds_everything_in_the_order_of_dependence() {
    let changes = difference(&Known::default(), &site(&[])).unwrap();
    let shown: Vec<_> = changes.iter().map(|it| (it.what, it.name.as_str(), matches!(it.how, How::Added { .. }))).collect();
    assert_eq!(shown, [("zone", "z1", true), ("store", "main", true), ("pool", "fast", true), ("user", "cloud1", true)]);
    check(&changes).unwrap();
}

#[test]
fn what_is_in_use_is_not_moved_and_the_rest_may_change() {
    let region = ("[[zone]]\n    name = \"z1\"\n    region = \"r1\"", "[[zone]]\n    name = \"z1\"\n    region = \"r2\"");
    let home = ("region = \"r1\"\n    capacity", "zone = \"z1\"\n    capacity");
    for (change, movable, in_use) in [
        (vec![("file:///srv/store", "file:///srv/other")], true, false),
        (vec![("file:///srv/volumes", "file:///srv/other")], true, false),
        (vec![home], true, false),
        (vec![region, home], true, false),
        (vec![("capacity = \"1 TiB\"", "capacity = \"2 TiB\"")], true, true),
        (vec![("\"t2\", \"t1\"", "\"t1\", \"t2\"")], true, true),
        (vec![("capacity", "extent_size = \"1 MiB\"\n    capacity")], false, false),
    ] {
        let text = change.iter().fold(FILE.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        let wanted = Site::parse(&text).unwrap();
        let free = difference(&known(&site(&[])), &wanted).unwrap();
        assert!(!free.is_empty(), "{change:?}");
        assert_eq!(check(&free).is_ok(), movable, "{change:?}: {free:?}");
        let used = difference(&used(known(&site(&[]))), &wanted).unwrap();
        assert_eq!(check(&used).is_ok(), in_use, "{change:?}: {used:?}");
    }
}

#[test]
fn a_file_that_leaves_out_the_extent_size_keeps_the_founded_one() {
    let mut before = known(&site(&[]));
    before.site.stores[0].extent_size = Some(Size(1 << 20));
    assert_eq!(difference(&before, &site(&[])).unwrap(), []);
    assert_eq!(settled(&before, &site(&[])).stores[0].extent_size, Some(Size(1 << 20)));
}

#[test]
fn removing_what_is_in_use_is_refused_with_the_reason() {
    let changes = difference(&used(known(&site(&[]))), &Site::default()).unwrap();
    let fault = check(&changes).unwrap_err();
    assert!(fault.code == code::SITE_INVALID && fault.message.contains("pool fast: it is in use: operation x"), "{fault}");
    check(&difference(&known(&site(&[])), &Site::default()).unwrap()).unwrap();
}

async fn database(folder: &tempfile::TempDir) -> Database {
    Database::open(&format!("sqlite://{}", folder.path().join("l.db").display())).await.unwrap()
}

async fn applied(database: &Database, wanted: &Site) -> Result<Vec<Change>, Fault> {
    let known = read(database.read()).await.unwrap();
    apply(database, &known, wanted).await.unwrap()
}

#[tokio::test]
async fn what_was_applied_is_read_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder).await;
    assert_eq!(applied(&database, &site(&[])).await.unwrap().len(), 4);
    let after = read(database.read()).await.unwrap();
    assert_eq!(after.site, settled(&Known::default(), &site(&[])));
    assert_eq!(after.version, 2);
    let rows = place_table::Entity::find().all(database.read()).await.unwrap();
    let main = rows.iter().find(|it| it.name == "main").unwrap();
    assert_eq!((main.total, main.extent_size, main.incarnation), (1 << 40, DEFAULT_EXTENT_SIZE as i32, Some(after.incarnation)));
    assert!(matches!(serde_json::from_value(main.definition.clone()).unwrap(), Place::Store { .. }));
    let users = tenant_user::Entity::find().all(database.read()).await.unwrap();
    assert_eq!(users.iter().filter(|it| it.is_default).map(|it| it.tenant.as_str()).collect::<Vec<_>>(), ["t2"]);
    assert_eq!(applied(&database, &Site::default()).await.unwrap().len(), 4);
    assert_eq!(place_table::Entity::find().count(database.read()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_change_of_capacity_leaves_the_ledger_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder).await;
    applied(&database, &site(&[])).await.unwrap();
    book(&database).await;
    applied(&database, &site(&[("capacity = \"1 TiB\"", "capacity = \"3 TiB\"")])).await.unwrap();
    let rows = place_table::Entity::find().all(database.read()).await.unwrap();
    let fast = rows.iter().find(|it| it.name == "fast").unwrap();
    assert_eq!((fast.total, fast.reserved, fast.version), (3 << 40, 7, 1));
}

/// Somebody has seven bytes of the pool `fast`.
async fn book(database: &Database) {
    database
        .transact(|tx| {
            Box::pin(async move {
                let rows = place_table::Entity::find().all(tx).await?;
                for row in rows.into_iter().filter(|it| it.name == "fast") {
                    let held = reservation::Model {
                        operation_id: uuid::Uuid::now_v7(),
                        place_id: row.id,
                        bytes_reserved: 7,
                        bytes_used: 0,
                        physical: 0,
                        state: "held".into(),
                    };
                    reservation::Entity::insert(reservation::ActiveModel::from(held).reset_all())
                        .exec_without_returning(tx)
                        .await?;
                    let mut row: place_table::ActiveModel = row.into();
                    row.reserved = Set(7);
                    row.update(tx).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pool_with_a_reservation_stays_and_so_does_everything_else_of_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder).await;
    applied(&database, &site(&[])).await.unwrap();
    book(&database).await;
    let before = read(database.read()).await.unwrap();
    let fault = applied(&database, &Site::default()).await.unwrap_err();
    assert!(fault.message.contains("pool fast: it is in use"), "{fault}");
    let after = read(database.read()).await.unwrap();
    assert_eq!(after.site, before.site);
}

#[tokio::test]
async fn of_two_who_saw_the_same_site_one_is_told_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder).await;
    let known = read(database.read()).await.unwrap();
    apply(&database, &known, &site(&[])).await.unwrap().unwrap();
    let late = apply(&database, &known, &Site::default()).await;
    assert!(matches!(late, Err(Failed::Conflict(_))), "{late:?}");
    assert_eq!(site_table::Entity::find_by_id(1).one(database.read()).await.unwrap().unwrap().version, 2);
    assert_eq!(operation::Entity::find().count(database.read()).await.unwrap(), 0);
}
