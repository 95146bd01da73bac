//! One renewal for several attempts.

use super::{
    remembered::{SITE, announced},
    waiting::{measured, measuring},
    *,
};
use longshore_schema::{ids::PackId, steps::object::Sealed, tables::pack};

#[tokio::test]
async fn an_attempt_whose_books_are_wrong_is_stopped_and_the_others_are_renewed() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let mut copies = vec![];
    for volume in ["a.raw", "b.raw"] {
        let measure = measuring(&journal, volume).await;
        let copy = sent(&journal.write(vec![measured(measure, 1)]).await).pop().unwrap();
        journal.write(vec![report(Report::Started { attempt: copy, worker: "w1".into(), token: None })]).await;
        copies.push(copy);
    }
    let running = |attempt: Attempt, bytes: u64| -> Running {
        let id = PackId { operation: attempt.operation, attempt: attempt.n, n: 0 };
        let sealed = Sealed { id, bytes };
        serde_json::from_value(json!({"attempt": attempt, "done_bytes": 7, "sealed": [sealed]})).unwrap()
    };
    // The first says that it has put more than it had reserved.
    let running = vec![running(copies[0], 1 << 30), running(copies[1], 1000)];
    let told = words(&journal.write(vec![report(Report::Renew { worker: "w1".into(), token: 1, running })]).await);
    assert!(matches!(&told[..], [Control::Renewed { stop, .. }] if *stop == [copies[0]]), "{told:?}");
    let recorded = pack::Entity::find().all(journal.database.read()).await.unwrap();
    assert_eq!(recorded.iter().map(|it| it.operation_id).collect::<Vec<_>>(), [copies[1].operation.0]);
    assert_eq!(journal.step(copies[1]).await.done_bytes, 7);
}
