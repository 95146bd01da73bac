//! Publishes with confirms, many in flight. One lane for mandatory parcels, one for the others; each has its
//! channel, sends a window of whatever is queued, and waits for all of its confirms.
//!
//! The window is a barrier because lapin hands a returned message to whichever confirm comes next, not to its
//! own: only when nothing is in flight is it certain which parcels came back. A confirm that doesn't come in
//! time ends the channel, so that it can't be taken for that of another.

use super::{ANSWER_LIMIT, PATIENCE, properties, supervisor::Link};
use crate::{Parcel, Unsent};
use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use std::{collections::VecDeque, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How many are in flight at once in each lane.
const WINDOW: usize = 300;

/// How many may be queued in each lane before `publish` waits.
const QUEUED: usize = 4 * WINDOW;

/// How long a confirm may take.
const CONFIRM_LIMIT: Duration = Duration::from_secs(15);

type Answer = Result<(), Unsent>;

/// Both lanes.
#[derive(Debug)]
pub(super) struct Publisher {
    mandatory: mpsc::Sender<Job>,
    optional: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    parcel: Parcel,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

struct Lane {
    link: Link,
    channel: Option<Channel>,
}

/// What became of one attempt to send a window.
struct Sent {
    answers: Vec<Answer>,
    /// A confirm didn't come: the channel is of no more use.
    incomplete: bool,
    /// The broker refused something in it and closed the channel.
    refused: bool,
}

impl Publisher {
    pub(super) fn start(link: &Link, working: &CancellationToken, tasks: &TaskTracker) -> Publisher {
        let lane = || {
            let (sender, jobs) = mpsc::channel(QUEUED);
            tasks.spawn(Lane { link: link.clone(), channel: None }.run(jobs, working.clone()));
            sender
        };
        Publisher { mandatory: lane(), optional: lane() }
    }

    pub(super) async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let lane = if parcel.mandatory { &self.mandatory } else { &self.optional };
            let (answer, answered) = oneshot::channel();
            // A lane that is gone drops the job, and with it `answer`.
            let _closed = lane.send(Job { parcel, since: Instant::now(), answer }).await;
            answers.push(answered);
        }
        let closed = |_gone| Err(Unsent::Unconfirmed("the courier is closed".into()));
        join_all(answers).await.into_iter().map(|answer| answer.unwrap_or_else(closed)).collect()
    }
}

impl Lane {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, working: CancellationToken) {
        let mut batch = Vec::with_capacity(WINDOW);
        loop {
            tokio::select! {
                _some = jobs.recv_many(&mut batch, WINDOW) => {}
                () = working.cancelled(), if !jobs.is_closed() => jobs.close(),
            }
            if batch.is_empty() && jobs.is_closed() && jobs.is_empty() {
                return;
            }
            let (good, bad): (Vec<Job>, Vec<Job>) = batch.drain(..).partition(|job| job.parcel.check().is_ok());
            for job in bad {
                let answer = job.parcel.check();
                job.answer(answer);
            }
            self.carry(good).await;
        }
    }

    /// Sends all of them and answers each. When the broker refuses one and closes the channel for it, halves are
    /// sent again until it is alone: a bad one doesn't sink its batch.
    async fn carry(&mut self, jobs: Vec<Job>) {
        let mut windows = VecDeque::from([jobs]);
        while let Some(mut window) = windows.pop_front() {
            if window.is_empty() {
                continue;
            }
            match self.open(&mut window).await {
                Err(why) => window.into_iter().for_each(|job| job.answer(Err(Unsent::Unconfirmed(why.clone())))),
                Ok(channel) => {
                    let parcels: Vec<&Parcel> = window.iter().map(|job| &job.parcel).collect();
                    let sent = send(&channel, &parcels).await;
                    if sent.incomplete {
                        self.drop_channel();
                    }
                    if sent.refused && window.len() > 1 {
                        let half = window.split_off(window.len() / 2);
                        windows.push_front(half);
                        windows.push_front(window);
                    } else {
                        window.into_iter().zip(sent.answers).for_each(|(job, answer)| job.answer(answer));
                    }
                }
            }
        }
    }

    /// The channel, made anew if need be, while the oldest job still has patience.
    async fn open(&mut self, window: &mut [Job]) -> Result<Channel, String> {
        let waited = window.iter().map(|job| job.since.elapsed()).max().unwrap_or_default();
        let connection = self.link.within(PATIENCE.saturating_sub(waited)).await.map_err(|error| error.to_string())?;
        if connection.status().blocked() {
            return Err("the broker takes no messages now (connection.blocked)".into());
        }
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let opened = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<Channel, lapin::Error>(channel)
        };
        let channel = tokio::time::timeout(ANSWER_LIMIT, opened).await.map_err(|_| "the broker doesn't answer")?;
        let channel = channel.map_err(|error| error.to_string())?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Closes it in the background: a broker that doesn't confirm may not answer a close either.
    fn drop_channel(&mut self) {
        if let Some(channel) = self.channel.take().filter(|channel| channel.status().connected()) {
            tokio::spawn(async move {
                let _gone_either_way = tokio::time::timeout(ANSWER_LIMIT, channel.close(200, "done".into())).await;
            });
        }
    }
}

