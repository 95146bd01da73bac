//! Intake: messages from the broker into the journal. A message is acknowledged after what it asked for is
//! committed; what can't be understood is answered and moved to `longshore.dead`, never dropped.

use crate::{
    command::{Command, refused},
    database::Failed,
    journal::{Item, Journal},
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use longshore_courier::{Courier, Delivery, Inbox, Parcel, Properties, Queue, Unsent};
use longshore_schema::{
    body,
    fault::{Fault, code},
    site::is_name,
    text::is_unprintable,
    wire::{Report, names},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Unsettled messages of each queue.
const PREFETCH: u16 = 256;

/// Takes commands and reports until `stop`, then settles what is under way.
pub async fn run(courier: Arc<dyn Courier>, journal: Journal, stop: CancellationToken) -> anyhow::Result<()> {
    let intake = Arc::new(Intake { courier: courier.clone(), journal, declared: Mutex::default() });
    let commands = courier.consume(names::COMMANDS, PREFETCH).await?;
    let reports = courier.consume(names::REPORTS, PREFETCH).await?;
    let commands = intake.clone().consume(commands, stop.clone(), |it, delivery| Box::pin(it.command(delivery)));
    let reports = intake.consume(reports, stop, |it, delivery| Box::pin(it.report(delivery)));
    tokio::join!(commands, reports);
    Ok(())
}

struct Intake {
    courier: Arc<dyn Courier>,
    journal: Journal,
    declared: Mutex<BTreeSet<String>>,
}

type Handle = fn(Arc<Intake>, Delivery) -> futures::future::BoxFuture<'static, ()>;

impl Intake {
    async fn consume(self: Arc<Intake>, mut inbox: Box<dyn Inbox>, stop: CancellationToken, handle: Handle) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = under_way.next() => (),
                delivery = inbox.next() => match delivery {
                    Some(delivery) => under_way.push(handle(self.clone(), delivery)),
                    None => break,
                },
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn command(self: Arc<Intake>, delivery: Delivery) {
        let command = read_command(&delivery.parcel);
        let command = match command.and_then(|it| not_ours(&it.user, self.courier.is_local()).map(|()| it)) {
            Ok(command) => command,
            Err(fault) => return self.refuse(delivery, fault).await,
        };
        match self.journal.absorb(Item::Command(Arc::new(command))).await {
            Ok(_) => delivery.receipt.ack(),
            Err(error) if is_hopeless(&error) => {
                self.refuse(delivery, Fault::permanent(code::INTERNAL, format!("{error:#}"))).await;
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a command could not be absorbed; it is delivered again");
                back_later(delivery).await;
            }
        }
    }

    async fn report(self: Arc<Intake>, delivery: Delivery) {
        let reports = match Report::of_message(&delivery.parcel.body) {
            Ok(reports) => reports,
            Err(error) => {
                let fault = Fault::permanent(code::COMMAND_MALFORMED, format!("read a report: {error}"));
                return self.bury(delivery, &fault).await;
            }
        };
        for report in &reports {
            if let Report::Announce(announce) = report
                && let Err(error) = self.declare_for(&announce.zone, announce.kind.as_str(), &announce.host).await
            {
                tracing::warn!(worker = announce.worker, error = format!("{error:#}"), "could not declare a worker's queues");
            }
        }
        let absorb = |report| self.journal.absorb(Item::Report(Arc::new(report)));
        let absorbed = join_all(reports.into_iter().map(absorb)).await;
        let failed: Vec<anyhow::Error> = absorbed.into_iter().filter_map(Result::err).collect();
        let Some(first) = failed.first() else { return delivery.receipt.ack() };
        match failed.iter().find(|it| !is_hopeless(it)) {
            // A renewal that isn't answered fences its worker.
            None => self.bury(delivery, &Fault::permanent(code::INTERNAL, format!("{first:#}"))).await,
            // Those that were absorbed do nothing when they come again.
            Some(error) => {
                tracing::error!(error = format!("{error:#}"), "a report could not be absorbed; it is delivered again");
                back_later(delivery).await;
            }
        }
    }

    /// The queues of a worker's zone and host exist before it is welcomed.
    async fn declare_for(&self, zone: &str, kind: &str, host: &str) -> anyhow::Result<()> {
        anyhow::ensure!(is_name(zone) && is_name(host), "zone {zone:?} or host {host:?} is not a name");
        for key in [names::zone_queue(zone, kind), names::host_queue(host)] {
            let new = !self.declared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&key);
            if new {
                self.courier.declare(&[steps_queue(&key)]).await?;
                self.declared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key);
            }
        }
        Ok(())
    }

    /// Answers what can't be understood, and moves it to `longshore.dead`.
    async fn refuse(&self, delivery: Delivery, fault: Fault) {
        let properties = &delivery.parcel.properties;
        if let (Some(reply_to), Ok(body)) = (&properties.reply_to, serde_json::to_vec(&refused(fault.clone()))) {
            let reply = Parcel {
                exchange: String::new(),
                routing_key: reply_to.clone(),
                mandatory: true,
                properties: Properties {
                    correlation_id: properties.correlation_id.clone(),
                    persistent: true,
                    ..Properties::default()
                },
                body: body.into(),
            };
            // Who asked may be gone; an answer that may be lost is given again.
            if !matches!(self.courier.publish(vec![reply]).await.as_slice(), [Ok(()) | Err(Unsent::Unroutable { .. })]) {
                return back_later(delivery).await;
            }
        }
        self.bury(delivery, &fault).await;
    }

    async fn bury(&self, delivery: Delivery, fault: &Fault) {
        tracing::warn!(fault = %fault, "a message was moved to {}", names::DEAD);
        let mut parcel = delivery.parcel.clone();
        parcel.exchange = String::new();
        parcel.routing_key = names::DEAD.to_owned();
        parcel.mandatory = true;
        parcel.properties.user_id = None;
        parcel.properties.expiration_ms = None;
        parcel.properties.persistent = true;
        parcel.properties.headers.insert(names::FAULT_HEADER.to_owned(), fault.to_string());
        match self.courier.publish(vec![parcel]).await.as_slice() {
            [Ok(())] => delivery.receipt.ack(),
            _ => back_later(delivery).await,
        }
    }
}

