//! `docs/asyncapi.yaml`: the broker's exchanges and queues, and the messages on them, as Longshore sees them: it
//! receives commands, and sends replies and events. What passes between engines and workers is there, too.

use super::schemas;
use crate::{operation, request};
use longshore_schema::wire::{WorkerKind, names};
use serde_json::{Map, Value, json};

const STATES: &[&str] = &["allocated", "copying", "ready", "destroying", "destroyed", "failed"];
const JSON_SCHEMA: &str = "application/schema+json;version=draft-2020-12";

/// The document.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Longshore",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Moves VM disks between hypervisors and object stores. Generated from the code: the names and \
                shapes here may grow, they don't change.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels(),
        "operations": operations(),
        "components": {"messages": messages()},
    })
}

fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<_> = operation::ALL.iter().map(|it| it.name).chain(request::kinds()).collect();
    kinds.sort_unstable();
    kinds
}

fn channels() -> Value {
    let operations: Vec<_> = operation::ALL.iter().map(|it| it.name).collect();
    let kind = json!({"description": "The operation's kind.", "enum": operations});
    let worker = json!({"description": "The worker's id."});
    let zone = json!({"description": "A zone's name."});
    let worker_kind: Vec<_> = WorkerKind::ALL.iter().map(|it| it.as_str()).collect();
    let commands: Vec<String> = kinds().into_iter().map(schemas::command).collect();
    json!({
        "commands": exchange(names::COMMANDS, "topic", "{kind}", &commands,
            json!({"kind": {"description": "The command's kind.", "enum": kinds()}}),
            "Commands. A message id is required, 1 to 128 characters: with the broker's user, and the header `tenant` if there is one, it is the idempotency key."),
        "commandQueue": queue(names::COMMANDS, &commands, "What engines consume: bound to the exchange of the same name with `#`."),
        "replies": {
            "address": null,
            "description": "The queue that a command's property `reply_to` names, through the default exchange.",
            "messages": refs(&["reply"]),
        },
        "events": exchange(names::EVENTS, "topic", "{kind}.{state}", &["event"],
            json!({"kind": kind, "state": {"description": "The new state.", "enum": STATES}}),
            "Changes of state, at least once each; `seq` orders them and tells doubles."),
        "progress": exchange(names::EVENTS, "topic", "{kind}.progress", &["progress"], json!({"kind": kind}),
            "Progress, at most once for each renewal of a step, not persistent."),
        "steps": exchange(names::STEPS, "topic", "zone.{zone}.{workerKind}", &["step"],
            json!({"zone": zone, "workerKind": {"description": "The worker's kind.", "enum": worker_kind}}),
            "Steps for any worker of a kind in a zone."),
        "hostSteps": exchange(names::STEPS, "topic", "host.{host}", &["step"],
            json!({"host": {"description": "A host's name."}}), "Steps for the workers of one host."),
        "stepQueue": queue(&names::steps_queue("zone.{zone}.{workerKind}"), &["step"], "What a zone's workers consume."),
        "hostStepQueue": queue(&names::steps_queue("host.{host}"), &["step"], "What a host's workers consume."),
        "reports": exchange(names::REPORTS, "topic", "{worker}", &["report"], json!({"worker": worker}),
            "What workers tell the engines."),
        "reportQueue": queue(names::REPORTS, &["report"], "What engines consume: bound to the exchange of the same name with `#`."),
        "control": exchange(names::CONTROL, "direct", "{worker}", &["control"],
            json!({"worker": {"description": "A worker's id, or `all`."}}), "What engines tell workers; not persistent."),
        "dead": queue(names::DEAD, &[""; 0], &format!(
            "What nobody could take, kept for a person to look at; the header `{}` says why. Limited to {} messages and {} MiB: the \
             oldest go. Steps that expired don't come here.",
            names::FAULT_HEADER, names::DEAD_LIMIT, names::DEAD_LIMIT_BYTES >> 20)),
    })
}

fn exchange(name: &str, kind: &str, key: &str, messages: &[impl AsRef<str>], parameters: Value, description: &str) -> Value {
    json!({
        "address": key,
        "title": name,
        "description": description,
        "parameters": parameters,
        "messages": refs(messages),
        "bindings": {"amqp": {
            "is": "routingKey",
            "exchange": {"name": name, "type": kind, "durable": true, "autoDelete": false},
            "bindingVersion": "0.3.0",
        }},
    })
}

fn queue(name: &str, messages: &[impl AsRef<str>], description: &str) -> Value {
    let mut channel = json!({
        "address": name,
        "description": format!("{description} A durable quorum queue."),
        "messages": refs(messages),
        "bindings": {"amqp": {
            "is": "queue",
            "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false},
            "bindingVersion": "0.3.0",
        }},
    });
    for (name, what) in [("zone", "A zone's name."), ("workerKind", "The worker's kind."), ("host", "A host's name.")] {
        if channel["address"].as_str().is_some_and(|it| it.contains(&format!("{{{name}}}"))) {
            channel["parameters"][name] = json!({"description": what});
        }
    }
    channel
}

fn refs(messages: &[impl AsRef<str>]) -> Value {
    let refs = messages.iter().map(AsRef::as_ref);
    Value::Object(refs.map(|it| (it.to_owned(), json!({"$ref": format!("#/components/messages/{it}")}))).collect())
}

fn operations() -> Value {
    let channel = |name: &str| json!({"$ref": format!("#/channels/{name}")});
    json!({
        "takeCommand": {
            "action": "receive",
            "channel": channel("commands"),
            "summary": "A control plane asks for something.",
            "description": "The same message id and body get the same answer for ever, accepted or refused, unless the \
                refusal is `command.not-allowed`.",
            "reply": {
                "address": {"location": "$message.header#/reply_to", "description": "The AMQP property `reply_to`."},
                "channel": channel("replies"),
            },
        },
        "announceState": {"action": "send", "channel": channel("events"), "summary": "An operation changed its state."},
        "announceProgress": {"action": "send", "channel": channel("progress"), "summary": "A step is under way."},
        "sendStep": {"action": "send", "channel": channel("steps"), "summary": "An engine sends an attempt to a zone's workers."},
        "sendHostStep": {"action": "send", "channel": channel("hostSteps"), "summary": "An engine sends an attempt to one host."},
        "takeReport": {"action": "receive", "channel": channel("reports"), "summary": "A worker reports."},
        "control": {"action": "send", "channel": channel("control"), "summary": "An engine answers or stops a worker."},
    })
}

fn messages() -> Value {
    let mut messages = Map::new();
    for kind in kinds() {
        let name = schemas::command(kind);
        let mut command = message(&name, &format!("The command `{kind}`."));
        command["headers"] = json!({"type": "object", "properties": {
            "tenant": {"type": "string", "description": "Whom to act for, if the user may act for several."},
        }});
        messages.insert(name, command);
    }
    for (name, summary) in [
        ("reply", "The answer to a command, sent after the commit."),
        ("event", "A change of state, as a CloudEvent 1.0 in structured JSON."),
        ("progress", "How far a step is."),
        ("step", "One attempt of one step."),
        ("report", "What a worker tells the engine."),
        ("control", "What an engine tells a worker."),
    ] {
        messages.insert(name.to_owned(), message(name, summary));
    }
    Value::Object(messages)
}

fn message(name: &str, summary: &str) -> Value {
    json!({
        "name": name,
        "summary": summary,
        "contentType": "application/json",
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": {"$ref": format!("./schemas/{name}.json")}},
    })
}
