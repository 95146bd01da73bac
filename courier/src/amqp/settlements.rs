//! Sends acknowledgements of one channel, many at a time.
//!
//! **Invariant**: a receipt's way to the broker is the channel that delivered it. When that ends, so does the
//! queue of settlements, and late receipts do nothing: an old tag never reaches a new channel.

use crate::Settle;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicRejectOptions},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many are sent together at the most.
const BATCH: usize = 256;

/// For so long more are waited for. Each acknowledgement is written to the broker's log like a message, one after the other:
/// together they cost one, and the message that follows the first of them doesn't wait for it.
const GATHER: Duration = Duration::from_millis(2);

/// What becomes of a delivery, by its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    Ack(u64),
    Requeue(u64),
}

/// Settles one delivery of one channel.
#[derive(Debug)]
pub(super) struct AmqpReceipt {
    pub(super) tag: u64,
    pub(super) settlements: mpsc::UnboundedSender<Settlement>,
}

impl Settle for AmqpReceipt {
    fn ack(self: Box<Self>) {
        // An error means that the channel is gone, and that the broker delivers it again.
        let _gone = self.settlements.send(Settlement::Ack(self.tag));
    }

    fn requeue(self: Box<Self>) {
        let _gone = self.settlements.send(Settlement::Requeue(self.tag));
    }
}

/// What is known of a channel's tags, which count from 1.
#[derive(Debug)]
struct Tags {
    /// All below are settled.
    floor: u64,
    /// Settled ones above.
    above: BTreeSet<u64>,
}

/// Acknowledgements to send.
#[derive(Debug, PartialEq, Eq)]
struct Acks {
    /// All up to this one.
    up_to: Option<u64>,
    single: Vec<u64>,
}

impl Tags {
    fn new() -> Tags {
        Tags { floor: 1, above: BTreeSet::new() }
    }

    /// Takes in a batch. All that are settled without a gap below a tag of the batch go as one acknowledgement:
    /// nothing unsettled is below it. `requeued` are sent before that, so it doesn't touch them.
    fn settle(&mut self, acked: &[u64], requeued: &[u64]) -> Acks {
        self.above.extend(acked.iter().chain(requeued));
        while self.above.remove(&self.floor) {
            self.floor += 1;
        }
        let up_to = acked.iter().copied().filter(|tag| *tag < self.floor).max();
        let single = acked.iter().copied().filter(|tag| *tag >= self.floor).collect();
        Acks { up_to, single }
    }
}

/// Sends what is queued until `stop`, then what still is, and takes nothing more; or until the channel is gone.
pub(super) async fn run(channel: Channel, mut queued: mpsc::UnboundedReceiver<Settlement>, stop: CancellationToken) {
    let mut tags = Tags::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            _some = queued.recv_many(&mut batch, BATCH) => {}
            () = stop.cancelled(), if !queued.is_closed() => queued.close(),
        }
        if batch.is_empty() && queued.is_closed() && queued.is_empty() {
            return;
        }
        if batch.len() < BATCH && !queued.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => (),
                () = stop.cancelled() => queued.close(),
            }
            while batch.len() < BATCH
                && let Ok(more) = queued.try_recv()
            {
                batch.push(more);
            }
        }
        let (mut acked, mut requeued) = (vec![], vec![]);
        for settlement in batch.drain(..) {
            match settlement {
                Settlement::Ack(tag) => acked.push(tag),
                Settlement::Requeue(tag) => requeued.push(tag),
            }
        }
        let acks = tags.settle(&acked, &requeued);
        if let Err(error) = send(&channel, &requeued, acks).await {
            tracing::debug!(%error, "settlements are void: the broker delivers again");
            return;
        }
    }
}

async fn send(channel: &Channel, requeued: &[u64], acks: Acks) -> lapin::Result<()> {
    // A reject counts towards the delivery limit with every version of RabbitMQ; a nack doesn't with 4.3.
    let rejects = requeued.iter().map(|tag| channel.basic_reject(*tag, BasicRejectOptions { requeue: true }));
    futures::future::try_join_all(rejects).await?;
    if let Some(tag) = acks.up_to {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    let singles = acks.single.iter().map(|tag| channel.basic_ack(*tag, BasicAckOptions { multiple: false }));
    futures::future::try_join_all(singles).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_gap_below_is_acknowledged_together() {
        let mut tags = Tags::new();
        assert_eq!(tags.settle(&[2, 3], &[]), Acks { up_to: None, single: vec![2, 3] });
        assert_eq!(tags.settle(&[5, 1, 4], &[]), Acks { up_to: Some(5), single: vec![] });
        assert_eq!(tags.settle(&[8], &[6]), Acks { up_to: None, single: vec![8] });
        assert_eq!(tags.settle(&[], &[7]), Acks { up_to: None, single: vec![] });
        assert_eq!(tags.settle(&[9, 11], &[]), Acks { up_to: Some(9), single: vec![11] });
        assert_eq!((tags.floor, tags.above), (10, BTreeSet::from([11])));
    }

    #[test]
    fn no_unsettled_tag_is_ever_acknowledged() {
        use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut order: Vec<u64> = (1..=60).collect();
            order.shuffle(&mut rng);
            let (mut tags, mut unsettled) = (Tags::new(), BTreeSet::from_iter(1..=60));
            while !order.is_empty() {
                let batch = order.split_off(order.len().saturating_sub(rng.random_range(1..10)));
                let (acked, requeued): (Vec<u64>, Vec<u64>) = batch.into_iter().partition(|_| rng.random_bool(0.7));
                let acks = tags.settle(&acked, &requeued);
                requeued.iter().for_each(|tag| assert!(unsettled.remove(tag)));
                let sent: BTreeSet<u64> =
                    unsettled.iter().copied().filter(|tag| acks.up_to >= Some(*tag) || acks.single.contains(tag)).collect();
                assert_eq!(sent, BTreeSet::from_iter(acked), "seed {seed}");
                unsettled.retain(|tag| !sent.contains(tag));
            }
        }
    }
}
