//! Messages of a unit of work. Events and replies are rows of the outbox first. The others are published after the commit
//! and never stored: steps, whose own rows say that they were sent, and by when; control and progress, which needn't survive.

use super::{
    bulk::{Form, rows::Rows},
    loaded::Known,
    outflow::Outflow,
    rows::state_name,
    unit::Unit,
};
use crate::{
    database::Failed,
    machine::StepState,
    mutant::{self, Mutant},
    outbox::CLAIM_S,
    plan::{Call, Input, Work},
};
use longshore_schema::{
    ids::OperationId,
    step::{Attempt, Pace, StepMessage, Way},
    tables::{history, outbox, queue, step},
    time::Timestamp,
    wire::{CloudEvent, Control, EventData, names},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// A queue, when a transaction ends.
struct Room {
    /// Unstarted steps in it, as remembered or as read.
    unstarted: i32,
    /// How many more it takes.
    free: usize,
}

impl Unit<'_> {
    /// Tells one worker, or `all`, something. Not persistent: what it says can be asked for again.
    pub fn control(&mut self, worker: &str, control: &Control) -> Result<(), Failed> {
        let body = serde_json::to_string(control)?;
        self.pass(names::CONTROL, worker, body);
        Ok(())
    }

    /// Sends a message after the commit that needn't survive.
    pub fn pass(&mut self, exchange: &str, routing_key: &str, body: String) {
        let expires = Some(self.now.plus_s(60));
        self.passing.push(self.message(exchange, routing_key, false, json!({"persistent": false}), body, expires));
    }

    /// Answers a command.
    pub fn reply(&mut self, reply_to: &str, correlation_id: Option<&str>, reply: &Value) {
        let properties = json!({"correlation_id": correlation_id, "persistent": true});
        self.outbox.push(self.message("", reply_to, true, properties, reply.to_string(), Some(self.now.plus_s(3600))));
    }

    /// Tells the world about a change of state, as a CloudEvent.
    pub(super) fn announce(&mut self, id: OperationId, entry: &history::Model) -> Result<(), Failed> {
        if mutant::is(Mutant::HideFailures) && entry.to_state == "failed" {
            return Ok(());
        }
        let loaded = &self.operations[&id];
        let (row, operation) = (&loaded.row, &loaded.operation);
        let data = EventData {
            operation: id,
            kind: row.kind.clone(),
            zone: row.zone.clone(),
            tenant: row.tenant.clone(),
            from: entry.from_state.clone(),
            to: entry.to_state.clone(),
            seq: entry.seq,
            at: Timestamp(entry.at),
            fault: operation.fault.clone(),
            object: operation.output.clone(),
        };
        let event = CloudEvent {
            specversion: "1.0".into(),
            id: format!("{id}/{}", entry.seq),
            source: "/longshore".into(),
            r#type: format!("io.longshore.operation.{}", entry.to_state),
            subject: id.to_string(),
            time: Timestamp(entry.at),
            datacontenttype: "application/json".into(),
            data,
        };
        let (key, message_id) = (format!("{}.{}", row.kind, state_name(operation.state)), event.id.clone());
        let properties = json!({"message_id": message_id, "persistent": true, "content_type": "application/cloudevents+json"});
        self.outbox.push(self.message(names::EVENTS, &key, false, properties, serde_json::to_string(&event)?, None));
        Ok(())
    }

    fn message(
        &self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        properties: Value,
        body: String,
        expires: Option<Timestamp>,
    ) -> outbox::Model {
        outbox::Model {
            id: uuid::Uuid::now_v7(),
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            mandatory,
            properties,
            body,
            expires_at: expires.map(|it| it.0),
            claimed_until: self.now.plus_s(CLAIM_S).0,
        }
    }

    /// Fills the broker's queues up to their depth: what this unit wants to send, and what waits in the database.
    /// Operations under way go first: they are the older ones. Returns the depths that didn't change.
    pub(super) async fn dispatch<F: Form>(&mut self, rows: &mut Rows<F>) -> Result<HashMap<String, i32>, Failed> {
        let mut depths = HashMap::new();
        for (name, ready) in self.by_queue() {
            let left = self.queues.get(&name).copied().unwrap_or(0);
            let depth = self.depth(&name, left);
            let wanted = if self.refilled.contains(&name) { usize::MAX } else { ready.len() };
            let room = self.room(&name, depth, left, wanted).await?;
            let chosen = self.chosen(&name, ready, left, room.free).await?;
            for &(id, seq) in &chosen {
                self.send(id, seq)?;
            }
            let change = left + i32::try_from(chosen.len()).unwrap_or(i32::MAX);
            if change == 0 {
                depths.insert(name, room.unstarted);
            } else {
                rows.change_queue(&name, change, depth);
            }
        }
        Ok(depths)
    }

    /// What this unit wants to send. A queue that something left, or that is to be filled, is there even if that is nothing.
    fn by_queue(&self) -> BTreeMap<String, Vec<(OperationId, usize)>> {
        let mut wanted: BTreeMap<String, Vec<_>> = self.queues.keys().map(|it| (it.clone(), vec![])).collect();
        for &(id, seq) in &self.unsent {
            if let Some(call) = self.call(id, seq) {
                wanted.entry(call.queue.clone()).or_default().push((id, seq));
            }
        }
        wanted
    }

    /// What goes into a queue that takes `free` more: of what this unit wants to send, and of what waits in the database, if
    /// there is room for both, or if somebody just came, who goes after those who wait.
    async fn chosen(
        &mut self,
        name: &str,
        mut ready: Vec<(OperationId, usize)>,
        left: i32,
        free: usize,
    ) -> Result<Vec<(OperationId, usize)>, Failed> {
        let may_wait = self.refilled.contains(name) || (left < 0 && !self.memory.waited_for_by_none.contains(name));
        let just_came = ready.iter().any(|(id, _)| self.operations[id].known == Known::New);
        let missing = if just_came { free } else { free.saturating_sub(ready.len()) };
        if may_wait && missing > 0 {
            let (found, all) = self.backlog(name, missing, &ready).await?;
            match all {
                true => self.memory.waited_for_by_none.insert(name.to_owned()),
                false => self.memory.waited_for_by_none.remove(name),
            };
            ready.extend(found);
        }
        if ready.len() > free {
            self.memory.waited_for_by_none.remove(name);
        }
        ready.sort_by_key(|(id, _)| (-self.operations[id].row.priority, *id));
        ready.truncate(free);
        Ok(ready)
    }

    /// How many unstarted steps a queue may hold, now that some left it (`left` is negative then).
    fn depth(&mut self, name: &str, left: i32) -> i32 {
        if mutant::is(Mutant::IgnoreDepths) {
            return 1000;
        }
        if left < 0 {
            let outflow = self.memory.outflows.entry(name.to_owned()).or_insert_with(|| Outflow::new(self.now));
            outflow.count(self.now, i64::from(-left));
        }
        let outflow = self.memory.outflows.get(name);
        outflow.map_or(self.config.queue_depth, |it| it.depth(self.now, self.config.queue_depth))
    }

    /// Unstarted steps in a queue, and how many more it takes once `left` of them are away (or come). What is
    /// remembered suffices if it has the room that is wanted, since the update is guarded; other engines may have made room.
    async fn room(&mut self, name: &str, depth: i32, left: i32, wanted: usize) -> Result<Room, Failed> {
        let free = |unstarted: i32| usize::try_from(depth - (unstarted + left)).unwrap_or(0);
        if let Some(&known) = self.memory.queues.get(name)
            && free(known) >= wanted
        {
            return Ok(Room { unstarted: known, free: free(known) });
        }
        let read = self.unstarted(name).await?;
        Ok(Room { unstarted: read, free: free(read) })
    }

    async fn unstarted(&mut self, name: &str) -> Result<i32, Failed> {
        if let Some(row) = queue::Entity::find_by_id(name).one(self.tx).await? {
            return Ok(row.unstarted);
        }
        let row = queue::ActiveModel { name: Set(name.to_owned()), unstarted: Set(0) };
        queue::Entity::insert(row).on_conflict_do_nothing_on([queue::Column::Name]).exec_without_returning(self.tx).await?;
        Ok(0)
    }

    /// Steps that wait in the database for room in a queue, and whether there are no more.
    async fn backlog(
        &mut self,
        queue: &str,
        limit: usize,
        known: &[(OperationId, usize)],
    ) -> Result<(Vec<(OperationId, usize)>, bool), Failed> {
        let most = limit + known.len();
        let rows = step::Entity::find()
            .filter(step::Column::Queue.eq(queue))
            .filter(Expr::cust(step::UNSENT))
            .order_by_desc(step::Column::Priority)
            .order_by_asc(step::Column::OperationId)
            .limit(most as u64);
        let rows = rows.all(self.tx).await?;
        let all = rows.len() < most;
        self.load_waiting(&rows).await?;
        let mut found = vec![];
        for row in rows {
            let (id, seq) = (OperationId(row.operation_id), usize::try_from(row.seq).unwrap_or(0));
            let waits = self.operations.get(&id).is_some_and(|it| {
                matches!(it.operation.steps[seq].state, StepState::Sent { .. }) && it.deliveries[seq].start_before.is_none()
            });
            if waits && !known.contains(&(id, seq)) && found.len() < limit {
                found.push((id, seq));
            }
        }
        let all = all && found.len() < limit;
        Ok((found, all))
    }

    /// Fills one queue from what waits in the database: the clock's backstop.
    pub fn refill(&mut self, queue: &str) {
        self.queues.entry(queue.to_owned()).or_default();
        self.refilled.insert(queue.to_owned());
    }

    fn call(&self, id: OperationId, seq: usize) -> Option<&Call> {
        let loaded = self.operations.get(&id)?;
        let planned = loaded.operation.plan.steps.get(seq)?;
        match loaded.operation.steps[seq].state.way()? {
            Way::Do => match &planned.work {
                Work::Worker(call) => Some(call),
                Work::Engine(_) => None,
            },
            Way::Probe => planned.probe.as_ref(),
            Way::Undo => planned.undo.as_ref().map(|it| &it.call),
        }
    }

    /// Sends the current attempt of a step after the commit: once, as the same attempt twice could run beside its own undo.
    fn send(&mut self, id: OperationId, seq: usize) -> Result<(), Failed> {
        let Some(call) = self.call(id, seq).cloned() else {
            return Err(Failed::Internal(anyhow::anyhow!("step {seq} of {id} has nothing to send")));
        };
        let (now, config) = (self.now, self.config);
        let loaded = &self.operations[&id];
        let track = &loaded.operation.steps[seq];
        let way = track.state.way().unwrap_or(Way::Do);
        let attempt = Attempt { operation: id, seq: u16::try_from(seq).unwrap_or(u16::MAX), n: track.n, way };
        let input = match call.input {
            Input::None => Value::Null,
            Input::Of(seq) | Input::IfAny(seq) => loaded.operation.output_of(seq).cloned().unwrap_or(Value::Null),
        };
        let pace = match call.pace {
            Pace::Short { bound_s } => Pace::Short { bound_s },
            Pace::Long { lease_s: _ } => Pace::Long { lease_s: config.lease_s },
        };
        let may_write = call.writes_under.and_then(|seq| loaded.operation.output_of(seq)?.get("bytes")?.as_u64());
        let start_before = now.plus_s(config.start_window_s.into());
        let bound = match pace {
            Pace::Short { bound_s } => bound_s,
            Pace::Long { .. } => 0,
        };
        let message = StepMessage { attempt, step: call.step.clone(), args: call.args, input, start_before, pace, may_write };
        let properties = json!({
            "message_id": format!("{id}/{seq}/{}", attempt.n), "persistent": true, "priority": loaded.row.priority,
        });
        let body = serde_json::to_string(&message)?;
        let expires = Some(start_before).filter(|_| !mutant::is(Mutant::NeverExpire));
        let delivery = self.delivery(id, attempt.seq);
        delivery.start_before = Some(start_before.0);
        delivery.due_at = Some(start_before.plus_s(u64::from(bound) + u64::from(config.margin_s)).0);
        if let Some(loaded) = self.operations.get_mut(&id) {
            loaded.change();
        }
        self.passing.push(self.message(names::STEPS, &call.queue, true, properties, body, expires));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        database::Database,
        journal::{bulk::Values, memory::Memory},
    };
    use futures::FutureExt;

    #[tokio::test]
    async fn a_queue_that_is_filled_makes_nobody_read_what_waits_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", folder.path().display())).await.unwrap();
        let looked_for = database.transact(|tx| {
            async move {
                let mut memory = Memory::default();
                let mut unit = Unit::new(tx, &mut memory, Config::default(), Timestamp(0));
                unit.refill("filled");
                unit.queues.insert("another".into(), 0);
                unit.dispatch(&mut Rows::<Values>::empty()).await?;
                Ok(memory.waited_for_by_none)
            }
            .boxed()
        });
        assert_eq!(looked_for.await.unwrap().into_iter().collect::<Vec<_>>(), ["filled"]);
    }
}
