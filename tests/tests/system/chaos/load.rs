//! The load: one volume's life, over and over. It changes, is backed up in full or incrementally, restored into a pool that has
//! hardly room for one, verified; snapshots are copied from store to store and destroyed, operations cancelled, undos abandoned,
//! tries asked for, the stores swept. A copy of what each snapshot holds is kept aside.

use super::STORES;
use crate::rig::content;
use longshore_courier::{Courier, Inbox, Parcel, Properties, Queue};
use longshore_engine::{
    audit::{self, OperationView},
    database::Database,
    request,
};
use longshore_schema::{
    ids::OperationId,
    wire::{Reply, names},
};
use longshore_tests::services::unique;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex as Shared},
    time::Duration,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// An unanswered command is sent again after this, under the same message id.
const AGAIN: Duration = Duration::from_secs(8);
/// No operation takes longer, whatever dies meanwhile.
const STUCK: Duration = Duration::from_secs(400);

/// What all control planes together were told.
#[derive(Default)]
pub(super) struct Tally {
    /// The operation of each accepted command.
    pub(super) made: Vec<OperationId>,
    /// Operations whose undo was given up.
    pub(super) abandoned: Vec<OperationId>,
}

/// A control plane: it sends a command until it is answered.
pub(super) struct Client {
    courier: Arc<dyn Courier>,
    database: Database,
    name: String,
    replies: Mutex<Box<dyn Inbox>>,
    tally: Arc<Shared<Tally>>,
}

impl Client {
    pub(super) async fn connect(amqp: &str, database: Database, tally: Arc<Shared<Tally>>) -> Client {
        let courier = longshore_courier::open(amqp, "chaos").await.unwrap();
        let name = unique("replies");
        let own = Queue::Own { name: name.clone(), exchange: String::new(), routing_keys: vec![] };
        courier.declare(&[own]).await.unwrap();
        let replies = Mutex::new(courier.consume(&name, 10).await.unwrap());
        Client { courier, database, name, replies, tally }
    }

    /// The operation that the command made or named. `None` if it was refused with one of these codes.
    pub(super) async fn command(&self, kind: &str, body: &Value, refused: &[&str]) -> Option<OperationId> {
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let reply = self.answered(kind, body).await;
            match (reply.operation, reply.fault) {
                (Some(id), None) => {
                    self.count(kind, id);
                    return Some(id);
                }
                (_, Some(fault)) if refused.contains(&fault.code.as_str()) => return None,
                // All workers are away, or silent, for now.
                (_, Some(fault)) if fault.code == "worker.unavailable" => (),
                (_, fault) => panic!("{kind} {body} was refused: {fault:?}"),
            }
        }
    }

    fn count(&self, kind: &str, id: OperationId) {
        let mut tally = self.tally.lock().unwrap();
        match kind {
            "abandon" => tally.abandoned.push(id),
            kind if request::find(kind).is_some() => (),
            _ => tally.made.push(id),
        }
    }

    async fn answered(&self, kind: &str, body: &Value) -> Reply {
        let id = unique("chaos");
        let properties = Properties {
            message_id: Some(id.clone()),
            correlation_id: Some(id.clone()),
            reply_to: Some(self.name.clone()),
            persistent: true,
            ..Properties::default()
        };
        let body = body.to_string().into();
        let parcel = Parcel { exchange: names::COMMANDS.into(), routing_key: kind.into(), mandatory: true, properties, body };
        let mut replies = self.replies.lock().await;
        loop {
            // Whether it was confirmed doesn't matter: the answer does.
            drop(self.courier.publish(vec![parcel.clone()]).await);
            let answer = async {
                loop {
                    let delivery = replies.next().await.expect("an open courier");
                    let ours = delivery.parcel.properties.correlation_id.as_ref() == Some(&id);
                    let reply: Reply = serde_json::from_slice(&delivery.parcel.body).unwrap();
                    delivery.receipt.ack();
                    if ours {
                        return reply;
                    }
                }
            };
            if let Ok(reply) = tokio::time::timeout(AGAIN, answer).await {
                return reply;
            }
        }
    }

    /// Waits until an operation is in one of these states.
    pub(super) async fn until(&self, id: OperationId, states: &[&str]) -> OperationView {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let mut last = None;
        let wait = async {
            loop {
                ticks.tick().await;
                if let Ok(Some(view)) = audit::show(self.database.read(), id).await {
                    if states.contains(&view.state.as_str()) {
                        return view;
                    }
                    last = Some(view);
                }
            }
        };
        match tokio::time::timeout(STUCK, wait).await {
            Ok(view) => view,
            Err(_) => panic!("{id} is stuck: {last:#?}"),
        }
    }

    /// Runs an operation that must become Ready.
    pub(super) async fn ready(&self, kind: &str, body: &Value) -> OperationId {
        let id = self.command(kind, body, &[]).await.unwrap();
        self.becomes_ready(id).await;
        id
    }

    /// Waits until an operation is Ready, as nobody asked for anything else.
    async fn becomes_ready(&self, id: OperationId) {
        let view = self.until(id, &["ready", "failed", "destroyed"]).await;
        assert_eq!(view.state, "ready", "{} {id} failed, which nobody asked for: {:?}", view.kind, view.fault);
    }

    /// Waits until something of an operation is being undone, and nothing of it done any more; false if it ends before.
    async fn is_undone(&self, id: OperationId) -> bool {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let wait = async {
            loop {
                ticks.tick().await;
                if let Ok(Some(view)) = audit::show(self.database.read(), id).await {
                    match view.progress {
                        Some(step) if step.way == "undo" => return true,
                        _ if ["ready", "failed"].contains(&view.state.as_str()) => return false,
                        _ => (),
                    }
                }
            }
        };
        // What is stuck is told by `until`, which comes next.
        tokio::time::timeout(STUCK, wait).await.unwrap_or(false)
    }

    pub(super) async fn destroy(&self, id: OperationId) {
        self.command("destroy", &json!({"operation": id}), &[]).await;
        self.until(id, &["destroyed"]).await;
    }
}

