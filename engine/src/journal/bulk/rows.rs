//! Rows to write: each is put into a batch in the order of its columns (`columns.rs`).

use super::{
    batch::{Batch, Form},
    columns::{CONFIRMED, HISTORY, MESSAGE_SEEN, OPERATION, OPERATION_CHANGE, OUTBOX, QUEUE, STEP, STEP_CHANGE},
};
use crate::journal::loaded::Read;
use longshore_schema::tables::{history, message_seen, operation, outbox, step};
use uuid::Uuid;

/// All that a transaction writes, in a database's form.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Rows<F> {
    pub(super) new_operations: Batch<F>,
    pub(super) operations: Batch<F>,
    pub(super) new_steps: Batch<F>,
    pub(super) steps: Batch<F>,
    pub(super) history: Batch<F>,
    pub(super) seen: Batch<F>,
    pub(super) outbox: Batch<F>,
    pub(super) confirmed: Batch<F>,
    pub(super) queues: Batch<F>,
}

impl<F: Form> Rows<F> {
    /// Nothing yet.
    pub(in crate::journal) fn empty() -> Rows<F> {
        Rows {
            new_operations: Batch::new(OPERATION),
            operations: Batch::new(OPERATION_CHANGE),
            new_steps: Batch::new(STEP),
            steps: Batch::new(STEP_CHANGE),
            history: Batch::new(HISTORY),
            seen: Batch::new(MESSAGE_SEEN),
            outbox: Batch::new(OUTBOX),
            confirmed: Batch::new(CONFIRMED),
            queues: Batch::new(QUEUE),
        }
    }

    /// A new operation, with its plan.
    pub(in crate::journal) fn add_operation(&mut self, row: &operation::Model) {
        let batch = &mut self.new_operations;
        batch.id(row.id).text(&row.kind).text(&row.zone).text(&row.tenant).text_if_any(row.user_name.as_deref());
        batch.text_if_any(row.name.as_deref()).text_if_any(row.subject.as_deref()).text_if_any(row.store.as_deref());
        state(batch, row).json(Some(&row.params)).json(Some(&row.plan));
        batch.json(row.output.as_ref()).json(row.fault.as_ref()).int(row.priority).int(row.deadline);
        flags(batch, row).int(row.holders).int(row.version).bytes(&row.digest);
        batch.int(row.created_at).int(row.updated_at).int(row.last_used_at);
    }

    /// What a transition may change of an operation, guarded by what was read.
    pub(in crate::journal) fn change_operation(&mut self, row: &operation::Model, read: &Read) {
        let batch = &mut self.operations;
        state(batch.id(row.id), row).json(row.output.as_ref()).json(row.fault.as_ref());
        flags(batch, row).int(row.version).bytes(&row.digest).int(row.updated_at);
        batch.int(read.version).int_if_any(read.ready.then_some(read.holders.into()));
    }

    /// A step that left `Planned`.
    pub(in crate::journal) fn add_step(&mut self, row: &step::Model) {
        let batch = &mut self.new_steps;
        batch
            .id(row.operation_id)
            .int(row.seq)
            .text(&row.name)
            .text(&row.state)
            .text(&row.way)
            .int(row.attempt)
            .int(row.failures);
        batch.text(&row.queue).int(row.priority).text_if_any(row.worker.as_deref());
        delivery(batch, row);
    }

    /// A step that changed, guarded by what was read.
    pub(in crate::journal) fn change_step(&mut self, row: &step::Model, read: &step::Model) {
        let batch = &mut self.steps;
        batch.id(row.operation_id).int(row.seq).text(&row.state).text(&row.way).int(row.attempt).int(row.failures);
        delivery(batch.text_if_any(row.worker.as_deref()), row);
        batch.text(&read.state).int(read.attempt).int_if_any(read.start_before).int_if_any(read.due_at);
    }

    /// An event.
    pub(in crate::journal) fn add_history(&mut self, row: &history::Model) {
        let batch = &mut self.history;
        batch.id(row.operation_id).int(row.seq).int(row.at).text(&row.event).text_if_any(row.from_state.as_deref());
        batch.text(&row.to_state).text(&row.actor).text_if_any(row.detail.as_deref()).bytes(&row.digest);
    }

    /// The answer to a command.
    pub(in crate::journal) fn add_seen(&mut self, row: &message_seen::Model) {
        let batch = &mut self.seen;
        batch.text(&row.tenant).text(&row.user_name).text(&row.message_id).bytes(&row.digest).json(Some(&row.reply)).int(row.at);
    }

    /// A message.
    pub(in crate::journal) fn add_message(&mut self, row: &outbox::Model) {
        let batch = &mut self.outbox;
        batch.id(row.id).text(&row.exchange).text(&row.routing_key).flag(row.mandatory).json(Some(&row.properties));
        batch.text(&row.body).int_if_any(row.expires_at).int(row.claimed_until);
    }

    /// A message that the broker has confirmed goes.
    pub(in crate::journal) fn delete_message(&mut self, id: Uuid) {
        self.confirmed.id(id);
    }

    /// So many more steps are in a queue, which may hold so many at the most.
    pub(in crate::journal) fn change_queue(&mut self, name: &str, change: i32, most: i32) {
        self.queues.text(name).int(change).int(most);
    }
}

fn state<'b, F: Form>(batch: &'b mut Batch<F>, row: &operation::Model) -> &'b mut Batch<F> {
    batch.text(&row.state).text_if_any(row.end_state.as_deref());
    batch.text_if_any(row.waiting_for.as_deref()).text_if_any(row.waiting_place.as_deref());
    batch.int(row.waiting_bytes).int_if_any(row.waiting_since)
}

fn flags<'b, F: Form>(batch: &'b mut Batch<F>, row: &operation::Model) -> &'b mut Batch<F> {
    batch.flag(row.stop_requested).flag(row.destroy_requested).flag(row.needs_attention)
}

fn delivery<F: Form>(batch: &mut Batch<F>, row: &step::Model) {
    batch.int_if_any(row.start_before).int_if_any(row.due_at).int(row.done_bytes).int_if_any(row.total_bytes);
    batch.json(row.output.as_ref()).json(row.fault.as_ref());
}
