//! Who waits for room in a queue of steps, when somebody comes as there is some again.

use super::*;
use crate::journal::Absorbed;
use longshore_schema::ids::OperationId;

/// Submits an operation beside other items; whose first steps are sent, and what it is called.
async fn submit_beside(journal: &Journal, message_id: &str, beside: Vec<Item>) -> (Vec<OperationId>, OperationId) {
    let asked = command(message_id, "idle", json!({"zone": "z1"}));
    let written = journal.write(beside.into_iter().chain([asked]).collect()).await;
    let Some(Absorbed::Replied(reply)) = written.absorbed.last() else { panic!("no answer") };
    (sent(&written).into_iter().map(|it| it.operation).collect(), reply.operation.unwrap())
}

#[tokio::test]
async fn who_comes_as_there_is_room_again_does_not_overtake_who_waits() {
    for engines in [1, 2] {
        let journal = Journal::with(Config { queue_depth: 1, ..Config::default() }).await;
        let first = journal.submit("m1").await.unwrap();
        // Nobody remembers on another engine that somebody waits.
        let beside = journal.beside();
        let other = if engines == 2 { &beside } else { &journal };
        let (sent, waits) = submit_beside(&journal, "m2", vec![]).await;
        assert_eq!(sent, [], "there is no room");
        let started = report(Report::Started { attempt: first, worker: "w1".into(), token: None });
        let (sent, last) = submit_beside(other, "m3", vec![started]).await;
        assert_eq!(sent.first(), Some(&waits), "{engines} engines: {last} came later");
    }
}
