//! The history can't be changed, and a change that was forced is found.

use crate::rig::{Parts, Rig, make_volume, noise};
use sea_orm::{ConnectionTrait, Database};

async fn nobody_changes_the_history(parts: Parts, forced: &[&str]) {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    let db = Database::connect(&rig.url).await.unwrap();
    for sql in [
        "UPDATE history SET actor = 'nobody'",
        "DELETE FROM history",
        "DELETE FROM history WHERE seq = 1",
        "INSERT INTO history SELECT * FROM history WHERE seq = 1",
    ] {
        let refused = db.execute_unprepared(sql).await;
        assert!(refused.is_err(), "{sql} was taken");
    }
    let verify = async || longshore_engine::audit::verify_history(rig.database.read(), backup.id).await.unwrap().unwrap();
    assert_eq!(verify().await, Vec::<String>::new());
    for sql in forced {
        db.execute_unprepared(sql).await.unwrap();
    }
    db.execute_unprepared("UPDATE history SET actor = 'nobody' WHERE seq = 2").await.unwrap();
    assert_eq!(verify().await, ["event 2 was changed, or one before it"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_refuses_to_change_the_history() {
    nobody_changes_the_history(Parts::Embedded, &["DROP TRIGGER history_guard_update"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_refuses_to_change_the_history() {
    nobody_changes_the_history(Parts::Services, &["DROP TRIGGER history_guard ON history"]).await;
}