/// A snapshot, or a copy of one.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    id: OperationId,
    store: &'static str,
}

/// One volume.
pub(super) struct Life {
    client: Client,
    rng: StdRng,
    n: usize,
    folder: PathBuf,
    bytes: Vec<u8>,
    snapshots: Vec<Snapshot>,
    made: usize,
}

impl Life {
    pub(super) fn new(client: Client, n: usize, seed: u64, folder: &Path, bytes: Vec<u8>) -> Life {
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(n as u64));
        Life { client, rng, n, folder: folder.into(), bytes, snapshots: vec![], made: 0 }
    }

    pub(super) async fn live(mut self, enough: CancellationToken) {
        while !enough.is_cancelled() {
            let any = (!self.snapshots.is_empty()).then(|| self.rng.random_range(0..self.snapshots.len()));
            match (self.rng.random_range(0..14), any) {
                (0..=3, _) | (_, None) => self.back_up("auto").await,
                (4, _) => self.back_up("full").await,
                (5, _) => self.cancel().await,
                (9, _) => self.hurry().await,
                (6 | 10, Some(which)) => self.restore(self.snapshots[which].id).await,
                (7, Some(which)) => self.verify(self.snapshots[which].id).await,
                (8, Some(which)) => self.forget(which).await,
                (12 | 13, Some(which)) => self.copy(self.snapshots[which]).await,
                (_, Some(_)) => self.sweep().await,
            }
        }
        // However short it was, a base went from under its successors.
        self.back_up("full").await;
        self.back_up("auto").await;
        self.copy(self.snapshots[self.snapshots.len() - 1]).await;
        self.forget(self.snapshots.len() - 3).await;
    }

    /// To the store that it isn't in.
    async fn copy(&mut self, from: Snapshot) {
        let store = if from.store == "main" { "other" } else { "main" };
        let base = if self.rng.random_bool(0.3) { "full" } else { "auto" };
        let body = json!({"from": from.id, "store": store, "base": base});
        let id = self.client.ready("copy-object", &body).await;
        std::fs::copy(self.reference(from.id), self.reference(id)).unwrap();
        self.snapshots.push(Snapshot { id, store });
    }

    async fn verify(&self, object: OperationId) {
        self.client.ready("verify-object", &json!({"object": object})).await;
    }

    async fn forget(&mut self, which: usize) {
        let gone = self.snapshots.swap_remove(which).id;
        self.client.destroy(gone).await;
        std::fs::remove_file(self.reference(gone)).unwrap();
    }

    fn reference(&self, id: OperationId) -> PathBuf {
        self.folder.join("reference").join(id.to_string())
    }

    fn body(&self, base: &str) -> Value {
        let when_full = ["wait", "refuse"][self.n % 2];
        json!({
            "zone": "z1", "pool": "fast", "volume": format!("disk{}", self.n), "store": "main", "base": base,
            "when_full": when_full,
        })
    }

    /// Writes something here and there; nobody reads the volume meanwhile.
    fn change(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let from = self.rng.random_range(0..self.bytes.len());
            let end = (from + self.rng.random_range(1..2 << 20)).min(self.bytes.len());
            match self.rng.random_bool(0.2) {
                true => self.bytes[from..end].fill(0),
                false => self.rng.fill(&mut self.bytes[from..end]),
            }
        }
        std::fs::write(self.folder.join("pool").join(format!("disk{}", self.n)), &self.bytes).unwrap();
    }

    async fn back_up(&mut self, base: &str) {
        self.change();
        let id = self.client.ready("backup-snapshot", &self.body(base)).await;
        self.keep(id);
    }

    fn keep(&mut self, id: OperationId) {
        std::fs::write(self.reference(id), &self.bytes).unwrap();
        self.snapshots.push(Snapshot { id, store: "main" });
    }

    /// Somebody who can't wait asks for another try of whatever rests.
    async fn hurry(&mut self) {
        self.change();
        let id = self.client.command("backup-snapshot", &self.body("auto"), &[]).await.unwrap();
        for _ in 0..3 {
            self.client.command("retry", &json!({"operation": id}), &["operation.wrong-state"]).await;
        }
        self.client.becomes_ready(id).await;
        self.keep(id);
    }

    /// Of half of those that are undone, the undo is given up. Only of backups: what it leaves in the store a sweep finds, and
    /// what it left in a pool would stay.
    async fn cancel(&mut self) {
        self.change();
        let id = self.client.command("backup-snapshot", &self.body("auto"), &[]).await.unwrap();
        self.client.command("cancel", &json!({"operation": id}), &["cancel.too-late"]).await;
        let mut code = "cancelled";
        if self.rng.random() && self.client.is_undone(id).await {
            let body = json!({"operation": id, "reason": "the test has no patience"});
            if self.client.command("abandon", &body, &["operation.wrong-state"]).await.is_some() {
                code = "abandoned";
            }
        }
        let view = self.client.until(id, &["ready", "failed"]).await;
        match view.fault {
            None => self.keep(id),
            Some(fault) => assert_eq!(fault.code, code, "{id}"),
        }
    }

    async fn restore(&mut self, from: OperationId) {
        self.made += 1;
        let (name, format) = (format!("new{}-{}", self.n, self.made), if self.rng.random() { "raw" } else { "qcow2" });
        let when_full = if self.rng.random() { "wait" } else { "refuse" };
        let body = json!({
            "zone": "z1", "from": from, "pool": "fast", "volume": name, "format": format, "when_full": when_full,
        });
        let Some(id) = self.client.command("create-volume", &body, &["pool.full"]).await else {
            assert_eq!(when_full, "refuse", "a volume that fits once others are gone waits");
            return;
        };
        self.client.becomes_ready(id).await;
        let (made, wanted) = (self.folder.join("pool").join(name), self.reference(from));
        assert!(content(&made, format) == std::fs::read(wanted).unwrap(), "{id} isn't what {from} was");
        self.client.destroy(id).await;
        assert!(!made.exists(), "{id} was destroyed");
    }

    /// Another sweep may be under way.
    async fn sweep(&mut self) {
        let store = STORES[self.rng.random_range(0..STORES.len())];
        if let Some(id) = self.client.command("sweep-store", &json!({"store": store}), &["volume.claimed"]).await {
            let view = self.client.until(id, &["ready", "failed"]).await;
            assert_eq!(view.state, "ready", "{:?}", view.fault);
        }
    }
}
