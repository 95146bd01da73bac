//! The history can't be changed, and a change that was forced is found.

use crate::rig::{Parts, Rig, make_volume, noise};
use longshore_courier::embedded::Mischief;
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;

pub(crate) async fn nobody_changes_the_history_and_what_was_forced_is_found(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    rig.ready("verify-object", json!({"object": backup.id})).await;
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
    let forced =
        if rig.database.is_sqlite() { "DROP TRIGGER history_guard_update" } else { "DROP TRIGGER history_guard ON history" };
    db.execute_unprepared(forced).await.unwrap();
    db.execute_unprepared("UPDATE history SET actor = 'nobody' WHERE seq = 2").await.unwrap();
    assert_eq!(verify().await, ["event 2 was changed, or one before it"]);
    rig.end().await
}