/// Whether trying again can't help.
fn is_hopeless(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Failed::Internal(_)))
}

/// A message that can't be taken now comes back a little later, not at once.
async fn back_later(delivery: Delivery) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    delivery.receipt.requeue();
}

/// The durable queue of a routing key of `longshore.steps`.
pub fn steps_queue(routing_key: &str) -> Queue {
    Queue::Durable { name: names::steps_queue(routing_key), exchange: names::STEPS.into(), routing_key: routing_key.to_owned() }
}

/// No message speaks as the engine, and none of a broker as the unix socket: there, anybody may be called so.
fn not_ours(user: &str, is_local: bool) -> Result<(), Fault> {
    match user {
        names::ENGINE_USER => (),
        names::LOCAL_USER if !is_local => (),
        _ => return Ok(()),
    }
    let why = format!("the user {user:?} is Longshore's own: publish commands as a user of another name");
    Err(Fault::permanent(code::COMMAND_NOT_ALLOWED, why))
}

/// Longest text in a command, in bytes.
const LONGEST_TEXT: usize = 4096;

/// Every text of a body, names of fields too, is short and can be printed; else what is wrong.
fn check_texts(body: &Value) -> Result<(), String> {
    let check = |text: &str| match text {
        it if it.len() > LONGEST_TEXT => Err(format!("a text in the body has more than {LONGEST_TEXT} bytes")),
        it if it.chars().any(is_unprintable) => Err("a text in the body has a control character".to_owned()),
        _ => Ok(()),
    };
    match body {
        Value::String(text) => check(text),
        Value::Array(values) => values.iter().try_for_each(check_texts),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| check(name).and_then(|()| check_texts(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn read_command(parcel: &Parcel) -> Result<Command, Fault> {
    let properties = &parcel.properties;
    if parcel.body.len() > names::BODY_LIMIT {
        let why = format!("the body has {} bytes; the limit is {}", parcel.body.len(), names::BODY_LIMIT);
        return Err(Fault::permanent(code::COMMAND_TOO_LARGE, why));
    }
    let malformed = |why: String| Fault::permanent(code::COMMAND_MALFORMED, why);
    // PostgreSQL stores no NUL, and whatever of these is stored or logged shouldn't move a terminal's cursor.
    let texts = [
        ("kind", Some(&parcel.routing_key)),
        ("message_id", properties.message_id.as_ref()),
        ("reply_to", properties.reply_to.as_ref()),
        ("correlation_id", properties.correlation_id.as_ref()),
        ("user_id", properties.user_id.as_ref()),
        ("header tenant", properties.headers.get("tenant")),
    ];
    for (name, text) in texts {
        if text.is_some_and(|it| it.chars().any(is_unprintable)) {
            return Err(malformed(format!("the {name} has a control character")));
        }
    }
    let message_id = properties.message_id.clone().filter(|it| (1..=128).contains(&it.len()));
    let message_id = message_id.ok_or_else(|| malformed("the property message_id is required: 1 to 128 characters".into()))?;
    let body = body::read(&parcel.body).map_err(|error| malformed(format!("read the body as JSON: {error}")))?;
    if !body.is_object() {
        return Err(malformed("the body is not a JSON object".into()));
    }
    check_texts(&body).map_err(malformed)?;
    Ok(Command {
        kind: parcel.routing_key.clone(),
        message_id,
        user: properties.user_id.clone().unwrap_or_default(),
        tenant: properties.headers.get("tenant").cloned(),
        reply_to: properties.reply_to.clone(),
        correlation_id: properties.correlation_id.clone(),
        priority: properties.priority.unwrap_or(0),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parcel(change: impl FnOnce(&mut Parcel)) -> Parcel {
        let properties = Properties { message_id: Some("m".into()), ..Properties::default() };
        let mut parcel = Parcel {
            exchange: names::COMMANDS.into(),
            routing_key: "destroy".into(),
            mandatory: false,
            properties,
            body: "{}".into(),
        };
        change(&mut parcel);
        parcel
    }

    #[test]
    fn a_control_character_is_refused_wherever_it_stands() {
        assert!(read_command(&parcel(|_| ())).is_ok());
        let nul = || Some("a\0b".to_owned());
        let changes: [fn(&mut Parcel, Option<String>); 6] = [
            |it, text| it.routing_key = text.unwrap(),
            |it, text| it.properties.message_id = text,
            |it, text| it.properties.reply_to = text,
            |it, text| it.properties.correlation_id = text,
            |it, text| it.properties.user_id = text,
            |it, text| drop(it.properties.headers.insert("tenant".into(), text.unwrap())),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let fault = read_command(&parcel(|it| change(it, nul()))).err().unwrap();
            assert_eq!(fault.code, code::COMMAND_MALFORMED, "{n}");
        }
    }

    #[test]
    fn nobody_speaks_as_the_engine_and_only_the_socket_as_itself() {
        let refused = |user, is_local| not_ours(user, is_local).err().map(|it| it.code.to_string());
        let own = Some(code::COMMAND_NOT_ALLOWED.to_string());
        for (user, broker, socket) in
            [(names::ENGINE_USER, &own, &own), (names::LOCAL_USER, &own, &None), ("cloud1", &None, &None), ("", &None, &None)]
        {
            assert_eq!((refused(user, false), refused(user, true)), (broker.clone(), socket.clone()), "{user:?}");
        }
    }

    #[test]
    fn only_what_is_wrong_with_us_is_not_tried_again() {
        let hopeless = [Failed::Internal(anyhow::anyhow!("a number is out of range"))];
        let passing = [Failed::Conflict("who was faster".into()), Failed::Database(sea_orm::DbErr::Custom("away".into()))];
        assert!(hopeless.into_iter().all(|it| is_hopeless(&it.into())));
        assert!(!passing.into_iter().any(|it| is_hopeless(&it.into())));
        assert!(!is_hopeless(&anyhow::anyhow!("the journal has ended")));
    }

    #[test]
    fn a_key_that_is_given_twice_is_refused_and_named() {
        let read = |body: &'static str| read_command(&parcel(|it| it.body = body.into()));
        for body in [r#"{"operation": "a", "operation": "b"}"#, r#"{"a": [{"operation": 1, "operation": 1}]}"#] {
            let fault = read(body).err().unwrap();
            assert!(fault.code == code::COMMAND_MALFORMED && fault.message.contains("\"operation\" is given twice"), "{fault}");
        }
    }

    #[test]
    fn texts_of_a_body_are_short_and_can_be_printed_however_deep() {
        let read = |body: Value| read_command(&parcel(|it| it.body = body.to_string().into()));
        assert!(read(json!({"name": "Montag \u{e4} \u{1f600}", "n": [1, null, {"a": "b"}]})).is_ok());
        let long = "x".repeat(LONGEST_TEXT + 1);
        for text in ["a\0", "\u{1b}[2J", "a\nb", "\u{202e}gpj.raw", &long] {
            for body in [json!({"name": text}), json!({"a": [{"b": text}]}), json!({text: 1})] {
                assert_eq!(read(body).err().unwrap().code, code::COMMAND_MALFORMED, "{text:?}");
            }
        }
    }
}