impl Job {
    fn answer(self, answer: Answer) {
        // Nobody waits any more: the caller gave up, and knows that it may have arrived.
        let _gone = self.answer.send(answer);
    }
}

/// Sends a window and waits until nothing of it is in flight.
async fn send(channel: &Channel, parcels: &[&Parcel]) -> Sent {
    let deadline = Instant::now() + CONFIRM_LIMIT;
    // Polled in order by this one task: lapin numbers a message and queues its frames in two steps.
    let confirms = parcels.iter().map(|parcel| tokio::time::timeout_at(deadline, send_one(channel, parcel)));
    let mut returned = vec![];
    let (mut incomplete, mut refused) = (false, false);
    let mut answers: Vec<Answer> = vec![];
    for confirm in join_all(confirms).await {
        incomplete |= !matches!(confirm, Ok(Ok(_)));
        answers.push(match confirm {
            Err(_) => Err(Unsent::Unconfirmed(format!("the broker didn't confirm within {CONFIRM_LIMIT:?}"))),
            Ok(Err(error)) => {
                refused |= error.downcast_ref().is_some_and(lapin::Error::is_amqp_soft_error);
                Err(Unsent::Unconfirmed(error.to_string()))
            }
            Ok(Ok(Confirmation::Ack(message))) => {
                returned.extend(message);
                Ok(())
            }
            Ok(Ok(Confirmation::Nack(message))) => {
                returned.extend(message);
                Err(Unsent::Unconfirmed("the broker refused it (nack)".into()))
            }
            Ok(Ok(Confirmation::NotRequested)) => Err(Unsent::Unconfirmed("the channel gives no confirms".into())),
        });
    }
    attribute(parcels, &mut answers, returned);
    if incomplete {
        doubt(parcels, &mut answers);
    }
    Sent { answers, incomplete, refused }
}

async fn send_one(channel: &Channel, parcel: &Parcel) -> anyhow::Result<Confirmation> {
    let amqp: BasicProperties = properties::to_amqp(&parcel.properties)?;
    let options = BasicPublishOptions { mandatory: parcel.mandatory, immediate: false };
    let (exchange, key) = (properties::short(&parcel.exchange)?, properties::short(&parcel.routing_key)?);
    Ok(channel.basic_publish(exchange, key, options, &parcel.body, amqp).await?.await?)
}

/// Finds the parcel of each returned message.
fn attribute(parcels: &[&Parcel], answers: &mut [Answer], returned: Vec<BasicReturnMessage>) {
    for message in returned {
        let came_back = |parcel: &Parcel| {
            parcel.mandatory
                && parcel.exchange == message.exchange.as_str()
                && parcel.routing_key == message.routing_key.as_str()
                && parcel.properties.message_id.as_deref() == message.properties.message_id().as_ref().map(|id| id.as_str())
                && parcel.body == message.data
        };
        let unroutable = |answer: &Answer| matches!(answer, Err(Unsent::Unroutable { .. }));
        let mut pairs = parcels.iter().zip(answers.iter_mut());
        if let Some((parcel, answer)) = pairs.find(|(parcel, answer)| came_back(parcel) && !unroutable(answer)) {
            let (exchange, routing_key) = (parcel.exchange.clone(), parcel.routing_key.clone());
            *answer = Err(Unsent::Unroutable { exchange, routing_key });
        }
    }
}

/// If a confirm is missing, a returned message may be missing with it: then no mandatory parcel is known to
/// have reached a queue.
fn doubt(parcels: &[&Parcel], answers: &mut [Answer]) {
    for (_, answer) in parcels.iter().zip(answers).filter(|(parcel, answer)| parcel.mandatory && answer.is_ok()) {
        *answer = Err(Unsent::Unconfirmed("whether a queue took it isn't known".into()));
    }
}
